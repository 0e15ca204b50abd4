//! From what the kernel holds to a ruleset.

mod likely;

use std::collections::BTreeMap;

use svc_core::{IpFamily, Ruleset};

use crate::error::ReadError;
use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::netlink::{Socket, TableId};
use crate::registers::Registers;
use crate::rule::{Bytes, Chain, Element, ElementKind, Family, Rule, Set, Table, TableState};
use crate::schema;
use crate::skeleton::{self, source_rule};
use crate::transaction::{is_interval, predecessor};
use likely::{FOLLOWING, KEYS_PER_ELEMENT, Known, MANY};

/// What a table holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Every object but the pins of clients, which rules write; empty without a table, and if the
    /// table is of no use.
    pub(crate) ruleset: Ruleset<Key, Value>,
    /// Whether there is a table that is of no use: one of its sets is defined otherwise than ours,
    /// and that cannot be changed. It has to be replaced.
    pub(crate) useless: bool,
}

/// The parts of a table, as the kernel tells them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    /// Whether packets see the table.
    pub(crate) state: TableState,
    /// Sets with their elements.
    pub(crate) sets: Vec<(Set, Vec<Element>)>,
    /// Chains without their rules.
    pub(crate) chains: Vec<Chain>,
    /// Rules, those of a chain in order.
    pub(crate) rules: Vec<Rule>,
}

impl Parts {
    /// The elements of a set, if it was read.
    fn elements(&self, id: &SetId) -> &[Element] {
        let name = id.name();
        let found = self.sets.iter().find(|(set, _)| set.name == name);
        found.map_or(&[], |(_, elements)| elements)
    }
}

/// Reads a table.
///
/// # Errors
/// See [`ReadError`]; a ruleset that changes all the time cannot be read.
pub(crate) fn read(socket: &mut Socket, table: &TableId) -> Result<Reading, ReadError> {
    read_with(socket, table, keeps_elements)
}

/// Reads all of a table but its large sets.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_frame(socket: &mut Socket, table: &TableId) -> Result<Reading, ReadError> {
    read_with(socket, table, is_small)
}

/// Whether a set has few elements however many Services there are.
pub(crate) fn is_small(id: &SetId) -> bool {
    match id {
        SetId::ServiceCidrs
        | SetId::PodCidrs
        | SetId::Classes
        | SetId::LocalClasses
        | SetId::MasqueradePolicies => true,
        SetId::Slots
        | SetId::Endpoints
        | SetId::Sticky
        | SetId::Live
        | SetId::Hairpin
        | SetId::Affinity
        | SetId::Sources(_)
        | SetId::Firewalled
        | SetId::Pools
        | SetId::LocalFrontends
        | SetId::Frontends
        | SetId::Addresses
        | SetId::ClusterIps
        | SetId::Foreign(_) => false,
    }
}

fn read_with(
    socket: &mut Socket,
    table: &TableId,
    wanted: impl Fn(&SetId) -> bool,
) -> Result<Reading, ReadError> {
    let Some(held) = socket.table(table)? else {
        return Ok(Reading::nothing());
    };
    let mut parts = Parts {
        state: held.object.state,
        ..Parts::default()
    };
    let sets = socket.sets(table)?.into_iter();
    let mut sets: Vec<(SetId, Set)> = sets
        .map(|held| (SetId::from_name(&held.object.name), held.object))
        .collect();
    sets.sort_by_key(|(id, _)| FOLLOWING.iter().position(|following| following == id));
    for (id, set) in sets {
        let elements = match wanted(&id) {
            true => elements(socket, table, &id, &parts)?,
            false => Vec::new(),
        };
        parts.sets.push((set, elements));
    }
    let chains = socket.chains(table)?.into_iter();
    parts.chains = chains.map(|held| held.object).collect();
    let rules = socket.rules(table)?.into_iter();
    parts.rules = rules.map(|held| held.object).collect();
    Ok(assemble(table, parts))
}

/// The elements of a set, by look-ups where there are very many.
fn elements(
    socket: &mut Socket,
    table: &TableId,
    id: &SetId,
    parts: &Parts,
) -> Result<Vec<Element>, ReadError> {
    let name = id.name();
    let count = match FOLLOWING.contains(id) {
        true => socket.count(table, &name)?.unwrap_or_default(),
        false => 0,
    };
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    if count >= MANY {
        let known = Known {
            frontends: parts.elements(&SetId::Frontends),
            local_frontends: parts.elements(&SetId::LocalFrontends),
            pools: parts.elements(&SetId::Pools),
            endpoints: parts.elements(&SetId::Endpoints),
            sticky: parts.elements(&SetId::Sticky),
        };
        let keys = known.keys(id);
        // With fewer keys than elements, something would be missed.
        let worth = count..=count.saturating_mul(KEYS_PER_ELEMENT);
        if worth.contains(&keys.len())
            && let Some(found) = socket.elements_at(table, &name, &keys)?
        {
            return Ok(found);
        }
    }
    socket.elements(table, &name)
}

/// Makes a ruleset of the parts of a table.
pub(crate) fn assemble(table: &TableId, parts: Parts) -> Reading {
    let (family, regs) = match table.family {
        Family::Ip6 => (IpFamily::V6, Registers::new(IpFamily::V6)),
        Family::Ip | Family::Inet => (IpFamily::V4, Registers::new(IpFamily::V4)),
    };
    // A tree is built from a list much faster than object by object.
    let held = Table {
        state: parts.state,
        ..skeleton::table(&table.name, regs)
    };
    let mut objects = vec![(Key::Table, Value::Table(Box::new(held)))];
    for (set, elements) in parts.sets {
        let id = SetId::from_name(&set.name);
        let mut set = match schema::set(&id, family) {
            None => set,
            // A comment cannot be changed, and decides nothing.
            Some(known) if known == known.like(&set) => known,
            Some(_) => return Reading::useless(),
        };
        if is_interval(&id) && !alternates(&elements) {
            // What is missing of a range cannot be told: the set is emptied and filled again.
            set.comment = None;
        } else if keeps_elements(&id) {
            objects.extend(ranges(&id, elements));
        }
        objects.push((Key::Set(id), Value::Set(Box::new(set))));
    }
    let (sources, rules) = split_firewall(regs, parts.rules);
    objects.extend(sources);
    let mut bodies = BTreeMap::new();
    for chain in parts.chains {
        let id = ChainId::from_name(&chain.name);
        let rules = Vec::new();
        bodies.insert(id, ChainBody { chain, rules });
    }
    for rule in rules {
        if let Some(body) = bodies.get_mut(&ChainId::from_name(&rule.chain)) {
            body.rules.push(rule);
        }
    }
    objects.extend(
        bodies
            .into_iter()
            .map(|(id, body)| (chain_key(id, &body.chain), Value::Chain(Box::new(body)))),
    );
    Reading {
        ruleset: objects.into_iter().collect(),
        useless: false,
    }
}

/// A hook's chain that lost its hook is still the same object.
fn chain_key(id: ChainId, chain: &Chain) -> Key {
    let hooked = match id {
        ChainId::Prerouting
        | ChainId::Output
        | ChainId::Postrouting
        | ChainId::FreePrerouting
        | ChainId::FreeOutput => true,
        ChainId::Foreign(_) => chain.base.is_some(),
        ChainId::Reject
        | ChainId::Firewall
        | ChainId::Masquerade(_)
        | ChainId::Affinity(_)
        | ChainId::LocalAffinity(_)
        | ChainId::Services
        | ChainId::OutsideLocal
        | ChainId::Outgoing
        | ChainId::FromOutside
        | ChainId::FromNode => false,
    };
    match hooked {
        true => Key::BaseChain(id),
        false => Key::Chain(id),
    }
}

impl Reading {
    pub(crate) fn nothing() -> Self {
        Self {
            ruleset: Ruleset::new(),
            useless: false,
        }
    }

    fn useless() -> Self {
        Self {
            ruleset: Ruleset::new(),
            useless: true,
        }
    }
}

impl Set {
    /// The set with name and comment of this one.
    fn like(&self, other: &Self) -> Self {
        Self {
            name: self.name.clone(),
            comment: self.comment.clone(),
            ..other.clone()
        }
    }
}

/// Whether the elements of a set are objects: pins come and go by themselves, and what others keep in
/// our table goes with its set.
fn keeps_elements(id: &SetId) -> bool {
    !matches!(id, SetId::Affinity | SetId::Foreign(_))
}

/// Takes the rules that let sources in out of the rules of all chains.
///
/// If there is any other rule in their chain, they are no objects of their own: the chain is then
/// emptied and filled again, and they with it.
fn split_firewall(regs: Registers, rules: Vec<Rule>) -> (Vec<(Key, Value)>, Vec<Rule>) {
    let firewall = ChainId::Firewall.name();
    let mut sources = BTreeMap::new();
    let mut others = Vec::with_capacity(rules.len());
    let mut own = Vec::new();
    for rule in rules {
        if rule.chain != firewall {
            others.push(rule);
            continue;
        }
        match source_length(regs, &rule) {
            Some(length) if own.is_empty() && !sources.contains_key(&length) => {
                sources.insert(length, rule);
            }
            Some(_) | None => own.push(rule),
        }
    }
    let ours = skeleton::firewall_body().rules == own;
    others.extend(own);
    if !ours {
        sources.clear();
    }
    let sources = sources.into_iter();
    let sources =
        sources.map(|(length, rule)| (Key::SourceRule(length), Value::Rule(Box::new(rule))));
    (sources.collect(), others)
}

/// The prefix length of a rule that lets sources in, if it is one.
fn source_length(regs: Registers, rule: &Rule) -> Option<u8> {
    let comment = rule.comment.as_ref()?.as_str();
    let length = comment.rsplit_once('/')?.1.parse().ok()?;
    (source_rule(regs, length) == *rule).then_some(length)
}

/// Whether starts and ends of ranges of one field alternate.
fn alternates(elements: &[Element]) -> bool {
    let bounds = elements.iter().filter_map(|element| match element.kind() {
        ElementKind::Plain => Some((&element.key, true)),
        // nft marks so that nothing is before the first range.
        ElementKind::IntervalEnd if element.key.iter().all(|byte| *byte == 0) => None,
        ElementKind::IntervalEnd => Some((&element.key, false)),
        ElementKind::CatchAll => None,
    });
    let mut bounds: Vec<(&Bytes, bool)> = bounds.collect();
    // A range may end where the next one starts.
    bounds.sort_unstable();
    let starts = bounds.iter().map(|(_, start)| *start);
    starts
        .zip([true, false].into_iter().cycle())
        .all(|(found, wanted)| found == wanted)
}

/// What an element that was looked up holds.
pub(crate) fn value_of(element: &Element) -> ElementValue {
    let mut value = ElementValue {
        data: element.data.clone(),
        rare: None,
    };
    if let Some(comment) = element.comment() {
        value = value.with_comment(comment.as_str());
    }
    if let Some(end) = element.key_end() {
        value = value.with_key_end(end.clone());
    }
    value
}

/// Makes ranges of the two elements by which the kernel tells each range of one field.
fn ranges(id: &SetId, elements: Vec<Element>) -> Vec<(Key, Value)> {
    let one_field = is_interval(id);
    let mut ends: Vec<Bytes> = Vec::new();
    let mut found = Vec::with_capacity(elements.len());
    for element in elements {
        if element.kind() == ElementKind::IntervalEnd {
            ends.push(element.key);
        } else {
            found.push(element);
        }
    }
    ends.sort_unstable();
    let element = |element: Element| {
        let ranged = one_field && element.kind() != ElementKind::CatchAll;
        let mut value = value_of(&element);
        if ranged && value.key_end().is_none() {
            value = value.with_key_end(last_of(&element.key, &ends));
        }
        (Key::Element(id.clone(), element.key), Value::Element(value))
    };
    found.into_iter().map(element).collect()
}

/// The last key of the range that starts at a key.
fn last_of(start: &Bytes, ends: &[Bytes]) -> Bytes {
    let after = ends.partition_point(|end| end <= start);
    let end = ends.get(after).and_then(predecessor);
    end.unwrap_or_else(|| Bytes::new(&vec![0xff; start.len()]).unwrap_or_default())
}
