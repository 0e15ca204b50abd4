//! Which objects there are in the kernel, and what they hold.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use svc_core::Protocol;

use crate::name::ChainName;
use crate::rule::Rule;

/// A table of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Decides what passes; nothing here depends on a Service.
    Filter,
    /// Rewrites addresses; everything that depends on a Service is here.
    Nat,
}

impl Table {
    /// Both tables, in the order in which they are written.
    pub const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    /// The name on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

/// A chain of the kernel that a hook enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    Postrouting,
}

impl Hook {
    /// All hooks, in the order in which packets pass them.
    pub const ALL: [Self; 5] = [
        Self::Prerouting,
        Self::Input,
        Self::Forward,
        Self::Output,
        Self::Postrouting,
    ];

    /// The name of the chain.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Input => "INPUT",
            Self::Forward => "FORWARD",
            Self::Output => "OUTPUT",
            Self::Postrouting => "POSTROUTING",
        }
    }
}

/// The jump from a hook to a chain of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jump {
    /// The table.
    pub table: Table,
    /// The chain that has the jump.
    pub from: Hook,
    /// Where it leads.
    pub to: ChainName,
}

/// A search tree over front ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tree {
    /// By ClusterIP, protocol and port.
    Cluster,
    /// By any other address, protocol and port.
    External,
    /// By node port.
    NodePort,
    /// By node port, at local addresses that do not serve node ports (B-129).
    Beside,
    /// By endpoint address, for connections of an endpoint to itself.
    Hairpin,
}

impl Tree {
    /// All trees.
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::External,
        Self::NodePort,
        Self::Beside,
        Self::Hairpin,
    ];
}

/// One front end in a tree.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Entry {
    /// Which tree.
    pub tree: Tree,
    /// The address; unspecified in trees of node ports.
    pub ip: IpAddr,
    /// The protocol.
    pub protocol: Protocol,
    /// The port; 0 in [`Tree::Hairpin`], where protocol and port do not count.
    pub port: u16,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (port, protocol) = (self.port, self.protocol.lower());
        match self.tree {
            Tree::Cluster | Tree::External => match self.ip {
                IpAddr::V4(ip) => write!(f, "{ip}:{port}/{protocol}"),
                IpAddr::V6(ip) => write!(f, "[{ip}]:{port}/{protocol}"),
            },
            Tree::NodePort => write!(f, "node port {port}/{protocol}"),
            Tree::Beside => write!(f, "refused node port {port}/{protocol}"),
            Tree::Hairpin => write!(f, "hairpin {}", self.ip),
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Names an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// A chain that is not part of a tree.
    Chain(Table, ChainName),
    /// A set of client addresses.
    Set(ChainName),
    /// A front end: one rule or a few in a tree, wherever that is.
    Entry(Entry),
    /// The jump from a hook.
    Jump(Jump),
    /// `net.ipv4.conf.all.route_localnet`, which node ports at 127.0.0.1 need (B-126).
    RouteLocalnet,
    /// A chain of ours that is not what it should be; only ever held, never wanted. Taking it
    /// away means to write what belongs there, or to delete it.
    Stray(Table, ChainName),
}

/// What an object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// The rules of a chain.
    Rules(Arc<[Rule]>),
    /// What a front end leads to.
    To(Goal),
    /// How many copies of a jump there are.
    Copies(u32),
    /// Nothing but that the object is there.
    Present,
}

/// What a front end leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// A chain.
    Chain(ChainName),
    /// One of a few endpoints, each with the same chance. No other front end leads to them, so
    /// they need no chain: they stand in the tree.
    Endpoints(Arc<[SocketAddr]>),
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(chain) => write!(f, "{chain}"),
            Self::Endpoints(endpoints) => {
                let mut between = "";
                endpoints.iter().try_for_each(|endpoint| {
                    write!(f, "{between}{endpoint}")?;
                    between = ", ";
                    Ok(())
                })
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chain(table, name) => write!(f, "{} chain {name}", table.name()),
            Self::Set(name) => write!(f, "set {name}"),
            Self::Entry(entry) => write!(f, "{entry}"),
            Self::Jump(jump) => {
                let (table, from) = (jump.table.name(), jump.from.name());
                write!(f, "{table} jump {from} to {}", jump.to)
            }
            Self::RouteLocalnet => f.write_str("sysctl net.ipv4.conf.all.route_localnet"),
            Self::Stray(table, name) => write!(f, "{} stray chain {name}", table.name()),
        }
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rules(rules) => {
                let mut between = "";
                rules.iter().try_for_each(|rule| {
                    write!(f, "{between}{rule}")?;
                    between = "; ";
                    Ok(())
                })
            }
            Self::To(goal) => write!(f, "{goal}"),
            Self::Copies(count) => write!(f, "{count}"),
            Self::Present => f.write_str("present"),
        }
    }
}
