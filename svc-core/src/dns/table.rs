//! Tables whose clone is cheap: a clone shares all that has not changed since.
//!
//! A server publishes a clone of its zone after each change. Both tables are split into parts
//! behind reference counts, so that a clone copies one pointer and a change copies one part.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::hash::{BuildHasher, Hasher};

use hashbrown::DefaultHashBuilder;

/// Parts of a [`Shards`]: at 100,000 values a part has about 100.
const SHARDS: usize = 1024;
/// Most values of one part of a [`Sorted`].
const MAX_PART: usize = 256;

/// A value that says what it is found by: a namespace and a name in it.
pub(super) trait Keyed: Clone {
    fn key(&self) -> (&[u8], &[u8]);
}

/// A hash table over two-part keys; not iterated where order matters.
///
/// Hashes are seeded anew in each process, so nobody can choose names that share one. Values stand
/// side by side, apart from the slots that say where each one is: at 100,000 Services the slots
/// are 2 MiB, which caches hold, and a look-up waits for memory once, for the value alone. An
/// allocation for each value would spread them over all that the process holds, and each would
/// cost a walk of the page tables besides.
#[derive(Clone)]
pub(super) struct Shards<V> {
    hasher: DefaultHashBuilder,
    shards: Arc<Vec<Arc<Shard<V>>>>,
    length: usize,
}

#[derive(Clone)]
struct Shard<V> {
    /// A power of two or none; at least a quarter is free.
    slots: Box<[Slot]>,
    values: Vec<V>,
}

/// Where a value is, at the first free slot after the one that its hash names.
#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    /// Index of the value, or [`FREE`].
    at: u32,
}

const FREE: u32 = u32::MAX;

impl<V: Keyed> Default for Shards<V> {
    fn default() -> Self {
        let empty = Arc::new(Shard {
            slots: Box::default(),
            values: Vec::new(),
        });
        Self {
            hasher: DefaultHashBuilder::default(),
            shards: Arc::new(alloc::vec![empty; SHARDS]),
            length: 0,
        }
    }
}

impl<V: Keyed> Shards<V> {
    pub(super) fn find(&self, key: (&[u8], &[u8])) -> Option<&V> {
        let hash = hash(&self.hasher, key);
        let shard = self.shards.get(shard_of(hash))?;
        shard.values.get(shard.position(low(hash), key).ok()?)
    }

    /// Puts a value in and returns the one that had its key.
    pub(super) fn insert(&mut self, value: V) -> Option<V> {
        let hash = hash(&self.hasher, value.key());
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of(hash))?;
        let shard = Arc::make_mut(shard);
        match shard.position(low(hash), value.key()) {
            Ok(at) => {
                let old = shard.values.get_mut(at)?;
                return Some(core::mem::replace(old, value));
            }
            Err(free) => shard.push(low(hash), value, free, &self.hasher),
        }
        self.length += 1;
        None
    }

    pub(super) fn remove(&mut self, key: (&[u8], &[u8])) -> Option<V> {
        let hash = hash(&self.hasher, key);
        let shard = Arc::make_mut(&mut self.shards).get_mut(shard_of(hash))?;
        let at = shard.position(low(hash), key).ok()?;
        let shard = Arc::make_mut(shard);
        let removed = shard.values.swap_remove(at);
        shard.index(&self.hasher);
        self.length -= 1;
        Some(removed)
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// All values in no order: for sums and for collections that are sorted afterwards.
    pub(super) fn unordered(&self) -> impl Iterator<Item = &V> {
        self.shards.iter().flat_map(|shard| shard.values.iter())
    }
}

impl<V: Keyed> Shard<V> {
    /// The index of the value of a key, else the free slot where it would be noted.
    fn position(&self, hash: u32, key: (&[u8], &[u8])) -> Result<usize, Option<usize>> {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return Err(None);
        };
        for step in 0..self.slots.len() {
            let place = (hash as usize + step) & mask;
            let slot = self.slots[place];
            if slot.at == FREE {
                return Err(Some(place));
            }
            let at = slot.at as usize;
            if slot.hash == hash && self.values.get(at).is_some_and(|v| v.key() == key) {
                return Ok(at);
            }
        }
        Err(None)
    }

    fn push(&mut self, hash: u32, value: V, free: Option<usize>, hasher: &DefaultHashBuilder) {
        if self.values.len() == self.values.capacity() {
            // Twice as much would leave a third of the memory unused.
            self.values.reserve_exact(self.values.len() / 4 + 1);
        }
        // A shard of 2^32 values needs more memory than there is.
        let at = u32::try_from(self.values.len()).unwrap_or(FREE);
        self.values.push(value);
        let has_room = self.values.len() <= self.slots.len() / 4 * 3;
        match free.filter(|_| has_room) {
            Some(free) => self.slots[free] = Slot { hash, at },
            None => self.index(hasher),
        }
    }

    /// Notes all values anew, with room for as many again.
    fn index(&mut self, hasher: &DefaultHashBuilder) {
        let size = match self.values.len() {
            0 => 0,
            count => (count * 2).next_power_of_two(),
        };
        self.slots = alloc::vec![Slot { hash: 0, at: FREE }; size].into();
        for (value, at) in self.values.iter().zip(0..) {
            let hash = low(hash(hasher, value.key()));
            let start = hash as usize;
            // At least half of the slots stays free, so one is found.
            let mut places = (start..start + size).map(|place| place & (size - 1));
            if let Some(free) = places.find(|place| self.slots[*place].at == FREE) {
                self.slots[free] = Slot { hash, at };
            }
        }
    }
}

impl<V: Keyed + PartialEq> PartialEq for Shards<V> {
    fn eq(&self, other: &Self) -> bool {
        let same = |value: &V| other.find(value.key()) == Some(value);
        self.length == other.length && self.unordered().all(same)
    }
}

impl<V> fmt::Debug for Shards<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.length)
    }
}

fn hash(hasher: &DefaultHashBuilder, key: (&[u8], &[u8])) -> u64 {
    let mut state = hasher.build_hasher();
    state.write(key.0);
    // Parts may not be shifted between: `a` + `bc` is another key than `ab` + `c`.
    state.write_usize(key.0.len());
    state.write(key.1);
    state.finish()
}

fn shard_of(hash: u64) -> usize {
    usize::try_from(hash >> 40 & (SHARDS as u64 - 1)).unwrap_or(0)
}

/// The bits that do not choose the shard.
fn low(hash: u64) -> u32 {
    u32::try_from(hash & 0xffff_ffff).unwrap_or(0)
}

/// An ordered map from addresses, as bits, to values.
#[derive(Clone)]
pub(super) struct Sorted<V> {
    /// Each part behind its first key, so that the search for a part reads no part.
    parts: Arc<Vec<(u128, Part<V>)>>,
}

/// Neighbours, sorted; never empty.
type Part<V> = Arc<Vec<(u128, V)>>;

impl<V> Default for Sorted<V> {
    fn default() -> Self {
        Self {
            parts: Arc::default(),
        }
    }
}

impl<V: Clone> Sorted<V> {
    pub(super) fn find(&self, key: u128) -> Option<&V> {
        let (_, part) = self.parts.get(self.part_of(key))?;
        let at = part.binary_search_by_key(&key, |(key, _)| *key).ok()?;
        part.get(at).map(|(_, value)| value)
    }

    /// Whether there is a key from `first` to `last`, both included.
    pub(super) fn any_between(&self, first: u128, last: u128) -> bool {
        let index = self.part_of(first);
        let within = |(_, part): &(u128, Part<V>)| {
            let at = part.partition_point(|(key, _)| *key < first);
            part.get(at).map(|(key, _)| *key)
        };
        // The part that may hold `first` can end before it; then the next one decides.
        let found = self.parts.iter().skip(index).take(2).find_map(within);
        found.is_some_and(|key| key <= last)
    }

    /// Changes the value of a key in place; `None` before means that there was none, after that
    /// it is removed.
    pub(super) fn update(&mut self, key: u128, change: impl FnOnce(Option<V>) -> Option<V>) {
        let index = self.part_of(key);
        let parts = Arc::make_mut(&mut self.parts);
        let Some((start, part)) = parts.get_mut(index) else {
            if let Some(value) = change(None) {
                parts.push((key, Arc::new(alloc::vec![(key, value)])));
            }
            return;
        };
        let part = Arc::make_mut(part);
        match part.binary_search_by_key(&key, |(key, _)| *key) {
            Ok(at) => match change(Some(part[at].1.clone())) {
                Some(value) => part[at].1 = value,
                None => drop(part.remove(at)),
            },
            Err(at) => {
                if let Some(value) = change(None) {
                    part.insert(at, (key, value));
                }
            }
        }
        let Some((first, _)) = part.first() else {
            parts.remove(index);
            return;
        };
        *start = *first;
        if part.len() > MAX_PART {
            let tail = part.split_off(MAX_PART / 2);
            if let Some((first, _)) = tail.first() {
                parts.insert(index + 1, (*first, Arc::new(tail)));
            }
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &(u128, V)> {
        self.parts.iter().flat_map(|(_, part)| part.iter())
    }

    /// The last part that starts at or before a key, else the first.
    fn part_of(&self, key: u128) -> usize {
        let starts_before = |(first, _): &(u128, Part<V>)| *first <= key;
        self.parts.partition_point(starts_before).saturating_sub(1)
    }
}

impl<V: Clone + PartialEq> PartialEq for Sorted<V> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl<V: Clone> fmt::Debug for Sorted<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} values", self.iter().count())
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug, PartialEq)]
    struct Word(Vec<u8>, u32);

    impl Keyed for Word {
        fn key(&self) -> (&[u8], &[u8]) {
            (b"ns", &self.0)
        }
    }

    proptest! {
        #[test]
        fn tables_hold_what_a_map_holds(
            steps in prop::collection::vec((0u32..2000, prop::bool::ANY), 0..1500),
            probe in 0u32..2000,
        ) {
            let mut model: BTreeMap<u32, usize> = BTreeMap::new();
            let mut sorted = Sorted::default();
            let mut shards = Shards::default();
            for (at, (key, put)) in steps.iter().enumerate() {
                match put {
                    true => {
                        model.insert(*key, at);
                        shards.insert(Word(key.to_be_bytes().to_vec(), *key));
                    }
                    false => {
                        model.remove(key);
                        shards.remove((b"ns", &key.to_be_bytes()));
                    }
                }
                sorted.update(u128::from(*key), |_| put.then_some(at));
            }
            let want: Vec<_> = model.iter().map(|(k, v)| (u128::from(*k), *v)).collect();
            prop_assert_eq!(sorted.iter().copied().collect::<Vec<_>>(), want);
            prop_assert_eq!(shards.len(), model.len());
            let found = shards.find((b"ns", &probe.to_be_bytes())).is_some();
            prop_assert_eq!(found, model.contains_key(&probe));
            prop_assert_eq!(sorted.find(u128::from(probe)), model.get(&probe));
            let any = model.range(probe..probe + 9).next().is_some();
            prop_assert_eq!(sorted.any_between(u128::from(probe), u128::from(probe) + 8), any);
        }
    }

    #[test]
    fn a_clone_does_not_see_later_changes() {
        let mut shards = Shards::default();
        shards.insert(Word(b"a".to_vec(), 1));
        let before = shards.clone();
        shards.insert(Word(b"a".to_vec(), 2));
        shards.remove((b"ns", b"b"));
        assert_eq!(before.find((b"ns", b"a")).map(|w| w.1), Some(1));
        assert_eq!(shards.find((b"ns", b"a")).map(|w| w.1), Some(2));
    }
}
