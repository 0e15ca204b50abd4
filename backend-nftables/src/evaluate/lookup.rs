//! Looking keys up, as the kernel's set back ends do.

use std::ops::RangeInclusive;

use svc_core::Ruleset;

use crate::key::{ElementValue, Key, SetId, Value};
use crate::rule::{Bytes, Data, Set, SetFlags};

/// What a look-up found.
pub(super) struct Hit<'r> {
    /// Data of the element, in maps.
    pub(super) data: Option<&'r Data>,
    /// First and last key of the element's range.
    pub(super) range: RangeInclusive<Bytes>,
}

/// Finds the element of a key.
pub(super) fn find<'r>(
    ruleset: &'r Ruleset<Key, Value>,
    id: &SetId,
    set: &Set,
    key: &Bytes,
) -> Option<Hit<'r>> {
    let found = match set.flags.contains(SetFlags::INTERVAL) {
        false => element(ruleset, id, key).map(|value| hit(key, key, value)),
        true => interval(ruleset, id, set, key),
    };
    // What every key without an element finds.
    found.or_else(|| {
        let value = element(ruleset, id, &Bytes::default())?;
        Some(hit(key, key, value))
    })
}

/// The last key up to which all keys are missing as `key` is, in the field at `offset`.
pub(super) fn missing_until(
    ruleset: &Ruleset<Key, Value>,
    id: &SetId,
    key: &Bytes,
    offset: usize,
    len: usize,
) -> Bytes {
    let own = key.get(offset..offset + len).unwrap_or_default();
    let starts = elements(ruleset, id, &Bytes::default(), None)
        .filter_map(|(start, _)| start.get(offset..offset + len))
        .filter(|start| *start > own);
    let next = starts.min().and_then(|start| Bytes::new(start).ok());
    let last = next.and_then(|next| crate::transaction::predecessor(&next));
    last.unwrap_or_else(|| Bytes::new(&vec![0xff; len]).unwrap_or_default())
}

/// The range that a key is in: field by field in concatenations, as a number otherwise.
fn interval<'r>(
    ruleset: &'r Ruleset<Key, Value>,
    id: &SetId,
    set: &Set,
    key: &Bytes,
) -> Option<Hit<'r>> {
    let fields: Vec<(usize, usize)> = match set.flags.contains(SetFlags::CONCAT) {
        true => set.key.layout().map(|(_, at, len)| (at, len)).collect(),
        false => vec![(0, key.len())],
    };
    // A range that holds the key does not start after it.
    let candidates = elements(ruleset, id, &Bytes::default(), Some(key)).rev();
    let mut hits = candidates.filter_map(|(start, value)| {
        let end = value.key_end().unwrap_or(start);
        let inside =
            !start.is_empty() && fields.iter().all(|field| within(*field, start, key, end));
        inside.then(|| hit(start, end, value))
    });
    hits.next()
}

fn within((at, len): (usize, usize), start: &Bytes, key: &Bytes, end: &Bytes) -> bool {
    let field = |bytes: &Bytes| bytes.get(at..at + len).map(<[u8]>::to_vec);
    match (field(start), field(key), field(end)) {
        (Some(start), Some(key), Some(end)) => start <= key && key <= end,
        (None, _, _) | (_, None, _) | (_, _, None) => false,
    }
}

fn hit<'r>(start: &Bytes, end: &Bytes, value: &'r ElementValue) -> Hit<'r> {
    Hit {
        data: value.data.as_ref(),
        range: start.clone()..=end.clone(),
    }
}

fn element<'r>(
    ruleset: &'r Ruleset<Key, Value>,
    id: &SetId,
    key: &Bytes,
) -> Option<&'r ElementValue> {
    match ruleset.get(&Key::Element(id.clone(), key.clone()))? {
        Value::Element(value) => Some(value),
        Value::Table(_) | Value::Set(_) | Value::Chain(_) | Value::Rule(_) => None,
    }
}

/// Elements of a set from one key to another, inclusive, or to the end.
fn elements<'r>(
    ruleset: &'r Ruleset<Key, Value>,
    id: &SetId,
    from: &Bytes,
    to: Option<&Bytes>,
) -> impl DoubleEndedIterator<Item = (&'r Bytes, &'r ElementValue)> + use<'r> {
    let last = Bytes::new(&[0xff; Bytes::MAX_LEN]).unwrap_or_default();
    let to = to.cloned().unwrap_or(last);
    let range = Key::Element(id.clone(), from.clone())..=Key::Element(id.clone(), to);
    ruleset
        .range(range)
        .filter_map(|(key, value)| match (key, value) {
            (Key::Element(_, key), Value::Element(value)) => Some((key, value)),
            (
                Key::Table
                | Key::Set(_)
                | Key::Chain(_)
                | Key::BaseChain(_)
                | Key::SourceRule(_)
                | Key::Element(..),
                _,
            ) => None,
        })
}
