//! How IPVS chooses a destination.

use std::fmt;
use std::str::FromStr;

/// A scheduler of the kernel (B-288).
///
/// All but round robin live in a kernel module of their own, which the kernel loads as soon as a
/// virtual server asks for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheduler {
    /// One after the other.
    #[default]
    RoundRobin,
    /// One after the other, by weight.
    WeightedRoundRobin,
    /// The one with the fewest connections.
    LeastConnection,
    /// The one with the fewest connections, by weight.
    WeightedLeastConnection,
    /// By destination address, unless overloaded.
    LocalityBasedLeastConnection,
    /// The same with a set of destinations for each address.
    LocalityBasedLeastConnectionReplicated,
    /// By a hash of the destination address.
    DestinationHashing,
    /// By a hash of the source address.
    SourceHashing,
    /// By a consistent hash of source address and port.
    Maglev,
    /// The one with the shortest expected delay.
    ShortestExpectedDelay,
    /// An idle one, or else the one with the shortest expected delay.
    NeverQueue,
    /// The one with the highest weight.
    WeightedFailover,
    /// The one with the highest weight that has fewer connections than its weight.
    WeightedOverflow,
}

/// The text names no scheduler of the kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no scheduler {0:?}: must be one of rr, wrr, lc, wlc, lblc, lblcr, dh, sh, mh, sed, nq, fo, ovf"
)]
pub struct UnknownScheduler(pub String);

impl Scheduler {
    /// All schedulers.
    pub const ALL: [Self; 13] = [
        Self::RoundRobin,
        Self::WeightedRoundRobin,
        Self::LeastConnection,
        Self::WeightedLeastConnection,
        Self::LocalityBasedLeastConnection,
        Self::LocalityBasedLeastConnectionReplicated,
        Self::DestinationHashing,
        Self::SourceHashing,
        Self::Maglev,
        Self::ShortestExpectedDelay,
        Self::NeverQueue,
        Self::WeightedFailover,
        Self::WeightedOverflow,
    ];

    /// The kernel's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoundRobin => "rr",
            Self::WeightedRoundRobin => "wrr",
            Self::LeastConnection => "lc",
            Self::WeightedLeastConnection => "wlc",
            Self::LocalityBasedLeastConnection => "lblc",
            Self::LocalityBasedLeastConnectionReplicated => "lblcr",
            Self::DestinationHashing => "dh",
            Self::SourceHashing => "sh",
            Self::Maglev => "mh",
            Self::ShortestExpectedDelay => "sed",
            Self::NeverQueue => "nq",
            Self::WeightedFailover => "fo",
            Self::WeightedOverflow => "ovf",
        }
    }

    /// The kernel module that has it.
    pub fn module(self) -> String {
        format!("ip_vs_{}", self.name())
    }
}

impl FromStr for Scheduler {
    type Err = UnknownScheduler;

    fn from_str(text: &str) -> Result<Self, UnknownScheduler> {
        let mut all = Self::ALL.into_iter();
        all.find(|scheduler| scheduler.name() == text)
            .ok_or_else(|| UnknownScheduler(text.to_owned()))
    }
}

impl fmt::Display for Scheduler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
