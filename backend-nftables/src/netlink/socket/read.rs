//! Reading back what the kernel holds of one table.

use std::io::IoSlice;

use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use super::super::attr::{Header, Message, Writer, message, messages};
use super::super::batch::{TableId, kind_of};
use super::super::decode::{
    Held, decode_chain, decode_elements, decode_generation, decode_rule, decode_set, decode_table,
};
use super::super::encode::encode_key;
use super::super::wire::{elem, msg, nlmsg, rule, set, table};
use super::{READ_SEQ, Reply, Socket, reply};
use crate::error::{Malformed, ReadError};
use crate::rule::{
    Bytes, Chain, Element, ElementKind, Family, Rule, Set, SetName, Table, TableName,
};

impl Socket {
    /// The number of the ruleset, of all tables of the namespace; every transaction changes it.
    ///
    /// # Errors
    /// [`ReadError::Refused`] without the privilege to administer the network.
    pub fn generation(&mut self) -> Result<u32, ReadError> {
        let found = self.one(
            msg::GETGEN,
            0,
            |_| {},
            |message| decode_generation(message.attrs()).ok_or(Malformed("generation")),
        )?;
        Ok(found)
    }

    /// The table; `None` if it is not there.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn table(&mut self, id: &TableId) -> Result<Option<Held<Table>>, ReadError> {
        let request = |to: &mut Writer<'_>| to.string(table::NAME, id.name.as_str());
        match self.one(msg::GETTABLE, id.family.code(), request, decode_table) {
            Ok(found) => Ok(Some(found)),
            Err(ReadError::Refused(Errno::ENOENT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Names of all tables of a family, to find one's own leftovers.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn table_names(&mut self, family: Family) -> Result<Vec<TableName>, ReadError> {
        self.dump(
            msg::GETTABLE,
            family.code(),
            |_| {},
            |message, found| {
                found.push(decode_table(message)?.table);
                Ok(())
            },
        )
    }

    /// The chains of a table, in its order; empty if it is not there.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn chains(&mut self, of: &TableId) -> Result<Vec<Held<Chain>>, ReadError> {
        // The kernel has no filter for chains: those of other tables are skipped by name.
        self.dump(
            msg::GETCHAIN,
            of.family.code(),
            |_| {},
            |message, found| {
                if message.attrs().string(super::super::wire::chain::TABLE)
                    == Some(of.name.as_str())
                {
                    found.push(decode_chain(message.attrs())?);
                }
                Ok(())
            },
        )
    }

    /// The rules of a table, chain by chain in order; empty if it is not there.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn rules(&mut self, of: &TableId) -> Result<Vec<Held<Rule>>, ReadError> {
        let request = |to: &mut Writer<'_>| to.string(rule::TABLE, of.name.as_str());
        self.dump(msg::GETRULE, of.family.code(), request, |message, found| {
            if message.attrs().string(rule::TABLE) == Some(of.name.as_str()) {
                found.push(decode_rule(message.attrs())?);
            }
            Ok(())
        })
    }

    /// The sets of a table without their elements.
    ///
    /// # Errors
    /// [`ReadError::Refused`] with `ENOENT` if the table is not there.
    pub fn sets(&mut self, of: &TableId) -> Result<Vec<Held<Set>>, ReadError> {
        let request = |to: &mut Writer<'_>| to.string(set::TABLE, of.name.as_str());
        self.dump(msg::GETSET, of.family.code(), request, |message, found| {
            if message.attrs().string(set::TABLE) == Some(of.name.as_str()) {
                found.push(decode_set(message.attrs())?);
            }
            Ok(())
        })
    }

    /// The number of elements of one set; `None` if the kernel is older than Linux 6.16 and does not
    /// tell.
    ///
    /// # Errors
    /// [`ReadError::Refused`] with `ENOENT` if the table or set is not there.
    pub fn count(&mut self, of: &TableId, name: &SetName) -> Result<Option<u32>, ReadError> {
        let request = |to: &mut Writer<'_>| {
            to.string(set::TABLE, of.name.as_str());
            to.string(set::NAME, name.as_str());
        };
        let decode = |message: &Message<'_>| Ok(message.attrs().u32(set::COUNT));
        self.one(msg::GETSET, of.family.code(), request, decode)
    }

    /// The elements of one set that have these keys, in order, if it has no others; `None` if it may
    /// have, or changed meanwhile.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub(crate) fn elements_at(
        &mut self,
        of: &TableId,
        name: &SetName,
        keys: &[Bytes],
    ) -> Result<Option<Vec<Element>>, ReadError> {
        let before = self.generation()?;
        let found = self.look_up(of, name, keys.iter().map(|key| (key, None)))?;
        let mut found: Vec<Element> = found.into_iter().flatten().collect();
        let count = self.count(of, name)?.map(usize::try_from);
        if count != Some(Ok(found.len())) || self.generation()? != before {
            return Ok(None);
        }
        found.sort_unstable_by(|a, b| identity(a).cmp(&identity(b)));
        Ok(Some(found))
    }

    /// The elements of one set, in order of their keys. Takes time quadratic in their number.
    ///
    /// # Errors
    /// [`ReadError::Refused`] with `ENOENT` if the table or set is not there.
    pub fn elements(&mut self, of: &TableId, name: &SetName) -> Result<Vec<Element>, ReadError> {
        let request = |to: &mut Writer<'_>| {
            to.string(elem::LIST_TABLE, of.name.as_str());
            to.string(elem::LIST_SET, name.as_str());
        };
        for _ in 0..ATTEMPTS {
            let family = of.family.code();
            let mut found = self.dump(msg::GETSETELEM, family, request, |message, found| {
                decode_elements(message.attrs(), |element| found.push(element))
            })?;
            found.sort_unstable_by(|a, b| identity(a).cmp(&identity(b)));
            // Why: while the kernel resizes a hash, which it does by itself after many additions,
            // a dump shows some elements twice and as many others not at all.
            if found.is_sorted_by(|a, b| identity(a) < identity(b)) {
                return Ok(found);
            }
        }
        Err(ReadError::Interrupted { attempts: ATTEMPTS })
    }

    /// Asks for the elements of one set, for [`Socket::next_elements`] to read part by part, and tells
    /// the sequence number. Nothing else may be asked for before the last part.
    pub(crate) fn list_elements(&mut self, of: &TableId, name: &SetName) -> Result<u32, ReadError> {
        let request = |to: &mut Writer<'_>| {
            to.string(elem::LIST_TABLE, of.name.as_str());
            to.string(elem::LIST_SET, name.as_str());
        };
        self.request(msg::GETSETELEM, nlmsg::DUMP, of.family.code(), request)
    }

    /// Shows the next elements. If the set changes meanwhile, some come twice or not at all.
    pub(crate) fn next_elements(
        &mut self,
        seq: u32,
        mut each: impl FnMut(Element),
    ) -> Result<Part, ReadError> {
        let len = self.receive(MsgFlags::empty())?;
        for message in messages(self.buf.get(..len).unwrap_or_default()) {
            if message.header.seq != seq {
                continue;
            }
            match (message.header.kind, reply(&message)) {
                (nlmsg::DONE, _) => {
                    return match done_errno(&message) {
                        None | Some(Errno::EINTR) => Ok(Part::Last),
                        Some(errno) => Err(ReadError::Refused(errno)),
                    };
                }
                (_, Reply::Error(errno)) => return Err(ReadError::Refused(errno)),
                // What makes no sense is left out: to stop would leave the rest in the socket.
                (_, Reply::Done | Reply::Other) => {
                    decode_elements(message.attrs(), &mut each).unwrap_or_default();
                }
            }
        }
        Ok(Part::More)
    }

    /// The elements of one set that have these keys, `None` where there is none.
    ///
    /// Takes the same time whatever the number of elements; a dump is cheaper for many of few.
    ///
    /// # Errors
    /// [`ReadError::Refused`] if the table or set is not there, which is told as any other refusal
    /// but a missing element.
    pub fn look_up<'k>(
        &mut self,
        of: &TableId,
        name: &SetName,
        keys: impl IntoIterator<Item = (&'k Bytes, Option<&'k Bytes>)>,
    ) -> Result<Vec<Option<Element>>, ReadError> {
        let mut keys = keys.into_iter();
        let mut found = Vec::new();
        let mut requests = Vec::new();
        loop {
            requests.clear();
            let first = self.seq.checked_add(1).unwrap_or(READ_SEQ);
            let mut count = 0;
            for (key, key_end) in keys.by_ref().take(LOOK_UPS) {
                let header = Header {
                    kind: kind_of(msg::GETSETELEM),
                    flags: nlmsg::REQUEST,
                    seq: first.wrapping_add(count),
                    port: 0,
                };
                count += 1;
                message(&mut requests, header, of.family.code(), 0, |to| {
                    to.string(elem::LIST_TABLE, of.name.as_str());
                    to.string(elem::LIST_SET, name.as_str());
                    to.nest(elem::LIST_ELEMENTS, |list| encode_key(list, key, key_end));
                });
            }
            if count == 0 {
                return Ok(found);
            }
            self.seq = first.wrapping_add(count);
            self.send(&[IoSlice::new(&requests)])?;
            for seq in (0..count).map(|index| first.wrapping_add(index)) {
                found.push(self.looked_up(seq)?);
            }
        }
    }

    /// The answer to one look-up.
    fn looked_up(&mut self, seq: u32) -> Result<Option<Element>, ReadError> {
        loop {
            let len = self.receive(MsgFlags::empty())?;
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                if message.header.seq != seq {
                    continue;
                }
                return match reply(&message) {
                    Reply::Error(Errno::ENOENT) => Ok(None),
                    Reply::Error(errno) => Err(ReadError::Refused(errno)),
                    Reply::Done | Reply::Other => {
                        let mut element = None;
                        decode_elements(message.attrs(), |found| element = Some(found))?;
                        Ok(element)
                    }
                };
            }
        }
    }

    /// A request with one answer.
    fn one<T>(
        &mut self,
        kind: u8,
        family: u8,
        content: impl Fn(&mut Writer<'_>),
        decode: impl Fn(&Message<'_>) -> Result<T, Malformed>,
    ) -> Result<T, ReadError> {
        let seq = self.request(kind, 0, family, content)?;
        loop {
            let len = self.receive(MsgFlags::empty())?;
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                if message.header.seq != seq {
                    continue;
                }
                return match reply(&message) {
                    Reply::Error(errno) => Err(ReadError::Refused(errno)),
                    Reply::Done | Reply::Other => Ok(decode(&message)?),
                };
            }
        }
    }

    /// A request with many answers, repeated if the ruleset changed in between.
    ///
    /// Why the generations as well: the kernel (6.18) flags no interruption when it dumps elements,
    /// and then shows a wandering one twice or not at all.
    fn dump<T>(
        &mut self,
        kind: u8,
        family: u8,
        content: impl Fn(&mut Writer<'_>),
        decode: impl Fn(&Message<'_>, &mut Vec<T>) -> Result<(), Malformed>,
    ) -> Result<Vec<T>, ReadError> {
        let mut found = Vec::new();
        let mut before = self.generation()?;
        for _ in 0..ATTEMPTS {
            found.clear();
            let seq = self.request(kind, nlmsg::DUMP, family, &content)?;
            let end = self.collect(seq, &mut found, &decode)?;
            let after = self.generation()?;
            match end {
                Dump::Whole if before == after => return Ok(found),
                Dump::Whole | Dump::Interrupted => before = after,
            }
        }
        Err(ReadError::Interrupted { attempts: ATTEMPTS })
    }

    /// Reads a dump to its end in any case, so that nothing of it is left in the socket.
    fn collect<T>(
        &mut self,
        seq: u32,
        found: &mut Vec<T>,
        decode: impl Fn(&Message<'_>, &mut Vec<T>) -> Result<(), Malformed>,
    ) -> Result<Dump, ReadError> {
        let mut end = Dump::Whole;
        let mut malformed = None;
        loop {
            let len = self.receive(MsgFlags::empty())?;
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                if message.header.seq != seq {
                    continue;
                }
                if message.header.flags & nlmsg::DUMP_INTR != 0 {
                    end = Dump::Interrupted;
                }
                match (message.header.kind, reply(&message)) {
                    (nlmsg::DONE, _) => {
                        return match (end, malformed, done_errno(&message)) {
                            (Dump::Interrupted, _, _) | (_, _, Some(Errno::EINTR)) => {
                                Ok(Dump::Interrupted)
                            }
                            (Dump::Whole, _, Some(errno)) => Err(ReadError::Refused(errno)),
                            (Dump::Whole, Some(malformed), None) => Err(malformed),
                            (Dump::Whole, None, None) => Ok(Dump::Whole),
                        };
                    }
                    (_, Reply::Error(errno)) => return Err(ReadError::Refused(errno)),
                    (_, Reply::Done | Reply::Other) => {
                        if let Err(error) = decode(&message, found) {
                            malformed = Some(error.into());
                        }
                    }
                }
            }
        }
    }

    fn request(
        &mut self,
        kind: u8,
        flags: u16,
        family: u8,
        content: impl Fn(&mut Writer<'_>),
    ) -> Result<u32, ReadError> {
        self.seq = self.seq.checked_add(1).unwrap_or(READ_SEQ);
        let header = Header {
            kind: kind_of(kind),
            flags: nlmsg::REQUEST | flags,
            seq: self.seq,
            port: 0,
        };
        let mut request = Vec::new();
        message(&mut request, header, family, 0, |to| content(to));
        self.send(&[IoSlice::new(&request)])?;
        Ok(self.seq)
    }
}

/// What no two elements of a set share.
fn identity(element: &Element) -> (&Bytes, ElementKind, Option<&Bytes>) {
    (&element.key, element.kind(), element.key_end())
}

/// Whether more of a list follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    More,
    Last,
}

#[derive(Clone, Copy)]
enum Dump {
    Whole,
    Interrupted,
}

/// The error of a dump that the kernel could not finish.
fn done_errno(message: &Message<'_>) -> Option<Errno> {
    let code = super::super::attr::ne_u32(message.body, 0)?.cast_signed();
    (code < 0).then(|| Errno::from_raw(code.saturating_neg()))
}

const ATTEMPTS: u32 = 8;
/// Look-ups that are sent at once: the kernel answers each with a datagram, which must find room
/// also where the receive buffer cannot be made larger than usual.
const LOOK_UPS: usize = 32;
