//! Elements of sets and maps.

use super::{Bytes, Comment, Verdict};

/// What an element of a map carries.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Data {
    /// A value.
    Value(Bytes),
    /// A verdict.
    Verdict(Verdict),
}

impl From<Bytes> for Data {
    fn from(value: Bytes) -> Self {
        Self::Value(value)
    }
}

impl From<Verdict> for Data {
    fn from(verdict: Verdict) -> Self {
        Self::Verdict(verdict)
    }
}

/// What part of a range an element is.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ElementKind {
    /// A key, or the first key of a range.
    #[default]
    Plain,
    /// The first key after a range, in interval sets of one field.
    IntervalEnd,
    /// What every key without an element finds.
    CatchAll,
}

/// An element: 56 bytes and no allocation for the common ones.
///
/// A range is one element with [`Element::key_end`] in sets of several fields, and two elements, the
/// second of [`ElementKind::IntervalEnd`] and exclusive, in sets of one.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Element {
    /// The key, or the first of a range.
    pub key: Bytes,
    /// What it carries, in maps.
    pub data: Option<Data>,
    /// Rare things, boxed. Never `Some` of the default, so that equal elements compare equal.
    rare: Option<Box<Rare>>,
}

#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
struct Rare {
    key_end: Option<Bytes>,
    kind: ElementKind,
    timeout: Option<u64>,
    expiration: Option<u64>,
    comment: Option<Comment>,
}

impl Element {
    /// An element of a set.
    pub fn new(key: impl Into<Bytes>) -> Self {
        Self {
            key: key.into(),
            data: None,
            rare: None,
        }
    }

    /// An element of a map.
    pub fn map(key: impl Into<Bytes>, data: impl Into<Data>) -> Self {
        Self {
            key: key.into(),
            data: Some(data.into()),
            rare: None,
        }
    }

    /// The same as a range up to and including `key_end`, for interval sets of several fields.
    #[must_use]
    pub fn with_key_end(self, key_end: impl Into<Bytes>) -> Self {
        let key_end = Some(key_end.into());
        self.change(|rare| rare.key_end = key_end)
    }

    /// The same as another part of a range.
    #[must_use]
    pub fn with_kind(self, kind: ElementKind) -> Self {
        self.change(|rare| rare.kind = kind)
    }

    /// The same with its own life, milliseconds.
    #[must_use]
    pub fn with_timeout(self, timeout: Option<u64>) -> Self {
        self.change(|rare| rare.timeout = timeout)
    }

    /// The same with this much life left, milliseconds.
    #[must_use]
    pub fn with_expiration(self, expiration: Option<u64>) -> Self {
        self.change(|rare| rare.expiration = expiration)
    }

    /// The same with a comment.
    #[must_use]
    pub fn with_comment(self, comment: Option<Comment>) -> Self {
        self.change(|rare| rare.comment = comment)
    }

    /// Last key of a range, in interval sets of several fields.
    pub fn key_end(&self) -> Option<&Bytes> {
        self.rare.as_ref()?.key_end.as_ref()
    }

    /// What part of a range it is.
    pub fn kind(&self) -> ElementKind {
        self.rare.as_ref().map(|rare| rare.kind).unwrap_or_default()
    }

    /// Its own life, milliseconds.
    pub fn timeout(&self) -> Option<u64> {
        self.rare.as_ref()?.timeout
    }

    /// Life left, milliseconds.
    pub fn expiration(&self) -> Option<u64> {
        self.rare.as_ref()?.expiration
    }

    /// Its comment.
    pub fn comment(&self) -> Option<&Comment> {
        self.rare.as_ref()?.comment.as_ref()
    }

    fn change(mut self, change: impl FnOnce(&mut Rare)) -> Self {
        let mut rare = self.rare.take().unwrap_or_default();
        change(&mut rare);
        self.rare = (*rare != Rare::default()).then_some(rare);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_small() {
        assert_eq!(size_of::<Element>(), 56);
    }

    #[test]
    fn without_rare_things_equals_never_had() {
        let plain = Element::new([1; 4]);
        assert_eq!(
            plain
                .clone()
                .with_comment(Some("x".into()))
                .with_comment(None),
            plain
        );
    }
}
