//! Packet marks, by which pods and the node get other destinations than clients from outside.

use std::collections::BTreeMap;

use svc_core::{Protocol, ServicePortName};

/// The marks of an instance: those that share their highest 8 bits.
///
/// Below, a mark holds a number of the service port and, in its last 2 bits, the protocol. Nothing
/// else on the node may use these marks as a whole; single bits do no harm, as IPVS compares the
/// whole mark.
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
const NUMBERS: u32 = 1 << (PREFIX_SHIFT - PROTOCOL_BITS);

/// Marks handed out.
#[derive(Clone, Debug)]
pub(crate) struct Marked {
    marks: Marks,
    of: BTreeMap<ServicePortName, u32>,
    names: BTreeMap<u32, ServicePortName>,
    latest: u32,
}

impl Marked {
    pub(crate) fn new(marks: Marks) -> Self {
        Self {
            marks,
            of: BTreeMap::new(),
            names: BTreeMap::new(),
            latest: 0,
        }
    }

    /// The mark of a service port, a new one if it has none; `None` when all are taken.
    pub(crate) fn mark(&mut self, name: &ServicePortName) -> Option<u32> {
        if let Some(mark) = self.of.get(name) {
            return Some(*mark);
        }
        // A number is not used again soon: established connections may still carry it.
        let after = (1..NUMBERS).map(|step| (self.latest + step) % NUMBERS);
        let free = after.filter(|number| *number > 0).find(|number| {
            let mark = self.marks.mark(*number, name.protocol);
            !self.names.contains_key(&mark)
        })?;
        self.latest = free;
        let mark = self.marks.mark(free, name.protocol);
        self.assign(name.clone(), mark);
        Some(mark)
    }

    /// Takes over a mark that the kernel holds, unless it or the name is taken.
    pub(crate) fn learn(&mut self, name: ServicePortName, mark: u32) {
        let ours = self.marks.protocol(mark) == Some(name.protocol);
        if ours && !self.of.contains_key(&name) && !self.names.contains_key(&mark) {
            self.latest = self.latest.max(mark >> PROTOCOL_BITS & (NUMBERS - 1));
            self.assign(name, mark);
        }
    }

    /// Gives a mark back.
    pub(crate) fn forget(&mut self, name: &ServicePortName) {
        if let Some(mark) = self.of.remove(name) {
            self.names.remove(&mark);
        }
    }

    fn assign(&mut self, name: ServicePortName, mark: u32) {
        self.names.insert(mark, name.clone());
        self.of.insert(name, mark);
    }
}

#[cfg(test)]
mod tests {
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
            let mark = marked.mark(&name("x", protocol)).unwrap();
            assert_eq!(Marks::default().protocol(mark), Some(protocol));
            assert_eq!(Marks::starting_with(1).protocol(mark), None);
        }
    }

    #[test]
    fn marks_are_kept_learnt_and_not_reused_at_once() {
        let mut marked = Marked::new(Marks::default());
        let [a, b, c] = ["a", "b", "c"].map(|service| name(service, Protocol::Tcp));
        marked.learn(a.clone(), 0x5300_0010);
        marked.learn(b.clone(), 0x5300_0010);
        marked.learn(c.clone(), 0x1200_0014);
        assert_eq!(marked.mark(&a), Some(0x5300_0010));
        assert_eq!(marked.mark(&b), Some(0x5300_0014));
        marked.forget(&b);
        assert_eq!(marked.mark(&c), Some(0x5300_0018));
    }
}
