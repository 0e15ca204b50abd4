//! A complete set of chains: what the kernel runs.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use svc_core::{IpFamily, Ruleset, ServicePortName};

use crate::config::Config;
use crate::key::{Hook, Key, Table, Value};
use crate::name::{self, PREFIX};
use crate::rule::{Line, Rule, Target, parse_line};
use crate::tree::{Entries, Marked, all_nodes};

/// The chains of both tables, with those of the kernel that have a jump to ours.
///
/// It comes from a [`Ruleset`], with trees in place of entries, or from what `iptables-save`
/// prints. Its meaning is [`Program::evaluate`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    pub(crate) chains: BTreeMap<(Table, String), Vec<Rule>>,
}

impl Program {
    /// The chains that a ruleset stands for.
    pub fn of(config: &Config, ruleset: &Ruleset<Key, Value>) -> Self {
        let mut program = Self::default();
        let mut entries = Entries::new();
        for (key, value) in ruleset {
            match (key, value) {
                (Key::Chain(table, name) | Key::Stray(table, name), Value::Rules(rules)) => {
                    program.add(*table, name.as_str(), rules.iter().cloned());
                }
                (Key::Entry(entry), Value::To(goal)) => {
                    entries.insert(*entry, goal.clone());
                }
                (Key::Jump(jump), Value::Copies(count)) => {
                    let rule = Rule::always(Target::Jump(jump.to));
                    let copies = (0..*count).map(|_| rule.clone());
                    program.add(jump.table, jump.from.name(), copies);
                }
                // Sets are empty, and values of another kind belong to no key.
                (
                    Key::Chain(..)
                    | Key::Set(_)
                    | Key::Entry(_)
                    | Key::Jump(_)
                    | Key::RouteLocalnet
                    | Key::Stray(..),
                    _,
                ) => {}
            }
        }
        for (name, rules) in all_nodes(&entries, config.family, Marked::of(config)) {
            let rules = rules.into_iter().map(|(rule, _)| rule);
            program.add(Table::Nat, name.as_str(), rules);
        }
        program
    }

    /// Reads the output of `iptables-save`; tables that are not used are passed over.
    pub fn parse(saved: &str) -> Self {
        let mut program = Self::default();
        let mut table = None;
        for line in saved.lines() {
            match parse_line(line) {
                Line::Table(name) => {
                    table = Table::ALL.into_iter().find(|table| table.name() == name);
                }
                Line::Chain(name) => {
                    if let Some(table) = table {
                        program.add(table, name, []);
                    }
                }
                Line::Append(name, rule) => {
                    if let Some(table) = table {
                        program.add(table, name, [Rule::parse(rule)]);
                    }
                }
                Line::Commit | Line::Other => {}
            }
        }
        program
    }

    /// Our chains alone, without the jumps to them, and without the note that it was us who set
    /// `route_localnet`.
    #[must_use]
    pub fn ours(&self) -> Self {
        let note = name::LOCALNET.to_string();
        let ours = self.chains.iter();
        let ours = ours.filter(|((_, name), _)| name.starts_with(PREFIX) && **name != *note);
        Self {
            chains: ours
                .map(|(key, rules)| (key.clone(), rules.clone()))
                .collect(),
        }
    }

    /// How many of our chains a packet may be in at once, gotos counted.
    pub fn depth(&self) -> usize {
        let mut known = BTreeMap::new();
        let depths = self.chains.keys().map(|key| self.depth_of(key, &mut known));
        depths.max().unwrap_or(0)
    }

    fn depth_of(
        &self,
        key: &(Table, String),
        known: &mut BTreeMap<(Table, String), usize>,
    ) -> usize {
        if let Some(depth) = known.get(key) {
            return *depth;
        }
        // A loop, which no kernel holds, ends here.
        known.insert(key.clone(), 0);
        let rules = self.chains.get(key).into_iter().flatten();
        let callees = rules.filter_map(Rule::callee);
        let below = callees.map(|to| self.depth_of(&(key.0, to.to_string()), known));
        let depth = below.max().unwrap_or(0) + usize::from(key.1.starts_with(PREFIX));
        known.insert(key.clone(), depth);
        depth
    }

    /// Prints the chains, with a comment where rules for somebody else begin.
    pub(crate) fn write<'n>(
        &self,
        f: &mut fmt::Formatter<'_>,
        owner: impl Fn(Table, &str, &Rule) -> Option<&'n ServicePortName>,
    ) -> fmt::Result {
        for table in Table::ALL {
            let chains = || {
                let all = self.chains.iter();
                all.filter(move |((of, _), _)| *of == table)
            };
            writeln!(f, "*{}", table.name())?;
            for ((_, name), _) in chains() {
                let policy = match Hook::ALL.iter().any(|hook| hook.name() == name) {
                    true => "ACCEPT",
                    false => "-",
                };
                writeln!(f, ":{name} {policy} [0:0]")?;
            }
            let mut said = None;
            for ((_, name), rules) in chains() {
                for rule in rules {
                    let owner = owner(table, name, rule);
                    match owner {
                        _ if owner == said => {}
                        // A name with a line feed would go on as a rule.
                        Some(owner) => writeln!(f, "# {}", owner.to_string().escape_debug())?,
                        None => writeln!(f, "# no single Service")?,
                    }
                    said = owner;
                    writeln!(f, "-A {name} {rule}")?;
                }
            }
            f.write_str("COMMIT\n")?;
        }
        Ok(())
    }

    fn add(&mut self, table: Table, chain: &str, rules: impl IntoIterator<Item = Rule>) {
        let rules = rules.into_iter();
        match self.chains.get_mut(&(table, chain.to_owned())) {
            Some(held) => held.extend(rules),
            None => {
                self.chains
                    .insert((table, chain.to_owned()), rules.collect());
            }
        }
    }
}

/// As `iptables-save` would print it, without counters.
impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, |_, _, _| None)
    }
}

/// What the meaning of rules depends on beside the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The family of the addresses.
    pub family: IpFamily,
    /// Addresses of the host beside loopback, sorted.
    pub addresses: Box<[IpAddr]>,
}

impl Host {
    /// The host that a plan is for.
    pub fn of(plan: &svc_core::Plan) -> Self {
        Self {
            family: plan.family,
            addresses: plan.node.addresses.clone(),
        }
    }

    pub(crate) fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.binary_search(&ip).is_ok()
    }
}
