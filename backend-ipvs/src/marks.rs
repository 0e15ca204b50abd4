//! Packet marks, by which pods and the node get other destinations than clients from outside.

use std::collections::{BTreeMap, BTreeSet};

use backend_nftables::rule::Bytes;
use svc_core::{Protocol, ServicePortName};

/// The marks of an instance: those that share their highest 8 bits.
///
/// Below, a mark holds a number of the service port and, in its last 2 bits, the protocol. Nothing
/// else on the node may use these marks as a whole; single bits that others set do no harm to us, as
/// IPVS compares the whole mark. Nor do ours to them: a mark stays on the packet until it leaves the
/// node, so it has none of the bits that the kubelet, kube-proxy and the CNI plugin portmap test there,
/// to masquerade (13 and 14) and to drop (15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    prefix: u8,
}

impl Marks {
    /// The marks that start with a byte.
    pub const fn starting_with(prefix: u8) -> Self {
        Self { prefix }
    }

    /// The protocol of a mark; `None` if it is not one of these.
    pub fn protocol(self, mark: u32) -> Option<Protocol> {
        let [prefix, .., last] = mark.to_be_bytes();
        let known = Protocol::ALL.get(usize::from(last & PROTOCOL_MASK));
        known.filter(|_| prefix == self.prefix).copied()
    }

    /// A mark that no service port gets.
    pub(crate) fn spare(self) -> u32 {
        self.mark(0, Protocol::Tcp)
    }

    fn mark(self, number: u32, protocol: Protocol) -> u32 {
        let code = match protocol {
            Protocol::Tcp => 0,
            Protocol::Udp => 1,
            Protocol::Sctp => 2,
        };
        u32::from(self.prefix) << PREFIX_SHIFT | number << PROTOCOL_BITS | code
    }
}

impl Default for Marks {
    /// Those that start with `0x53`.
    fn default() -> Self {
        Self::starting_with(0x53)
    }
}

const PREFIX_SHIFT: u32 = 24;
const PROTOCOL_BITS: u32 = 2;
const PROTOCOL_MASK: u8 = 3;
/// Bits 13 to 15.
const OF_OTHERS: u32 = 0xe000;
const NUMBERS: u32 = 1 << (PREFIX_SHIFT - PROTOCOL_BITS);

/// Marks handed out.
///
/// A mark is not used again soon: IPVS may still know connections by it. And a restart learns the
/// marks that the kernel holds, so that nothing is written again.
#[derive(Clone, Debug)]
pub(crate) struct Marked {
    marks: Marks,
    of: BTreeMap<ServicePortName, u32>,
    taken: BTreeSet<u32>,
    latest: u32,
    /// Marks that the kernel holds, by the keys of front ends, until their owner comes.
    held: BTreeMap<Bytes, u32>,
}

impl Marked {
    pub(crate) fn new(marks: Marks) -> Self {
        Self {
            marks,
            of: BTreeMap::new(),
            taken: BTreeSet::new(),
            latest: 0,
            held: BTreeMap::new(),
        }
    }

    /// The mark of a service port; if it has none, one that the kernel holds for one of its front
    /// ends, or a new one; `None` when all are taken.
    pub(crate) fn mark(
        &mut self,
        name: &ServicePortName,
        frontends: impl Iterator<Item = Bytes>,
    ) -> Option<u32> {
        if let Some(mark) = self.of.get(name) {
            return Some(*mark);
        }
        let mut held = None;
        if !self.held.is_empty() {
            for key in frontends {
                let mark = self.held.remove(&key);
                let mark = mark.filter(|mark| self.marks.protocol(*mark) == Some(name.protocol));
                held = held.or(mark.filter(|mark| !self.taken.contains(mark)));
            }
        }
        let mark = held.or_else(|| self.fresh(name.protocol))?;
        self.taken.insert(mark);
        self.of.insert(name.clone(), mark);
        Some(mark)
    }

    /// Takes note of the marks that the kernel holds, by the keys of front ends.
    pub(crate) fn learn(&mut self, held: impl Iterator<Item = (Bytes, u32)>) {
        self.held.clear();
        for (key, mark) in held {
            // One with bits of others is not kept.
            if self.marks.protocol(mark).is_some() && mark & OF_OTHERS == 0 {
                self.latest = self.latest.max(mark >> PROTOCOL_BITS & (NUMBERS - 1));
                if !self.taken.contains(&mark) {
                    self.held.insert(key, mark);
                }
            }
        }
    }

    /// Gives a mark back.
    pub(crate) fn forget(&mut self, name: &ServicePortName) {
        if let Some(mark) = self.of.remove(name) {
            self.taken.remove(&mark);
        }
    }

    fn fresh(&mut self, protocol: Protocol) -> Option<u32> {
        let after = (1..NUMBERS).map(|step| (self.latest + step) % NUMBERS);
        let free = after.filter(|number| *number > 0).find(|number| {
            let mark = self.marks.mark(*number, protocol);
            mark & OF_OTHERS == 0 && !self.taken.contains(&mark)
        })?;
        self.latest = free;
        Some(self.marks.mark(free, protocol))
    }
}

#[cfg(test)]
mod tests {
    use std::iter::{empty, once};

    use svc_core::NamespacedName;

    use super::*;

    fn name(service: &str, protocol: Protocol) -> ServicePortName {
        ServicePortName {
            service: NamespacedName::new("a", service),
            port: "p".into(),
            protocol,
        }
    }

    #[test]
    fn a_mark_tells_its_protocol() {
        let mut marked = Marked::new(Marks::default());
        for protocol in Protocol::ALL {
            let mark = marked.mark(&name("x", protocol), empty()).unwrap();
            assert_eq!(Marks::default().protocol(mark), Some(protocol));
            assert_eq!(Marks::starting_with(1).protocol(mark), None);
        }
    }

    /// Those by which the kubelet and the CNI plugin portmap have packets masqueraded or dropped.
    #[test]
    fn no_mark_has_bits_of_others() {
        let mut marked = Marked::new(Marks::default());
        let mut seen = BTreeSet::new();
        for number in 0..5000 {
            let mark = marked.mark(&name(&format!("s{number}"), Protocol::Udp), empty());
            let mark = mark.unwrap();
            assert_eq!(mark & 0xe000, 0, "{mark:#x}");
            assert_eq!(Marks::default().protocol(mark), Some(Protocol::Udp));
            assert!(seen.insert(mark));
        }
        // One of an earlier version is not taken over.
        let key = Bytes::from([1]);
        marked.learn([(key.clone(), 0x5300_4000)].into_iter());
        let fresh = marked.mark(&name("x", Protocol::Tcp), once(key)).unwrap();
        assert_eq!(fresh & 0xe000, 0, "{fresh:#x}");
    }

    #[test]
    fn marks_are_kept_learnt_and_not_reused_at_once() {
        let mut marked = Marked::new(Marks::default());
        let [a, b, c] = ["a", "b", "c"].map(|service| name(service, Protocol::Tcp));
        let [key_a, key_c] = [1, 2].map(|byte| Bytes::from([byte]));
        let held = [(key_a.clone(), 0x5300_0010), (key_c.clone(), 0x1200_0014)];
        marked.learn(held.into_iter());
        assert_eq!(marked.mark(&a, once(key_a.clone())), Some(0x5300_0010));
        assert_eq!(marked.mark(&b, once(key_a)), Some(0x5300_0014));
        marked.forget(&b);
        assert_eq!(marked.mark(&c, once(key_c)), Some(0x5300_0018));
    }
}
