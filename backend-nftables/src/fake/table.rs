//! One table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::rule::check;
use super::too_long;
use crate::error::Errno;
use crate::netlink::{Existing, Place, What};
use crate::read::Parts;
use crate::rule::{
    Bytes, Chain, ChainName, Data, Element, ElementKind, Expr, Immediate, Rule, Set, SetData,
    SetFlags, SetName, Table, TableState, Verdict,
};

/// A table and what it holds.
#[derive(Clone, Debug)]
pub(super) struct FakeTable {
    table: Table,
    /// Shared with the state before, until it changes.
    sets: BTreeMap<SetName, Arc<FakeSet>>,
    chains: BTreeMap<ChainName, FakeChain>,
    handles: u64,
}

#[derive(Clone, Debug)]
struct FakeSet {
    set: Set,
    elements: BTreeMap<Identity, Element>,
}

/// What no two elements of a set share.
type Identity = (Bytes, ElementKind, Option<Bytes>);

#[derive(Clone, Debug)]
struct FakeChain {
    chain: Chain,
    rules: Vec<(u64, Rule)>,
}

impl FakeTable {
    pub(super) fn new(table: Table) -> Self {
        Self {
            table,
            sets: BTreeMap::new(),
            chains: BTreeMap::new(),
            handles: 0,
        }
    }

    /// Lets packets see the table, or not.
    pub(super) fn set_state(&mut self, state: TableState) {
        self.table.state = state;
    }

    pub(super) fn parts(&self) -> Parts {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        Parts {
            state: self.table.state,
            sets: self
                .sets
                .values()
                .map(|held| (held.set.clone(), held.elements.values().cloned().collect()))
                .collect(),
            chains: self
                .chains
                .values()
                .map(|held| held.chain.clone())
                .collect(),
            rules: rules.map(|(_, rule)| rule.clone()).collect(),
        }
    }

    /// The number of elements of a set.
    pub(super) fn elements(&self, name: &SetName) -> usize {
        self.sets.get(name).map_or(0, |held| held.elements.len())
    }

    pub(super) fn set(&self, name: &SetName) -> Option<&Set> {
        self.sets.get(name).map(|held| &held.set)
    }

    pub(super) fn carry_out(&mut self, what: &What) -> Result<(), Errno> {
        match what {
            What::AddTable(..) | What::DeleteTable => Err(Errno::EINVAL),
            What::AddChain(chain, existing) => self.add_chain(chain, *existing),
            What::DeleteChain(name) => self.delete_chain(name),
            What::AddRule(rule, place) => self.add_rule(rule, *place),
            What::DeleteRule(chain, handle) => {
                let rules = &mut self.chain(chain)?.rules;
                let index = rules.iter().position(|(held, _)| held == handle);
                rules.remove(index.ok_or(Errno::ENOENT)?);
                Ok(())
            }
            What::FlushChain(chain) => {
                self.chain(chain)?.rules.clear();
                Ok(())
            }
            What::AddSet(set, existing) => self.add_set(set, *existing),
            What::DeleteSet(name) => self.delete_set(name),
            What::AddElements(set, elements, existing) => elements
                .iter()
                .try_for_each(|element| self.add_element(set, element, *existing)),
            What::DeleteElements(set, elements) => {
                let held = self.set_mut(set)?;
                let width = held.set.key.width() as usize;
                elements.iter().try_for_each(|element| {
                    if element.kind() != ElementKind::CatchAll && element.key.len() != width {
                        return Err(Errno::EINVAL);
                    }
                    let gone = held.elements.remove(&identity(element));
                    gone.map(drop).ok_or(Errno::ENOENT)
                })
            }
            What::FlushSet(set) => {
                self.set_mut(set)?.elements.clear();
                Ok(())
            }
        }
    }

    /// The errors of a verdict that leads to a chain.
    pub(super) fn check_verdict(&self, verdict: &Verdict) -> Result<(), Errno> {
        let Some(name) = verdict.chain() else {
            return Ok(());
        };
        match self.chains.get(name) {
            None => Err(Errno::ENOENT),
            Some(held) if held.chain.base.is_some() => Err(Errno::EOPNOTSUPP),
            Some(_) => Ok(()),
        }
    }

    fn chain(&mut self, name: &ChainName) -> Result<&mut FakeChain, Errno> {
        self.chains.get_mut(name).ok_or(Errno::ENOENT)
    }

    fn set_mut(&mut self, name: &SetName) -> Result<&mut FakeSet, Errno> {
        let held = self.sets.get_mut(name).ok_or(Errno::ENOENT)?;
        Ok(Arc::make_mut(held))
    }

    fn add_chain(&mut self, chain: &Chain, existing: Existing) -> Result<(), Errno> {
        if too_long(chain.name.as_str()) {
            return Err(Errno::ERANGE);
        }
        match self.chains.get_mut(&chain.name) {
            Some(_) if existing == Existing::Refuse => Err(Errno::EEXIST),
            Some(held) => {
                let place = |chain: &Chain| chain.base.map(|b| (b.kind, b.hook, b.priority));
                if chain.base.is_some() && place(chain) != place(&held.chain) {
                    return Err(Errno::EEXIST);
                }
                if let (Some(held), Some(base)) = (&mut held.chain.base, chain.base) {
                    held.policy = base.policy;
                }
                Ok(())
            }
            None => {
                let held = FakeChain {
                    chain: chain.clone(),
                    rules: Vec::new(),
                };
                self.chains.insert(chain.name.clone(), held);
                Ok(())
            }
        }
    }

    /// The rules of the chain go with it, but not what leads to it.
    fn delete_chain(&mut self, name: &ChainName) -> Result<(), Errno> {
        self.chain(name)?;
        let others = self.chains.iter().filter(|(other, _)| *other != name);
        let mut rules = others.flat_map(|(_, held)| &held.rules);
        let by_rule = rules.any(|(_, rule)| rule.exprs.iter().any(|expr| leads_to(expr, name)));
        let verdict_maps = self.sets.values().filter(|held| is_verdict_map(&held.set));
        let mut elements = verdict_maps.flat_map(|held| held.elements.values());
        let by_element = elements.any(|element| match &element.data {
            Some(Data::Verdict(verdict)) => verdict.chain() == Some(name),
            Some(Data::Value(_)) | None => false,
        });
        if by_rule || by_element {
            return Err(Errno::EBUSY);
        }
        self.chains.remove(name);
        Ok(())
    }

    fn add_rule(&mut self, rule: &Rule, place: Place) -> Result<(), Errno> {
        self.chain(&rule.chain)?;
        check(self, rule)?;
        self.handles += 1;
        let added = (self.handles, rule.clone());
        let rules = &mut self.chain(&rule.chain)?.rules;
        let at = |handle: u64| {
            let index = rules.iter().position(|(held, _)| *held == handle);
            index.ok_or(Errno::ENOENT)
        };
        let index = match place {
            Place::First => 0,
            Place::Last => rules.len(),
            Place::Before(handle) => at(handle)?,
            Place::After(handle) => at(handle)? + 1,
            Place::Replace(handle) => {
                let index = at(handle)?;
                rules.remove(index);
                index
            }
        };
        rules.insert(index, added);
        Ok(())
    }

    fn add_set(&mut self, set: &Set, existing: Existing) -> Result<(), Errno> {
        if too_long(set.name.as_str()) {
            return Err(Errno::ERANGE);
        }
        match self.sets.get(&set.name) {
            Some(_) if existing == Existing::Refuse => Err(Errno::EEXIST),
            Some(held) => {
                let comment = set.comment.clone();
                let same = Set {
                    comment,
                    ..held.set.clone()
                };
                match same == *set {
                    true => Ok(()),
                    false => Err(Errno::EEXIST),
                }
            }
            None => {
                let held = FakeSet {
                    set: set.clone(),
                    elements: BTreeMap::new(),
                };
                self.sets.insert(set.name.clone(), Arc::new(held));
                Ok(())
            }
        }
    }

    fn delete_set(&mut self, name: &SetName) -> Result<(), Errno> {
        self.sets.get(name).ok_or(Errno::ENOENT)?;
        let mut rules = self.chains.values().flat_map(|held| &held.rules);
        let used = rules.any(|(_, rule)| rule.exprs.iter().any(|expr| set_of(expr) == Some(name)));
        if used {
            return Err(Errno::EBUSY);
        }
        self.sets.remove(name);
        Ok(())
    }

    fn add_element(
        &mut self,
        set: &SetName,
        element: &Element,
        existing: Existing,
    ) -> Result<(), Errno> {
        let held = self.sets.get(set).ok_or(Errno::ENOENT)?;
        check_shape(&held.set, element)?;
        if let Some(Data::Verdict(verdict)) = &element.data {
            self.check_verdict(verdict)?;
        }
        let held = self.set_mut(set)?;
        if let Some(old) = held.elements.get(&identity(element)) {
            return match (old.data == element.data, existing) {
                (false, _) => Err(Errno::EBUSY),
                (true, Existing::Refuse) => Err(Errno::EEXIST),
                (true, Existing::Keep) => Ok(()),
            };
        }
        if held.set.flags.contains(SetFlags::INTERVAL) {
            held.check_overlap(element)?;
        }
        let full = held
            .set
            .size
            .map(|size| held.elements.len() >= size as usize);
        if full == Some(true) {
            return Err(Errno::ENFILE);
        }
        held.elements.insert(identity(element), element.clone());
        Ok(())
    }
}

impl FakeSet {
    /// Ranges do not overlap.
    fn check_overlap(&self, element: &Element) -> Result<(), Errno> {
        if self.set.flags.contains(SetFlags::CONCAT) {
            let fields: Vec<_> = self
                .set
                .key
                .layout()
                .map(|(_, at, len)| at..at + len)
                .collect();
            let end = |element: &Element| element.key_end().unwrap_or(&element.key).clone();
            let overlaps = |other: &&Element| {
                fields.iter().all(|field| {
                    element.key.get(field.clone()) <= end(other).get(field.clone())
                        && other.key.get(field.clone()) <= end(element).get(field.clone())
                })
            };
            return match self.elements.values().find(overlaps) {
                Some(_) => Err(Errno::ENOTEMPTY),
                None => Ok(()),
            };
        }
        // A start may not lie inside a range, and a range may not hold another start.
        let starts = || {
            self.elements
                .keys()
                .filter(|(_, kind, _)| *kind == ElementKind::Plain)
        };
        let end_of = |start: &Bytes| {
            let ends = self.elements.keys();
            ends.filter(|(key, kind, _)| *kind == ElementKind::IntervalEnd && key > start)
                .map(|(key, _, _)| key)
                .min()
        };
        let clash = match element.kind() {
            ElementKind::Plain => starts().any(|(start, _, _)| {
                *start < element.key && end_of(start).is_some_and(|end| element.key < *end)
            }),
            ElementKind::IntervalEnd => {
                let own = starts()
                    .map(|(start, _, _)| start)
                    .filter(|s| **s < element.key)
                    .max();
                let ends = self
                    .elements
                    .keys()
                    .filter(|(_, kind, _)| *kind == ElementKind::IntervalEnd);
                own.is_some_and(|own| {
                    ends.map(|(end, _, _)| end)
                        .any(|end| own < end && *end < element.key)
                })
            }
            ElementKind::CatchAll => false,
        };
        match clash {
            true => Err(Errno::ENOTEMPTY),
            false => Ok(()),
        }
    }
}

/// Key and data have the lengths that the set says.
fn check_shape(set: &Set, element: &Element) -> Result<(), Errno> {
    let width = set.key.width() as usize;
    let key = element.kind() == ElementKind::CatchAll || element.key.len() == width;
    let key_end = element.key_end().is_none_or(|end| end.len() == width);
    let data = match (&set.data, &element.data) {
        (None, None) => true,
        // The end of a range carries nothing.
        (Some(_), None) => element.kind() == ElementKind::IntervalEnd,
        (Some(SetData::Verdict), Some(Data::Verdict(_))) => true,
        (Some(SetData::Value(kind)), Some(Data::Value(value))) => {
            value.len() == kind.width() as usize
        }
        (None | Some(SetData::Verdict | SetData::Value(_)), Some(_)) => false,
    };
    match key && key_end && data {
        true => Ok(()),
        false => Err(Errno::EINVAL),
    }
}

fn identity(element: &Element) -> Identity {
    (
        element.key.clone(),
        element.kind(),
        element.key_end().cloned(),
    )
}

fn is_verdict_map(set: &Set) -> bool {
    set.data == Some(SetData::Verdict)
}

fn leads_to(expr: &Expr, chain: &ChainName) -> bool {
    matches!(expr, Expr::Immediate(Immediate::Verdict(verdict)) if verdict.chain() == Some(chain))
}

fn set_of(expr: &Expr) -> Option<&SetName> {
    if let Expr::Lookup(lookup) = expr {
        return Some(&lookup.set);
    }
    if let Expr::Dynset { set, .. } = expr {
        return Some(set);
    }
    None
}
