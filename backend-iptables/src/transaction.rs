//! From a transaction to the text that `iptables-restore --noflush` reads.
//!
//! One input holds all of a change, filter before nat. Chains come in descending order of their
//! names, each with its rules: the iptables-nft tools keep a sorted list of the chains seen so
//! far and walk it from the start for every line, so any other order costs the square of the
//! chains. A chain is only declared before the first jump to it, and what is no longer needed
//! goes last.

mod input;

use std::collections::{BTreeMap, BTreeSet};

use svc_core::Transaction;

use crate::config::Config;
use crate::key::{Entry, Goal, Jump, Key, Table, Value};
use crate::name::{self, ChainName};
use crate::skeleton::health_checks;
use crate::tree::{self, Entries, Marked};
pub use input::Input;
use input::Written;

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
    pub(crate) undo: BTreeMap<Entry, Option<Goal>>,
}

#[derive(Clone, Debug, Default)]
struct TableWrites {
    written: BTreeMap<ChainName, Written>,
    removed: BTreeSet<ChainName>,
    /// Jumps to insert (more than none) or to delete.
    jumps: Vec<(Jump, i64)>,
}

impl Held {
    /// Works a transaction out, and takes its front ends over.
    pub(crate) fn change(
        &mut self,
        config: &Config,
        transaction: &Transaction<Key, Value>,
    ) -> Writes {
        let mut writes = Writes::default();
        let mut changes: BTreeMap<Entry, Option<Goal>> = BTreeMap::new();
        let mut owners = BTreeMap::new();
        let mut strays = BTreeSet::new();
        for (index, group) in transaction.groups.iter().enumerate() {
            for edit in &group.edits {
                match (&edit.key, &edit.after) {
                    // An object may pass from one service port to another: what is added wins,
                    // in whatever order the two come.
                    (Key::Entry(entry), Some(Value::To(goal))) => {
                        changes.insert(*entry, Some(goal.clone()));
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
        let held = |entry: &Entry| self.entries.get(entry).cloned();
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
            *rules = Written::Own(admitted.map(|rule| (rule, None)).collect());
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
    pub(crate) fn restore(&mut self, entries: &BTreeMap<Entry, Option<Goal>>) {
        for (entry, to) in entries {
            match to {
                Some(goal) => self.entries.insert(*entry, goal.clone()),
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
        written.insert(name::HEALTH_CHECKS, Written::Own(rules.collect()));
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
                let table = self.table(*table);
                table.removed.remove(chain);
                let rules = Written::Shared(rules.clone(), owner);
                table.written.insert(*chain, rules);
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
        self.nat
            .written
            .insert(chain, Written::Own(owned.collect()));
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

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use svc_core::{Base, Edit, EditGroup, IpFamily, NodePlan, Protocol};

    use super::input::{Rank, rank};
    use super::*;
    use crate::key::Tree;
    use crate::rule::{Rule, Target};
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
                (
                    Key::Entry(entry(Tree::Cluster, ip)),
                    Value::To(Goal::Chain(chain)),
                ),
                (
                    Key::Entry(entry(Tree::External, !ip)),
                    Value::To(Goal::Chain(chain)),
                ),
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
