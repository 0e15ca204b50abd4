//! From edits to batches, in an order that is sane at every step.
//!
//! What is new comes first, in the order of [`Key`]: an endpoint before the pool that counts it,
//! a pool before the front end that leads to it. Then what changes. Then what goes, in the
//! opposite order. A packet that looks in between finds the old way or the new one.
//!
//! Front ends that come wait until all has changed that they may lead to: their Service may get
//! other endpoints in the same transaction. One that goes leads to those for a moment.
//!
//! Some things that go have to make room first: ranges, which may not overlap, and rules, as long
//! as there are any that refer to what goes.

use std::collections::BTreeSet;
use std::ops::Range;

use svc_core::{Base, Edit, Transaction};

use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::netlink::{Batch, Existing, Place, TableId};
use crate::read::Reading;
use crate::rule::{Bytes, Element, ElementKind, SetFlags, SetName};
use crate::schema;

/// Bytes of a batch from which on a new one is begun, where a transaction may be split: small
/// batches load twice as fast as large ones, and nobody waits long for the kernel's lock.
pub const BATCH_BYTES: usize = 72 * 1024;
/// Bytes up to which a change of a ruleset in use is one batch.
pub(crate) const ATOMIC_BYTES: usize = 4 * 1024 * 1024;

/// Batches that apply a transaction, one after the other.
///
/// Each operation is tagged with the index of its group.
#[derive(Debug)]
pub struct Batches<'a> {
    table: TableId,
    start: Start,
    base: Base,
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
}

impl<'a> Operation<'a> {
    fn new(group: u32, edit: &'a Edit<Key, Value>, act: Act) -> Self {
        let rank = edit.key.rank();
        let in_order = match act {
            Act::Flush | Act::RemoveRange | Act::Add | Act::Change | Act::Announce => rank,
            Act::RemoveForeign | Act::Remove => RANKS - rank,
        };
        let place = act as u32 * RANKS + in_order;
        Self {
            group,
            edit,
            act,
            place,
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
    Change,
    /// Adds a front end.
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
        // Until its hooks are there nothing is in use.
        let in_use = !transaction
            .edits()
            .any(|edit| matches!(edit.key, Key::BaseChain(_)));
        for (group, edits) in (0u32..).zip(&transaction.groups) {
            let coming = match transaction.base {
                Base::InUse if in_use => Some(Coming::of(&edits.edits)),
                Base::InUse | Base::Empty => None,
            };
            for edit in &edits.edits {
                let operation = |act| Operation::new(group, edit, act);
                // Chains of others may refer to each other, and ours to them.
                if foreign && is_chain(&edit.key) && edit.after.is_none() {
                    operations.push(operation(Act::Flush));
                }
                if replaces_range(edit) {
                    operations.extend([Act::RemoveRange, Act::Add].map(operation));
                } else {
                    let waits = coming.as_ref().is_some_and(|coming| coming.has(edit));
                    operations.push(operation(match waits {
                        true => Act::Announce,
                        false => act(edit),
                    }));
                }
            }
        }
        // Stable: what is of one kind stays in the order of the groups, which costs no look at keys.
        operations.sort_by_key(|operation| operation.place);
        let base = transaction.base;
        let limit = limit(&operations, start, base);
        Self {
            table,
            start,
            base,
            batches: split(&operations, base, limit),
            operations,
        }
    }

    /// The same in batches of about so many bytes: the order alone keeps a ruleset in use sane.
    #[must_use]
    pub fn in_batches_of(self, bytes: usize) -> Self {
        Self {
            batches: split(&self.operations, self.base, bytes),
            ..self
        }
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

/// Front ends of a group that come.
#[derive(Debug)]
struct Coming<'a>(BTreeSet<&'a Bytes>);

impl<'a> Coming<'a> {
    fn of(edits: &'a [Edit<Key, Value>]) -> Self {
        let mut coming = BTreeSet::new();
        for edit in edits.iter().filter(|edit| edit.before.is_none()) {
            if let Key::Element(SetId::Frontends, key) = &edit.key {
                coming.insert(key);
            }
        }
        Self(coming)
    }

    /// Whether an edit has to wait for all changes.
    fn has(&self, edit: &Edit<Key, Value>) -> bool {
        let Key::Element(set, key) = &edit.key else {
            return false;
        };
        // What comes for a front end that is there takes packets from it at once.
        let of_frontend =
            matches!(set, SetId::LocalFrontends | SetId::Frontends) && self.0.contains(key);
        // Without its front ends an address refuses, or lets pass what would be dropped.
        let address = matches!(set, SetId::Addresses | SetId::ClusterIps);
        edit.before.is_none() && (of_frontend || address)
    }
}

fn act(edit: &Edit<Key, Value>) -> Act {
    match (&edit.before, &edit.after, &edit.key) {
        (None, _, _) => Act::Add,
        // Emptied before the rules or elements come that are objects of their own.
        (Some(_), Some(_), Key::Chain(ChainId::Firewall) | Key::Set(_)) => Act::Add,
        (Some(_), Some(_), _) => Act::Change,
        (Some(_), None, Key::Element(set, _)) if has_ranges(set) => Act::RemoveRange,
        (Some(_), None, Key::Set(SetId::Foreign(_))) => Act::RemoveForeign,
        (Some(_), None, _) => Act::Remove,
    }
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

/// The bytes from which on a new batch is begun.
///
/// A ruleset that is not in use may come in any number of batches, as long as what makes it used
/// comes last. One that is in use changes in one, unless that is too large.
fn limit(operations: &[Operation<'_>], start: Start, base: Base) -> usize {
    match (base, start) {
        (Base::Empty, Start::AsRead) => BATCH_BYTES,
        (Base::InUse, _) | (Base::Empty, Start::Useless) => {
            let bytes: usize = operations.iter().map(bytes).sum();
            match bytes <= ATOMIC_BYTES {
                true => usize::MAX,
                false => BATCH_BYTES,
            }
        }
    }
}

fn split(operations: &[Operation<'_>], base: Base, limit: usize) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut size) = (0, 0);
    for (index, operation) in operations.iter().enumerate() {
        // The hooks: whatever came before is complete when they appear.
        let hooks = base == Base::Empty && matches!(operation.edit.key, Key::BaseChain(_));
        let first_hook =
            hooks && limit < usize::MAX && index > 0 && !is_hook(operations.get(index - 1));
        if (size >= limit && !hooks) || first_hook {
            batches.push(start..index);
            (start, size) = (index, 0);
        }
        size += bytes(operation);
    }
    batches.extend((start < operations.len()).then_some(start..operations.len()));
    batches
}

fn is_hook(operation: Option<&Operation<'_>>) -> bool {
    operation.is_some_and(|operation| matches!(operation.edit.key, Key::BaseChain(_)))
}

/// About the bytes of an operation.
fn bytes(operation: &Operation<'_>) -> usize {
    let of = |value: &Option<Value>| match value {
        None => 0,
        Some(Value::Element(value)) if value.comment().is_none() => 40,
        Some(Value::Element(_)) => 80,
        Some(Value::Table(_) | Value::Set(_) | Value::Rule(_)) => 400,
        Some(Value::Chain(_)) => 2000,
    };
    of(&operation.edit.before) + of(&operation.edit.after)
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
        Act::Flush | Act::RemoveRange | Act::RemoveForeign | Act::Remove => {
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
