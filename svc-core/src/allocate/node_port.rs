//! Which Service has which node port.

use alloc::collections::BTreeMap;

use super::error::{AllocationError, RangeError};
use super::{first_free, spread};
use crate::name::NamespacedName;

/// The node ports that may be given out; 30000 to 32767 by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePortRange {
    first: u16,
    last: u16,
}

impl Default for NodePortRange {
    fn default() -> Self {
        Self {
            first: 30_000,
            last: 32_767,
        }
    }
}

impl NodePortRange {
    /// A range from its first to its last port.
    ///
    /// # Errors
    /// [`RangeError::NoPorts`] when it is empty or starts at 0.
    pub fn new(first: u16, last: u16) -> Result<Self, RangeError> {
        match first == 0 || last < first {
            true => Err(RangeError::NoPorts { first, last }),
            false => Ok(Self { first, last }),
        }
    }

    /// First port.
    pub fn first(&self) -> u16 {
        self.first
    }

    /// Last port.
    pub fn last(&self) -> u16 {
        self.last
    }

    /// How many ports the static band has (B-384): 1/32 of the range, 16 to 128, none of up to 16.
    pub fn offset(&self) -> u16 {
        match self.last - self.first {
            0..=15 => 0,
            // The size is one more than the difference, and may be 65535.
            difference => ((u32::from(difference) + 1) / 32).clamp(16, 128) as u16,
        }
    }

    fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

/// The range of a cluster and the owner of every node port.
///
/// A number is allocated once, whatever its protocol (B-391).
#[derive(Clone, Debug, Default)]
pub struct NodePorts {
    range: NodePortRange,
    owners: BTreeMap<u16, NamespacedName>,
}

impl NodePorts {
    /// No port allocated yet.
    pub fn new(range: NodePortRange) -> Self {
        Self {
            range,
            owners: BTreeMap::new(),
        }
    }

    /// The ports that may be given out.
    pub fn range(&self) -> NodePortRange {
        self.range
    }

    /// Who has a port.
    pub fn owner(&self, port: u16) -> Option<&NamespacedName> {
        self.owners.get(&port)
    }

    /// All allocated ports.
    pub fn allocated(&self) -> impl Iterator<Item = (u16, &NamespacedName)> {
        self.owners.iter().map(|(port, owner)| (*port, owner))
    }

    /// Whether a port lies in the range.
    pub fn in_range(&self, port: u16) -> bool {
        self.range.contains(port)
    }

    /// Allocates this very port (B-387).
    ///
    /// # Errors
    /// It is taken or outside of the range.
    pub fn claim(&mut self, port: u16, owner: &NamespacedName) -> Result<(), AllocationError> {
        if !self.in_range(port) {
            return Err(AllocationError::PortNotInRange {
                port,
                first: self.range.first,
                last: self.range.last,
            });
        }
        self.own(port, owner)
    }

    /// Allocates a free port, of the dynamic band while there is one (B-386).
    ///
    /// # Errors
    /// Nothing is free.
    pub fn next(&mut self, owner: &NamespacedName, seed: u64) -> Result<u16, AllocationError> {
        let NodePortRange { first, last } = self.range;
        let dynamic = u128::from(first) + u128::from(self.range.offset());
        let free = |first: u128, last: u128| {
            let taken =
                |number| u16::try_from(number).is_ok_and(|port| self.owners.contains_key(&port));
            first_free(first, last, spread(seed), taken)
        };
        let port = free(dynamic, last.into())
            .or_else(|| free(first.into(), dynamic - 1))
            .and_then(|number| u16::try_from(number).ok())
            .ok_or(AllocationError::PortsFull { first, last })?;
        self.own(port, owner)?;
        Ok(port)
    }

    /// Frees a port; nothing happens when it is free.
    pub fn release(&mut self, port: u16) {
        self.owners.remove(&port);
    }

    /// Frees a port if a Service has it.
    pub(super) fn release_of(&mut self, port: u16, owner: &NamespacedName) {
        if self.owners.get(&port) == Some(owner) {
            self.owners.remove(&port);
        }
    }

    /// Takes a port as allocated, in the range or not.
    pub(super) fn own(&mut self, port: u16, owner: &NamespacedName) -> Result<(), AllocationError> {
        if let Some(owner) = self.owners.get(&port) {
            let owner = owner.clone();
            return Err(AllocationError::PortTaken { port, owner });
        }
        self.owners.insert(port, owner.clone());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    fn web() -> NamespacedName {
        NamespacedName::new("default", "web")
    }

    fn range(first: u16, last: u16) -> NodePortRange {
        NodePortRange::new(first, last).unwrap()
    }

    #[test]
    fn b384_b385_offsets() {
        assert_eq!(NodePortRange::default().offset(), 86);
        for (size, offset) in [
            (1, 0),
            (16, 0),
            (17, 16),
            (512, 16),
            (1024, 32),
            (4096, 128),
            (60_000, 128),
        ] {
            assert_eq!(range(1000, 999 + size).offset(), offset, "{size}");
        }
        assert_eq!(range(1, u16::MAX).offset(), 128);
        assert!(NodePortRange::new(0, 10).is_err());
        assert!(NodePortRange::new(10, 9).is_err());
    }

    #[test]
    fn b385_b386_dynamic_band_first_then_the_static_one_then_full() {
        let mut ports = NodePorts::new(NodePortRange::default());
        for seed in 0..2768 - 86 {
            let port = ports.next(&web(), seed).unwrap();
            assert!(port >= 30_086, "{port}");
        }
        for seed in 0..86 {
            let port = ports.next(&web(), seed).unwrap();
            assert!(port <= 30_085, "{port}");
        }
        assert_eq!(
            ports.next(&web(), 0),
            Err(AllocationError::PortsFull {
                first: 30_000,
                last: 32_767
            })
        );
        let all: Vec<u16> = ports.allocated().map(|(port, _)| port).collect();
        assert!(all.iter().copied().eq(30_000..=32_767));
    }

    #[test]
    fn b387_explicit_ports() {
        let mut ports = NodePorts::new(range(30_000, 30_100));
        ports.claim(30_000, &web()).unwrap();
        ports.claim(30_100, &web()).unwrap();
        let taken = ports.claim(30_000, &web()).unwrap_err();
        assert_eq!(
            alloc::string::ToString::to_string(&taken),
            "the node port 30000 is already allocated to Service default/web"
        );
        let outside = ports.claim(80, &web()).unwrap_err();
        assert_eq!(
            alloc::string::ToString::to_string(&outside),
            "the node port 80 is not in the range 30000-30100"
        );
        ports.release(30_000);
        ports.release(30_000);
        ports.claim(30_000, &web()).unwrap();
    }
}
