//! From edits to batches, in an order that is sane at every step.
//!
//! What is new comes first, in the order of [`Key`]: an endpoint before the pool that counts it.
//! Then front ends that go, what changes, and front ends that come. Then what else goes, in the
//! opposite order. A packet that looks in between finds the old way or the new one.
//!
//! A front end and the endpoints that it leads to may change in the same transaction. Whatever
//! happens to the endpoints, more, fewer or others,
//!
//! | a front end that | changes | as |
//! |---|---|---|
//! | goes | before them | it would lead to endpoints that it never had |
//! | comes | after them | it would lead to endpoints that it never gets |
//! | is rewritten | in the batch that changes them | in either order it would lead to neither |
//!
//! An address comes after its front ends and goes before them, as it refuses what they do not take.
//! An address that changes its kind, and a front end that passes to another Service, need one batch
//! with all they touch too. So [`mod@split`] never cuts between such operations.
//!
//! Some things that go have to make room first: ranges, which may not overlap, and rules, as long
//! as there are any that refer to what goes.

mod split;

use std::ops::Range;

use svc_core::{Base, Edit, Transaction};

use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::netlink::{Batch, Existing, Place, TableId};
use crate::read::Reading;
use crate::rule::{Bytes, Element, ElementKind, SetFlags, SetName};
use crate::schema;
pub use split::BATCH_BYTES;
use split::{FIRST, Limits, bring_together, split};

/// Batches that apply a transaction, one after the other.
///
/// Each operation is tagged with the index of its group.
#[derive(Debug)]
pub struct Batches<'a> {
    table: TableId,
    start: Start,
    transaction: &'a Transaction<Key, Value>,
    operations: Vec<Operation<'a>>,
    /// Operations of each batch, in order.
    batches: Vec<Range<usize>>,
}

/// What a table is when its batches begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// It is as the transaction says.
    AsRead,
    /// It is there, of no use, and removed first.
    Useless,
}

impl Start {
    /// What was read.
    pub(crate) fn of(reading: &Reading) -> Self {
        match reading.useless {
            true => Self::Useless,
            false => Self::AsRead,
        }
    }
}

/// One edit, or half of one, in its place.
#[derive(Debug)]
struct Operation<'a> {
    group: u32,
    edit: &'a Edit<Key, Value>,
    act: Act,
    /// Its place: by what it does, then by the kind of object.
    place: u32,
    /// Those of one unit share a batch; see [`mod@split`].
    unit: u32,
}

impl<'a> Operation<'a> {
    fn new(group: u32, edit: &'a Edit<Key, Value>, act: Act) -> Self {
        let rank = edit.key.rank();
        let in_order = match act {
            Act::Flush | Act::RemoveRange | Act::Add | Act::Change | Act::Announce => rank,
            Act::Withdraw | Act::RemoveForeign | Act::Remove => RANKS - rank,
        };
        let place = act as u32 * RANKS + in_order;
        Self {
            group,
            edit,
            act,
            place,
            unit: FIRST,
        }
    }
}

/// More than any rank of a key.
const RANKS: u32 = 1 << 16;

/// What an operation does; operations are applied in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    /// Empties a chain that goes, where others may still refer to chains that go too.
    Flush,
    /// Removes a range, to make room for others.
    RemoveRange,
    Add,
    /// Removes a front end or an address.
    Withdraw,
    Change,
    /// Adds a front end or an address.
    Announce,
    /// Removes a set of somebody else: its verdicts may lead to chains that go.
    RemoveForeign,
    Remove,
}

impl<'a> Batches<'a> {
    /// Orders the edits of a transaction.
    pub fn new(table: TableId, start: Start, transaction: &'a Transaction<Key, Value>) -> Self {
        let mut operations = Vec::with_capacity(transaction.edits().count());
        let foreign = transaction.edits().any(|edit| is_foreign_chain(&edit.key));
        let in_use = is_in_use(transaction);
        for (group, edits) in (0u32..).zip(&transaction.groups) {
            for edit in &edits.edits {
                let operation = |act| Operation::new(group, edit, act);
                // Chains of others may refer to each other, and ours to them.
                if foreign && is_chain(&edit.key) && edit.after.is_none() {
                    operations.push(operation(Act::Flush));
                }
                if replaces_range(edit) {
                    operations.extend([Act::RemoveRange, Act::Add].map(operation));
                } else {
                    operations.push(operation(act(edit, in_use)));
                }
            }
        }
        // Stable: what is of one kind stays in the order of the groups, which costs no look at keys.
        operations.sort_by_key(|operation| operation.place);
        let limits = Limits::of(&operations, start, transaction.base);
        let batches = Self {
            table,
            start,
            transaction,
            operations,
            batches: Vec::new(),
        };
        batches.within(limits)
    }

    /// The same in batches of about so many bytes: what belongs together is cut if it has more.
    #[must_use]
    pub fn in_batches_of(self, bytes: usize) -> Self {
        self.within(Limits::bytes(bytes))
    }

    /// The same in as many batches as keep a ruleset in use sane.
    #[must_use]
    pub fn in_single_steps(self) -> Self {
        self.within(Limits::SINGLE)
    }

    /// Cuts a batch that is too large for the send buffer; `false` if nothing of it can be cut.
    ///
    /// A transaction that was one batch comes apart between what belongs together first.
    pub(crate) fn cut(&mut self, index: usize) -> bool {
        let before = self.batches.len();
        if before == 1 {
            self.split(Limits::UNITS);
        }
        if self.batches.len() > before {
            return true;
        }
        let Some(range) = self.batches.get(index).cloned() else {
            return false;
        };
        let operations = self.operations.get(range.clone()).unwrap_or_default();
        let limits = Limits::bytes(BATCH_BYTES);
        let parts = split(operations, self.transaction.base, limits).into_iter();
        let parts = parts.map(|part| range.start + part.start..range.start + part.end);
        self.batches.splice(index..=index, parts);
        self.batches.len() > before
    }

    fn within(mut self, limits: Limits) -> Self {
        self.split(limits);
        self
    }

    fn split(&mut self, limits: Limits) {
        if !limits.is_none() && is_in_use(self.transaction) {
            bring_together(&mut self.operations, &self.transaction.groups);
        }
        self.batches = split(&self.operations, self.transaction.base, limits);
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.batches.len()
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Writes the batch of an index, with the blame for refusals as exact as asked.
    pub fn write(&self, index: usize, blame: Blame, batch: &mut Batch) {
        batch.clear();
        self.append(index, blame, batch);
    }

    /// As [`Batches::write`], after what a batch holds already.
    pub(crate) fn append(&self, index: usize, blame: Blame, batch: &mut Batch) {
        batch.set_table(self.table.clone());
        if index == 0 && self.start == Start::Useless {
            batch.delete_table(NO_GROUP);
        }
        let operations = self
            .batches
            .get(index)
            .and_then(|range| self.operations.get(range.clone()));
        // Elements of one set come in a row.
        let mut latest: Option<(&SetId, SetName)> = None;
        for operation in operations.unwrap_or_default() {
            let tag = match blame {
                Blame::Group => operation.group,
                Blame::Batch => NO_GROUP,
            };
            match &operation.edit.key {
                Key::Element(set, key) => {
                    let name = match latest.take() {
                        Some((id, name)) if id == set => name,
                        Some(_) | None => set.name(),
                    };
                    write_edit(batch, tag, operation, set, &name, key);
                    latest = Some((set, name));
                }
                Key::Table
                | Key::Set(_)
                | Key::Chain(_)
                | Key::SourceRule(_)
                | Key::BaseChain(_) => write(batch, tag, operation),
            }
        }
    }

    /// Whether the transaction puts a ruleset to use.
    pub(crate) fn puts_to_use(&self) -> bool {
        let mut operations = self.operations.iter();
        operations.any(|operation| matches!(operation.edit.key, Key::BaseChain(_)))
    }

    /// The quickest way to write the batch of an index that still allows exact blame later.
    ///
    /// Elements of one set and tag share a message, and the kernel spends more on a message than
    /// on an element.
    pub fn blame(&self, index: usize) -> Blame {
        let operations = self.batches.get(index).map_or(0, Range::len);
        match operations > MANY_OPERATIONS {
            true => Blame::Batch,
            false => Blame::Group,
        }
    }
}

/// What a refusal of the kernel names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The group of edits.
    Group,
    /// Nothing but the batch, which is then to be written again to learn more.
    Batch,
}

/// Operations from which on it pays to send a batch a second time if it is refused.
const MANY_OPERATIONS: usize = 64;

/// Tag of what belongs to no group.
const NO_GROUP: u32 = u32::MAX;

/// Whether packets meet the ruleset that changes: until its hooks are there nothing is in use.
fn is_in_use(transaction: &Transaction<Key, Value>) -> bool {
    let hooked = |edit: &Edit<Key, Value>| edit.before.is_none() && leads_in(&edit.key);
    transaction.base == Base::InUse && !transaction.edits().any(hooked)
}

/// Whether an object is a hook without which packets do not meet the maps. Those of free addresses are none:
/// they only end what no front end takes.
fn leads_in(key: &Key) -> bool {
    let (prerouting, output) = (ChainId::Prerouting, ChainId::Output);
    let hooks = [prerouting, output, ChainId::Postrouting].map(Key::BaseChain);
    hooks.contains(key)
}

fn act(edit: &Edit<Key, Value>, in_use: bool) -> Act {
    match (&edit.before, &edit.after, &edit.key) {
        (None, _, Key::Element(set, _)) if in_use && leads(set) => Act::Announce,
        (None, _, _) => Act::Add,
        // Emptied before the rules or elements come that are objects of their own.
        (Some(_), Some(_), Key::Chain(ChainId::Firewall) | Key::Set(_)) => Act::Add,
        (Some(_), Some(_), _) => Act::Change,
        (Some(_), None, Key::Element(set, _)) if has_ranges(set) => Act::RemoveRange,
        (Some(_), None, Key::Element(set, _)) if in_use && leads(set) => Act::Withdraw,
        (Some(_), None, Key::Set(SetId::Foreign(_))) => Act::RemoveForeign,
        (Some(_), None, _) => Act::Remove,
    }
}

/// Whether a set leads packets into the maps.
fn leads(set: &SetId) -> bool {
    matches!(
        set,
        SetId::LocalFrontends | SetId::Frontends | SetId::Addresses | SetId::ClusterIps
    )
}

/// Whether one range takes the place of another: it may overlap a third that is new.
fn replaces_range(edit: &Edit<Key, Value>) -> bool {
    let ranges = matches!(&edit.key, Key::Element(set, _) if has_ranges(set));
    ranges && edit.before.is_some() && edit.after.is_some()
}

fn is_chain(key: &Key) -> bool {
    matches!(key, Key::Chain(_) | Key::BaseChain(_))
}

fn is_foreign_chain(key: &Key) -> bool {
    matches!(
        key,
        Key::Chain(ChainId::Foreign(_)) | Key::BaseChain(ChainId::Foreign(_))
    )
}

/// Writes the edit of an element.
fn write_edit(
    batch: &mut Batch,
    tag: u32,
    operation: &Operation<'_>,
    set: &SetId,
    name: &SetName,
    key: &Bytes,
) {
    let edit = operation.edit;
    let halves = match operation.act {
        Act::Add | Act::Announce => &[(&edit.after, true)][..],
        Act::Change => &[(&edit.before, false), (&edit.after, true)],
        Act::Flush | Act::RemoveRange | Act::Withdraw | Act::RemoveForeign | Act::Remove => {
            &[(&edit.before, false)]
        }
    };
    for (value, add) in halves.iter().copied() {
        match value {
            // Nearly all: no element is made of it first.
            Some(Value::Element(value)) if value.key_end().is_none() && !key.is_empty() => {
                match add {
                    true => batch.add_plain(tag, name, key, value.data.as_ref(), value.comment()),
                    false => batch.delete_plain(tag, name, key),
                }
            }
            Some(Value::Element(value)) => {
                write_element(batch, tag, set, name, key, value, add);
            }
            Some(Value::Table(_) | Value::Set(_) | Value::Chain(_) | Value::Rule(_)) | None => {}
        }
    }
}

/// Writes the edit of anything but an element.
fn write(batch: &mut Batch, tag: u32, operation: &Operation<'_>) {
    let edit = operation.edit;
    match &edit.key {
        Key::Element(..) => {}
        Key::Table => match &edit.after {
            Some(Value::Table(table)) => {
                let comment = table.comment.as_ref().map(|comment| comment.as_str());
                batch.add_table(tag, comment, Existing::Keep);
            }
            Some(_) => {}
            None => batch.delete_table(tag),
        },
        Key::Set(id) => match &edit.after {
            Some(Value::Set(set)) => {
                if edit.before.is_some() {
                    batch.flush_set(tag, &id.name());
                }
                batch.add_set(tag, set, Existing::Keep);
            }
            Some(_) => {}
            None => batch.delete_set(tag, &id.name()),
        },
        Key::SourceRule(_) => {
            if let (None, Some(Value::Rule(rule))) = (&edit.before, &edit.after) {
                batch.add_rule(tag, rule, Place::First);
            }
        }
        Key::Chain(id) | Key::BaseChain(id) if operation.act == Act::Flush => {
            batch.flush_chain(tag, &id.name());
        }
        Key::Chain(id) | Key::BaseChain(id) => {
            if let Some(Value::Chain(before)) = &edit.before {
                let rehook = match &edit.after {
                    Some(Value::Chain(after)) => after.chain != before.chain,
                    Some(_) | None => true,
                };
                batch.flush_chain(tag, &id.name());
                if rehook {
                    batch.delete_chain(tag, &id.name());
                }
            }
            if let Some(Value::Chain(after)) = &edit.after {
                write_chain(batch, tag, after);
            }
        }
    }
}

fn write_chain(batch: &mut Batch, tag: u32, body: &ChainBody) {
    batch.add_chain(tag, &body.chain, Existing::Keep);
    for rule in &body.rules {
        batch.add_rule(tag, rule, Place::Last);
    }
}

fn write_element(
    batch: &mut Batch,
    tag: u32,
    set: &SetId,
    name: &SetName,
    key: &Bytes,
    value: &ElementValue,
    add: bool,
) {
    let mut put = |element: Element| match add {
        true => batch.add_element(tag, name, &element, Existing::Refuse),
        false => batch.delete_element(tag, name, &element),
    };
    let mut element = Element::new(key.clone());
    element.data.clone_from(&value.data);
    let element = element.with_comment(value.comment().cloned());
    if key.is_empty() {
        return put(element.with_kind(ElementKind::CatchAll));
    }
    match value.key_end() {
        None => put(element),
        Some(end) if is_concatenated(set) => put(element.with_key_end(end.clone())),
        // A range of one field is two elements; the second is the first key after it.
        Some(end) => {
            put(element);
            if let Some(next) = successor(end) {
                put(Element::new(next).with_kind(ElementKind::IntervalEnd));
            }
        }
    }
}

/// Whether the ranges of an interval set have several fields.
pub(crate) fn is_concatenated(set: &SetId) -> bool {
    // The flag is a property of the schema, the same in both families.
    schema::set(set, svc_core::IpFamily::V4).is_some_and(|set| set.flags.contains(SetFlags::CONCAT))
}

/// The next key of the same length, or `None` after the last.
pub(crate) fn successor(key: &Bytes) -> Option<Bytes> {
    let mut bytes = key.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (next, carry) = byte.overflowing_add(1);
        *byte = next;
        if !carry {
            return Bytes::new(&bytes).ok();
        }
    }
    None
}

/// The key before, of the same length, or `None` before the first.
pub(crate) fn predecessor(key: &Bytes) -> Option<Bytes> {
    let mut bytes = key.to_vec();
    for byte in bytes.iter_mut().rev() {
        let (next, borrow) = byte.overflowing_sub(1);
        *byte = next;
        if !borrow {
            return Bytes::new(&bytes).ok();
        }
    }
    None
}

/// Whether the elements of a set are ranges.
fn has_ranges(set: &SetId) -> bool {
    is_interval(set) || *set == SetId::Slots
}

/// Whether a set holds ranges of one field.
pub(crate) fn is_interval(set: &SetId) -> bool {
    matches!(set, SetId::ServiceCidrs | SetId::PodCidrs)
}
