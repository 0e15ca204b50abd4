//! Tables, chains and rules.

use super::{ChainName, Comment, Expr, TableName};

/// Protocol family of a table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Family {
    /// IPv4 (`ip`).
    Ip,
    /// IPv6 (`ip6`).
    Ip6,
    /// Both (`inet`).
    Inet,
}

impl Family {
    /// The kernel's number (`NFPROTO_*`).
    pub const fn code(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Ip6 => 10,
        }
    }

    /// From the kernel's number.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Inet),
            2 => Some(Self::Ip),
            10 => Some(Self::Ip6),
            _ => None,
        }
    }

    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Inet => "inet",
        }
    }
}

/// A table: owner of chains and sets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Table {
    /// Family of all it holds.
    pub family: Family,
    /// Name within the family.
    pub name: TableName,
    /// Printed by nft 1.0.3 and later.
    pub comment: Option<Comment>,
    /// Whether packets see it.
    pub state: TableState,
}

/// Whether packets see the chains of a table.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum TableState {
    /// They do.
    #[default]
    Active,
    /// They do not, whatever it holds: somebody set its flag `dormant`.
    Dormant,
}

/// A chain; without `base` it is reached by jump and goto only.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Chain {
    /// Name within the table.
    pub name: ChainName,
    /// Where packets enter it.
    pub base: Option<BaseChain>,
    /// Printed by nft 1.0.0 and later.
    pub comment: Option<Comment>,
}

/// What hooks a chain into the packet path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct BaseChain {
    /// Kind of hook function.
    pub kind: ChainType,
    /// Place in the packet path.
    pub hook: Hook,
    /// Order among the chains of a hook; see [`priority`].
    pub priority: i32,
    /// What happens to packets that fall through.
    pub policy: Policy,
}

/// Usual priorities of base chains.
pub mod priority {
    /// Destination nat in prerouting and output (`dstnat`).
    pub const DSTNAT: i32 = -100;
    /// After the destination nat of others.
    pub const AFTER_DSTNAT: i32 = DSTNAT + 10;
    /// Filtering (`filter`).
    pub const FILTER: i32 = 0;
    /// Source nat in postrouting (`srcnat`).
    pub const SRCNAT: i32 = 100;
}

/// Kind of a base chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ChainType {
    /// Sees every packet.
    Filter,
    /// Sees the first packet of each connection.
    Nat,
    /// Re-routes changed packets of this node.
    Route,
}

impl ChainType {
    /// The kernel's and nft's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Route => "route",
        }
    }

    /// From the kernel's word.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Filter, Self::Nat, Self::Route]
            .into_iter()
            .find(|kind| kind.name() == name)
    }
}

/// Place in the packet path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Hook {
    /// Received, before routing.
    Prerouting,
    /// Routed to this node.
    Input,
    /// Routed through this node.
    Forward,
    /// Sent by this node.
    Output,
    /// About to leave.
    Postrouting,
}

impl Hook {
    /// The kernel's number (`NF_INET_*`).
    pub const fn code(self) -> u32 {
        match self {
            Self::Prerouting => 0,
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
            Self::Postrouting => 4,
        }
    }

    /// From the kernel's number.
    pub fn from_code(code: u32) -> Option<Self> {
        [
            Self::Prerouting,
            Self::Input,
            Self::Forward,
            Self::Output,
            Self::Postrouting,
        ]
        .into_iter()
        .find(|hook| hook.code() == code)
    }

    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "prerouting",
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
        }
    }
}

/// What a base chain does with packets that fall through.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Policy {
    /// Let them pass.
    Accept,
    /// Discard them.
    Drop,
}

impl Policy {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
        }
    }
}

/// A rule: expressions run in order until one breaks or gives a verdict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Rule {
    /// The chain it is part of.
    pub chain: ChainName,
    /// What it does.
    pub exprs: Vec<Expr>,
    /// Printed by nft after the rule.
    pub comment: Option<Comment>,
}
