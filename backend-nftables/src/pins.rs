//! Pins of pools that are gone.
//!
//! Rules pin clients, and the kernel ends pins by their age, hours after a Service went. All Services
//! share one map of [`crate::AFFINITY_SIZE`] pins, so those of nobody would take room from others, and
//! come back to life if a Service became sticky again. Pins of a single endpoint that goes are left: they
//! are not used while it is away.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use svc_core::Transaction;

use crate::error::{CommitError, ReadError};
use crate::key::{ElementValue, Key, SetId, Value};
use crate::netlink::{Batch, Part, Socket, TableId};
use crate::rule::{Bytes, Data};
use crate::skeleton::STICKY;

/// Pins that live no longer than this end by themselves.
///
/// Why not all: what ended before the kernel is asked to remove it makes it refuse the whole batch, and
/// it knows no removal of what may be gone before Linux 6.3.
const SHORT_LIFE: Duration = Duration::from_secs(10);
/// Pins of a batch: nobody waits long for the kernel's lock.
const PINS_OF_A_BATCH: usize = 4_000;
/// A step ends with the part of the list, or the batch, that it is at after this. The kernel walks over all
/// that comes before a part, so the last ones take longest.
const STEP: Duration = Duration::from_millis(50);

/// Removes pins in steps that nobody waits for long.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Lists pins. Why a socket of its own: while it lists, it can be asked for nothing else.
    listing: Socket,
    state: State,
    /// Pools whose pins are listed or removed now.
    pools: BTreeSet<Pool>,
    /// Pools that ended since the list was begun.
    later: BTreeSet<Pool>,
    /// Pins to remove, and until when they live. While the kernel resizes the map, a list has some twice.
    pins: BTreeMap<Bytes, Instant>,
    /// Whether any was removed since the list was begun.
    removed: bool,
}

/// The number of a pool, as it stands in keys.
type Pool = [u8; 4];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// The kernel answers a request of this sequence number.
    Lists(u32),
    /// Why not while it lists: the kernel goes on by position, and would leave others out.
    Removes,
}

impl Removal {
    /// Nothing to remove.
    pub(crate) fn new(listing: Socket) -> Self {
        Self {
            listing,
            state: State::Idle,
            pools: BTreeSet::new(),
            later: BTreeSet::new(),
            pins: BTreeMap::new(),
            removed: false,
        }
    }

    /// Takes in a transaction that was applied; whether it ended pools.
    pub(crate) fn take_in(&mut self, transaction: &Transaction<Key, Value>) -> bool {
        let mut ended = false;
        for edit in transaction.groups.iter().flat_map(|group| &group.edits) {
            let Key::Element(SetId::Pools, key) = &edit.key else {
                continue;
            };
            let Some(pool) = key.first_chunk() else {
                continue;
            };
            let sticky = |value: &Option<Value>| value.as_ref().is_some_and(is_sticky);
            match (sticky(&edit.before), sticky(&edit.after)) {
                (true, false) => ended |= self.later.insert(*pool),
                // New pins may be among those that were listed.
                (_, true) => {
                    self.pools.remove(pool);
                    self.later.remove(pool);
                }
                (false, false) => {}
            }
        }
        ended
    }

    /// Whether there is anything left to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle && self.later.is_empty()
    }

    /// Goes on for a moment.
    pub(crate) fn step(
        &mut self,
        socket: &mut Socket,
        table: &TableId,
        batch: &mut Batch,
    ) -> Result<(), RemovalError> {
        let begun = Instant::now();
        while !self.is_idle() && begun.elapsed() < STEP {
            self.advance(socket, table, batch)?;
        }
        Ok(())
    }

    fn advance(
        &mut self,
        socket: &mut Socket,
        table: &TableId,
        batch: &mut Batch,
    ) -> Result<(), RemovalError> {
        let affinity = SetId::Affinity.name();
        if self.state == State::Idle && !self.later.is_empty() {
            self.pools = std::mem::take(&mut self.later);
            self.pins.clear();
            self.removed = false;
            self.state = State::Lists(self.listing.list_elements(table, &affinity)?);
        }
        if let State::Lists(seq) = self.state {
            self.list(seq)?;
        }
        if self.state == State::Removes {
            self.state = State::Idle;
            self.remove(socket, table, batch)?;
            if !self.pins.is_empty() {
                self.state = State::Removes;
            } else if self.removed {
                // A list leaves some out while the kernel resizes the map, so only one that has none is the last.
                self.later.append(&mut self.pools);
            }
        }
        Ok(())
    }

    /// Listens to the next parts of the list.
    fn list(&mut self, seq: u32) -> Result<(), RemovalError> {
        let now = Instant::now();
        while now.elapsed() < STEP {
            let part = self.listing.next_elements(seq, |pin| {
                if pin
                    .key
                    .first_chunk()
                    .is_some_and(|pool| self.pools.contains(pool))
                {
                    let life = Duration::from_millis(pin.expiration().unwrap_or(u64::MAX >> 20));
                    self.pins.insert(pin.key, now + life);
                }
            });
            match part {
                Ok(Part::More) => {}
                Ok(Part::Last) => {
                    self.state = State::Removes;
                    return Ok(());
                }
                Err(error) => {
                    self.state = State::Idle;
                    return Err(error.into());
                }
            }
        }
        Ok(())
    }

    fn remove(
        &mut self,
        socket: &mut Socket,
        table: &TableId,
        batch: &mut Batch,
    ) -> Result<(), CommitError> {
        let affinity = SetId::Affinity.name();
        let begun = Instant::now();
        while begun.elapsed() < STEP && !self.pins.is_empty() {
            batch.clear();
            batch.set_table(table.clone());
            let soon = Instant::now() + SHORT_LIFE;
            let pins = std::iter::from_fn(|| self.pins.pop_last());
            for (pin, end) in pins.take(PINS_OF_A_BATCH) {
                let wanted = pin
                    .first_chunk()
                    .is_some_and(|pool| self.pools.contains(pool));
                if wanted && end > soon {
                    batch.delete_plain(0, &affinity, &pin);
                    self.removed = true;
                }
            }
            socket.commit(batch)?;
        }
        Ok(())
    }
}

/// Why pins may be left.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    /// They could not be listed.
    #[error("cannot list the pins")]
    Read(#[from] ReadError),
    /// They could not be removed.
    #[error("cannot remove pins")]
    Commit(#[from] CommitError),
}

/// Whether a pool is one that clients are pinned in.
fn is_sticky(pool: &Value) -> bool {
    let Value::Element(ElementValue {
        data: Some(Data::Value(data)),
        ..
    }) = pool
    else {
        return false;
    };
    let class = data
        .get(4..8)
        .and_then(|class| class.first_chunk().copied());
    class.is_some_and(|class| u32::from_ne_bytes(class) >= STICKY)
}

#[cfg(test)]
mod tests {
    use svc_core::{Base, Edit, EditGroup};

    use super::*;
    use crate::bytes::{host, port, words};
    use crate::skeleton::PLAIN;

    fn edits(edits: &[(u32, Option<u32>, Option<u32>)]) -> Transaction<Key, Value> {
        let value = |class: u32| {
            let data = words(&[[0; 4], class.to_ne_bytes(), port(1)]);
            Value::Element(ElementValue::data(data))
        };
        let edit = |(pool, before, after): &(u32, Option<u32>, Option<u32>)| Edit {
            key: Key::Element(SetId::Pools, host(*pool)),
            before: before.map(value),
            after: after.map(value),
        };
        let edits = edits.iter().map(edit).collect();
        Transaction {
            groups: vec![EditGroup { name: None, edits }],
            base: Base::InUse,
        }
    }

    #[test]
    fn pools_that_end_are_taken_in_until_they_are_sticky_again() {
        let (short, long) = (Some(STICKY + 1), Some(STICKY + 600));
        let mut removal = Removal::new(Socket::open().unwrap());
        let kept = edits(&[
            (2, None, short),
            (3, short, long),
            (4, Some(PLAIN), None),
            (5, None, Some(PLAIN)),
        ]);
        assert!(!removal.take_in(&kept));
        assert!(removal.is_idle());
        assert!(removal.take_in(&edits(&[(6, long, None), (7, short, Some(PLAIN))])));
        let pools = [6u32, 7].map(u32::to_ne_bytes);
        assert_eq!(removal.later, pools.into());
        // While those pins are listed.
        removal.pools = std::mem::take(&mut removal.later);
        assert!(!removal.take_in(&edits(&[(7, Some(PLAIN), long)])));
        assert_eq!(removal.pools, [6u32.to_ne_bytes()].into());
    }
}
