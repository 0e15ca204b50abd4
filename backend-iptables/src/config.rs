//! What a ruleset depends on beside the plan.

use svc_core::IpFamily;

use crate::rule::{Mark, Match, Rule, SourcePorts, Target};

/// The bits of a packet's mark that the ruleset uses (B-171).
///
/// A packet to be masqueraded has the first, a packet to be refused the second, and a packet to
/// be dropped both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    masquerade: u32,
    unserved: u32,
}

/// Two purposes cannot share a bit of the mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("bits {masquerade} and {unserved} of the mark are not two bits from 0 to 31")]
pub struct SameBit {
    /// The bit for masquerading.
    pub masquerade: u8,
    /// The bit for refusing and dropping.
    pub unserved: u8,
}

impl Marks {
    /// Marks with two different bits from 0 to 31.
    ///
    /// # Errors
    /// The bits are the same, or there is no such bit.
    pub fn new(masquerade: u8, unserved: u8) -> Result<Self, SameBit> {
        let refused = SameBit {
            masquerade,
            unserved,
        };
        let bit = |number: u8| 1u32.checked_shl(number.into()).ok_or(refused);
        if masquerade == unserved {
            return Err(refused);
        }
        Ok(Self {
            masquerade: bit(masquerade)?,
            unserved: bit(unserved)?,
        })
    }

    /// Marks with this bit for masquerading and, for what is refused and dropped, bit 15, or
    /// bit 14 if that is taken.
    ///
    /// # Errors
    /// There is no such bit.
    pub fn with_masquerade_bit(bit: u8) -> Result<Self, SameBit> {
        Self::new(bit, if bit == 15 { 14 } else { 15 })
    }

    /// The bit of packets to be masqueraded.
    pub fn masquerade(self) -> u32 {
        self.masquerade
    }

    /// The bit of packets to be refused or dropped.
    pub fn unserved(self) -> u32 {
        self.unserved
    }

    /// Both bits.
    pub fn both(self) -> u32 {
        self.masquerade | self.unserved
    }

    pub(crate) fn set_masquerade(self) -> Target {
        set(self.masquerade, self.masquerade)
    }

    pub(crate) fn clear_masquerade(self) -> Target {
        set(0, self.masquerade)
    }

    pub(crate) fn flip_masquerade(self) -> Target {
        set(self.masquerade, 0)
    }

    /// Takes the other bit off: it would turn a refusal into a drop.
    pub(crate) fn set_reject(self) -> Target {
        set(self.unserved, self.both())
    }

    pub(crate) fn set_drop(self) -> Target {
        set(self.both(), self.both())
    }
}

fn set(value: u32, mask: u32) -> Target {
    Target::SetMark(Mark { value, mask })
}

impl Default for Marks {
    /// kube-proxy's bit 14 (B-171), and bit 15.
    fn default() -> Self {
        Self {
            masquerade: 1 << 14,
            unserved: 1 << 15,
        }
    }
}

/// Everything that a ruleset depends on beside the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The family of the rules.
    pub family: IpFamily,
    /// Bits of the mark.
    pub marks: Marks,
    /// What the kernel and the tools have.
    pub features: Features,
    /// What happens to packets that no connection can have (B-176).
    pub invalid: InvalidPackets,
}

/// Packets in state INVALID on their way through the node (B-176).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InvalidPackets {
    /// They are dropped: sent on with their old addresses they reset connections.
    Drop,
    /// They pass, as `nf_conntrack_tcp_be_liberal` is set.
    Pass,
}

/// What the kernel and the tools have, and so which of two forms is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// How a connection of an endpoint to itself is found.
    pub hairpin: HairpinBy,
    /// How masquerading chooses ports.
    pub source_ports: SourcePorts,
    /// How clients are remembered.
    pub affinity: AffinityBy,
}

impl Features {
    /// What the host lacks, and what that means for Services.
    pub fn remarks(&self) -> Vec<&'static str> {
        let hairpin = match self.hairpin {
            HairpinBy::Bpf => None,
            HairpinBy::Tree => Some("no match bpf: changes of endpoints cost half as much again"),
        };
        let source_ports = match self.source_ports {
            SourcePorts::Random => None,
            SourcePorts::Kept => {
                Some("no --random-fully: masqueraded clients may take each other's ports")
            }
        };
        let affinity = match self.affinity {
            AffinityBy::RecentThenSets => None,
            AffinityBy::Recent => {
                Some("no ipset: many Services with session affinity make every packet slow")
            }
            AffinityBy::Sets => Some("no match recent: session affinity is kept by ipset alone"),
            AffinityBy::Nothing => {
                Some("neither match recent nor ipset: session affinity is not kept")
            }
        };
        [hairpin, source_ports, affinity]
            .into_iter()
            .flatten()
            .collect()
    }
}

/// How a connection of an endpoint to itself is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HairpinBy {
    /// One rule compares both addresses with `-m bpf`.
    Bpf,
    /// A tree over the endpoint addresses: half as dear again to restore.
    Tree,
}

/// How clients are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AffinityBy {
    /// With `-m recent` for the first service ports, with sets for those beyond [`MOST_RECENT`].
    RecentThenSets,
    /// With `-m recent`: the host has no sets.
    Recent,
    /// With sets: the kernel has no `recent`.
    Sets,
    /// Not at all: each connection goes where chance sends it. The host has neither.
    Nothing,
}

/// Most service ports that use `-m recent` where sets are to be had.
///
/// The kernel searches its lists one by one, for each rule and packet, and again for each rule
/// whenever the legacy table is written: at 100 service ports an edit takes 16 ms longer, at 500
/// 170 ms, at 2,000 3 s. A list holds 100 clients unless `ip_list_tot` of the module xt_recent
/// says otherwise; then the one that was seen longest ago is forgotten. A set holds a million.
pub const MOST_RECENT: usize = 100;

impl Config {
    /// A configuration with everything that a current kernel has.
    pub fn new(family: IpFamily) -> Self {
        Self {
            family,
            marks: Marks::default(),
            features: Features::default(),
            invalid: InvalidPackets::Drop,
        }
    }

    pub(crate) fn hairpin_match(&self) -> Match {
        Match::SameAddress(self.family)
    }

    pub(crate) fn masquerade(&self) -> Target {
        Target::Masquerade(self.features.source_ports)
    }

    pub(crate) fn masquerade_rule(&self) -> Rule {
        Rule::always(self.masquerade())
    }
}

impl Default for Features {
    fn default() -> Self {
        Self {
            hairpin: HairpinBy::Bpf,
            source_ports: SourcePorts::Random,
            affinity: AffinityBy::RecentThenSets,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_host_lacks_is_named() {
        assert_eq!(Features::default().remarks(), [""; 0]);
        let poor = Features {
            hairpin: HairpinBy::Tree,
            source_ports: SourcePorts::Kept,
            affinity: AffinityBy::Nothing,
        };
        let named = poor.remarks().join("\n");
        for word in [
            "bpf",
            "--random-fully",
            "recent",
            "ipset",
            "affinity is not kept",
        ] {
            assert!(named.contains(word), "{word}: {named}");
        }
    }
}
