//! From the octets of a query to those of its response: a pure function.

use svc_core::dns::{NameRef, Rcode, RecordType, Zone};

use super::message::{CLASS_IN, Header, Packet, Query, rcode};
use super::writer::{Section, Writer, flag};

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Transport {
    Udp,
    Tcp,
}

/// What a server does besides answering from its zone.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Most octets of a UDP answer, whatever the client takes; what is advertised, too.
    pub max_udp: u16,
    /// Order of addresses.
    pub order: Order,
    /// Whether other names are forwarded to a resolver.
    pub outside: Outside,
}

/// Order of the addresses of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Starting at a place that the identifier of the query gives, which clients choose at random.
    Rotated,
    /// As the zone has them.
    Fixed,
}

/// What becomes of names in none of the zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outside {
    /// They are refused.
    Refuse,
    /// They are somebody else's to answer.
    Forward,
}

/// What has become of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// It deserves no answer.
    Silence,
    /// The response has been written.
    Answer(Kind),
    /// The question is for a resolver.
    Forward,
    /// A chain of CNAMEs has been written as the start of a response; the rest, below this name,
    /// is for a resolver.
    Continue(NameRef<'a>),
}

/// What kind of answer it was, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// The type that was asked for; `None` where there was no such thing.
    pub record_type: Option<RecordType>,
    /// The code of the response.
    pub rcode: u16,
}

/// Least size of a UDP answer that every client takes (RFC 1035 4.2.1).
const MIN_UDP: u16 = 512;
const TYPE_IXFR: u16 = 251;
const TYPE_AXFR: u16 = 252;

impl Default for Policy {
    fn default() -> Self {
        Self {
            // Larger answers risk fragments, which are lost or forged more easily.
            max_udp: 1232,
            order: Order::Rotated,
            outside: Outside::Refuse,
        }
    }
}

/// The response to a packet; none where silence is right.
pub fn respond(zone: &Zone, packet: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(512);
    match respond_into(zone, packet, transport, &Policy::default(), &mut out) {
        Outcome::Answer(_) => Some(out),
        Outcome::Silence | Outcome::Forward | Outcome::Continue(_) => None,
    }
}

/// Writes the response to a packet in place of what the buffer held.
pub fn respond_into<'a>(
    zone: &'a Zone,
    packet: &'a [u8],
    transport: Transport,
    policy: &Policy,
    out: &mut Vec<u8>,
) -> Outcome<'a> {
    match Packet::read(packet) {
        Packet::Noise => Outcome::Silence,
        Packet::Bad(header, code) => {
            let writer = Writer::new(out, usize::from(MIN_UDP), header, None, None);
            writer.finish(base_flags(header, policy), code, None);
            Outcome::Answer(Kind {
                record_type: None,
                rcode: code,
            })
        }
        Packet::Query(query) => {
            let request = Request {
                query,
                limit: limit(&query, transport, policy),
                transport,
                policy,
            };
            request.answer(zone, out)
        }
    }
}

/// Most octets that a response to a query may have.
pub fn limit(query: &Query<'_>, transport: Transport, policy: &Policy) -> usize {
    let most = match transport {
        Transport::Tcp => u16::MAX,
        Transport::Udp => {
            let size = query.edns.map_or(MIN_UDP, |edns| edns.size);
            size.clamp(MIN_UDP, policy.max_udp.max(MIN_UDP))
        }
    };
    usize::from(most)
}

struct Request<'a, 'p> {
    query: Query<'a>,
    limit: usize,
    transport: Transport,
    policy: &'p Policy,
}

impl<'a> Request<'a, '_> {
    fn answer(&self, zone: &'a Zone, out: &mut Vec<u8>) -> Outcome<'a> {
        let query = &self.query;
        let transfer = matches!(query.record_type, RecordType::Other(TYPE_IXFR | TYPE_AXFR));
        let refusal = if query.edns.is_some_and(|edns| edns.version != 0) {
            Some(rcode::BADVERS)
        } else if query.class != CLASS_IN || transfer {
            Some(rcode::REFUSED)
        } else {
            None
        };
        if let Some(code) = refusal {
            let flags = base_flags(query.header, self.policy);
            self.finish(self.writer(out), flags, code);
            return self.done(code);
        }
        self.look_up(zone, out)
    }

    fn look_up(&self, zone: &'a Zone, out: &mut Vec<u8>) -> Outcome<'a> {
        let answer = zone.lookup(self.query.name, self.query.record_type);
        let forward =
            self.policy.outside == Outside::Forward && self.query.header.recursion_desired;
        if forward && answer.rcode == Rcode::Refused {
            return Outcome::Forward;
        }
        let mut writer = self.writer(out);
        let mut flags = base_flags(self.query.header, self.policy);
        if matches!(answer.rcode, Rcode::NoError | Rcode::NxDomain) {
            flags |= flag::AUTHORITATIVE;
        }
        let mut fits = true;
        for set in answer.answers.iter() {
            let start = match (self.policy.order, set.record_type()) {
                (Order::Rotated, RecordType::A | RecordType::Aaaa) => {
                    usize::from(self.query.header.id)
                }
                _ => 0,
            };
            fits = fits && writer.set(Section::Answer, set, start).is_ok();
        }
        if let Some(set) = &answer.authority {
            fits = fits && writer.whole_set(Section::Authority, set).is_ok();
        }
        if !fits && self.transport == Transport::Udp {
            flags |= flag::TRUNCATED;
        }
        if fits {
            // RFC 2181 9: what is missing here does not make the answer a truncated one.
            let mut additional = answer.additional;
            while let Some(set) = additional.next()
                && writer.whole_set(Section::Additional, &set).is_ok()
            {}
        }
        let code = u16::from(answer.rcode.number());
        if let Some(target) = answer.outside.filter(|_| forward) {
            // Without OPT: that follows when the rest of the chain has been added.
            writer.finish(flags, code, None);
            return Outcome::Continue(target);
        }
        self.finish(writer, flags, code);
        self.done(code)
    }

    fn writer<'o>(&self, out: &'o mut Vec<u8>) -> Writer<'o, 'a> {
        let question = Some((self.query.name, self.query.question));
        let edns = self.query.edns.as_ref();
        Writer::new(out, self.limit, self.query.header, question, edns)
    }

    fn finish(&self, writer: Writer<'_, '_>, flags: u16, code: u16) {
        let edns = self.query.edns.as_ref();
        writer.finish(flags, code, edns.map(|edns| (edns, self.policy.max_udp)));
    }

    fn done(&self, rcode: u16) -> Outcome<'a> {
        Outcome::Answer(Kind {
            record_type: Some(self.query.record_type),
            rcode,
        })
    }
}

/// Flags that any response to a query has.
pub(super) fn base_flags(header: Header, policy: &Policy) -> u16 {
    let mut flags = flag::RESPONSE | u16::from(header.opcode) << 11;
    if header.recursion_desired {
        flags |= flag::RECURSION_DESIRED;
    }
    if policy.outside == Outside::Forward {
        flags |= flag::RECURSION_AVAILABLE;
    }
    flags
}
