//! Reading of DNS queries (RFC 1035 4.1, RFC 6891).

use svc_core::dns::{NameRef, RecordType};

/// Length of the header of a message.
pub const HEADER: usize = 12;
const TYPE_OPT: u16 = 41;
/// Class of the Internet.
pub const CLASS_IN: u16 = 1;

/// Codes of a response that a zone does not know itself.
pub mod rcode {
    #![allow(missing_docs)]
    pub const NOERROR: u16 = 0;
    pub const FORMERR: u16 = 1;
    pub const SERVFAIL: u16 = 2;
    pub const NOTIMP: u16 = 4;
    pub const REFUSED: u16 = 5;
    pub const BADVERS: u16 = 16;
}

/// What a packet is to a server.
#[derive(Clone, Copy, Debug)]
pub enum Packet<'a> {
    /// Nothing that may be answered: too short to have a header, or itself a response.
    Noise,
    /// Something that can only be refused, with the code to do it.
    Bad(Header, u16),
    /// One question.
    Query(Query<'a>),
}

/// Of the header of a query, what a response repeats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The identifier.
    pub id: u16,
    /// The operation, 0 for a query.
    pub opcode: u8,
    /// Whether recursion is desired.
    pub recursion_desired: bool,
}

/// A query with one question.
#[derive(Clone, Copy, Debug)]
pub struct Query<'a> {
    /// Its header.
    pub header: Header,
    /// The name that is asked for, in the client's spelling.
    pub name: NameRef<'a>,
    /// The type that is asked for.
    pub record_type: RecordType,
    /// The class that is asked for.
    pub class: u16,
    /// The question as it stands in the packet.
    pub question: &'a [u8],
    /// The client's EDNS, if it has any.
    pub edns: Option<Edns>,
}

/// What an OPT record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edns {
    /// Most octets of a UDP answer that the client takes.
    pub size: u16,
    /// Version of EDNS.
    pub version: u8,
    /// Whether DNSSEC records are welcome.
    pub dnssec_ok: bool,
}

impl<'a> Packet<'a> {
    /// Reads a packet; never fails, as any octets may come.
    pub fn read(octets: &'a [u8]) -> Self {
        let Some((head, body)) = octets.split_at_checked(HEADER) else {
            return Self::Noise;
        };
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let flags = word(2);
        if flags & 0x8000 != 0 {
            return Self::Noise;
        }
        let header = Header {
            id: word(0),
            opcode: (flags >> 11 & 0xf) as u8,
            recursion_desired: flags & 0x0100 != 0,
        };
        if header.opcode != 0 {
            return Self::Bad(header, rcode::NOTIMP);
        }
        let counts = [word(4), word(6), word(8), word(10)];
        match read_query(header, counts, body) {
            Some(query) => Self::Query(query),
            None => Self::Bad(header, rcode::FORMERR),
        }
    }
}

fn read_query<'a>(header: Header, counts: [u16; 4], body: &'a [u8]) -> Option<Query<'a>> {
    let [1, answers, authorities, additionals] = counts else {
        return None;
    };
    let (name, rest) = NameRef::split_from(body).ok()?;
    let (fixed, mut rest) = rest.split_first_chunk::<4>()?;
    let question = body.get(..name.octets().len() + 4)?;
    let [a, b, c, d] = *fixed;
    let kind = u16::from_be_bytes([a, b]);
    if kind == TYPE_OPT {
        return None;
    }
    // Transfers and other queries may carry records; only their form is checked.
    for _ in 0..u32::from(answers) + u32::from(authorities) {
        rest = Record::read(rest)?.1;
    }
    let mut edns = None;
    for _ in 0..additionals {
        let (record, after) = Record::read(rest)?;
        rest = after;
        if record.kind != TYPE_OPT {
            continue;
        }
        if edns.is_some() || !record.at_root {
            return None;
        }
        edns = Some(Edns {
            size: record.class,
            version: (record.ttl >> 16 & 0xff) as u8,
            dnssec_ok: record.ttl & 0x8000 != 0,
        });
    }
    Some(Query {
        header,
        name,
        record_type: RecordType::from_number(kind),
        class: u16::from_be_bytes([c, d]),
        question,
        edns,
    })
}

/// A resource record whose data is not looked at.
struct Record {
    at_root: bool,
    kind: u16,
    class: u16,
    ttl: u32,
}

impl Record {
    fn read(octets: &[u8]) -> Option<(Self, &[u8])> {
        let (at_root, rest) = skip_name(octets)?;
        let (fixed, rest) = rest.split_first_chunk::<10>()?;
        let [a, b, c, d, e, f, g, h, i, j] = *fixed;
        let length = usize::from(u16::from_be_bytes([i, j]));
        let rest = rest.get(length..)?;
        let record = Self {
            at_root,
            kind: u16::from_be_bytes([a, b]),
            class: u16::from_be_bytes([c, d]),
            ttl: u32::from_be_bytes([e, f, g, h]),
        };
        Some((record, rest))
    }
}

/// Skips a name, which may end in a compression pointer; whether it is the root, and the rest.
pub fn skip_name(octets: &[u8]) -> Option<(bool, &[u8])> {
    let mut rest = octets;
    let mut at_root = true;
    loop {
        let (length, after) = rest.split_first()?;
        match length {
            0 => return Some((at_root, after)),
            1..=63 => rest = after.get(usize::from(*length)..)?,
            0xc0.. => return Some((false, after.get(1..)?)),
            64..=0xbf => return None,
        }
        at_root = false;
    }
}
