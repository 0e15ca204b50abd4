//! Numbers of service ports, from which the numbers of their pools are made.

use std::collections::BTreeSet;

use hashbrown::HashMap;
use svc_core::{Scope, ServicePortName};

use crate::bytes::{joined, port};
use crate::rule::Bytes;

/// The number of a pool: a list of endpoints of one service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PoolNumber(u32);

impl PoolNumber {
    /// Pool of front ends that refuse.
    pub(crate) const REJECT: Self = Self(0);
    /// Pool of front ends that drop.
    pub(crate) const DROP: Self = Self(1);

    /// The pool of a list of the service port that has this number.
    pub(crate) fn of(number: u32, scope: Scope) -> Self {
        match scope {
            Scope::Cluster => Self(2 * number),
            Scope::Local => Self(2 * number + 1),
        }
    }

    /// The key of one of its slots.
    pub(crate) fn slot(self, slot: u16) -> Bytes {
        joined(&[&self.bytes(), &port(slot)])
    }

    /// As it stands in keys and data.
    pub(crate) fn bytes(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }

    /// From keys and data.
    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The number of the service port and its list; `None` for the two pools of no service port.
    pub(crate) fn owner(self) -> Option<(u32, Scope)> {
        let scope = match self.0 % 2 {
            0 => Scope::Cluster,
            _ => Scope::Local,
        };
        (self > Self::DROP).then_some((self.0 / 2, scope))
    }
}

/// Numbers handed out.
///
/// A number is not used again soon: clients pinned to an endpoint are known by it. And a restart
/// learns the numbers that the kernel holds, so that nothing is written again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    /// A table, as a name is looked up at every change; it is never iterated.
    numbers: HashMap<ServicePortName, u32>,
    taken: BTreeSet<u32>,
    latest: u32,
    /// Numbers that the kernel holds, by the keys of front ends, until their owner comes. By key and
    /// not by the name in the comment: comments decide nothing.
    held: HashMap<Bytes, u32>,
}

/// The largest number: twice it plus one is a pool.
const MAX: u32 = u32::MAX / 2 - 1;

impl Pools {
    /// The number of a service port; if it has none, one that the kernel holds for one of its front
    /// ends, or a new one.
    pub(crate) fn number(
        &mut self,
        name: &ServicePortName,
        frontends: impl Iterator<Item = Bytes>,
    ) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let mut held = None;
        if !self.held.is_empty() {
            for key in frontends {
                let number = self.held.remove(&key);
                held = held.or(number.filter(|number| !self.taken.contains(number)));
            }
        }
        let number = held.unwrap_or_else(|| self.fresh());
        self.taken.insert(number);
        self.numbers.insert(name.clone(), number);
        number
    }

    /// Takes note of the numbers that the kernel holds, by the keys of front ends.
    pub(crate) fn learn(&mut self, held: impl Iterator<Item = (Bytes, u32)>) {
        self.held.clear();
        for (key, number) in held.filter(|(_, number)| (1..=MAX).contains(number)) {
            self.latest = self.latest.max(number);
            if !self.taken.contains(&number) {
                self.held.insert(key, number);
            }
        }
    }

    /// Gives a number back, and tells it.
    pub(crate) fn forget(&mut self, name: &ServicePortName) -> Option<u32> {
        let number = self.numbers.remove(name)?;
        self.taken.remove(&number);
        Some(number)
    }

    fn fresh(&mut self) -> u32 {
        // Fewer service ports than numbers: the search ends.
        loop {
            self.latest = match self.latest {
                MAX.. => 1,
                latest => latest + 1,
            };
            if !self.taken.contains(&self.latest) {
                return self.latest;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use svc_core::{NamespacedName, Protocol};

    use super::*;

    fn name(port: &str) -> ServicePortName {
        ServicePortName {
            service: NamespacedName::new("a", "b"),
            port: port.into(),
            protocol: Protocol::Tcp,
        }
    }

    fn key(byte: u8) -> Bytes {
        Bytes::from([byte])
    }

    #[test]
    fn numbers_are_kept_learnt_and_not_reused_at_once() {
        let mut pools = Pools::default();
        pools.learn([(key(1), 7), (key(2), 7), (key(3), 0), (key(4), 5)].into_iter());
        assert_eq!(pools.number(&name("x"), [key(9), key(2)].into_iter()), 7);
        // Taken meanwhile.
        assert_eq!(pools.number(&name("y"), [key(1)].into_iter()), 8);
        assert_eq!(pools.number(&name("z"), [key(4)].into_iter()), 5);
        assert_eq!(pools.forget(&name("x")), Some(7));
        assert_eq!(pools.number(&name("w"), std::iter::empty()), 9);
        assert_eq!(pools.number(&name("x"), std::iter::empty()), 10);
    }

    #[test]
    fn the_last_number_is_followed_by_the_first_free_one() {
        let mut pools = Pools::default();
        pools.number(&name("x"), std::iter::empty());
        pools.learn([(key(1), MAX)].into_iter());
        assert_eq!(pools.number(&name("y"), std::iter::empty()), 2);
    }
}
