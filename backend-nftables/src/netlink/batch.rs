//! Transactions as bytes.

use std::ops::Range;

use super::attr::{Header, Writer, close, close_message, message};
use super::encode::{self, Part};
use super::wire::{BATCH_GENID, NFGENMSG, SUBSYS, chain, elem, msg, nlmsg, rule, set, table};
use crate::rule::{
    Bytes, Chain, ChainName, Comment, Data, Element, Family, Rule, Set, SetName, Table, TableName,
    TableState,
};

/// A table by family and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TableId {
    /// Its family.
    pub family: Family,
    /// Its name.
    pub name: TableName,
}

impl TableId {
    /// The table of this name.
    pub fn new(family: Family, name: impl Into<TableName>) -> Self {
        Self {
            family,
            name: name.into(),
        }
    }
}

/// What adding does to an object that is already there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Existing {
    /// Keeps it if it is equal as far as the kernel compares; refused otherwise.
    Keep,
    /// Is refused with `EEXIST`.
    Refuse,
}

/// Where a rule goes within its chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Place {
    /// After all rules.
    Last,
    /// Before all rules.
    First,
    /// After the rule of this handle.
    After(u64),
    /// Before the rule of this handle.
    Before(u64),
    /// In place of the rule of this handle.
    Replace(u64),
}

/// One transaction: the kernel applies all its operations, in order, or none.
///
/// Operations go to the table chosen last by [`Batch::new`] or [`Batch::set_table`]. Every operation carries
/// a tag of the caller's, by which a refusal names it. Adding elements of one set with one tag in a
/// row makes one message, so whoever wants refusals per Service tags per Service. No answer is
/// asked for but one, of the last operation.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Begin message and operations; the end message is added while sending.
    buf: Vec<u8>,
    /// Tag of each operation; its sequence number is its index plus 1.
    tags: Vec<u32>,
    table: TableId,
    list: Option<OpenList>,
    last: usize,
    set_ids: u32,
    oversized: Vec<u32>,
}

/// The element list at the end of the buffer, which further elements may join.
#[derive(Clone, Debug)]
struct OpenList {
    kind: u8,
    flags: u16,
    set: SetName,
    tag: u32,
    message: usize,
    list: usize,
}

impl Batch {
    /// An empty transaction.
    pub fn new(table: TableId) -> Self {
        let mut batch = Self {
            buf: Vec::new(),
            tags: Vec::new(),
            table,
            list: None,
            last: 0,
            set_ids: 0,
            oversized: Vec::new(),
        };
        batch.clear();
        batch
    }

    /// Removes all operations and the expectation; keeps table and memory.
    pub fn clear(&mut self) {
        self.buf.clear();
        self.tags.clear();
        self.oversized.clear();
        self.list = None;
        self.last = 0;
        self.set_ids = 0;
        let header = Header {
            kind: nlmsg::BATCH_BEGIN,
            flags: nlmsg::REQUEST,
            seq: 0,
            port: 0,
        };
        // Why always: generation 0 means "any", and a fixed place can be patched.
        message(&mut self.buf, header, 0, u16::from(SUBSYS), |to| {
            to.u32(BATCH_GENID, 0)
        });
    }

    /// Lets the kernel refuse the transaction unless this is the current generation.
    pub fn expect_generation(&mut self, generation: Option<u32>) {
        if let Some(place) = self.buf.get_mut(GENERATION) {
            place.copy_from_slice(&generation.unwrap_or(0).to_be_bytes());
        }
    }

    /// The expected generation.
    pub fn expected_generation(&self) -> Option<u32> {
        let bytes = self.buf.get(GENERATION)?.first_chunk()?;
        Some(u32::from_be_bytes(*bytes)).filter(|generation| *generation != 0)
    }

    /// Chooses the table of the operations that follow.
    pub fn set_table(&mut self, table: TableId) {
        self.list = None;
        self.table = table;
    }

    /// The table of the operations that follow.
    pub fn table(&self) -> &TableId {
        &self.table
    }

    /// Whether there is no operation.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Number of messages.
    pub fn messages(&self) -> usize {
        self.tags.len()
    }

    /// Bytes to send.
    pub fn byte_len(&self) -> usize {
        self.buf.len() + END.len()
    }

    /// Tags of operations too long for a message, which no kernel can be asked for.
    pub fn oversized(&self) -> &[u32] {
        &self.oversized
    }

    /// Adds the table itself, with its comment; wakes one that is dormant.
    pub fn add_table(&mut self, tag: u32, comment: Option<&str>, existing: Existing) {
        let value = Table {
            family: self.table.family,
            name: self.table.name.clone(),
            comment: comment.map(Into::into),
            state: TableState::Active,
        };
        self.push(tag, msg::NEWTABLE, adding(existing), |to, _| {
            encode::encode_table(to, &value)
        });
    }

    /// Removes the table with all it holds.
    pub fn delete_table(&mut self, tag: u32) {
        self.push(tag, msg::DELTABLE, 0, |to, name| {
            to.string(table::NAME, name.as_str())
        });
    }

    /// Adds a chain.
    pub fn add_chain(&mut self, tag: u32, value: &Chain, existing: Existing) {
        self.push(tag, msg::NEWCHAIN, adding(existing), |to, name| {
            encode::encode_chain(to, name, value);
        });
    }

    /// Removes a chain; refused with `EBUSY` while something refers to it, or rules are in it.
    pub fn delete_chain(&mut self, tag: u32, value: &ChainName) {
        self.push(tag, msg::DELCHAIN, 0, |to, name| {
            to.string(chain::TABLE, name.as_str());
            to.string(chain::NAME, value.as_str());
        });
    }

    /// Adds or replaces a rule.
    pub fn add_rule(&mut self, tag: u32, value: &Rule, place: Place) {
        let (flags, at) = match place {
            Place::Last => (nlmsg::CREATE | nlmsg::APPEND, None),
            Place::First => (nlmsg::CREATE, None),
            Place::After(handle) => (
                nlmsg::CREATE | nlmsg::APPEND,
                Some((rule::POSITION, handle)),
            ),
            Place::Before(handle) => (nlmsg::CREATE, Some((rule::POSITION, handle))),
            Place::Replace(handle) => (nlmsg::REPLACE, Some((rule::HANDLE, handle))),
        };
        self.push(tag, msg::NEWRULE, flags, |to, name| {
            encode::encode_rule(to, name, value);
            if let Some((kind, handle)) = at {
                to.u64(kind, handle);
            }
        });
    }

    /// Removes a rule.
    pub fn delete_rule(&mut self, tag: u32, of: &ChainName, handle: u64) {
        self.push(tag, msg::DELRULE, 0, |to, name| {
            to.string(rule::TABLE, name.as_str());
            to.string(rule::CHAIN, of.as_str());
            to.u64(rule::HANDLE, handle);
        });
    }

    /// Removes all rules of a chain.
    pub fn flush_chain(&mut self, tag: u32, of: &ChainName) {
        self.push(tag, msg::DELRULE, 0, |to, name| {
            to.string(rule::TABLE, name.as_str());
            to.string(rule::CHAIN, of.as_str());
        });
    }

    /// Adds a set or map.
    pub fn add_set(&mut self, tag: u32, value: &Set, existing: Existing) {
        // Why 1: the kernel wants an id of every new set; 0 reads as "none".
        self.set_ids += 1;
        let id = self.set_ids;
        self.push(tag, msg::NEWSET, adding(existing), |to, name| {
            encode::encode_set(to, name, value, id);
        });
    }

    /// Removes a set; refused with `EBUSY` while a rule refers to it.
    pub fn delete_set(&mut self, tag: u32, value: &SetName) {
        self.push(tag, msg::DELSET, 0, |to, name| {
            to.string(set::TABLE, name.as_str());
            to.string(set::NAME, value.as_str());
        });
    }

    /// Removes all elements of a set.
    pub fn flush_set(&mut self, tag: u32, of: &SetName) {
        self.push(tag, msg::DELSETELEM, 0, |to, name| {
            to.string(elem::LIST_TABLE, name.as_str());
            to.string(elem::LIST_SET, of.as_str());
        });
    }

    /// Adds an element. To replace one, delete and add it in the same transaction.
    pub fn add_element(&mut self, tag: u32, to: &SetName, value: &Element, existing: Existing) {
        self.element(tag, msg::NEWSETELEM, adding(existing), to, |list| {
            encode::encode_element(list, value, Part::All);
        });
    }

    /// Removes the element of this key (and key end, and kind); refused with `ENOENT` if there is none.
    pub fn delete_element(&mut self, tag: u32, from: &SetName, value: &Element) {
        self.element(tag, msg::DELSETELEM, 0, from, |list| {
            encode::encode_element(list, value, Part::Key);
        });
    }

    /// Adds an element that is no range and lives as long as the set, without an [`Element`] of it.
    pub(crate) fn add_plain(
        &mut self,
        tag: u32,
        to: &SetName,
        key: &Bytes,
        data: Option<&Data>,
        comment: Option<&Comment>,
    ) {
        let flags = adding(Existing::Refuse);
        self.element(tag, msg::NEWSETELEM, flags, to, |list| {
            encode::encode_plain(list, key, data, comment);
        });
    }

    /// Removes such an element.
    pub(crate) fn delete_plain(&mut self, tag: u32, from: &SetName, key: &Bytes) {
        self.element(tag, msg::DELSETELEM, 0, from, |list| {
            encode::encode_plain(list, key, None, None);
        });
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buf
    }

    /// Tag of the operation with this sequence number.
    pub(super) fn tag_of(&self, seq: u32) -> Option<u32> {
        let index = usize::try_from(seq.checked_sub(1)?).ok()?;
        self.tags.get(index).copied()
    }

    /// Sequence number of the last operation, of which the kernel sends an answer.
    pub(super) fn last_seq(&self) -> u32 {
        seq(self.tags.len())
    }

    fn element(
        &mut self,
        tag: u32,
        kind: u8,
        flags: u16,
        set: &SetName,
        encode: impl FnOnce(&mut Writer<'_>),
    ) {
        let joins = self.list.as_ref().is_some_and(|open| {
            open.kind == kind
                && open.flags == flags
                && open.tag == tag
                && self.buf.len() - open.list < LIST_MAX
                && open.set == *set
        });
        if !joins {
            self.push(tag, kind, flags, |to, name| {
                to.string(elem::LIST_TABLE, name.as_str());
                to.string(elem::LIST_SET, set.as_str());
            });
            let list = Writer::new(&mut self.buf).open(elem::LIST_ELEMENTS);
            self.list = Some(OpenList {
                kind,
                flags,
                set: set.clone(),
                tag,
                message: self.last,
                list,
            });
        }
        let mut fits = {
            let mut to = Writer::new(&mut self.buf);
            encode(&mut to);
            to.fits()
        };
        if let Some(open) = &self.list {
            fits &= close(&mut self.buf, open.list);
            fits &= close_message(&mut self.buf, open.message);
        }
        if !fits {
            self.oversized.push(tag);
        }
    }

    fn push(
        &mut self,
        tag: u32,
        kind: u8,
        flags: u16,
        content: impl FnOnce(&mut Writer<'_>, &TableName),
    ) {
        self.list = None;
        let header = Header {
            kind: kind_of(kind),
            flags: nlmsg::REQUEST | nlmsg::ACK | flags,
            seq: seq(self.tags.len() + 1),
            port: 0,
        };
        if !self.tags.is_empty() {
            self.without_ack(self.last);
        }
        self.last = self.buf.len();
        let name = &self.table.name;
        let family = self.table.family.code();
        let fits = message(&mut self.buf, header, family, 0, |to| content(to, name));
        self.tags.push(tag);
        if !fits {
            self.oversized.push(tag);
        }
    }

    /// Only the last operation asks for an answer.
    fn without_ack(&mut self, start: usize) {
        if let Some(place) = self.buf.get_mut(start + 6..start + 8)
            && let Some(flags) = place.first_chunk().map(|flags| u16::from_ne_bytes(*flags))
        {
            place.copy_from_slice(&(flags & !nlmsg::ACK).to_ne_bytes());
        }
    }
}

/// `NFT_MSG_*` with our subsystem.
pub(super) const fn kind_of(kind: u8) -> u16 {
    u16::from_le_bytes([kind, SUBSYS])
}

/// The end message of every transaction.
pub(super) fn end() -> &'static [u8] {
    &END
}

fn adding(existing: Existing) -> u16 {
    match existing {
        Existing::Keep => nlmsg::CREATE,
        Existing::Refuse => nlmsg::CREATE | nlmsg::EXCL,
    }
}

/// Messages are at least 20 bytes long, so memory ends before 32 bits of sequence numbers do.
fn seq(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Where the begin message holds the generation: after its headers and the attribute's.
const GENERATION: Range<usize> = nlmsg::HEADER + NFGENMSG + 4..nlmsg::HEADER + NFGENMSG + 8;

/// Length of an element list after which a new one is begun. The largest element, with keys, data
/// and comment, takes about 700 bytes, and an attribute ends at 65,535.
const LIST_MAX: usize = 60_000;

static END: [u8; nlmsg::HEADER + NFGENMSG] = end_message();

const fn end_message() -> [u8; nlmsg::HEADER + NFGENMSG] {
    let [l0, l1, l2, l3] = ((nlmsg::HEADER + NFGENMSG) as u32).to_ne_bytes();
    let [k0, k1] = nlmsg::BATCH_END.to_ne_bytes();
    let [f0, f1] = nlmsg::REQUEST.to_ne_bytes();
    [
        l0, l1, l2, l3, k0, k1, f0, f1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, SUBSYS,
    ]
}
