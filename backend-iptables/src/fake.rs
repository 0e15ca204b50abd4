//! A kernel in memory that refuses what iptables refuses, for tests without root.

use std::collections::{BTreeMap, BTreeSet};

use svc_core::{CommitFailure, Failure, Ruleset, Transaction};

use crate::config::Config;
use crate::host::Variant;
use crate::key::{Hook, Key, Table, Value};
use crate::name::ChainName;
use crate::program::Program;
use crate::read::{Saved, guards_loopback};
use crate::render::Renderer;
use crate::rule::{Line, Match, Rule, Target, parse_line};
use crate::transaction::{Blocks, Held};

/// Most chains that nf_tables lets a packet be in, that of the hook not counted.
const MAX_DEPTH: usize = 15;

/// iptables in memory.
///
/// It reads the text that `iptables-restore` would read, block by block.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    config: Config,
    variant: Variant,
    held: Held,
    program: Program,
    sets: BTreeSet<ChainName>,
    route_localnet: bool,
    faults: Vec<Fault>,
    /// Lines of all inputs so far.
    lines: usize,
}

/// Something that goes wrong once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Somebody else holds the lock.
    Locked,
    /// The tool is killed after so many blocks.
    KilledAfter(usize),
}

/// Why an input was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct FakeError {
    /// The line, the first being 1; 0 if no line is to blame.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
}

impl FakeKernel {
    /// A kernel without any rule.
    pub fn new(config: Config, variant: Variant) -> Self {
        let mut program = Program::default();
        let hooks: [(Table, &[Hook]); 2] = [
            (Table::Filter, &[Hook::Input, Hook::Forward, Hook::Output]),
            (
                Table::Nat,
                &[
                    Hook::Prerouting,
                    Hook::Input,
                    Hook::Output,
                    Hook::Postrouting,
                ],
            ),
        ];
        for (table, hooks) in hooks {
            for hook in hooks {
                let key = (table, hook.name().to_owned());
                program.chains.insert(key, Vec::new());
            }
        }
        Self {
            config,
            variant,
            held: Held::default(),
            program,
            sets: BTreeSet::new(),
            route_localnet: false,
            faults: Vec::new(),
            lines: 0,
        }
    }

    /// Lets something go wrong at the next commit; several faults come one after the other.
    pub fn inject(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    /// The rules.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// How many lines were written so far.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Applies an input as `iptables-restore --noflush` does.
    ///
    /// # Errors
    /// What the tool or the kernel would refuse; blocks before are applied.
    pub fn restore(&mut self, input: &str) -> Result<(), FakeError> {
        self.restore_blocks(input, usize::MAX)
    }

    fn restore_blocks(&mut self, input: &str, most: usize) -> Result<(), FakeError> {
        let mut blocks = 0;
        let mut block: Option<(Table, BTreeMap<String, Vec<Rule>>)> = None;
        for (line, text) in (1..).zip(input.lines()) {
            self.lines += 1;
            let refuse = |reason: String| FakeError { line, reason };
            match (parse_line(text), &mut block) {
                (Line::Table(name), None) => {
                    let table = Table::ALL.into_iter().find(|table| table.name() == name);
                    let table = table.ok_or_else(|| refuse(format!("no table {name}")))?;
                    block = Some((table, self.chains(table)));
                }
                (Line::Commit, Some(_)) => {
                    if blocks == most {
                        return Err(refuse("killed".into()));
                    }
                    blocks += 1;
                    if let Some((table, chains)) = block.take() {
                        self.commit_block(table, chains).map_err(refuse)?;
                    }
                }
                (_, Some((_, chains))) => edit(chains, text).map_err(refuse)?,
                (_, None) => return Err(refuse("not in a table".into())),
            }
        }
        Ok(())
    }

    fn chains(&self, table: Table) -> BTreeMap<String, Vec<Rule>> {
        let all = self
            .program
            .chains
            .iter()
            .filter(|((of, _), _)| *of == table);
        all.map(|((_, name), rules)| (name.clone(), rules.clone()))
            .collect()
    }

    /// What only the kernel checks, with all of a table before it.
    fn commit_block(
        &mut self,
        table: Table,
        chains: BTreeMap<String, Vec<Rule>>,
    ) -> Result<(), String> {
        let mut program = self.program.clone();
        program.chains.retain(|(of, _), _| *of != table);
        for (name, rules) in chains {
            for rule in &rules {
                self.check(table, rule)?;
            }
            program.chains.insert((table, name), rules);
        }
        if self.variant == Variant::Nft && program.depth() > MAX_DEPTH {
            return Err("too many links".into());
        }
        self.program = program;
        Ok(())
    }

    fn check(&self, table: Table, rule: &Rule) -> Result<(), String> {
        let rewrites = matches!(rule.target(), Target::Dnat(_) | Target::Masquerade(_));
        if rewrites && table != Table::Nat
            || *rule.target() == Target::Reject && table == Table::Nat
        {
            return Err(format!("{rule}: not in table {}", table.name()));
        }
        let ported = rule
            .matches()
            .iter()
            .any(|m| matches!(m, Match::Protocol(_)));
        if matches!(rule.target(), Target::Dnat(_)) && !ported {
            return Err(format!("{rule}: a port without a protocol"));
        }
        for condition in rule.matches() {
            if let Match::InSet(set) = condition
                && !self.sets.contains(set)
            {
                return Err(format!("no set {set}"));
            }
            if let Match::Opaque(text) = condition {
                return Err(format!("{text} is not known"));
            }
        }
        Ok(())
    }

    fn apply(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), FakeError> {
        let most = match self.faults.first().copied() {
            Some(Fault::KilledAfter(blocks)) => blocks,
            Some(Fault::Locked) | None => usize::MAX,
        };
        self.faults.drain(..self.faults.len().min(1));
        let writes = self.held.change(&self.config, transaction);
        self.sets.extend(&writes.new_sets);
        let (undo, old_sets) = (writes.undo.clone(), writes.old_sets.clone());
        let route_localnet = writes.route_localnet;
        let blocks = match self.variant {
            Variant::Legacy => Blocks::One,
            Variant::Nft => Blocks::Several,
        };
        let input = writes.input(&self.held, blocks);
        if let Err(error) = self.restore_blocks(input.text(), most) {
            self.held.restore(&undo);
            return Err(error);
        }
        self.held.any = true;
        self.route_localnet |= route_localnet;
        for set in old_sets {
            let used = |m: &Match| *m == Match::InSet(set);
            let mut rules = self.program.chains.values().flatten();
            if rules.any(|rule| rule.matches().iter().any(used)) {
                let reason = format!("set {set} is in use");
                return Err(FakeError { line: 0, reason });
            }
            self.sets.remove(&set);
        }
        Ok(())
    }
}

/// What the tools check line by line.
fn edit(chains: &mut BTreeMap<String, Vec<Rule>>, text: &str) -> Result<(), String> {
    let known = |chains: &BTreeMap<String, Vec<Rule>>, rule: &Rule| match rule.callee() {
        Some(to) if !chains.contains_key(to.as_str()) => Err(format!("no chain {to}")),
        _ => Ok(()),
    };
    if let Line::Chain(name) = parse_line(text) {
        let name = ChainName::new(name).ok_or_else(|| format!("{name} is no name"))?;
        chains.insert(name.to_string(), Vec::new());
        return Ok(());
    }
    let (verb, rest) = text.split_once(' ').ok_or("not understood")?;
    let (name, rule) = rest.split_once(' ').unwrap_or((rest, ""));
    let rule = Rule::parse(rule);
    known(chains, &rule)?;
    if verb == "-X" {
        let jumps = |rule: &Rule| rule.callee().is_some_and(|to| to.as_str() == name);
        if chains.values().flatten().any(jumps) {
            return Err(format!("{name} is in use"));
        }
        return match chains.remove(name) {
            Some(rules) if rules.is_empty() => Ok(()),
            Some(_) => Err(format!("{name} is not empty")),
            None => Err(format!("no chain {name}")),
        };
    }
    let rules = chains
        .get_mut(name)
        .ok_or_else(|| format!("no chain {name}"))?;
    match verb {
        "-A" => rules.push(rule),
        "-I" => rules.insert(0, rule),
        "-D" => {
            let at = rules.iter().position(|held| *held == rule);
            rules.remove(at.ok_or("no such rule")?);
        }
        _ => return Err("not understood".into()),
    }
    Ok(())
}

impl svc_core::Kernel<Renderer> for FakeKernel {
    type Error = FakeError;

    fn read(&mut self) -> Result<Ruleset<Key, Value>, FakeError> {
        let mut saved = Saved::default();
        saved.add(&self.program.to_string());
        let (mut ruleset, held) = saved.ruleset(&self.config, BTreeSet::new());
        self.held = held;
        for set in &self.sets {
            ruleset.insert(Key::Set(*set), Value::Present);
        }
        if self.route_localnet && guards_loopback(&ruleset) {
            ruleset.insert(Key::RouteLocalnet, Value::Present);
        }
        Ok(ruleset)
    }

    fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<FakeError>> {
        if self.faults.first() == Some(&Fault::Locked) {
            self.faults.remove(0);
            return Err(CommitFailure {
                failure: Failure::Busy,
                error: FakeError {
                    line: 0,
                    reason: "locked".into(),
                },
            });
        }
        self.apply(transaction).map_err(|error| CommitFailure {
            failure: Failure::Unknown,
            error,
        })
    }
}
