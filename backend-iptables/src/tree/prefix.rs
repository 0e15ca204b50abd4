//! Prefixes of entries: of the address, then of the protocol, then of the port, four bits at a
//! time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use svc_core::{IpNet, Protocol};

use crate::key::{Entry, Tree};
use crate::name::{ChainName, NodePlace};
use crate::rule::{Match, Sense};

/// The first `steps` steps of an entry; what is beyond is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Prefix {
    from: Entry,
    steps: u32,
}

/// Steps of a port; the protocol is one step.
const PORT_STEPS: u32 = 4;

impl Prefix {
    /// The prefix that every entry of a tree has.
    pub(super) fn whole(tree: Tree, unspecified: IpAddr) -> Self {
        let from = Entry {
            tree,
            ip: unspecified,
            protocol: Protocol::Tcp,
            port: 0,
        };
        Self { from, steps: 0 }
    }

    /// The longest prefix that two entries of a tree have, the lower one first.
    pub(super) fn common(first: &Entry, last: &Entry) -> Self {
        let same = ip_steps(first);
        let port = u32::from(first.port ^ last.port) << 16;
        let steps = match ip_difference(first.ip, last.ip) {
            bits if first.ip != last.ip && same > 0 => bits / 4,
            _ if first.protocol != last.protocol => same,
            _ if first.port != last.port => same + 1 + port.leading_zeros() / 4,
            _ => all_steps(first),
        };
        Self {
            from: filled(first, steps, Fill::Zeros),
            steps,
        }
    }

    /// The lowest entry below the prefix.
    pub(super) fn first(&self) -> Entry {
        self.from
    }

    /// The highest entry below the prefix.
    pub(super) fn last(&self) -> Entry {
        filled(&self.from, self.steps, Fill::Ones)
    }

    /// Whether nothing is left to split by.
    pub(super) fn is_full(&self) -> bool {
        self.steps == all_steps(&self.from)
    }

    /// The prefixes that are one step longer, in order.
    pub(super) fn children(&self) -> impl Iterator<Item = Self> {
        let ip_steps = ip_steps(&self.from);
        let count: u16 = if self.steps == ip_steps { 3 } else { 16 };
        let prefix = *self;
        (0..count).map(move |value| {
            let mut from = prefix.from;
            if prefix.steps < ip_steps {
                from.ip = with_step(from.ip, prefix.steps, value);
            } else if prefix.steps == ip_steps {
                let protocol = Protocol::ALL.get(usize::from(value));
                from.protocol = protocol.copied().unwrap_or(from.protocol);
            } else {
                from.port |= value << (12 - 4 * (prefix.steps - ip_steps - 1));
            }
            Self {
                from,
                steps: prefix.steps + 1,
            }
        })
    }

    /// What tells the entries below this prefix from others below `outer`.
    pub(super) fn matches(&self, outer: &Self) -> Vec<Match> {
        let ip_steps = ip_steps(&self.from);
        let mut matches = Vec::with_capacity(3);
        if outer.steps < ip_steps {
            let bits = u8::try_from(self.steps.min(ip_steps) * 4).unwrap_or(u8::MAX);
            if let Ok(net) = IpNet::new(self.from.ip, bits) {
                matches.push(match self.from.tree {
                    Tree::Hairpin => Match::Source(Sense::Is, net),
                    Tree::Cluster | Tree::External | Tree::NodePort | Tree::Beside => {
                        Match::Destination(Sense::Is, net)
                    }
                });
            }
        }
        if self.steps > ip_steps {
            let protocol = self.from.protocol;
            matches.push(Match::Protocol(protocol));
            if self.steps > ip_steps + 1 {
                let (first, last) = (self.first().port, self.last().port);
                matches.push(Match::Ports(protocol, first, last));
            }
        }
        matches
    }

    /// The name of the node at this prefix.
    pub(super) fn chain(&self) -> ChainName {
        let ip_steps = ip_steps(&self.from);
        let place = NodePlace {
            tree: self.from.tree,
            ip: (ip_steps > 0).then_some(self.from.ip),
            bits: self.steps * 4,
            tail: (self.steps > ip_steps).then_some((self.from.protocol, self.from.port)),
        };
        place.chain()
    }
}

fn ip_steps(entry: &Entry) -> u32 {
    match (entry.tree, entry.ip) {
        (Tree::NodePort | Tree::Beside, _) => 0,
        (Tree::Cluster | Tree::External | Tree::Hairpin, IpAddr::V4(_)) => 8,
        (Tree::Cluster | Tree::External | Tree::Hairpin, IpAddr::V6(_)) => 32,
    }
}

fn all_steps(entry: &Entry) -> u32 {
    match entry.tree {
        Tree::Hairpin => ip_steps(entry),
        Tree::Cluster | Tree::External | Tree::NodePort | Tree::Beside => {
            ip_steps(entry) + 1 + PORT_STEPS
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

fn with_step(ip: IpAddr, step: u32, value: u16) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let bits = u32::from(value) << (28 - 4 * step);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() | bits))
        }
        IpAddr::V6(v6) => {
            let bits = u128::from(value) << (124 - 4 * step);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() | bits))
        }
    }
}

#[derive(Clone, Copy)]
enum Fill {
    Zeros,
    Ones,
}

/// Replaces everything after some steps.
fn filled(entry: &Entry, steps: u32, fill: Fill) -> Entry {
    let ip_steps = ip_steps(entry);
    let mut entry = *entry;
    entry.ip = match entry.ip {
        _ if ip_steps == 0 => entry.ip,
        IpAddr::V4(v4) => {
            let rest = u32::MAX.checked_shr(4 * steps).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(match fill {
                Fill::Zeros => v4.to_bits() & !rest,
                Fill::Ones => v4.to_bits() | rest,
            }))
        }
        IpAddr::V6(v6) => {
            let rest = u128::MAX.checked_shr(4 * steps).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(match fill {
                Fill::Zeros => v6.to_bits() & !rest,
                Fill::Ones => v6.to_bits() | rest,
            }))
        }
    };
    if steps <= ip_steps {
        entry.protocol = match fill {
            Fill::Zeros => Protocol::Tcp,
            Fill::Ones => Protocol::Sctp,
        };
    }
    let port_bits = 4 * steps.saturating_sub(ip_steps + 1);
    let rest = u16::MAX.checked_shr(port_bits).unwrap_or(0);
    entry.port = match fill {
        Fill::Zeros => entry.port & !rest,
        Fill::Ones => entry.port | rest,
    };
    entry
}
