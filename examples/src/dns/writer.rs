//! Writing of DNS responses into a buffer that is used again and again.

use std::net::Ipv4Addr;

use svc_core::dns::{NameRef, RecordData, RecordSet, Soa};

use super::message::{CLASS_IN, Edns, HEADER, Header};

/// Names besides the question that later names are compressed against.
const MAX_NAMES: usize = 12;
/// Octets of an OPT record without options.
const OPT: usize = 11;
/// Highest place that a compression pointer reaches.
const MAX_POINTER: usize = 0x3fff;

/// A response that is being written.
pub(super) struct Writer<'o, 'a> {
    out: &'o mut Vec<u8>,
    limit: usize,
    names: [(usize, NameRef<'a>); MAX_NAMES],
    name_count: usize,
    counts: [u16; 3],
}

/// The sections of records.
#[derive(Clone, Copy)]
pub(super) enum Section {
    Answer,
    Authority,
    Additional,
}

/// There is no room for more.
#[derive(Debug)]
pub(super) struct Full;

/// Bits of the second word of a header.
pub(super) mod flag {
    pub(in crate::dns) const RESPONSE: u16 = 0x8000;
    pub(in crate::dns) const AUTHORITATIVE: u16 = 0x0400;
    pub(in crate::dns) const TRUNCATED: u16 = 0x0200;
    pub(in crate::dns) const RECURSION_DESIRED: u16 = 0x0100;
    pub(in crate::dns) const RECURSION_AVAILABLE: u16 = 0x0080;
}

impl<'o, 'a> Writer<'o, 'a> {
    /// Starts a response of at most `limit` octets; room for an OPT record is kept if needed.
    pub(super) fn new(
        out: &'o mut Vec<u8>,
        limit: usize,
        header: Header,
        question: Option<(NameRef<'a>, &[u8])>,
        edns: Option<&Edns>,
    ) -> Self {
        out.clear();
        let mut head = [0; HEADER];
        head[..2].copy_from_slice(&header.id.to_be_bytes());
        head[5] = u8::from(question.is_some());
        out.extend_from_slice(&head);
        let mut names = [(0, NameRef::ROOT); MAX_NAMES];
        let mut name_count = 0;
        if let Some((name, octets)) = question {
            out.extend_from_slice(octets);
            names[0] = (HEADER, name);
            name_count = 1;
        }
        Self {
            out,
            limit: limit - if edns.is_some() { OPT } else { 0 },
            names,
            name_count,
            counts: [0; 3],
        }
    }

    /// Adds records from `start` on and around; those that fit are kept.
    pub(super) fn set(
        &mut self,
        section: Section,
        set: &RecordSet<'a>,
        start: usize,
    ) -> Result<(), Full> {
        let length = set.len();
        for position in 0..length {
            let Some(data) = set.at((start + position) % length) else {
                continue;
            };
            let before = (self.out.len(), self.name_count);
            if let Err(full) = self.record(set.owner, set.ttl, &data) {
                self.out.truncate(before.0);
                self.name_count = before.1;
                return Err(full);
            }
            self.count(section, 1);
        }
        Ok(())
    }

    /// Adds a set as a whole or not at all.
    pub(super) fn whole_set(&mut self, section: Section, set: &RecordSet<'a>) -> Result<(), Full> {
        let before = (self.out.len(), self.name_count, self.counts);
        let result = self.set(section, set, 0);
        if result.is_err() {
            self.out.truncate(before.0);
            (self.name_count, self.counts) = (before.1, before.2);
        }
        result
    }

    /// Adds a record that is already in its final form, with no compressed names.
    pub(super) fn raw(&mut self, section: Section, record: &[u8]) -> Result<(), Full> {
        self.room(record.len())?;
        self.out.extend_from_slice(record);
        self.count(section, 1);
        Ok(())
    }

    /// Writes the OPT record and the header.
    pub(super) fn finish(self, flags: u16, rcode: u16, edns: Option<(&Edns, u16)>) {
        let Self { out, counts, .. } = self;
        let mut additional = counts[2];
        if let Some((edns, size)) = edns {
            let high = u32::from(rcode >> 4) << 24 | if edns.dnssec_ok { 0x8000 } else { 0 };
            out.extend_from_slice(&[0, 0, 41]);
            out.extend_from_slice(&size.to_be_bytes());
            out.extend_from_slice(&high.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            additional += 1;
        }
        let flags = flags | rcode & 0xf;
        for (at, word) in [(2, flags), (6, counts[0]), (8, counts[1]), (10, additional)] {
            out[at..at + 2].copy_from_slice(&word.to_be_bytes());
        }
    }

    fn count(&mut self, section: Section, more: u16) {
        self.counts[section as usize] += more;
    }

    fn room(&self, octets: usize) -> Result<(), Full> {
        match self.out.len() + octets <= self.limit {
            true => Ok(()),
            false => Err(Full),
        }
    }

    fn record(&mut self, owner: NameRef<'a>, ttl: u32, data: &RecordData<'a>) -> Result<(), Full> {
        self.name(owner);
        let mut fixed = [0; 10];
        fixed[..2].copy_from_slice(&data.record_type().number().to_be_bytes());
        fixed[2..4].copy_from_slice(&CLASS_IN.to_be_bytes());
        fixed[4..8].copy_from_slice(&ttl.to_be_bytes());
        let start = self.out.len() + fixed.len();
        self.out.extend_from_slice(&fixed);
        self.data(data);
        let length = u16::try_from(self.out.len() - start).map_err(|_| Full)?;
        self.out[start - 2..start].copy_from_slice(&length.to_be_bytes());
        self.room(0)
    }

    fn data(&mut self, data: &RecordData<'a>) {
        match data {
            RecordData::A(ip) => self.octets(&Ipv4Addr::octets(ip)),
            RecordData::Aaaa(ip) => self.octets(&ip.octets()),
            RecordData::Ns(name) | RecordData::Ptr(name) => self.name(*name),
            RecordData::Cname(name) => {
                let at = self.out.len();
                self.name(*name);
                // The records of the target follow, below its name.
                self.remember(at, *name);
            }
            RecordData::Txt(text) => {
                // One character-string takes 255 octets; the only text is far shorter.
                let text = &text.as_bytes()[..text.len().min(255)];
                self.out.push(text.len() as u8);
                self.octets(text);
            }
            RecordData::Srv {
                priority,
                weight,
                port,
                target,
            } => {
                for word in [priority, weight, port] {
                    self.octets(&word.to_be_bytes());
                }
                // RFC 2782: the target is not compressed, but others may point to it.
                let at = self.out.len();
                self.octets(target.octets());
                self.remember(at, *target);
            }
            RecordData::Soa(soa) => self.soa(soa),
        }
    }

    fn soa(&mut self, soa: &Soa<'a>) {
        self.name(soa.mname);
        self.name(soa.rname);
        for word in [soa.serial, soa.refresh, soa.retry, soa.expire, soa.minimum] {
            self.octets(&word.to_be_bytes());
        }
    }

    fn octets(&mut self, octets: &[u8]) {
        self.out.extend_from_slice(octets);
    }

    fn remember(&mut self, at: usize, name: NameRef<'a>) {
        if let Some(slot) = self.names.get_mut(self.name_count)
            && at <= MAX_POINTER
        {
            *slot = (at, name);
            self.name_count += 1;
        }
    }

    /// Writes a name, from the first suffix on that is already there as a pointer.
    ///
    /// Octets are compared in their case, so that every name keeps its spelling. A suffix may start
    /// inside of a label of the other name: what a pointer leads to is the same name all the same.
    fn name(&mut self, name: NameRef<'a>) {
        let octets = name.octets();
        let mut at = 0;
        while octets[at] != 0 {
            let rest = &octets[at..];
            for (start, known) in &self.names[..self.name_count] {
                let known = known.octets();
                if known.ends_with(rest) {
                    let place = start + known.len() - rest.len();
                    // Known names start no higher than a pointer reaches; check the rest of them.
                    if place <= MAX_POINTER {
                        self.out.extend_from_slice(&octets[..at]);
                        let pointer = 0xc000 | place as u16;
                        self.out.extend_from_slice(&pointer.to_be_bytes());
                        return;
                    }
                }
            }
            at += 1 + usize::from(octets[at]);
        }
        self.out.extend_from_slice(octets);
    }
}
