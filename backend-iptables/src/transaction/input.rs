//! The text of a change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

use svc_core::{ServicePortName, Transaction};

use super::{Blocks, TableWrites};
use crate::key::{Key, Table, Tree, Value};
use crate::name::{self, ChainName, Class, classify};
use crate::rule::Rule;

/// Lines after which a new block starts, once the chains of Services are written.
///
/// The nodes that follow refer to chains all over the sorted list; the tools drop it at `COMMIT`.
/// A block costs the kernel a look at the whole table, so they should not be short either.
const BLOCK: usize = 2_000;

/// Fewer lines of such nodes are not worth a block of their own.
const FEW: usize = 400;

/// Bytes of a usual line with its chain, to make room for a text at once.
const USUAL_LINE: usize = 128;

/// Index of the group that a line is for.
pub(super) type Owner = Option<usize>;

/// The rules of a chain that is written, and for whom they are.
#[derive(Clone, Debug)]
pub(super) enum Written {
    /// An object of one group; not copied, as a first load has tens of thousands.
    Shared(Arc<[Rule]>, usize),
    /// A chain whose rules are for several groups, or for none.
    Own(Vec<(Rule, Owner)>),
}

impl Written {
    fn len(&self) -> usize {
        match self {
            Self::Shared(rules, _) => rules.len(),
            Self::Own(rules) => rules.len(),
        }
    }

    fn get(&self, index: usize) -> Option<(&Rule, Owner)> {
        match self {
            Self::Shared(rules, owner) => rules.get(index).map(|rule| (rule, Some(*owner))),
            Self::Own(rules) => rules.get(index).map(|(rule, owner)| (rule, *owner)),
        }
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (&Rule, Owner)> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Text for `iptables-restore`.
#[derive(Clone, Debug, Default)]
pub struct Input {
    text: String,
    lines: usize,
    /// The group of a line and of those after it, up to the next such line.
    owners: Vec<(usize, Owner)>,
}

impl TableWrites {
    pub(super) fn write(
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
        input.line(format_args!("*{}", table.name()));
        self.write_chains(table, blocks, input);
        for (jump, more) in self.jumps {
            let (from, to) = (jump.from.name(), jump.to);
            let verb = if more > 0 { "-I" } else { "-D" };
            for _ in 0..more.unsigned_abs() {
                input.line(format_args!("{verb} {from} -j {to}"));
            }
        }
        for chain in &self.removed {
            input.chain(*chain, None);
        }
        for chain in &self.removed {
            if !pinned.contains(&(table, *chain)) {
                input.line(format_args!("-X {chain}"));
            }
        }
        input.line(format_args!("COMMIT"));
    }

    fn write_chains(&mut self, table: Table, blocks: Blocks, input: &mut Input) {
        let rules: usize = self.written.values().map(Written::len).sum();
        input
            .text
            .reserve((rules + self.written.len()) * USUAL_LINE);
        let ranked = self
            .written
            .keys()
            .map(|chain| (rank(*chain), Reverse(*chain)));
        let mut order: Vec<(Rank, Reverse<ChainName>)> = ranked.collect();
        order.sort_unstable();
        let (services, others) =
            order.split_at(order.partition_point(|(rank, _)| *rank < Rank::Beside));
        let start = input.lines;
        for (_, Reverse(chain)) in services {
            emit(&mut self.written, *chain, input);
        }
        let lines: usize = self.written.values().map(Written::len).sum();
        let mut split = blocks == Blocks::Several && input.lines > start + BLOCK && lines > FEW;
        let mut start = input.lines;
        for (_, Reverse(chain)) in others {
            if split {
                input.line(format_args!("COMMIT"));
                input.line(format_args!("*{}", table.name()));
                start = input.lines;
            }
            emit(&mut self.written, *chain, input);
            split = blocks == Blocks::Several && input.lines > start + BLOCK;
        }
    }
}

/// Writes a chain after those that it leads to and that are still to be written.
fn emit(pending: &mut BTreeMap<ChainName, Written>, chain: ChainName, input: &mut Input) {
    let Some(rules) = pending.remove(&chain) else {
        return;
    };
    for callee in rules.iter().rev().filter_map(|(rule, _)| rule.callee()) {
        if pending.contains_key(&callee) {
            emit(pending, callee, input);
        }
    }
    let first = rules.get(0).and_then(|(_, owner)| owner);
    input.chain(chain, first);
    for (rule, owner) in rules.iter() {
        input.rule(chain, rule, owner);
    }
}

/// Which chains are written together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Many rules lead here; they sort before all others.
    Answer,
    /// Chains of Services, and the nodes that lead to their neighbours.
    Service,
    /// Nodes that lead anywhere.
    Beside,
    /// The entrance.
    Fixed,
}

pub(super) fn rank(chain: ChainName) -> Rank {
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
    /// A line that is for no service port.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.text.write_fmt(line);
        self.end(None);
    }

    /// Declares or empties a chain.
    fn chain(&mut self, chain: ChainName, owner: Owner) {
        self.text.push(':');
        self.text.push_str(chain.as_str());
        self.text.push_str(" - [0:0]");
        self.end(owner);
    }

    /// Appends a rule. Most of a text are these: `write!` would take three times as long.
    fn rule(&mut self, chain: ChainName, rule: &Rule, owner: Owner) {
        self.text.push_str("-A ");
        self.text.push_str(chain.as_str());
        self.text.push(' ');
        let _ = rule.write(&mut self.text);
        self.end(owner);
    }

    fn end(&mut self, owner: Owner) {
        self.text.push('\n');
        self.lines += 1;
        if self.owners.last().and_then(|(_, last)| *last) != owner {
            self.owners.push((self.lines, owner));
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

    /// How many parts the text has that the tools apply one after the other.
    pub(crate) fn blocks(&self) -> usize {
        self.text.lines().filter(|line| *line == "COMMIT").count()
    }

    /// The service port that a line is for, the first line being 1.
    pub(crate) fn owner<'a>(
        &self,
        line: usize,
        transaction: &'a Transaction<Key, Value>,
    ) -> Option<&'a ServicePortName> {
        let end = self.owners.partition_point(|(first, _)| *first <= line);
        let (_, owner) = self.owners.get(end.checked_sub(1)?)?;
        let beyond = line > self.lines;
        let group = transaction.groups.get((*owner).filter(|_| !beyond)?)?;
        group.name.as_ref()
    }
}
