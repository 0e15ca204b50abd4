//! The companion table of the kernel in memory.

use std::collections::{BTreeMap, BTreeSet};

use backend_nftables::error::{CommitError, Refusal};
use backend_nftables::rule::{Data, Expr, Immediate, Lookup};
use svc_core::Ruleset;

use crate::companion::{Key, SetId, Value};
use crate::error::{Errno, Error};
use crate::system::TableEdit;

/// What is refused: the tag of the edit, and why.
type Refused = (u32, Errno);
/// Saved settings among the edits.
type Saved = BTreeMap<u32, u32>;

/// The table after edits, all of them or none.
pub(super) fn changed(
    table: &Ruleset<Key, Value>,
    edits: &[TableEdit<'_>],
) -> Result<(Ruleset<Key, Value>, Saved), Refused> {
    let mut after = table.clone();
    let mut saved = Saved::new();
    let last = edits.last().map_or(0, |(tag, _)| *tag);
    for (tag, edit) in edits {
        match (&edit.key, &edit.after) {
            (Key::Element(SetId::Saved, key), Some(Value::Element(value))) => {
                let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
                if let Some(Data::Value(data)) = &value.data {
                    saved.insert(number(key), number(data));
                }
            }
            (key, Some(value)) => {
                // Tables, sets and chains may be there already, elements not.
                let element = matches!(key, Key::Element(..));
                match (after.insert(key.clone(), value.clone()), &edit.before) {
                    (Some(_), None) if element => return Err((*tag, Errno::EEXIST)),
                    (None, Some(_)) => return Err((*tag, Errno::ENOENT)),
                    (Some(_) | None, _) => {}
                }
            }
            (key, None) => {
                if after.remove(key).is_none() {
                    return Err((*tag, Errno::ENOENT));
                }
                if let Key::Set(set) = key {
                    after.retain(|key, _| !matches!(key, Key::Element(of, _) if of == set));
                }
            }
        }
    }
    if !after.is_empty() && !after.contains_key(&Key::Table) {
        return Err((last, Errno::ENOENT));
    }
    match is_whole(&after) {
        true => Ok((after, saved)),
        // The kernel would tell which one; the reconciler reads again in any case.
        false => Err((last, Errno::ENOENT)),
    }
}

/// Whether everything that is referred to is there, and ranges do not overlap.
fn is_whole(table: &Ruleset<Key, Value>) -> bool {
    let mut sets = BTreeSet::new();
    let mut chains = BTreeSet::new();
    for key in table.keys() {
        match key {
            Key::Set(id) => drop(sets.insert(id.name())),
            Key::Chain(name) | Key::BaseChain(name) => drop(chains.insert(name.clone())),
            Key::Table | Key::Element(..) => {}
        }
    }
    let mut end = None;
    table.iter().all(|(key, value)| match (key, value) {
        (Key::Element(id, start), Value::Element(value)) => {
            let apart = end.as_ref().is_none_or(|(of, end)| of != id || end < start);
            end = value.key_end.clone().map(|end| (id.clone(), end));
            let verdict = value.verdict().and_then(|verdict| verdict.chain());
            apart && sets.contains(&id.name()) && verdict.is_none_or(|to| chains.contains(to))
        }
        (_, Value::Chain(body)) => body.rules.iter().flat_map(|r| &r.exprs).all(|e| {
            if let Expr::Lookup(Lookup { set, .. }) = e {
                sets.contains(set)
            } else if let Expr::Immediate(Immediate::Verdict(verdict)) = e {
                verdict.chain().is_none_or(|to| chains.contains(to))
            } else {
                true
            }
        }),
        (_, _) => true,
    })
}

pub(super) fn refused(tag: u32, errno: Errno) -> Error {
    failed(CommitError::Refused(vec![Refusal {
        tag: Some(tag),
        index: 0,
        errno,
        message: None,
        offset: None,
    }]))
}

pub(super) fn failed(source: CommitError) -> Error {
    Error::ChangeTable {
        table: "fake".into(),
        source,
    }
}
