//! Search trees over front ends: the first packet of a connection is compared with tens of rules
//! instead of with one per Service.
//!
//! ```text
//! SVC-CIPS                 root: always there
//! └─ -d 10.96.0.0/20 -g SVC-0a600000-20c
//!    ├─ -d 10.96.0.10/32 -p tcp --dport 80 -g SVC-0a60000a-t00080c
//!    └─ -d 10.96.1.0/24 -g SVC-0a600100-24c
//! ```
//!
//! A node with more than [`LEAF`] entries splits by the next four bits; bits that all entries
//! share are skipped, and a child of few entries stands in the node itself. After the address come
//! protocol and port. So the chains are a function of the set of entries, and a change touches
//! the nodes on the way to it and the children of those that split or merge.
//!
//! Nodes are entered with `-g`: a packet that no entry takes leaves the whole tree at once.

mod cover;
mod prefix;

use std::collections::{BTreeMap, BTreeSet};

use svc_core::{IpFamily, IpNet, unspecified};

use crate::config::Config;
use crate::key::{Entry, Tree};
use crate::name::{self, ChainName};
use crate::rule::{Mark, Match, Rule, Sense, Target};
use prefix::Prefix;

/// A node with more entries splits. Measured: 16 children per node and leaves of 32 compare 28
/// rules on average among 10,000 Services; larger leaves restore faster by a tenth.
const LEAF: usize = 32;

/// A child with at most so many entries stands in its parent: a chain costs as much as ten rules.
const INLINED: usize = 3;

/// Most nodes below each other, the root not counted. iptables-nft allows 15 nested chains, and a
/// packet may be in 7 others: services, root, sources, routes, cluster, group and pin.
const MAX_DEPTH: u8 = 8;

/// Most ranges with which [`name::SERVICES`] covers the addresses of a tree. Each lets traffic to
/// no Service pass sooner, and has the kernel follow the whole tree once more whenever it checks
/// an nf_tables commit for loops.
fn most_covers(tree: Tree) -> usize {
    match tree {
        // Nearly always one ServiceCIDR.
        Tree::Cluster => 2,
        Tree::External => 4,
        Tree::NodePort | Tree::Beside | Tree::Hairpin => 0,
    }
}

/// Every front end, with the chain it leads to.
pub(crate) type Entries = BTreeMap<Entry, ChainName>;

/// The rules of a node, each with the entry it is for.
pub(crate) type NodeRules = Vec<(Rule, Option<Entry>)>;

/// Nodes by name.
pub(crate) type Nodes = BTreeMap<ChainName, NodeRules>;

/// A node of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Node {
    at: Prefix,
    depth: u8,
    name: ChainName,
}

/// What stands in a node.
enum Item {
    Leaf(Entry),
    Child(Node),
}

/// Every node of every tree, and [`name::SERVICES`].
pub(crate) fn all_nodes(entries: &Entries, family: IpFamily, marks: Marked) -> Nodes {
    let mut nodes = Nodes::new();
    for tree in Tree::ALL {
        add_subtree(entries, root(entries, tree, family), &mut nodes);
    }
    nodes.insert(name::SERVICES, services(entries, family, marks));
    nodes
}

/// What the change of some entries does to the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeEdits {
    /// Nodes that are new or different.
    pub(crate) written: Nodes,
    /// Nodes that are no longer needed.
    pub(crate) removed: BTreeSet<ChainName>,
}

/// Applies changes to entries, and says what they do to the nodes.
pub(crate) fn change(
    entries: &mut Entries,
    changes: &BTreeMap<Entry, Option<ChainName>>,
    family: IpFamily,
    marks: Marked,
) -> NodeEdits {
    if changes.is_empty() {
        return NodeEdits::default();
    }
    let keys: Vec<Entry> = changes.keys().copied().collect();
    let mut before = Visit::of(entries, &keys, family);
    before
        .nodes
        .insert(name::SERVICES, services(entries, family, marks));
    for (entry, to) in changes {
        match to {
            Some(chain) => entries.insert(*entry, *chain),
            None => entries.remove(entry),
        };
    }
    let mut after = Visit::of(entries, &keys, family);
    after
        .nodes
        .insert(name::SERVICES, services(entries, family, marks));
    // What is off the way of every change has the same entries before and after, so the entries
    // after tell what was there before too.
    for node in before.beside.difference(&after.beside) {
        add_subtree(entries, *node, &mut before.nodes);
    }
    for node in after.beside.difference(&before.beside) {
        add_subtree(entries, *node, &mut after.nodes);
    }
    let removed = before.nodes.keys().copied();
    NodeEdits {
        removed: removed
            .filter(|name| !after.nodes.contains_key(name))
            .collect(),
        written: after
            .nodes
            .into_iter()
            .filter(|(name, rules)| before.nodes.get(name) != Some(rules))
            .collect(),
    }
}

/// The nodes on the way to some entries.
struct Visit {
    nodes: Nodes,
    /// Their children that are on no such way.
    beside: BTreeSet<Node>,
}

impl Visit {
    /// `keys` are sorted.
    fn of(entries: &Entries, keys: &[Entry], family: IpFamily) -> Self {
        let mut visit = Self {
            nodes: Nodes::new(),
            beside: BTreeSet::new(),
        };
        for tree in Tree::ALL {
            let keys = part(keys, |entry| entry.tree, &tree, &tree);
            if !keys.is_empty() {
                visit.node(entries, root(entries, tree, family), keys);
            }
        }
        visit
    }

    fn node(&mut self, entries: &Entries, node: Node, keys: &[Entry]) {
        let items = items(entries, &node);
        for item in &items {
            let Item::Child(child) = item else { continue };
            let keys = part(keys, |entry| *entry, &child.at.first(), &child.at.last());
            match keys.is_empty() {
                true => {
                    self.beside.insert(*child);
                }
                false => self.node(entries, *child, keys),
            }
        }
        self.nodes.insert(node.name, rules(entries, &node, &items));
    }
}

/// The part of a sorted list from `first` to `last`.
fn part<'a, K: Ord>(
    keys: &'a [Entry],
    key: impl Fn(&Entry) -> K,
    first: &K,
    last: &K,
) -> &'a [Entry] {
    let start = keys.partition_point(|entry| key(entry) < *first);
    let end = keys.partition_point(|entry| key(entry) <= *last);
    keys.get(start..end).unwrap_or(&[])
}

fn add_subtree(entries: &Entries, node: Node, nodes: &mut Nodes) {
    let items = items(entries, &node);
    for item in &items {
        if let Item::Child(child) = item {
            add_subtree(entries, *child, nodes);
        }
    }
    nodes.insert(node.name, rules(entries, &node, &items));
}

/// The root of a tree starts where its entries begin to differ.
fn root(entries: &Entries, tree: Tree, family: IpFamily) -> Node {
    let whole = Prefix::whole(tree, unspecified(family));
    Node {
        at: common(entries, &whole).unwrap_or(whole),
        depth: 0,
        name: name::root(tree),
    }
}

/// The longest prefix that all entries below `prefix` have; `None` without entries.
fn common(entries: &Entries, prefix: &Prefix) -> Option<Prefix> {
    let mut range = entries.range(prefix.first()..=prefix.last());
    let (first, _) = range.next()?;
    let last = range.next_back().map_or(first, |(last, _)| last);
    Some(Prefix::common(first, last))
}

fn items(entries: &Entries, node: &Node) -> Vec<Item> {
    let range = || {
        entries
            .range(node.at.first()..=node.at.last())
            .map(|(entry, _)| *entry)
    };
    let split = node.depth < MAX_DEPTH && !node.at.is_full() && range().nth(LEAF).is_some();
    if !split {
        return range().map(Item::Leaf).collect();
    }
    let mut items = Vec::with_capacity(16);
    for part in node.at.children() {
        let Some(at) = common(entries, &part) else {
            continue;
        };
        let below = entries
            .range(at.first()..=at.last())
            .map(|(entry, _)| *entry);
        let few: Vec<Entry> = below.take(INLINED + 1).collect();
        match few.len() <= INLINED {
            true => items.extend(few.into_iter().map(Item::Leaf)),
            false => items.push(Item::Child(Node {
                at,
                depth: node.depth + 1,
                name: at.chain(),
            })),
        }
    }
    items
}

fn rules(entries: &Entries, node: &Node, items: &[Item]) -> NodeRules {
    let item = |item: &Item| match item {
        Item::Child(child) => {
            let rule = Rule::new(child.at.matches(&node.at), Target::Goto(child.name));
            Some((rule, None))
        }
        Item::Leaf(entry) => {
            let to = entries.get(entry)?;
            Some((leaf(entry, *to), Some(*entry)))
        }
    };
    items.iter().filter_map(item).collect()
}

/// The rule of an entry.
fn leaf(entry: &Entry, to: ChainName) -> Rule {
    let ip = IpNet::from(entry.ip);
    let port = Match::Ports(entry.protocol, entry.port, entry.port);
    let protocol = Match::Protocol(entry.protocol);
    let matches: Vec<Match> = match entry.tree {
        Tree::Cluster | Tree::External => {
            vec![Match::Destination(Sense::Is, ip), protocol, port]
        }
        Tree::NodePort | Tree::Beside => vec![protocol, port],
        Tree::Hairpin => vec![
            Match::Source(Sense::Is, ip),
            Match::Destination(Sense::Is, ip),
        ],
    };
    Rule::new(matches, Target::Goto(to))
}

/// Reads the rule of an entry: the inverse of what a leaf says.
pub(crate) fn entry_of(tree: Tree, rule: &Rule, family: IpFamily) -> Option<(Entry, ChainName)> {
    let Target::Goto(to) = rule.target() else {
        return None;
    };
    let host = |net: &IpNet| (net.prefix_len() == net.max_prefix_len()).then(|| net.addr());
    let (ip, protocol, port) = match (tree, rule.matches()) {
        (
            Tree::Cluster | Tree::External,
            [
                Match::Destination(Sense::Is, net),
                Match::Protocol(_),
                Match::Ports(protocol, first, last),
            ],
        ) if first == last => (host(net)?, *protocol, *first),
        (
            Tree::NodePort | Tree::Beside,
            [Match::Protocol(_), Match::Ports(protocol, first, last)],
        ) if first == last => (unspecified(family), *protocol, *first),
        (
            Tree::Hairpin,
            [
                Match::Source(Sense::Is, net),
                Match::Destination(Sense::Is, _),
            ],
        ) => (host(net)?, svc_core::Protocol::Tcp, 0),
        _ => return None,
    };
    let entry = Entry {
        tree,
        ip,
        protocol,
        port,
    };
    Some((entry, *to))
}

/// How [`name::SERVICES`] tells packets that were decided.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Marked {
    /// The bit that refused and dropped packets have.
    pub(crate) unserved: u32,
}

impl Marked {
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            unserved: config.marks.unserved(),
        }
    }
}

/// The entrance: which addresses are worth a search in which tree. Node ports come last (B-117).
fn services(entries: &Entries, family: IpFamily, marks: Marked) -> NodeRules {
    let mut rules = Vec::new();
    for (tree, to) in [
        (Tree::Cluster, name::CLUSTER),
        (Tree::External, name::EXTERNAL_IPS),
    ] {
        for net in cover::covers(entries, tree, family, most_covers(tree)) {
            let inside = (net.prefix_len() > 0).then_some(Match::Destination(Sense::Is, net));
            rules.push((Rule::new(inside, Target::Jump(to)), None));
        }
    }
    let undecided = Match::Mark(
        Sense::Not,
        Mark {
            value: marks.unserved,
            mask: marks.unserved,
        },
    );
    let local = Rule::new(
        [undecided, Match::DestinationIsLocal],
        Target::Jump(name::NODE_PORTS),
    );
    rules.push((local, None));
    rules
}

#[cfg(test)]
mod tests;
