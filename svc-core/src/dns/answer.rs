use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};
use core::slice;
use core::str::FromStr;

use super::entry::{Addressed, Srv, SrvSet};
use super::name::{DnsName, NameRef};

/// Type of a record, or of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum RecordType {
    A,
    Ns,
    Cname,
    Soa,
    Ptr,
    Txt,
    Aaaa,
    Srv,
    Any,
    /// Any other type, by its number; a zone has no such records.
    Other(u16),
}

/// Outcome of a look-up; the numbers are those of RFC 1035 4.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs)]
pub enum Rcode {
    NoError,
    /// The zone does not know enough yet to say that a name does not exist.
    ServFail,
    /// The name does not exist, for any type.
    NxDomain,
    /// The name is in none of the zones.
    Refused,
}

/// What a zone says about a name and type.
///
/// It borrows from the zone and the name; making one allocates only for a chain of CNAMEs.
#[derive(Clone, Debug)]
pub struct Answer<'a> {
    /// The outcome.
    pub rcode: Rcode,
    /// Answer section: CNAMEs come before the records of their targets.
    pub answers: Section<'a>,
    /// Authority section: the SOA of a negative answer.
    pub authority: Option<RecordSet<'a>>,
    /// Additional section: addresses of what the answers name.
    pub additional: Additional<'a>,
    /// The target of the last CNAME, when it lies outside all zones.
    pub outside: Option<NameRef<'a>>,
}

/// Record sets of one section of an answer.
#[derive(Clone, Debug, Default)]
pub struct Section<'a> {
    first: Option<RecordSet<'a>>,
    more: Vec<RecordSet<'a>>,
}

/// Records that share owner, type and TTL.
#[derive(Clone, Copy, Debug)]
pub struct RecordSet<'a> {
    /// The name that has the records; as spelled in the question where it is that name.
    pub owner: NameRef<'a>,
    /// Time to live in seconds.
    pub ttl: u32,
    pub(super) records: Records<'a>,
}

/// The data of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum RecordData<'a> {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ns(NameRef<'a>),
    Cname(NameRef<'a>),
    Ptr(NameRef<'a>),
    /// One character-string.
    Txt(&'a str),
    Srv {
        priority: u16,
        weight: u16,
        port: u16,
        target: NameRef<'a>,
    },
    Soa(Soa<'a>),
}

/// The data of a SOA record, times in seconds (RFC 1035 3.3.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Soa<'a> {
    pub mname: NameRef<'a>,
    pub rname: NameRef<'a>,
    pub serial: u32,
    pub refresh: u32,
    pub retry: u32,
    pub expire: u32,
    pub minimum: u32,
}

/// Records that an answer may carry besides; made while it is iterated.
#[derive(Clone, Debug, Default)]
pub struct Additional<'a>(pub(super) AdditionalOf<'a>, pub(super) u32);

#[derive(Clone, Debug, Default)]
pub(super) enum AdditionalOf<'a> {
    #[default]
    Nothing,
    /// Addresses of one name.
    Host(NameRef<'a>, &'a [Ipv4Addr], &'a [Ipv6Addr]),
    /// Addresses of the targets of SRV records.
    Targets(&'a Addressed, slice::Iter<'a, Srv>, Option<u32>),
    /// Of one target, those of IPv6.
    Second(&'a Addressed, slice::Iter<'a, Srv>, &'a Srv),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Records<'a> {
    A(&'a [Ipv4Addr]),
    OneA(Ipv4Addr),
    Aaaa(&'a [Ipv6Addr]),
    OneAaaa(Ipv6Addr),
    Ns(NameRef<'a>),
    Cname(NameRef<'a>),
    Ptr(&'a [DnsName]),
    Txt(&'a str),
    Srv(&'a Addressed, &'a SrvSet),
    Soa(Soa<'a>),
}

impl RecordType {
    /// The type of a number.
    pub fn from_number(number: u16) -> Self {
        match number {
            1 => Self::A,
            2 => Self::Ns,
            5 => Self::Cname,
            6 => Self::Soa,
            12 => Self::Ptr,
            16 => Self::Txt,
            28 => Self::Aaaa,
            33 => Self::Srv,
            255 => Self::Any,
            other => Self::Other(other),
        }
    }

    /// The number of the type.
    pub fn number(self) -> u16 {
        match self {
            Self::A => 1,
            Self::Ns => 2,
            Self::Cname => 5,
            Self::Soa => 6,
            Self::Ptr => 12,
            Self::Txt => 16,
            Self::Aaaa => 28,
            Self::Srv => 33,
            Self::Any => 255,
            Self::Other(number) => number,
        }
    }
}

/// Types that people ask for and zones do not have, by name.
const OTHER_TYPES: [(&str, u16); 9] = [
    ("HINFO", 13),
    ("MX", 15),
    ("NAPTR", 35),
    ("DS", 43),
    ("DNSKEY", 48),
    ("SVCB", 64),
    ("HTTPS", 65),
    ("IXFR", 251),
    ("AXFR", 252),
];

/// Types that zones have, by name.
const OWN_TYPES: [(&str, RecordType); 9] = [
    ("A", RecordType::A),
    ("NS", RecordType::Ns),
    ("CNAME", RecordType::Cname),
    ("SOA", RecordType::Soa),
    ("PTR", RecordType::Ptr),
    ("TXT", RecordType::Txt),
    ("AAAA", RecordType::Aaaa),
    ("SRV", RecordType::Srv),
    ("ANY", RecordType::Any),
];

impl fmt::Display for RecordType {
    /// Writes the mnemonic, or `TYPE` and the number (RFC 3597).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((name, _)) = OWN_TYPES.iter().find(|(_, own)| own == self) {
            return f.write_str(name);
        }
        let number = self.number();
        match OTHER_TYPES.iter().find(|(_, other)| *other == number) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "TYPE{number}"),
        }
    }
}

/// The text names no record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a record type")]
pub struct UnknownRecordType;

impl FromStr for RecordType {
    type Err = UnknownRecordType;

    /// Reads a mnemonic, or `TYPE` and a number, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownRecordType> {
        let own = OWN_TYPES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text));
        if let Some((_, own)) = own {
            return Ok(*own);
        }
        let mut others = OTHER_TYPES.iter();
        if let Some((_, number)) = others.find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(Self::Other(*number));
        }
        let upper = text.to_ascii_uppercase();
        match upper.as_str() {
            "CAA" => Ok(Self::Other(257)),
            other => other
                .strip_prefix("TYPE")
                .and_then(|number| number.parse().ok())
                .map(Self::from_number)
                .ok_or(UnknownRecordType),
        }
    }
}

impl Rcode {
    /// The number in the header of a message.
    pub fn number(self) -> u8 {
        match self {
            Self::NoError => 0,
            Self::ServFail => 2,
            Self::NxDomain => 3,
            Self::Refused => 5,
        }
    }
}

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoError => "NOERROR",
            Self::ServFail => "SERVFAIL",
            Self::NxDomain => "NXDOMAIN",
            Self::Refused => "REFUSED",
        })
    }
}

impl<'a> Answer<'a> {
    pub(super) fn empty(rcode: Rcode) -> Self {
        Self {
            rcode,
            answers: Section::default(),
            authority: None,
            additional: Additional::default(),
            outside: None,
        }
    }
}

impl<'a> Section<'a> {
    pub(super) fn push(&mut self, set: RecordSet<'a>) {
        match self.first {
            None => self.first = Some(set),
            Some(_) => self.more.push(set),
        }
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// The record sets in order.
    pub fn iter(&self) -> impl Iterator<Item = &RecordSet<'a>> {
        self.first.iter().chain(&self.more)
    }
}

impl<'a> RecordSet<'a> {
    /// The type of the records.
    pub fn record_type(&self) -> RecordType {
        match self.records {
            Records::A(_) | Records::OneA(_) => RecordType::A,
            Records::Aaaa(_) | Records::OneAaaa(_) => RecordType::Aaaa,
            Records::Ns(_) => RecordType::Ns,
            Records::Cname(_) => RecordType::Cname,
            Records::Ptr(_) => RecordType::Ptr,
            Records::Txt(_) => RecordType::Txt,
            Records::Srv(..) => RecordType::Srv,
            Records::Soa(_) => RecordType::Soa,
        }
    }

    /// Number of records, never 0.
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        match self.records {
            Records::A(list) => list.len(),
            Records::Aaaa(list) => list.len(),
            Records::Ptr(list) => list.len(),
            Records::Srv(_, set) => set.list.len(),
            Records::OneA(_)
            | Records::OneAaaa(_)
            | Records::Ns(_)
            | Records::Cname(_)
            | Records::Txt(_)
            | Records::Soa(_) => 1,
        }
    }

    /// The record at a position below [`RecordSet::len`].
    pub fn at(&self, position: usize) -> Option<RecordData<'a>> {
        let one = |data| (position == 0).then_some(data);
        match self.records {
            Records::A(list) => list.get(position).copied().map(RecordData::A),
            Records::Aaaa(list) => list.get(position).copied().map(RecordData::Aaaa),
            Records::Ptr(list) => list.get(position).map(|n| RecordData::Ptr(n.as_ref())),
            Records::Srv(addressed, set) => {
                let srv = set.list.get(position)?;
                Some(RecordData::Srv {
                    priority: 0,
                    weight: set.weight,
                    port: srv.port,
                    target: addressed.target(srv),
                })
            }
            Records::OneA(ip) => one(RecordData::A(ip)),
            Records::OneAaaa(ip) => one(RecordData::Aaaa(ip)),
            Records::Ns(name) => one(RecordData::Ns(name)),
            Records::Cname(name) => one(RecordData::Cname(name)),
            Records::Txt(text) => one(RecordData::Txt(text)),
            Records::Soa(soa) => one(RecordData::Soa(soa)),
        }
    }

    /// The records in order.
    pub fn iter(&self) -> impl Iterator<Item = RecordData<'a>> + use<'a> {
        let set = *self;
        (0..set.len()).filter_map(move |position| set.at(position))
    }
}

impl RecordData<'_> {
    /// The type of the record.
    pub fn record_type(&self) -> RecordType {
        match self {
            Self::A(_) => RecordType::A,
            Self::Aaaa(_) => RecordType::Aaaa,
            Self::Ns(_) => RecordType::Ns,
            Self::Cname(_) => RecordType::Cname,
            Self::Ptr(_) => RecordType::Ptr,
            Self::Txt(_) => RecordType::Txt,
            Self::Srv { .. } => RecordType::Srv,
            Self::Soa(_) => RecordType::Soa,
        }
    }
}

impl fmt::Display for RecordData<'_> {
    /// Writes the data as zone files do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::A(ip) => write!(f, "{ip}"),
            Self::Aaaa(ip) => write!(f, "{ip}"),
            Self::Ns(name) | Self::Cname(name) | Self::Ptr(name) => write!(f, "{name}"),
            Self::Txt(text) => write!(f, "\"{text}\""),
            Self::Srv {
                priority,
                weight,
                port,
                target,
            } => write!(f, "{priority} {weight} {port} {target}"),
            Self::Soa(soa) => write!(
                f,
                "{} {} {} {} {} {} {}",
                soa.mname, soa.rname, soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum
            ),
        }
    }
}

impl<'a> Iterator for Additional<'a> {
    type Item = RecordSet<'a>;

    fn next(&mut self) -> Option<RecordSet<'a>> {
        loop {
            let (next, set) = core::mem::take(&mut self.0).step(self.1);
            self.0 = next;
            match (&self.0, set) {
                (_, Some(set)) => return Some(set),
                (AdditionalOf::Nothing, None) => return None,
                (_, None) => {}
            }
        }
    }
}

impl<'a> AdditionalOf<'a> {
    /// Takes one step: what is left, and the record set that came out, if one did.
    fn step(self, ttl: u32) -> (Self, Option<RecordSet<'a>>) {
        match self {
            Self::Nothing => (Self::Nothing, None),
            Self::Host(owner, [], v6) => (Self::Nothing, v6_set(owner, ttl, v6)),
            Self::Host(owner, v4, v6) => (Self::Host(owner, &[], v6), v4_set(owner, ttl, v4)),
            Self::Targets(addressed, mut rest, done) => {
                // Records of one target stand together, so each target comes once.
                let Some(srv) = rest.find(|srv| Some(srv.target) != done) else {
                    return (Self::Nothing, None);
                };
                let set = v4_set(addressed.target(srv), ttl, addressed.target_v4(srv));
                (Self::Second(addressed, rest, srv), set)
            }
            Self::Second(addressed, rest, srv) => {
                let set = v6_set(addressed.target(srv), ttl, addressed.target_v6(srv));
                (Self::Targets(addressed, rest, Some(srv.target)), set)
            }
        }
    }
}

pub(super) fn v4_set<'a>(
    owner: NameRef<'a>,
    ttl: u32,
    list: &'a [Ipv4Addr],
) -> Option<RecordSet<'a>> {
    (!list.is_empty()).then_some(RecordSet {
        owner,
        ttl,
        records: Records::A(list),
    })
}

pub(super) fn v6_set<'a>(
    owner: NameRef<'a>,
    ttl: u32,
    list: &'a [Ipv6Addr],
) -> Option<RecordSet<'a>> {
    (!list.is_empty()).then_some(RecordSet {
        owner,
        ttl,
        records: Records::Aaaa(list),
    })
}
