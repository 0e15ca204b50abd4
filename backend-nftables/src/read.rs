//! From what the kernel holds to a ruleset.

use std::collections::BTreeMap;

use svc_core::Ruleset;

use crate::error::ReadError;
use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::netlink::{Socket, TableId};
use crate::rule::{Bytes, Element, ElementKind, Rule};
use crate::skeleton::source_comment;
use crate::transaction::{is_interval, predecessor};

/// Reads a table: every object but the pins of clients, which rules write.
///
/// An empty ruleset means that there is no such table.
///
/// # Errors
/// See [`ReadError`]; a ruleset that changes all the time cannot be read.
pub(crate) fn read(socket: &mut Socket, table: &TableId) -> Result<Ruleset<Key, Value>, ReadError> {
    let mut ruleset = Ruleset::new();
    let Some(head) = socket.table(table)? else {
        return Ok(ruleset);
    };
    ruleset.insert(Key::Table, Value::Table(Box::new(head.object)));
    for held in socket.sets(table)? {
        let set = held.object;
        let id = SetId::from_name(&set.name);
        if id != SetId::Affinity {
            let elements = socket.elements(table, &set.name)?;
            ruleset.extend(ranges(&id, elements));
        }
        ruleset.insert(Key::Set(id), Value::Set(Box::new(set)));
    }
    let mut bodies = BTreeMap::new();
    for held in socket.chains(table)? {
        let chain = held.object;
        let id = ChainId::from_name(&chain.name);
        let body = ChainBody {
            chain,
            rules: Vec::new(),
        };
        bodies.insert(id, body);
    }
    for held in socket.rules(table)? {
        let rule = held.object;
        let id = ChainId::from_name(&rule.chain);
        if let Some(length) = source_length(&id, &rule) {
            ruleset.insert(Key::SourceRule(length), Value::Rule(Box::new(rule)));
        } else if let Some(body) = bodies.get_mut(&id) {
            body.rules.push(rule);
        }
    }
    ruleset.extend(bodies.into_iter().map(|(id, body)| {
        let key = match body.chain.base {
            Some(_) => Key::BaseChain(id),
            None => Key::Chain(id),
        };
        (key, Value::Chain(Box::new(body)))
    }));
    Ok(ruleset)
}

/// The prefix length of a rule that lets sources in, if it is one.
fn source_length(chain: &ChainId, rule: &Rule) -> Option<u8> {
    if *chain != ChainId::Firewall {
        return None;
    }
    let comment = rule.comment.as_ref()?.as_str();
    let length = comment.rsplit_once('/')?.1.parse().ok()?;
    (source_comment(length) == comment).then_some(length)
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
        let mut value = ElementValue {
            data: element.data.clone(),
            rare: None,
        };
        if let Some(comment) = element.comment() {
            value = value.with_comment(comment.as_str());
        }
        let end = match element.key_end() {
            Some(end) => Some(end.clone()),
            None if one_field => Some(last_of(&element.key, &ends)),
            None => None,
        };
        if let Some(end) = end {
            value = value.with_key_end(end);
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
