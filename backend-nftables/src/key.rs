//! Names of the kernel objects that this backend owns, and what they hold.

use std::fmt;

use crate::rule::{Bytes, Chain, ChainName, Comment, Data, Rule, Set, SetName, Table};

/// Names a kernel object inside the table of a family.
///
/// The order is one in which the objects can be made: what refers to another object comes after
/// it, and a front end after the pool and the endpoints that it leads to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Key {
    /// The table itself.
    Table,
    /// A set or map.
    Set(SetId),
    /// A chain that only jumps and gotos lead to, with its rules.
    Chain(ChainId),
    /// The rule of chain `firewall` that lets in sources of one prefix length.
    SourceRule(u8),
    /// An element.
    Element(SetId, Bytes),
    /// A chain that packets enter, with its rules: the last to be made, the first to go.
    BaseChain(ChainId),
}

impl Key {
    /// The place of the kind of object in the order of keys: what has a smaller rank is smaller.
    pub(crate) fn rank(&self) -> u32 {
        match self {
            Self::Table => 0,
            Self::Set(id) => 100 + id.rank(),
            Self::Chain(id) => 200 + id.rank(),
            Self::SourceRule(_) => 300,
            Self::Element(id, _) => 400 + id.rank(),
            Self::BaseChain(id) => 500 + id.rank(),
        }
    }
}

/// A set or map of the table.
///
/// The order is that in which elements are added: data before what leads to it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum SetId {
    /// Ranges of ClusterIPs.
    ServiceCidrs,
    /// Addresses of pods.
    PodCidrs,
    /// Endpoint count and random number to slot.
    Slots,
    /// Pool and slot to address and port.
    Endpoints,
    /// The same for pools with affinity: also tells the pool.
    Sticky,
    /// Endpoints of pools with affinity.
    Live,
    /// Connections of endpoints to themselves.
    Hairpin,
    /// Pool and client to the endpoint that the client is pinned to; written by rules.
    Affinity,
    /// Sources that may use a front end, by prefix length.
    Sources(u8),
    /// Front ends that not every source may use.
    Firewalled,
    /// Pool to class and endpoint count.
    Pools,
    /// Class of a pool to what is done with its packets.
    Classes,
    /// The same for packets from outside with external policy Local.
    LocalClasses,
    /// Masquerade policy to what is done with packets that leave.
    MasqueradePolicies,
    /// Front end to pool, for packets from outside with external policy Local.
    LocalFrontends,
    /// Front end to pool.
    Frontends,
    /// Addresses of front ends other than ClusterIPs.
    Addresses,
    /// ClusterIPs.
    ClusterIps,
    /// A set that this version does not know; somebody put it into our table.
    Foreign(SetName),
}

impl SetId {
    /// The sets that always exist.
    pub const FIXED: [Self; 16] = [
        Self::ServiceCidrs,
        Self::PodCidrs,
        Self::Slots,
        Self::Endpoints,
        Self::Sticky,
        Self::Live,
        Self::Hairpin,
        Self::Affinity,
        Self::Firewalled,
        Self::Pools,
        Self::Classes,
        Self::LocalClasses,
        Self::MasqueradePolicies,
        Self::LocalFrontends,
        Self::Frontends,
        Self::Addresses,
    ];

    fn rank(&self) -> u32 {
        match self {
            Self::ServiceCidrs => 0,
            Self::PodCidrs => 1,
            Self::Slots => 2,
            Self::Endpoints => 3,
            Self::Sticky => 4,
            Self::Live => 5,
            Self::Hairpin => 6,
            Self::Affinity => 7,
            Self::Sources(_) => 8,
            Self::Firewalled => 9,
            Self::Pools => 10,
            Self::Classes => 11,
            Self::LocalClasses => 12,
            Self::MasqueradePolicies => 13,
            Self::LocalFrontends => 14,
            Self::Frontends => 15,
            Self::Addresses => 16,
            Self::ClusterIps => 17,
            Self::Foreign(_) => 18,
        }
    }

    /// The name in the table.
    pub fn name(&self) -> SetName {
        let fixed = match self {
            Self::ServiceCidrs => "service_cidrs",
            Self::PodCidrs => "pod_cidrs",
            Self::Slots => "slots",
            Self::Endpoints => "endpoints",
            Self::Sticky => "sticky",
            Self::Live => "live",
            Self::Hairpin => "hairpin",
            Self::Affinity => "affinity",
            Self::Firewalled => "firewalled",
            Self::Pools => "pools",
            Self::Classes => "classes",
            Self::LocalClasses => "local_classes",
            Self::MasqueradePolicies => "masquerade_policies",
            Self::LocalFrontends => "local_frontends",
            Self::Frontends => "frontends",
            Self::Addresses => "addresses",
            Self::ClusterIps => "cluster_ips",
            Self::Sources(length) => return format!("{SOURCES}{length}").into(),
            Self::Foreign(name) => return name.clone(),
        };
        fixed.into()
    }

    /// The set of that name.
    pub fn from_name(name: &SetName) -> Self {
        let fixed = Self::FIXED.into_iter().chain([Self::ClusterIps]);
        let mut known = fixed.filter(|id| id.name() == *name);
        if let Some(id) = known.next() {
            return id;
        }
        let length = name.as_str().strip_prefix(SOURCES);
        match length.and_then(|length| length.parse().ok()) {
            Some(length) if Self::Sources(length).name() == *name => Self::Sources(length),
            Some(_) | None => Self::Foreign(name.clone()),
        }
    }
}

const SOURCES: &str = "sources";

/// A chain of the table.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum ChainId {
    /// Refuses.
    Reject,
    /// Checks the source of packets to front ends that not every source may use.
    Firewall,
    /// Masquerades by a policy, a set of origins (see [`crate::policy`]).
    Masquerade(u8),
    /// Sticks to endpoints for so many seconds.
    Affinity(u32),
    /// The same for packets from outside with external policy Local.
    LocalAffinity(u32),
    /// Packets to a front end.
    Services,
    /// Packets from outside to a front end with external policy Local.
    OutsideLocal,
    /// Packets that leave, of a connection to a front end.
    Outgoing,
    /// Packets that came in through an interface.
    FromOutside,
    /// Packets that the node sends.
    FromNode,
    /// Hook: packets that come in.
    Prerouting,
    /// Hook: packets that the node sends.
    Output,
    /// Hook: packets that leave.
    Postrouting,
    /// Hook: packets that come in, after the nat of others.
    FreePrerouting,
    /// Hook: packets that the node sends, after the nat of others.
    FreeOutput,
    /// A chain that this version does not know; somebody put it into our table.
    Foreign(ChainName),
}

impl ChainId {
    fn rank(&self) -> u32 {
        match self {
            Self::Reject => 0,
            Self::Firewall => 1,
            Self::Masquerade(_) => 2,
            Self::Affinity(_) => 3,
            Self::LocalAffinity(_) => 4,
            Self::Services => 5,
            Self::OutsideLocal => 6,
            Self::Outgoing => 7,
            Self::FromOutside => 8,
            Self::FromNode => 9,
            Self::Prerouting => 10,
            Self::Output => 11,
            Self::Postrouting => 12,
            Self::FreePrerouting => 13,
            Self::FreeOutput => 14,
            Self::Foreign(_) => 15,
        }
    }

    /// The name in the table.
    pub fn name(&self) -> ChainName {
        let fixed = match self {
            Self::Reject => "reject",
            Self::Firewall => "firewall",
            Self::Masquerade(policy) => return format!("{MASQUERADE}{policy}").into(),
            Self::Affinity(seconds) => return format!("{AFFINITY}{seconds}s").into(),
            Self::LocalAffinity(seconds) => return format!("{LOCAL_AFFINITY}{seconds}s").into(),
            Self::Services => "services",
            Self::OutsideLocal => "outside-local",
            Self::Outgoing => "outgoing",
            Self::FromOutside => "from-outside",
            Self::FromNode => "from-node",
            Self::Prerouting => "prerouting",
            Self::Output => "output",
            Self::Postrouting => "postrouting",
            Self::FreePrerouting => "free-prerouting",
            Self::FreeOutput => "free-output",
            Self::Foreign(name) => return name.clone(),
        };
        fixed.into()
    }

    /// The chain of that name.
    pub fn from_name(name: &ChainName) -> Self {
        let fixed = [
            Self::Reject,
            Self::Firewall,
            Self::Services,
            Self::OutsideLocal,
            Self::Outgoing,
            Self::FromOutside,
            Self::FromNode,
            Self::Prerouting,
            Self::Output,
            Self::Postrouting,
            Self::FreePrerouting,
            Self::FreeOutput,
        ];
        if let Some(id) = fixed.into_iter().find(|id| id.name() == *name) {
            return id;
        }
        let text = name.as_str();
        let seconds = |prefix: &str| {
            let seconds = text.strip_prefix(prefix)?.strip_suffix('s')?;
            seconds.parse().ok()
        };
        let policy = text
            .strip_prefix(MASQUERADE)
            .and_then(|policy| policy.parse().ok());
        let id = policy
            .map(Self::Masquerade)
            .or_else(|| seconds(AFFINITY).map(Self::Affinity))
            .or_else(|| seconds(LOCAL_AFFINITY).map(Self::LocalAffinity));
        id.filter(|id| id.name() == *name)
            .unwrap_or_else(|| Self::Foreign(name.clone()))
    }
}

const MASQUERADE: &str = "masquerade-";
const AFFINITY: &str = "affinity-";
const LOCAL_AFFINITY: &str = "outside-affinity-";

/// What a kernel object holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// A table.
    Table(Box<Table>),
    /// A set or map, without its elements.
    Set(Box<Set>),
    /// A chain and its rules in order.
    Chain(Box<ChainBody>),
    /// A rule of its own.
    Rule(Box<Rule>),
    /// An element.
    Element(ElementValue),
}

/// A chain and its rules in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChainBody {
    /// The chain.
    pub chain: Chain,
    /// Its rules, but for those with a [`Key::SourceRule`] of their own.
    pub rules: Vec<Rule>,
}

/// What an element holds beside its key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ElementValue {
    /// What it carries, in maps.
    pub data: Option<Data>,
    /// What only some elements have.
    pub rare: Option<Box<Rare>>,
}

/// What only some elements have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Rare {
    /// Last key of a range, inclusive, in interval sets.
    pub key_end: Option<Bytes>,
    /// The service port it serves.
    pub comment: Option<Comment>,
}

impl ElementValue {
    /// An element of a set.
    pub fn present() -> Self {
        Self::default()
    }

    /// An element of a map.
    pub fn data(data: impl Into<Data>) -> Self {
        Self {
            data: Some(data.into()),
            rare: None,
        }
    }

    /// The same with a comment.
    pub fn with_comment(self, comment: &str) -> Self {
        self.change(|rare| rare.comment = Some(comment.into()))
    }

    /// The same as a range up to and including a key.
    pub fn with_key_end(self, key_end: Bytes) -> Self {
        self.change(|rare| rare.key_end = Some(key_end))
    }

    /// The last key of a range.
    pub fn key_end(&self) -> Option<&Bytes> {
        self.rare.as_ref()?.key_end.as_ref()
    }

    /// The comment.
    pub fn comment(&self) -> Option<&Comment> {
        self.rare.as_ref()?.comment.as_ref()
    }

    fn change(mut self, change: impl FnOnce(&mut Rare)) -> Self {
        change(self.rare.get_or_insert_default());
        self
    }
}

impl fmt::Debug for ElementValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.data, &self.rare) {
            (None, None) => f.write_str("present"),
            (Some(data), None) => write!(f, "{data:?}"),
            (data, Some(rare)) => write!(f, "{data:?} {rare:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        let sets = SetId::FIXED.into_iter().chain([
            SetId::ClusterIps,
            SetId::Sources(24),
            SetId::Foreign("sources999".into()),
            SetId::Foreign("sources024".into()),
        ]);
        for id in sets {
            assert_eq!(SetId::from_name(&id.name()), id);
        }
        for id in [
            ChainId::Reject,
            ChainId::Masquerade(7),
            ChainId::Affinity(10_800),
            ChainId::LocalAffinity(1),
            ChainId::Postrouting,
            ChainId::FreePrerouting,
            ChainId::FreeOutput,
            ChainId::Foreign("affinity-01s".into()),
        ] {
            assert_eq!(ChainId::from_name(&id.name()), id);
        }
    }

    #[test]
    fn an_element_is_small() {
        assert!(size_of::<Value>() <= 48, "{}", size_of::<Value>());
        assert!(size_of::<Key>() <= 48, "{}", size_of::<Key>());
    }
}
