//! Search trees over front ends: the first packet of a connection is compared with tens of rules
//! instead of with one per Service.
//!
//! ```text
//! SVC-CIPS                 root: always there
//! └─ -d 10.96.0.0/18 -g SVC-0a600000-18c
//!    ├─ -d 10.96.0.10/32 -p tcp --dport 80 -g SVC-0a60000a-t00080c
//!    └─ -d 10.96.4.0/23 -g SVC-0a600400-23c
//!       ├─ -d 10.96.4.7/32 -p tcp --dport 80 -m statistic … -j DNAT --to-destination 10.64.0.7:8080
//!       └─ -d 10.96.4.7/32 -p tcp --dport 80 -j DNAT --to-destination 10.64.1.7:8080
//! ```
//!
//! A prefix with at most [`LEAF`] entries whose next shorter one has more is a leaf. A node above
//! has the leaves and nodes below it, up to three bits longer ones; bits that all entries share
//! are skipped, and a leaf of one or two entries stands in the node itself. After the address come
//! protocol and port. So the chains are a function of the set of entries, and a change touches
//! the nodes on the way to it and the children of those that split or merge.
//!
//! A front end that leads to a few endpoints nobody else leads to has one rule for each of them
//! ([`Goal::Endpoints`]), any other one rule that leads to a chain. The shape does not depend on
//! that, or the change of an endpoint would split nodes.
//!
//! Nodes are entered with `-g`: a packet that no entry takes leaves the whole tree at once.

mod cover;
mod prefix;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use svc_core::{IpFamily, IpNet, unspecified};

use crate::balance::shares;
use crate::config::Config;
use crate::key::{Entry, Goal, Tree};
use crate::name::{self, ChainName};
use crate::rule::{Mark, Match, Rule, Sense, Target};
use prefix::Prefix;

/// Most entries of a leaf.
///
/// Measured among 10,000 Services with three endpoints each, so three rules an entry, at addresses
/// spread evenly: a packet is compared with 31 rules on average and 56 at most, at addresses drawn
/// at random with 28 and 55. Leaves of 8 compare 25 and 43, and iptables-nft restores by a tenth
/// slower. Leaves of 20 compare 44 and 84, and both restore by 3 % faster; but a change rewrites whole
/// leaves, which iptables-nft has to send: for one of a hundred endpoints that takes 223 ms instead
/// of 105.
const LEAF: usize = 10;

/// A leaf with at most so many entries stands in its parent: a chain costs as much as three rules
/// with iptables-legacy, and more with iptables-nft.
const INLINED: usize = 2;

/// Most nodes below each other, the root not counted. iptables-nft allows 15 nested chains, and a
/// packet may be in 8 others: services, root, sources, routes, cluster, two groups and pin.
const MAX_DEPTH: u8 = 7;

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

/// Every front end, with what it leads to.
pub(crate) type Entries = BTreeMap<Entry, Goal>;

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
    changes: &BTreeMap<Entry, Option<Goal>>,
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
            Some(goal) => entries.insert(*entry, goal.clone()),
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
        at: common(entries, &whole),
        depth: 0,
        name: name::root(tree),
    }
}

/// The longest prefix that all entries below `prefix` have and that ends at a step.
fn common(entries: &Entries, prefix: &Prefix) -> Prefix {
    let mut range = entries.range(prefix.first()..=prefix.last());
    let Some((first, _)) = range.next() else {
        return *prefix;
    };
    let last = range.next_back().map_or(first, |(last, _)| last);
    Prefix::common(first, last).step()
}

fn items(entries: &Entries, node: &Node) -> Vec<Item> {
    let mut items = Vec::with_capacity(16);
    let splits = node.depth < MAX_DEPTH && below(entries, &node.at).nth(LEAF).is_some();
    match splits {
        false => items.extend(below(entries, &node.at).map(Item::Leaf)),
        true => split(entries, node, &node.at, &mut items),
    }
    items
}

/// What stands in a node of the entries below a prefix that is to be split.
fn split(entries: &Entries, node: &Node, prefix: &Prefix, items: &mut Vec<Item>) {
    for half in prefix.halves() {
        let child = |at: Prefix| Node {
            at,
            depth: node.depth + 1,
            name: at.chain(),
        };
        match below(entries, &half).take(LEAF + 1).count() {
            count if count <= INLINED => items.extend(below(entries, &half).map(Item::Leaf)),
            count if count <= LEAF => items.push(Item::Child(child(half))),
            _ if node.at.is_step_to(&half) => {
                items.push(Item::Child(child(common(entries, &half))));
            }
            _ => split(entries, node, &half, items),
        }
    }
}

fn below(entries: &Entries, prefix: &Prefix) -> impl Iterator<Item = Entry> {
    let range = entries.range(prefix.first()..=prefix.last());
    range.map(|(entry, _)| *entry)
}

fn rules(entries: &Entries, node: &Node, items: &[Item]) -> NodeRules {
    let mut rules = NodeRules::with_capacity(items.len() * 3);
    for item in items {
        match item {
            Item::Child(child) => {
                let rule = Rule::new(child.at.matches(&node.at), Target::Goto(child.name));
                rules.push((rule, None));
            }
            Item::Leaf(entry) => {
                let goal = entries.get(entry);
                goal.into_iter()
                    .for_each(|goal| leaf(entry, goal, &mut rules));
            }
        }
    }
    rules
}

/// The rules of an entry.
fn leaf(entry: &Entry, goal: &Goal, rules: &mut NodeRules) {
    let ip = IpNet::from(entry.ip);
    let port = Match::Ports(entry.protocol, entry.port, entry.port);
    let protocol = Match::Protocol(entry.protocol);
    let mut add = |chance: Option<Match>, target| {
        let rule = match entry.tree {
            Tree::Cluster | Tree::External => {
                let matches = [
                    Match::Destination(Sense::Is, ip),
                    protocol.clone(),
                    port.clone(),
                ];
                Rule::new(matches.into_iter().chain(chance), target)
            }
            Tree::NodePort | Tree::Beside => Rule::new(
                [protocol.clone(), port.clone()].into_iter().chain(chance),
                target,
            ),
            Tree::Hairpin => {
                let matches = [
                    Match::Source(Sense::Is, ip),
                    Match::Destination(Sense::Is, ip),
                ];
                Rule::new(matches.into_iter().chain(chance), target)
            }
        };
        rules.push((rule, Some(*entry)));
    };
    match goal {
        Goal::Chain(chain) => add(None, Target::Goto(*chain)),
        Goal::Endpoints(endpoints) => {
            for (endpoint, chance) in shares(endpoints) {
                add(chance, Target::Dnat(*endpoint));
            }
        }
    }
}

/// Reads the entries of a node from its rules: the inverse of what leaves say. Rules of other
/// forms are passed over, and chances are not looked at: whoever reads compares the rules with what
/// the entries ask for.
pub(crate) fn entries_of(tree: Tree, rules: &[Rule], family: IpFamily) -> Vec<(Entry, Goal)> {
    let mut entries = Vec::new();
    let mut rules = rules.iter().peekable();
    while let Some(rule) = rules.next() {
        let Some(entry) = entry_of(tree, rule, family) else {
            continue;
        };
        if let Target::Goto(chain) = rule.target() {
            entries.push((entry, Goal::Chain(*chain)));
        } else if let Target::Dnat(first) = rule.target() {
            let mut endpoints = vec![*first];
            let more = |next: &&Rule| {
                matches!(next.target(), Target::Dnat(_))
                    && entry_of(tree, next, family) == Some(entry)
            };
            while let Some(next) = rules.next_if(more) {
                if let Target::Dnat(endpoint) = next.target() {
                    endpoints.push(*endpoint);
                }
            }
            entries.push((entry, Goal::Endpoints(Arc::from(endpoints))));
        }
    }
    entries
}

/// The entry that a rule is for.
pub(crate) fn entry_of(tree: Tree, rule: &Rule, family: IpFamily) -> Option<Entry> {
    let host = |net: &IpNet| (net.prefix_len() == net.max_prefix_len()).then(|| net.addr());
    let matches = match rule.matches() {
        [matches @ .., Match::Random(_)] => matches,
        matches => matches,
    };
    let (ip, protocol, port) = match (tree, matches) {
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
    Some(Entry {
        tree,
        ip,
        protocol,
        port,
    })
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
