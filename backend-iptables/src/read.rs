//! From what `iptables-save` prints to a ruleset.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use svc_core::Ruleset;

use crate::config::Config;
use crate::key::{Goal, Hook, Jump, Key, Table, Value};
use crate::name::{self, ChainName, Class, PREFIX, classify};
use crate::rule::{Line, Match, Rule, Sense, Target, parse_line};
use crate::skeleton::{self, JUMPS};
use crate::transaction::Held;
use crate::tree::{self, Entries, Marked};

/// What is ours in both tables.
#[derive(Debug, Default)]
pub(crate) struct Saved {
    chains: BTreeMap<(Table, ChainName), Vec<Rule>>,
    jumps: BTreeMap<Jump, u32>,
    /// Chains of ours to which rules of others lead.
    pinned: BTreeSet<(Table, ChainName)>,
}

impl Saved {
    /// Adds the output of `iptables-save`; other tables and foreign rules are passed over.
    pub(crate) fn add(&mut self, saved: &str) {
        let mut table = None;
        for line in saved.lines() {
            match parse_line(line) {
                Line::Table(name) => {
                    table = Table::ALL.into_iter().find(|table| table.name() == name);
                }
                Line::Chain(name) => {
                    let ours = ChainName::new(name).filter(ChainName::is_ours);
                    if let (Some(table), Some(chain)) = (table, ours) {
                        self.chains.entry((table, chain)).or_default();
                    }
                }
                Line::Append(chain, rule) => {
                    if let Some(table) = table {
                        self.rule(table, chain, rule);
                    }
                }
                Line::Commit | Line::Other => {}
            }
        }
    }

    fn rule(&mut self, table: Table, chain: &str, rule: &str) {
        if let Some(ours) = ChainName::new(chain).filter(ChainName::is_ours) {
            let rules = self.chains.entry((table, ours)).or_default();
            rules.push(Rule::parse(rule));
            return;
        }
        // Most rules of others have nothing to do with us.
        if !rule.contains(PREFIX) {
            return;
        }
        let rule = Rule::parse(rule);
        let Some(to) = rule.callee().filter(ChainName::is_ours) else {
            return;
        };
        let plain = rule.matches().is_empty() && matches!(rule.target(), Target::Jump(_));
        let from = Hook::ALL.into_iter().find(|hook| hook.name() == chain);
        let jump = from.map(|from| Jump { table, from, to });
        match jump.filter(|jump| plain && JUMPS.contains(jump)) {
            Some(jump) => *self.jumps.entry(jump).or_default() += 1,
            None => {
                self.pinned.insert((table, to));
            }
        }
    }

    /// Every chain of ours.
    pub(crate) fn chains(&self) -> impl Iterator<Item = (Table, ChainName)> {
        self.chains.keys().copied()
    }

    /// Jumps, with the number of their copies.
    pub(crate) fn jumps(&self) -> &BTreeMap<Jump, u32> {
        &self.jumps
    }

    /// Whether it was us who set `route_localnet`.
    pub(crate) fn set_localnet(&self) -> bool {
        let note = (Table::Filter, name::LOCALNET);
        self.chains.contains_key(&note)
    }

    /// Whether nothing is ours.
    pub(crate) fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// The chains to which rules of others lead.
    pub(crate) fn pinned(&self) -> &BTreeSet<(Table, ChainName)> {
        &self.pinned
    }

    /// Takes the chains apart into objects.
    ///
    /// `health_checks` are let in: the chain that does so counts as empty.
    pub(crate) fn ruleset(
        mut self,
        config: &Config,
        health_checks: BTreeSet<u16>,
    ) -> (Ruleset<Key, Value>, Held) {
        // A note to ourselves, and no part of any plan.
        self.chains.remove(&(Table::Filter, name::LOCALNET));
        let any = !self.is_empty();
        let key = (Table::Filter, name::HEALTH_CHECKS);
        if let Some(rules) = self.chains.get_mut(&key) {
            match *rules == skeleton::health_checks(&health_checks) {
                true => rules.clear(),
                // An empty one is then as good as none.
                false if rules.is_empty() => drop(self.chains.remove(&key)),
                false => {}
            }
        }
        let mut ruleset = Ruleset::new();
        let mut held = Held {
            any,
            health_checks,
            ..Held::default()
        };
        let mut nodes = BTreeMap::new();
        for ((table, chain), rules) in self.chains {
            // What others hold on to and is empty already is as good as gone.
            if rules.is_empty() && self.pinned.contains(&(table, chain)) {
                continue;
            }
            let key = match (table, class(table, chain)) {
                (Table::Nat, Class::Node(tree)) => {
                    let entries = tree::entries_of(tree, &rules, config.family);
                    held.entries.extend(entries);
                    nodes.insert(chain, rules);
                    continue;
                }
                (_, Class::Fixed | Class::Service) => Key::Chain(table, chain),
                (_, Class::Node(_) | Class::Unknown) => Key::Stray(table, chain),
            };
            ruleset.insert(key, Value::Rules(Arc::from(rules)));
        }
        // A rule that leads to a node is no front end.
        held.entries.retain(|_, goal| match goal {
            Goal::Chain(to) => !nodes.contains_key(to),
            Goal::Endpoints(_) => true,
        });
        if held.any {
            strays(config, &held.entries, nodes, &mut ruleset);
        }
        for (entry, goal) in &held.entries {
            ruleset.insert(Key::Entry(*entry), Value::To(goal.clone()));
        }
        for (jump, copies) in self.jumps {
            ruleset.insert(Key::Jump(jump), Value::Copies(copies));
        }
        held.pinned = self.pinned;
        (ruleset, held)
    }
}

/// Finds the nodes that are not what the front ends ask for.
fn strays(
    config: &Config,
    entries: &Entries,
    mut held: BTreeMap<ChainName, Vec<Rule>>,
    ruleset: &mut Ruleset<Key, Value>,
) {
    let mut stray = |chain, rules: Vec<Rule>| {
        let key = Key::Stray(Table::Nat, chain);
        ruleset.insert(key, Value::Rules(Arc::from(rules)));
    };
    for (chain, wanted) in tree::all_nodes(entries, config.family, Marked::of(config)) {
        let rules = held.remove(&chain);
        let same = rules.as_ref().is_some_and(|rules| {
            rules.len() == wanted.len() && rules.iter().zip(&wanted).all(|(a, (b, _))| a == b)
        });
        if !same {
            stray(chain, rules.unwrap_or_default());
        }
    }
    for (chain, rules) in held {
        stray(chain, rules);
    }
}

/// What a chain is in a table.
fn class(table: Table, chain: ChainName) -> Class {
    const FILTER: [ChainName; 4] = [
        name::INPUT,
        name::HEALTH_CHECKS,
        name::FORWARD,
        name::OUTPUT,
    ];
    let of_filter = FILTER.contains(&chain);
    match (table, classify(chain)) {
        (Table::Filter, Class::Fixed) if of_filter => Class::Fixed,
        (Table::Filter, _) => Class::Unknown,
        (Table::Nat, Class::Fixed) if of_filter => Class::Unknown,
        // The entrance belongs to the trees: it holds the ranges of their addresses.
        (Table::Nat, _) if chain == name::SERVICES => Class::Node(crate::key::Tree::Cluster),
        (Table::Nat, class) => class,
    }
}

/// Whether the rules guard loopback as `route_localnet` demands.
pub(crate) fn guards_loopback(ruleset: &Ruleset<Key, Value>) -> bool {
    let key = Key::Chain(Table::Filter, name::INPUT);
    let Some(Value::Rules(rules)) = ruleset.get(&key) else {
        return false;
    };
    let loopback =
        |m: &Match| matches!(m, Match::Destination(Sense::Is, net) if net.addr().is_loopback());
    rules.iter().any(|rule| rule.matches().iter().any(loopback))
}
