//! Numbers of service ports, from which the numbers of their pools are made.

use std::collections::{BTreeMap, HashMap};

use svc_core::ServicePortName;

/// Numbers handed out.
///
/// A number is not used again soon: clients pinned to an endpoint are known by it. And a restart
/// learns the numbers that the kernel holds, so that nothing is written again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    /// A table, as a name is looked up at every change; it is never iterated.
    numbers: HashMap<ServicePortName, u32>,
    names: BTreeMap<u32, ServicePortName>,
    latest: u32,
}

/// The largest number: twice it plus one is a pool.
const MAX: u32 = u32::MAX / 2 - 1;

impl Pools {
    /// The number of a service port, a new one if it has none.
    pub(crate) fn number(&mut self, name: &ServicePortName) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        // Fewer service ports than numbers: the search ends.
        loop {
            self.latest = if self.latest >= MAX {
                1
            } else {
                self.latest + 1
            };
            if !self.names.contains_key(&self.latest) {
                break;
            }
        }
        self.assign(name.clone(), self.latest);
        self.latest
    }

    /// Takes over a number that the kernel holds, unless it or the name is taken.
    pub(crate) fn learn(&mut self, name: ServicePortName, number: u32) {
        let valid = (1..=MAX).contains(&number);
        if valid && !self.numbers.contains_key(&name) && !self.names.contains_key(&number) {
            self.latest = self.latest.max(number);
            self.assign(name, number);
        }
    }

    /// Gives a number back.
    pub(crate) fn forget(&mut self, name: &ServicePortName) {
        if let Some(number) = self.numbers.remove(name) {
            self.names.remove(&number);
        }
    }

    fn assign(&mut self, name: ServicePortName, number: u32) {
        self.names.insert(number, name.clone());
        self.numbers.insert(name, number);
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

    #[test]
    fn numbers_are_kept_learnt_and_not_reused_at_once() {
        let mut pools = Pools::default();
        pools.learn(name("x"), 7);
        pools.learn(name("y"), 7);
        pools.learn(name("z"), 0);
        assert_eq!(pools.number(&name("x")), 7);
        assert_eq!(pools.number(&name("y")), 8);
        pools.forget(&name("x"));
        assert_eq!(pools.number(&name("z")), 9);
        assert_eq!(pools.number(&name("x")), 10);
    }
}
