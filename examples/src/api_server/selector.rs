//! Which objects a request is about.

use std::collections::BTreeMap;

use super::Asked;
use super::store::Stored;

/// The selectors of a request, as far as tests need them.
pub(super) struct Selector {
    labels: Vec<Term>,
    fields: Vec<(String, String)>,
    namespace: Option<String>,
}

enum Term {
    Has(String),
    HasNot(String),
    Is(String, String),
}

impl Selector {
    pub(super) fn of(asked: &Asked, namespace: Option<String>) -> Self {
        let parts = |name| {
            asked
                .parameter(name)
                .split(',')
                .filter(|part| !part.is_empty())
        };
        let term = |part: &str| match (part.strip_prefix('!'), part.split_once('=')) {
            (Some(key), _) => Term::HasNot(key.to_owned()),
            (None, Some((key, value))) => {
                Term::Is(key.to_owned(), value.trim_start_matches('=').to_owned())
            }
            (None, None) => Term::Has(part.to_owned()),
        };
        let field = |part: &str| {
            let (field, value) = part.split_once('=').unwrap_or((part, ""));
            (field.to_owned(), value.to_owned())
        };
        Self {
            labels: parts("labelSelector").map(term).collect(),
            fields: parts("fieldSelector").map(field).collect(),
            namespace,
        }
    }

    pub(super) fn takes(&self, object: &Stored) -> bool {
        let labels: &BTreeMap<String, String> = &object.labels;
        let by_label = self.labels.iter().all(|term| match term {
            Term::Has(key) => labels.contains_key(key),
            Term::HasNot(key) => !labels.contains_key(key),
            Term::Is(key, value) => labels.get(key) == Some(value),
        });
        let by_field = self
            .fields
            .iter()
            .all(|(field, value)| match field.as_str() {
                "metadata.name" => object.name == *value,
                "metadata.namespace" => object.namespace == *value,
                _ => false,
            });
        let namespace = self.namespace.as_ref();
        by_label && by_field && namespace.is_none_or(|namespace| object.namespace == *namespace)
    }
}
