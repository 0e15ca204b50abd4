//! Where a transaction is cut into batches.
//!
//! Packets look in between two batches. What a packet reads on its way from front end to endpoint
//! and what differs afterwards has to share one, as no order of single steps is sane where a front
//! end is rewritten and the endpoints of its pools change. All else may be cut anywhere: what
//! nothing leads to yet comes before, what nothing leads to any more goes after.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use svc_core::{Base, Edit, EditGroup};

use super::{Act, Operation, Start};
use crate::key::{Key, SetId, Value};
use crate::pools::PoolNumber;
use crate::render::pool_of;

/// Bytes of a batch from which on a new one is begun, where a transaction may be split: small
/// batches load twice as fast as large ones, and nobody waits long for the kernel's lock.
pub const BATCH_BYTES: usize = 72 * 1024;
/// Bytes up to which a change of a ruleset in use is one batch.
const ATOMIC_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes a batch may have, about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// With others.
    shared: usize,
    /// If all of it belongs together.
    alone: usize,
}

impl Limits {
    /// Everything at once.
    pub(super) const NONE: Self = Self {
        shared: usize::MAX,
        alone: usize::MAX,
    };
    /// Nothing that may be apart shares a batch.
    pub(super) const SINGLE: Self = Self {
        shared: 1,
        alone: usize::MAX,
    };
    /// What belongs together shares a batch, unless it is very large.
    pub(super) const UNITS: Self = Self {
        shared: BATCH_BYTES,
        alone: ATOMIC_BYTES,
    };

    /// The same limit for all.
    pub(super) fn bytes(bytes: usize) -> Self {
        Self {
            shared: bytes,
            alone: bytes,
        }
    }

    /// The limits of a transaction.
    ///
    /// A ruleset that is not in use may come in any number of batches, as long as what makes it
    /// used comes last. One that is in use changes in one, unless that is too large.
    pub(super) fn of(operations: &[Operation<'_>], start: Start, base: Base) -> Self {
        match (base, start) {
            (Base::Empty, Start::AsRead) => Self::bytes(BATCH_BYTES),
            (Base::InUse, _) | (Base::Empty, Start::Useless) => {
                let bytes: usize = operations.iter().map(bytes).sum();
                match bytes <= ATOMIC_BYTES {
                    true => Self::NONE,
                    false => Self::UNITS,
                }
            }
        }
    }

    pub(super) fn is_none(self) -> bool {
        self.shared == usize::MAX
    }
}

/// Cuts operations into batches, between units unless one of them is too large.
pub(super) fn split(operations: &[Operation<'_>], base: Base, limits: Limits) -> Vec<Range<usize>> {
    let mut batches = Vec::new();
    let (mut start, mut end, mut size) = (0, 0, 0);
    if limits.is_none() {
        batches.extend((!operations.is_empty()).then_some(0..operations.len()));
        return batches;
    }
    for unit in operations.chunk_by(is_one_unit) {
        let whole: usize = unit.iter().map(bytes).sum();
        // The hooks: whatever came before is complete when they appear.
        let hooks = base == Base::Empty && unit.first().is_some_and(is_hook);
        if (hooks || size + whole > limits.shared) && start < end {
            batches.push(start..end);
            (start, size) = (end, 0);
        }
        if hooks || whole <= limits.alone {
            size += whole;
            end += unit.len();
            continue;
        }
        for operation in unit {
            if size >= limits.alone {
                batches.push(start..end);
                (start, size) = (end, 0);
            }
            size += bytes(operation);
            end += 1;
        }
    }
    batches.extend((start < end).then_some(start..end));
    batches
}

/// Whether two neighbours are one unit.
fn is_one_unit(a: &Operation<'_>, b: &Operation<'_>) -> bool {
    let together = a.unit == b.unit && !matches!(a.unit, FIRST | LAST);
    together || (is_hook(a) && is_hook(b))
}

fn is_hook(operation: &Operation<'_>) -> bool {
    matches!(operation.edit.key, Key::BaseChain(_))
}

/// Unit of each operation that comes before what packets see, and by itself.
pub(super) const FIRST: u32 = 0;
/// Unit of each operation that comes after it.
const LAST: u32 = u32::MAX;

/// Brings those operations together that have to share a batch.
pub(super) fn bring_together<'a>(
    operations: &mut [Operation<'a>],
    groups: &'a [EditGroup<Key, Value>],
) {
    let mut units = Units::default();
    for operation in operations.iter() {
        if let (Key::Element(SetId::Addresses | SetId::ClusterIps, ip), true) =
            (&operation.edit.key, is_seen(operation))
        {
            units.addresses.insert(ip);
        }
    }
    // Each is as yet the unit of something that it touches.
    for operation in operations.iter_mut().filter(|operation| is_seen(operation)) {
        let group = groups.get(operation.group as usize);
        // What nobody needs any more has no name, and nothing else in common.
        let named = group.is_some_and(|group| group.name.is_some());
        let group = named.then_some(Thing::Group(operation.group));
        operation.unit = units.join(group, operation.edit);
    }
    for operation in operations.iter_mut() {
        operation.unit = match (is_seen(operation), operation.act) {
            (true, _) => units.root(operation.unit) + 1,
            (false, Act::RemoveForeign | Act::Remove) => LAST,
            (
                false,
                Act::Flush
                | Act::RemoveRange
                | Act::Add
                | Act::Withdraw
                | Act::Change
                | Act::Announce,
            ) => FIRST,
        };
    }
    // Stable: a unit stays in order.
    operations.sort_by_key(|operation| operation.unit);
}

/// Whether packets do otherwise at once: all else only prepares or clears up.
fn is_seen(operation: &Operation<'_>) -> bool {
    let Key::Element(set, _) = &operation.edit.key else {
        return false;
    };
    match set {
        SetId::Endpoints | SetId::Sticky | SetId::Pools => operation.act == Act::Change,
        SetId::LocalFrontends | SetId::Frontends | SetId::Addresses | SetId::ClusterIps => true,
        SetId::ServiceCidrs
        | SetId::PodCidrs
        | SetId::Slots
        | SetId::Live
        | SetId::Hairpin
        | SetId::Affinity
        | SetId::Sources(_)
        | SetId::Firewalled
        | SetId::Classes
        | SetId::LocalClasses
        | SetId::MasqueradePolicies
        | SetId::Foreign(_) => false,
    }
}

/// What operations have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing<'a> {
    /// A service port as a group of edits.
    Group(u32),
    /// A service port as the owner of pools.
    Owner(u32),
    Frontend(&'a [u8]),
    /// An address that begins or ceases to have front ends.
    Address(&'a [u8]),
}

/// Sets of things that operations join; a set is known by the number of one of its things.
#[derive(Default)]
struct Units<'a> {
    numbers: BTreeMap<Thing<'a>, u32>,
    /// Where the number of a thing leads to; one that leads to itself is that of a set.
    leads_to: Vec<u32>,
    addresses: BTreeSet<&'a [u8]>,
}

impl<'a> Units<'a> {
    /// Joins all that an edit touches, and tells the number of some of it.
    fn join(&mut self, group: Option<Thing<'a>>, edit: &'a Edit<Key, Value>) -> u32 {
        let things = group.into_iter().chain(self.things(edit));
        let numbers: Vec<u32> = things.map(|thing| self.number(thing)).collect();
        let first = numbers.first().copied().unwrap_or_default();
        for number in numbers {
            let (root, to) = (self.root(number), self.root(first));
            if let Some(leads_to) = self.leads_to.get_mut(root as usize) {
                *leads_to = to;
            }
        }
        first
    }

    /// What an edit touches that others may touch.
    fn things(&self, edit: &'a Edit<Key, Value>) -> Vec<Thing<'a>> {
        let Key::Element(set, key) = &edit.key else {
            return Vec::new();
        };
        if matches!(set, SetId::Addresses | SetId::ClusterIps) {
            return vec![Thing::Address(key)];
        }
        let owner = |pool: PoolNumber| pool.owner().map(|(number, _)| Thing::Owner(number));
        if !matches!(set, SetId::LocalFrontends | SetId::Frontends) {
            let pool = key.first_chunk().copied().map(PoolNumber::from_bytes);
            return pool.and_then(owner).into_iter().collect();
        }
        let pools = [&edit.before, &edit.after];
        let pools = pools.into_iter().flatten().filter_map(pool_of);
        let mut things: Vec<Thing<'a>> = pools.filter_map(owner).collect();
        things.push(Thing::Frontend(key));
        // A port and a protocol follow the address.
        let ip = key.len().checked_sub(8).and_then(|len| key.get(..len));
        let ip = ip.filter(|ip| self.addresses.contains(ip));
        things.extend(ip.map(Thing::Address));
        things
    }

    fn number(&mut self, thing: Thing<'a>) -> u32 {
        let fresh = u32::try_from(self.leads_to.len()).unwrap_or(LAST);
        let number = *self.numbers.entry(thing).or_insert(fresh);
        if number == fresh {
            self.leads_to.push(fresh);
        }
        number
    }

    /// The number of the set of a thing.
    fn root(&mut self, mut number: u32) -> u32 {
        while let Some(next) = self.leads_to.get(number as usize).copied() {
            if next == number {
                break;
            }
            // Halves the way for those who come after.
            let after = self.leads_to.get(next as usize).copied().unwrap_or(next);
            if let Some(leads_to) = self.leads_to.get_mut(number as usize) {
                *leads_to = after;
            }
            number = after;
        }
        number
    }
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
