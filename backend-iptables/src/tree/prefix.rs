//! Prefixes of entries: of the address, then of the protocol, which counts as one bit, then of the
//! port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_core::{IpNet, Protocol};

use crate::key::{Entry, Tree};
use crate::name::{ChainName, NodePlace};
use crate::rule::{Match, Sense};

/// The first bits of an entry; what is beyond is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    from: Entry,
    bits: u32,
}

/// Bits of a port; the protocol counts as one.
const PORT_BITS: u32 = 16;

/// A node splits by the bits up to the next multiple of this, in the address and in the port. The
/// places do not depend on the entries, so that a node stays where it is when others come.
///
/// Measured among 10,000 Services: with sixteen children a packet is compared with five rules more
/// on average, with four of them with two rules less and is in two chains more.
const STEP: u32 = 3;

impl Prefix {
    /// The prefix that every entry of a tree has.
    pub(super) fn whole(tree: Tree, unspecified: IpAddr) -> Self {
        let from = Entry {
            tree,
            ip: unspecified,
            protocol: Protocol::Tcp,
            port: 0,
        };
        Self { from, bits: 0 }
    }

    /// The longest prefix that two entries of a tree have, the lower one first.
    pub(super) fn common(first: &Entry, last: &Entry) -> Self {
        let ip_bits = ip_bits(first);
        let bits = match ip_difference(first.ip, last.ip) {
            bits if first.ip != last.ip && ip_bits > 0 => bits,
            _ if first.protocol != last.protocol => ip_bits,
            _ if first.port != last.port => ip_bits + 1 + (first.port ^ last.port).leading_zeros(),
            _ => all_bits(first),
        };
        Self::of(first, bits)
    }

    /// The first bits of an entry.
    fn of(entry: &Entry, bits: u32) -> Self {
        Self {
            from: filled(entry, bits, Fill::Zeros),
            bits,
        }
    }

    /// The longest prefix of this one that ends at a step.
    pub(super) fn step(&self) -> Self {
        let (start, _) = self.part();
        let bits = self.bits - (self.bits - start) % STEP;
        Self::of(&self.from, bits)
    }

    /// Whether a longer prefix is longer by a whole step.
    pub(super) fn is_step_to(&self, longer: &Self) -> bool {
        let (start, end) = self.part();
        let next = self.bits + STEP - (self.bits - start) % STEP;
        longer.bits >= next.min(end)
    }

    /// Where the part begins and ends that the next bit belongs to: address, protocol or port.
    fn part(&self) -> (u32, u32) {
        let (ip_bits, all) = (ip_bits(&self.from), all_bits(&self.from));
        match self.bits {
            bits if bits < ip_bits => (0, ip_bits),
            bits if bits == ip_bits => (ip_bits, (ip_bits + 1).min(all)),
            _ => (ip_bits + 1, all),
        }
    }

    /// The lowest entry below the prefix.
    pub(super) fn first(&self) -> Entry {
        self.from
    }

    /// The highest entry below the prefix.
    pub(super) fn last(&self) -> Entry {
        filled(&self.from, self.bits, Fill::Ones)
    }

    /// The prefixes that are one bit longer, in order: two, or one for each protocol.
    pub(super) fn halves(&self) -> impl Iterator<Item = Self> {
        let ip_bits = ip_bits(&self.from);
        let count: u16 = if self.bits == ip_bits { 3 } else { 2 };
        let prefix = *self;
        (0..count).map(move |value| {
            let mut from = prefix.from;
            if prefix.bits < ip_bits {
                from.ip = with_bit(from.ip, prefix.bits, value);
            } else if prefix.bits == ip_bits {
                let protocol = Protocol::ALL.get(usize::from(value));
                from.protocol = protocol.copied().unwrap_or(from.protocol);
            } else {
                let place = PORT_BITS - 1 - (prefix.bits - ip_bits - 1);
                from.port |= value.checked_shl(place).unwrap_or(0);
            }
            Self {
                from,
                bits: prefix.bits + 1,
            }
        })
    }

    /// What tells the entries below this prefix from others below `outer`.
    pub(super) fn matches(&self, outer: &Self) -> Vec<Match> {
        let ip_bits = ip_bits(&self.from);
        let mut matches = Vec::with_capacity(3);
        if outer.bits < ip_bits {
            let bits = u8::try_from(self.bits.min(ip_bits)).unwrap_or(u8::MAX);
            if let Ok(net) = IpNet::new(self.from.ip, bits) {
                matches.push(match self.from.tree {
                    Tree::Hairpin => Match::Source(Sense::Is, net),
                    Tree::Cluster | Tree::External | Tree::NodePort | Tree::Beside => {
                        Match::Destination(Sense::Is, net)
                    }
                });
            }
        }
        if self.bits > ip_bits {
            let protocol = self.from.protocol;
            matches.push(Match::Protocol(protocol));
            if self.bits > ip_bits + 1 {
                let (first, last) = (self.first().port, self.last().port);
                matches.push(Match::Ports(protocol, first, last));
            }
        }
        matches
    }

    /// The name of the node at this prefix.
    pub(super) fn chain(&self) -> ChainName {
        let ip_bits = ip_bits(&self.from);
        let place = NodePlace {
            tree: self.from.tree,
            ip: (ip_bits > 0).then_some(self.from.ip),
            bits: self.bits,
            tail: (self.bits > ip_bits).then_some((self.from.protocol, self.from.port)),
        };
        place.chain()
    }
}

fn ip_bits(entry: &Entry) -> u32 {
    match (entry.tree, entry.ip) {
        (Tree::NodePort | Tree::Beside, _) => 0,
        (Tree::Cluster | Tree::External | Tree::Hairpin, IpAddr::V4(_)) => 32,
        (Tree::Cluster | Tree::External | Tree::Hairpin, IpAddr::V6(_)) => 128,
    }
}

fn all_bits(entry: &Entry) -> u32 {
    match entry.tree {
        Tree::Hairpin => ip_bits(entry),
        Tree::Cluster | Tree::External | Tree::NodePort | Tree::Beside => {
            ip_bits(entry) + 1 + PORT_BITS
        }
    }
}

/// How many bits two addresses have in common.
pub(super) fn ip_difference(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        // No tree holds both families.
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => 0,
    }
}

fn with_bit(ip: IpAddr, bit: u32, value: u16) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let bits = u32::from(value) << (31 - bit);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | bits))
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(value) << (127 - bit);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | bits))
        }
    }
}

#[derive(Clone, Copy)]
enum Fill {
    Zeros,
    Ones,
}

/// Replaces everything after some bits.
fn filled(entry: &Entry, bits: u32, fill: Fill) -> Entry {
    let ip_bits = ip_bits(entry);
    let mut entry = *entry;
    entry.ip = match entry.ip {
        _ if ip_bits == 0 => entry.ip,
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(bits).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(match fill {
                Fill::Zeros => v4.to_bits() & !rest,
                Fill::Ones => v4.to_bits() | rest,
            }))
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(bits).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(match fill {
                Fill::Zeros => v6.to_bits() & !rest,
                Fill::Ones => v6.to_bits() | rest,
            }))
        }
    };
    if bits <= ip_bits {
        entry.protocol = match fill {
            Fill::Zeros => Protocol::Tcp,
            Fill::Ones => Protocol::Sctp,
        };
    }
    let port_bits = bits.saturating_sub(ip_bits + 1);
    let rest = u16::MAX.checked_shr(port_bits).unwrap_or(0);
    entry.port = match fill {
        Fill::Zeros => entry.port & !rest,
        Fill::Ones => entry.port | rest,
    };
    entry
}
