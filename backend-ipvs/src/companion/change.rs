//! From edits to a batch, which the kernel applies as a whole.

use backend_nftables::netlink::{Batch, Existing, Place};
use backend_nftables::rule::{Bytes, Element};
use svc_core::Edit;

use super::{ElementValue, Key, Value};

/// Writes edits, each with the tag of its group, in an order in which they can be applied.
pub(crate) fn write<'a>(
    batch: &mut Batch,
    edits: impl Iterator<Item = (u32, &'a Edit<Key, Value>)>,
) {
    let (mut made, mut gone) = (Vec::new(), Vec::new());
    for (tag, edit) in edits {
        match edit.after {
            Some(_) => made.push((tag, edit)),
            None => gone.push((tag, edit)),
        }
    }
    made.sort_by(|a, b| a.1.key.cmp(&b.1.key));
    gone.sort_by(|a, b| b.1.key.cmp(&a.1.key));
    // Rules refer to chains, elements to both.
    for phase in [Phase::Containers, Phase::Rules, Phase::Elements] {
        for (tag, edit) in &made {
            make(batch, *tag, edit, phase);
        }
    }
    for (tag, edit) in &gone {
        if let Key::Chain(name) | Key::BaseChain(name) = &edit.key {
            batch.flush_chain(*tag, name);
        }
    }
    for (tag, edit) in &gone {
        remove(batch, *tag, edit);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Containers,
    Rules,
    Elements,
}

fn make(batch: &mut Batch, tag: u32, edit: &Edit<Key, Value>, phase: Phase) {
    match (&edit.key, &edit.after, phase) {
        (Key::Table, Some(Value::Table(table)), Phase::Containers) => {
            let comment = table.comment.as_ref().map(|comment| comment.as_str());
            batch.add_table(tag, comment, Existing::Keep);
        }
        (Key::Set(_), Some(Value::Set(set)), Phase::Containers) => {
            if edit.before.is_some() {
                batch.delete_set(tag, &set.name);
            }
            batch.add_set(tag, set, Existing::Keep);
        }
        (Key::Chain(name) | Key::BaseChain(name), Some(Value::Chain(after)), _) => {
            match (phase, &edit.before) {
                (Phase::Containers, Some(Value::Chain(before))) => {
                    batch.flush_chain(tag, name);
                    if before.chain != after.chain {
                        batch.delete_chain(tag, name);
                        batch.add_chain(tag, &after.chain, Existing::Keep);
                    }
                }
                (Phase::Containers, _) => batch.add_chain(tag, &after.chain, Existing::Keep),
                (Phase::Rules, _) => {
                    for rule in &after.rules {
                        batch.add_rule(tag, rule, Place::Last);
                    }
                }
                (Phase::Elements, _) => {}
            }
        }
        (Key::Element(set, key), Some(Value::Element(after)), Phase::Elements) => {
            if let Some(Value::Element(before)) = &edit.before {
                batch.delete_element(tag, &set.name(), &element(key, before));
            }
            batch.add_element(tag, &set.name(), &element(key, after), Existing::Refuse);
        }
        // In another phase, or a value that no key of the kind has.
        (Key::Table | Key::Set(_) | Key::Chain(_) | Key::BaseChain(_) | Key::Element(..), _, _) => {
        }
    }
}

fn remove(batch: &mut Batch, tag: u32, edit: &Edit<Key, Value>) {
    match (&edit.key, &edit.before) {
        (Key::Table, _) => batch.delete_table(tag),
        (Key::Set(set), _) => batch.delete_set(tag, &set.name()),
        (Key::Chain(name) | Key::BaseChain(name), _) => batch.delete_chain(tag, name),
        (Key::Element(set, key), Some(Value::Element(before))) => {
            batch.delete_element(tag, &set.name(), &element(key, before));
        }
        (Key::Element(..), _) => {}
    }
}

fn element(key: &Bytes, value: &ElementValue) -> Element {
    let mut element = Element::new(key.clone()).with_comment(value.comment.clone());
    element.data.clone_from(&value.data);
    match &value.key_end {
        Some(end) => element.with_key_end(end.clone()),
        None => element,
    }
}
