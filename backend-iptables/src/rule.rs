//! Rules as values; text exists only in their `Display` and in the parser.

mod parse;
mod text;

use std::net::SocketAddr;
use std::sync::Arc;

use svc_core::{IpFamily, IpNet, Protocol};

use crate::name::ChainName;

pub use parse::{Line, parse_line};

/// A rule: what it matches, and what it does then.
///
/// Matches stand in the order in which the kernel runs them, addresses and protocol first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    matches: Box<[Match]>,
    target: Target,
}

/// Whether a match is meant as it stands or turned round (`!`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sense {
    /// As it stands.
    Is,
    /// Turned round.
    Not,
}

/// One condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Match {
    /// `-s`: the source is inside the prefix.
    Source(Sense, IpNet),
    /// `-d`: the destination is inside the prefix.
    Destination(Sense, IpNet),
    /// `-i`: the packet came in through this interface, or one that starts so if it ends in `+`.
    Interface(Sense, Arc<str>),
    /// `-p`.
    Protocol(Protocol),
    /// `--dport`: the destination port is in the range, both ends included.
    Ports(Protocol, u16, u16),
    /// `-m mark`: the mark has this value under this mask.
    Mark(Sense, Mark),
    /// `-m conntrack --ctstate`: the connection has one of these states.
    States(Sense, States),
    /// `-m addrtype --src-type LOCAL`: the source is an address of this host.
    SourceIsLocal,
    /// `-m addrtype --dst-type LOCAL`: the destination is an address of this host.
    DestinationIsLocal,
    /// `-m statistic --mode random`.
    Random(Probability),
    /// `-m recent --set`: remembers the source; always matches.
    Remember(ChainName),
    /// `-m recent --update --seconds --reap`: the source was remembered at most so many seconds
    /// ago; it is remembered anew.
    Remembered(ChainName, u32),
    /// `-m set --match-set … src`.
    InSet(ChainName),
    /// `-m bpf --bytecode`: source and destination are the same address.
    SameAddress(IpFamily),
    /// `-m comment`.
    Comment(Arc<str>),
    /// Anything else, as it was written.
    Opaque(Arc<str>),
}

/// What a rule does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Nothing: the next rule follows.
    Continue,
    /// `-j`: goes on in another chain and comes back.
    Jump(ChainName),
    /// `-g`: goes on in another chain and comes back one chain further out.
    Goto(ChainName),
    /// `-j ACCEPT`.
    Accept,
    /// `-j DROP`.
    Drop,
    /// `-j RETURN`.
    Return,
    /// `-j REJECT`, with port unreachable.
    Reject,
    /// `-j DNAT --to-destination`.
    Dnat(SocketAddr),
    /// `-j MASQUERADE`.
    Masquerade(SourcePorts),
    /// `-j MARK --set-xmark`: clears the bits of the mask, then flips those of the value.
    SetMark(Mark),
    /// `-j SET --add-set … src --exist --timeout`.
    AddToSet(ChainName, u32),
    /// Anything else, as it was written.
    Opaque(Arc<str>),
}

/// How masquerading chooses source ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SourcePorts {
    /// The one the client has, if it is free.
    Kept,
    /// `--random-fully` (B-173).
    Random,
}

/// A value and the bits of a packet's mark that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The value.
    pub value: u32,
    /// The bits.
    pub mask: u32,
}

/// A set of connection-tracking states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct States(u8);

impl States {
    /// No connection can have such a packet.
    pub const INVALID: Self = Self(1);
    /// The first packet of a connection.
    pub const NEW: Self = Self(1 << 1);
    /// The first packet of a connection that another one announced.
    pub const RELATED: Self = Self(1 << 2);
    /// Packets were seen in both directions.
    pub const ESTABLISHED: Self = Self(1 << 3);
    /// Not tracked.
    pub const UNTRACKED: Self = Self(1 << 4);
    /// The source was rewritten.
    pub const SNAT: Self = Self(1 << 5);
    /// The destination was rewritten.
    pub const DNAT: Self = Self(1 << 6);

    /// Names, in the order in which iptables prints them.
    const NAMES: [(Self, &'static str); 7] = [
        (Self::INVALID, "INVALID"),
        (Self::NEW, "NEW"),
        (Self::RELATED, "RELATED"),
        (Self::ESTABLISHED, "ESTABLISHED"),
        (Self::UNTRACKED, "UNTRACKED"),
        (Self::SNAT, "SNAT"),
        (Self::DNAT, "DNAT"),
    ];

    /// The states of both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the two sets have a state in common.
    pub fn meets(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }
}

/// A probability in units of 2⁻³¹, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probability(u32);

impl Probability {
    const ONE: u32 = 1 << 31;

    /// `part` of `whole`, or nothing if that is certain.
    pub fn of(part: usize, whole: usize) -> Option<Self> {
        if part >= whole {
            return None;
        }
        let (part, whole) = (part as u128, whole as u128);
        let units = (part * u128::from(Self::ONE) + whole / 2) / whole;
        u32::try_from(units).ok().map(Self)
    }

    /// The nearest probability, if `value` is one.
    fn nearest(value: f64) -> Option<Self> {
        let units = (value * f64::from(Self::ONE)).round();
        // The range check makes the cast exact.
        (0.0..=f64::from(Self::ONE))
            .contains(&units)
            .then_some(Self(units as u32))
    }

    /// As a number from 0 to 1.
    pub fn value(self) -> f64 {
        f64::from(self.0) / f64::from(Self::ONE)
    }
}

impl Rule {
    /// A rule; conditions on addresses, interface and protocol are brought to the front.
    pub fn new(matches: impl IntoIterator<Item = Match>, target: Target) -> Self {
        let mut matches: Box<[Match]> = matches.into_iter().collect();
        matches.sort_by_key(Match::place);
        Self { matches, target }
    }

    /// A rule without conditions.
    pub fn always(target: Target) -> Self {
        Self::new([], target)
    }

    /// The conditions.
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// What the rule does.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The chain that the rule leads to.
    pub fn callee(&self) -> Option<ChainName> {
        match &self.target {
            Target::Jump(chain) | Target::Goto(chain) => Some(*chain),
            Target::Continue
            | Target::Accept
            | Target::Drop
            | Target::Return
            | Target::Reject
            | Target::Dnat(_)
            | Target::Masquerade(_)
            | Target::SetMark(_)
            | Target::AddToSet(..)
            | Target::Opaque(_) => None,
        }
    }
}

impl Match {
    /// Where iptables prints the condition.
    fn place(&self) -> u8 {
        match self {
            Self::Source(..) => 0,
            Self::Destination(..) => 1,
            Self::Interface(..) => 2,
            Self::Protocol(_) => 3,
            Self::Ports(..)
            | Self::Mark(..)
            | Self::States(..)
            | Self::SourceIsLocal
            | Self::DestinationIsLocal
            | Self::Random(_)
            | Self::Remember(_)
            | Self::Remembered(..)
            | Self::InSet(_)
            | Self::SameAddress(_)
            | Self::Comment(_)
            | Self::Opaque(_) => 4,
        }
    }
}
