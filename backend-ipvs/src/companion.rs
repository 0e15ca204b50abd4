//! The companion: an nf_tables table that does what IPVS cannot.
//!
//! ```text
//!  input, before IPVS ──► from a pod? ─► inner ─┐ marks, refusals, source ranges
//!                     └─► from outside ─────────┴─► known: does a front end have the port?
//!  output, before IPVS ─► inner
//!  forward, output ─────► free addresses of the service range
//!  postrouting ─────────► masquerade: hairpin, own addresses, policy of the front end
//! ```
//!
//! Its set `frontends` also records which virtual servers are ours: IPVS itself does not know
//! owners.

mod change;
mod expr;
mod read;
mod rules;
mod schema;

use std::net::IpAddr;

use backend_nftables::rule::{
    Bytes, Chain, ChainName, Comment, Data, Rule, Set, SetName, Table, Verdict,
};
use svc_core::Protocol;

pub(crate) use change::write;
pub(crate) use expr::frontend_key;
pub(crate) use read::{read, saved};
pub(crate) use rules::{hairpin_key, masquerade_chain, reject, saving, skeleton, source_range};

/// Names an object of the table.
///
/// The order is one in which the objects can be made, and against which they can be removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The table itself.
    Table,
    /// A set or map.
    Set(SetId),
    /// A chain that only jumps and gotos lead to, with its rules.
    Chain(ChainName),
    /// An element.
    Element(SetId, Bytes),
    /// A chain that packets enter, with its rules.
    BaseChain(ChainName),
}

/// A set or map of the table.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SetId {
    /// Addresses on our link.
    Addresses,
    /// Front ends, each with a comment that names its service port. Each has a virtual server of
    /// ours.
    Frontends,
    /// Front end to the chain that masquerades its packets.
    Masquerade,
    /// Connections of endpoints to themselves.
    Hairpin,
    /// Front ends that not every source may use.
    Firewalled,
    /// Front end and range of sources that may use it.
    Sources,
    /// Front end to what becomes of packets from outside, where they are refused.
    Outside,
    /// Front end to what becomes of packets from pods and the node, where they are refused.
    Inside,
    /// Front end to the mark of packets from pods and the node, where they have destinations of
    /// their own.
    Marks,
    /// What kernel settings were before we changed them, by number.
    Saved,
    /// A set that this version does not know.
    Foreign(SetName),
}

/// What an object of the table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A table.
    Table(Box<Table>),
    /// A set or map, without its elements.
    Set(Box<Set>),
    /// A chain and its rules in order.
    Chain(Box<ChainBody>),
    /// An element.
    Element(ElementValue),
}

/// A chain and its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainBody {
    /// The chain.
    pub chain: Chain,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// What an element holds beside its key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ElementValue {
    /// What it carries, in maps.
    pub data: Option<Data>,
    /// Last key of a range, inclusive.
    pub key_end: Option<Bytes>,
    /// The service port it serves.
    pub comment: Option<Comment>,
}

impl SetId {
    /// The sets that always exist.
    pub const FIXED: [Self; 10] = [
        Self::Addresses,
        Self::Frontends,
        Self::Masquerade,
        Self::Hairpin,
        Self::Firewalled,
        Self::Sources,
        Self::Outside,
        Self::Inside,
        Self::Marks,
        Self::Saved,
    ];

    /// The name in the table.
    pub fn name(&self) -> SetName {
        let fixed = match self {
            Self::Addresses => "addresses",
            Self::Frontends => "frontends",
            Self::Masquerade => "masquerade",
            Self::Hairpin => "hairpin",
            Self::Firewalled => "firewalled",
            Self::Sources => "sources",
            Self::Outside => "outside",
            Self::Inside => "inside",
            Self::Marks => "marks",
            Self::Saved => "saved",
            Self::Foreign(name) => return name.clone(),
        };
        fixed.into()
    }

    /// The set of that name.
    pub fn from_name(name: &SetName) -> Self {
        let mut known = Self::FIXED.into_iter().filter(|id| id.name() == *name);
        known.next().unwrap_or_else(|| Self::Foreign(name.clone()))
    }
}

impl ElementValue {
    /// An element of a map.
    pub fn data(data: impl Into<Data>) -> Self {
        Self {
            data: Some(data.into()),
            ..Self::default()
        }
    }

    /// The same with a comment.
    #[must_use]
    pub fn with_comment(self, comment: &str) -> Self {
        Self {
            comment: Some(comment.into()),
            ..self
        }
    }

    /// The verdict that it carries.
    pub fn verdict(&self) -> Option<&Verdict> {
        match &self.data {
            Some(Data::Verdict(verdict)) => Some(verdict),
            Some(Data::Value(_)) | None => None,
        }
    }
}

/// The front end that a key names: address, protocol, port.
pub fn read_frontend(key: &Bytes) -> Option<(IpAddr, Protocol, u16)> {
    let width = key.len().checked_sub(8)?;
    let ip = match width {
        4 => IpAddr::from(*key.first_chunk::<4>()?),
        16 => IpAddr::from(*key.first_chunk::<16>()?),
        _ => return None,
    };
    let number = *key.get(width)?;
    let protocol = Protocol::ALL.into_iter().find(|p| p.number() == number)?;
    let port = u16::from_be_bytes(key.get(width + 4..width + 6)?.try_into().ok()?);
    Some((ip, protocol, port))
}
