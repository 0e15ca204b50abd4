//! From a transaction to the text that `iptables-restore --noflush` reads.
//!
//! One input holds all of a change, filter before nat. Chains come in descending order of their
//! names, each with its rules: the iptables-nft tools keep a sorted list of the chains seen so
//! far and walk it from the start for every line, so any other order costs the square of the
//! chains. A chain is only declared before the first jump to it, and what is no longer needed
//! goes last.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use svc_core::{ServicePortName, Transaction};

use crate::config::Config;
use crate::key::{Entry, Jump, Key, Table, Value};
use crate::name::{self, ChainName, Class, classify};
use crate::rule::Rule;
use crate::skeleton::health_checks;
use crate::tree::{self, Entries, Marked};

/// Lines after which a new block starts, once the chains of Services are written.
///
/// The nodes that follow refer to chains all over the sorted list; the tools drop it at `COMMIT`.
/// A block costs the kernel a look at the whole table, so they should not be short either.
const BLOCK: usize = 2_000;

/// Fewer lines of such nodes are not worth a block of their own.
const FEW: usize = 400;

/// Whether one table may be written in several blocks, each of which takes effect on its own. No
/// block leads to a chain that is yet to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocks {
    /// Always one: each costs the whole table again, as with iptables-legacy.
    One,
    /// Several where that is faster, as with iptables-nft.
    Several,
}

/// What the kernel holds, as far as it takes that to write a change.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    /// Every front end.
    pub(crate) entries: Entries,
    /// Whether there is any chain of ours; without one, all nodes of the trees are written.
    pub(crate) any: bool,
    /// Chains of ours to which rules of others lead: these can be emptied, not deleted.
    pub(crate) pinned: BTreeSet<(Table, ChainName)>,
    /// Ports of health checks that are let in.
    pub(crate) health_checks: BTreeSet<u16>,
}

/// Everything that a transaction does to the kernel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Writes {
    filter: TableWrites,
    nat: TableWrites,
    /// Sets to create before the rules.
    pub(crate) new_sets: BTreeSet<ChainName>,
    /// Sets to destroy after the rules.
    pub(crate) old_sets: BTreeSet<ChainName>,
    /// Whether `route_localnet` is needed.
    pub(crate) route_localnet: bool,
    /// The front ends that changed, as they were.
    pub(crate) undo: BTreeMap<Entry, Option<ChainName>>,
}

#[derive(Clone, Debug, Default)]
struct TableWrites {
    written: BTreeMap<ChainName, Vec<(Rule, Owner)>>,
    removed: BTreeSet<ChainName>,
    /// Jumps to insert (more than none) or to delete.
    jumps: Vec<(Jump, i64)>,
}

/// Index of the group that a line is for.
type Owner = Option<usize>;

/// Text for `iptables-restore`.
#[derive(Clone, Debug, Default)]
pub struct Input {
    text: String,
    lines: usize,
    /// Group by line, for lines that have one.
    owners: BTreeMap<usize, usize>,
}

impl Held {
    /// Works a transaction out, and takes its front ends over.
    pub(crate) fn change(
        &mut self,
        config: &Config,
        transaction: &Transaction<Key, Value>,
    ) -> Writes {
        let mut writes = Writes::default();
        let mut changes: BTreeMap<Entry, Option<ChainName>> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        let mut strays = BTreeSet::new();
        for (index, group) in transaction.groups.iter().enumerate() {
            for edit in &group.edits {
                match (&edit.key, &edit.after) {
                    // An object may pass from one service port to another: what is added wins,
                    // in whatever order the two come.
                    (Key::Entry(entry), Some(Value::To(chain))) => {
                        changes.insert(*entry, Some(*chain));
                        owners.insert(*entry, index);
                    }
                    (Key::Entry(entry), _) => {
                        changes.entry(*entry).or_insert(None);
                    }
                    (Key::Stray(table, chain), _) => {
                        strays.insert((*table, *chain));
                    }
                    (Key::Chain(..) | Key::Set(_) | Key::Jump(_) | Key::RouteLocalnet, after) => {
                        writes.plain(index, &edit.key, edit.before.as_ref(), after.as_ref());
                    }
                }
            }
        }
        let marks = Marked::of(config);
        let held = |entry: &Entry| self.entries.get(entry).copied();
        writes.undo = changes.keys().map(|entry| (*entry, held(entry))).collect();
        let edits = match self.any {
            true => tree::change(&mut self.entries, &changes, config.family, marks),
            false => {
                self.restore(&changes);
                tree::NodeEdits {
                    written: tree::all_nodes(&self.entries, config.family, marks),
                    removed: BTreeSet::new(),
                }
            }
        };
        self.strays(config, &strays, &mut writes, &owners);
        if let Some(rules) = writes.filter.written.get_mut(&name::HEALTH_CHECKS) {
            let admitted = health_checks(&self.health_checks).into_iter();
            *rules = admitted.map(|rule| (rule, None)).collect();
        }
        for (chain, rules) in edits.written {
            writes.node(chain, rules, &owners);
        }
        writes.nat.removed.extend(edits.removed);
        writes
    }

    /// Chains that are not what they should be get what belongs there.
    fn strays(
        &self,
        config: &Config,
        strays: &BTreeSet<(Table, ChainName)>,
        writes: &mut Writes,
        owners: &BTreeMap<Entry, usize>,
    ) {
        if strays.is_empty() {
            return;
        }
        let mut nodes = tree::all_nodes(&self.entries, config.family, Marked::of(config));
        for (table, chain) in strays {
            let node = match table {
                Table::Nat => nodes.remove(chain),
                Table::Filter => None,
            };
            match node {
                Some(rules) => writes.node(*chain, rules, owners),
                None => {
                    let table = writes.table(*table);
                    if !table.written.contains_key(chain) {
                        table.removed.insert(*chain);
                    }
                }
            }
        }
    }

    /// Sets front ends, such as those of a transaction that was not applied back to what they
    /// were.
    pub(crate) fn restore(&mut self, entries: &BTreeMap<Entry, Option<ChainName>>) {
        for (entry, to) in entries {
            match to {
                Some(chain) => self.entries.insert(*entry, *chain),
                None => self.entries.remove(entry),
            };
        }
    }
}

impl Writes {
    /// Lets other health checks in.
    pub(crate) fn health_checks(ports: &BTreeSet<u16>) -> Self {
        let rules = health_checks(ports).into_iter().map(|rule| (rule, None));
        let mut writes = Self::default();
        let written = &mut writes.filter.written;
        written.insert(name::HEALTH_CHECKS, rules.collect());
        writes
    }

    fn table(&mut self, table: Table) -> &mut TableWrites {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
        }
    }

    fn plain(&mut self, owner: usize, key: &Key, before: Option<&Value>, after: Option<&Value>) {
        let copies = |value: Option<&Value>| match value {
            Some(Value::Copies(count)) => i64::from(*count),
            Some(Value::Rules(_) | Value::To(_) | Value::Present) | None => 0,
        };
        match (key, after) {
            (Key::Chain(table, chain), Some(Value::Rules(rules))) => {
                let rules = rules.iter().map(|rule| (rule.clone(), Some(owner)));
                let table = self.table(*table);
                table.removed.remove(chain);
                table.written.insert(*chain, rules.collect());
            }
            (Key::Chain(table, chain), _) => {
                let table = self.table(*table);
                if !table.written.contains_key(chain) {
                    table.removed.insert(*chain);
                }
            }
            (Key::Set(set), Some(_)) => {
                self.old_sets.remove(set);
                self.new_sets.insert(*set);
            }
            (Key::Set(set), None) => {
                if !self.new_sets.contains(set) {
                    self.old_sets.insert(*set);
                }
            }
            (Key::Jump(jump), after) => {
                let more = copies(after) - copies(before);
                self.table(jump.table).jumps.push((*jump, more));
            }
            // It stays when it is no longer needed: somebody else may want it too.
            (Key::RouteLocalnet, after) => self.route_localnet |= after.is_some(),
            (Key::Entry(_) | Key::Stray(..), _) => {}
        }
    }

    fn node(&mut self, chain: ChainName, rules: tree::NodeRules, owners: &BTreeMap<Entry, usize>) {
        let owned = rules.into_iter().map(|(rule, entry)| {
            let owner = entry.and_then(|entry| owners.get(&entry).copied());
            (rule, owner)
        });
        self.nat.written.insert(chain, owned.collect());
    }

    /// The text that does all this.
    pub(crate) fn input(mut self, held: &Held, blocks: Blocks) -> Input {
        let mut input = Input::default();
        for table in Table::ALL {
            let writes = std::mem::take(self.table(table));
            writes.write(table, blocks, &held.pinned, &mut input);
        }
        input
    }
}

impl TableWrites {
    fn write(
        mut self,
        table: Table,
        blocks: Blocks,
        pinned: &BTreeSet<(Table, ChainName)>,
        input: &mut Input,
    ) {
        self.jumps.retain(|(_, more)| *more != 0);
        if self.written.is_empty() && self.removed.is_empty() && self.jumps.is_empty() {
            return;
        }
        input.line(format_args!("*{}", table.name()), None);
        self.write_chains(table, blocks, input);
        for (jump, more) in self.jumps {
            let (from, to) = (jump.from.name(), jump.to);
            let verb = if more > 0 { "-I" } else { "-D" };
            for _ in 0..more.unsigned_abs() {
                input.line(format_args!("{verb} {from} -j {to}"), None);
            }
        }
        for chain in &self.removed {
            input.line(format_args!(":{chain} - [0:0]"), None);
        }
        for chain in &self.removed {
            if !pinned.contains(&(table, *chain)) {
                input.line(format_args!("-X {chain}"), None);
            }
        }
        input.line(format_args!("COMMIT"), None);
    }
}

impl TableWrites {
    fn write_chains(&mut self, table: Table, blocks: Blocks, input: &mut Input) {
        let mut order: Vec<ChainName> = self.written.keys().copied().collect();
        order.sort_by_key(|chain| (rank(*chain), std::cmp::Reverse(*chain)));
        let (services, others) =
            order.split_at(order.partition_point(|chain| rank(*chain) < Rank::Beside));
        let start = input.lines;
        for chain in services {
            emit(&mut self.written, *chain, input);
        }
        let lines: usize = self.written.values().map(Vec::len).sum();
        let mut split = blocks == Blocks::Several && input.lines > start + BLOCK && lines > FEW;
        let mut start = input.lines;
        for chain in others {
            if split {
                input.line(format_args!("COMMIT"), None);
                input.line(format_args!("*{}", table.name()), None);
                start = input.lines;
            }
            emit(&mut self.written, *chain, input);
            split = blocks == Blocks::Several && input.lines > start + BLOCK;
        }
    }
}

/// Writes a chain after those that it leads to and that are still to be written.
fn emit(
    pending: &mut BTreeMap<ChainName, Vec<(Rule, Owner)>>,
    chain: ChainName,
    input: &mut Input,
) {
    let Some(rules) = pending.remove(&chain) else {
        return;
    };
    for callee in rules.iter().rev().filter_map(|(rule, _)| rule.callee()) {
        if pending.contains_key(&callee) {
            emit(pending, callee, input);
        }
    }
    let first = rules.first().and_then(|(_, owner)| *owner);
    input.line(format_args!(":{chain} - [0:0]"), first);
    for (rule, owner) in rules {
        input.line(format_args!("-A {chain} {rule}"), owner);
    }
}

/// Which chains are written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    /// Many rules lead here; they sort before all others.
    Answer,
    /// Chains of Services, and the nodes that lead to their neighbours.
    Service,
    /// Nodes that lead anywhere.
    Beside,
    /// The entrance.
    Fixed,
}

fn rank(chain: ChainName) -> Rank {
    use crate::key::Tree;
    match classify(chain) {
        _ if [name::REJECT, name::DROP, name::HAIRPINNED].contains(&chain) => Rank::Answer,
        // A root sorts among the others, and leads to all of them.
        Class::Node(tree) if name::root(tree) == chain => Rank::Fixed,
        Class::Service | Class::Node(Tree::Cluster) => Rank::Service,
        Class::Node(Tree::External | Tree::NodePort | Tree::Beside | Tree::Hairpin) => Rank::Beside,
        Class::Fixed | Class::Unknown => Rank::Fixed,
    }
}

impl Input {
    fn line(&mut self, line: std::fmt::Arguments<'_>, owner: Owner) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(line);
        self.text.push('\n');
        self.lines += 1;
        if let Some(owner) = owner {
            self.owners.insert(self.lines, owner);
        }
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The service port that a line is for, the first line being 1.
    pub(crate) fn owner<'a>(
        &self,
        line: usize,
        transaction: &'a Transaction<Key, Value>,
    ) -> Option<&'a ServicePortName> {
        let group = transaction.groups.get(*self.owners.get(&line)?)?;
        group.name.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use svc_core::{Base, Edit, EditGroup, IpFamily, NodePlan, Protocol};

    use super::*;
    use crate::key::Tree;
    use crate::rule::Target;
    use crate::skeleton::skeleton;

    fn group(edits: Vec<(Key, Value)>) -> EditGroup<Key, Value> {
        let edit = |(key, value)| Edit {
            key,
            before: None,
            after: Some(value),
        };
        EditGroup {
            name: None,
            edits: edits.into_iter().map(edit).collect(),
        }
    }

    /// The skeleton and a number of Services with a ClusterIP and an external address each.
    fn first_input(services: u32, blocks: Blocks) -> Input {
        let config = Config::new(IpFamily::V4);
        let skeleton = skeleton(&config, &NodePlan::bare("n1"));
        let mut groups = vec![group(skeleton.into_iter().collect())];
        for number in 0..services {
            let ip = 0x0a60_0000 + number.wrapping_mul(2_654_435_761) % (1 << 20);
            let chain = ChainName::new(&format!("SVC-{ip:08x}-t00080c")).unwrap();
            let rules = Arc::from([Rule::always(Target::Return)]);
            let entry = |tree, ip| Entry {
                tree,
                ip: Ipv4Addr::from_bits(ip).into(),
                protocol: Protocol::Tcp,
                port: 80,
            };
            groups.push(group(vec![
                (Key::Chain(Table::Nat, chain), Value::Rules(rules)),
                (Key::Entry(entry(Tree::Cluster, ip)), Value::To(chain)),
                (Key::Entry(entry(Tree::External, !ip)), Value::To(chain)),
            ]));
        }
        let transaction = Transaction {
            groups,
            base: Base::Empty,
        };
        let mut held = Held::default();
        let writes = held.change(&config, &transaction);
        writes.input(&held, blocks)
    }

    fn declared(input: &Input) -> Vec<ChainName> {
        let lines = input
            .text()
            .lines()
            .filter_map(|line| line.strip_prefix(':'));
        let names = lines.filter_map(|line| ChainName::new(line.split(' ').next()?));
        names.collect()
    }

    /// Anything else costs iptables-nft the square of the chains.
    #[test]
    fn chains_of_services_come_in_descending_order() {
        let names = declared(&first_input(1_000, Blocks::One));
        let services = names.iter().filter(|name| rank(**name) == Rank::Service);
        let services: Vec<_> = services.collect();
        assert!(services.len() > 1_000, "nodes of the tree among them");
        assert!(services.is_sorted_by(|a, b| a > b));
        let ranks: Vec<_> = names.iter().map(|name| rank(*name)).collect();
        let nat = ranks.iter().position(|rank| *rank == Rank::Answer).unwrap();
        assert!(ranks[nat..].is_sorted());
    }

    #[test]
    fn a_long_input_is_split_where_that_is_faster() {
        let blocks = |blocks| {
            let input = first_input(3_000, blocks);
            input.text().lines().filter(|line| *line == "*nat").count()
        };
        assert_eq!(blocks(Blocks::One), 1);
        assert_eq!(blocks(Blocks::Several), 3);
        let short = first_input(100, Blocks::Several);
        assert_eq!(short.text().matches("*nat").count(), 1);
    }
}
