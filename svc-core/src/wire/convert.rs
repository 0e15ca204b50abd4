//! The rules by which wire objects become compact ones. Nothing here ever fails as a whole.

mod cluster;
mod endpoint_slice;
mod names;
mod notes;
mod pod;
mod quantity;
mod service;
#[cfg(test)]
mod tests;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Arguments;

use super::field::{Field, StringMap};
use super::metadata::{Condition, Metadata};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{DEFAULT_NAMESPACE, Name, NamespacedName};
use crate::object::Labels;
use names::Names;
use notes::Notes;

/// The object, unless nothing of it can be used, and what was wrong with it.
pub type Converted<T> = (Option<T>, Vec<Diagnostic>);

/// Converts wire objects, and shares the names that many of them have in common.
///
/// One value for the life of a program saves memory: node, zone, Service and port names are then
/// allocated once for all objects. Two conversions give equal objects whatever they share.
///
/// ```
/// use svc_core::wire::{Conversion, Service};
///
/// let service: Service = serde_json::from_str(
///     r#"{"metadata":{"name":"web"},"spec":{"ports":[{"port":80},{"port":70000}]}}"#,
/// )?;
/// let (service, diagnostics) = Conversion::default().service(&service);
/// assert_eq!(service.map(|s| s.ports.len()), Some(1));
/// assert_eq!(diagnostics[0].field, "spec.ports[1].port");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Conversion {
    pod_names: PodNames,
    names: Names,
}

/// Whether endpoints keep the names of their Pods.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// For DNS names of pods, explanations and tools.
    #[default]
    Keep,
    /// For agents that only forward: endpoints then share what else they have in common.
    Drop,
}

/// Name and namespace of an object, with the collector of what is wrong with it.
struct Identified<'a> {
    name: Option<NamespacedName>,
    metadata: Option<&'a Metadata>,
    notes: Notes,
}

impl Conversion {
    /// Makes a conversion that treats pod names in the given way.
    pub fn new(pod_names: PodNames) -> Self {
        Self {
            pod_names,
            names: Names::default(),
        }
    }

    /// Forgets shared names that no object holds any more. Call it after a list of all objects.
    pub fn forget_unused_names(&mut self) {
        self.names.forget_unused();
    }

    /// Converts a Namespace to its name.
    pub fn namespace(&mut self, namespace: &super::Namespace) -> Converted<Name> {
        let found = self.identify(ObjectKind::Namespace, &namespace.metadata);
        let name = found.name.map(|name| self.names.share(&name.name));
        (name, found.notes.finish())
    }

    fn identify<'a>(&mut self, kind: ObjectKind, metadata: &'a Field<Metadata>) -> Identified<'a> {
        let unnamed = NamespacedName::new(DEFAULT_NAMESPACE, "");
        let mut notes = Notes::new(kind, unnamed);
        let metadata = notes.value(metadata, format_args!("metadata"));
        let Some(metadata) = metadata else {
            notes.required(format_args!("metadata.name"), "must be set");
            return Identified {
                name: None,
                metadata: None,
                notes,
            };
        };
        let namespace = self.names.share(metadata.namespace.text());
        let mut object = NamespacedName::new(namespace, metadata.name.text());
        if object.name.is_empty() {
            object.name = metadata.generate_name.text().into();
        }
        notes.object = object.clone();
        notes.value(&metadata.namespace, format_args!("metadata.namespace"));
        notes.value(&metadata.name, format_args!("metadata.name"));
        let named = !metadata.name.text().is_empty();
        if !named {
            notes.required(format_args!("metadata.name"), "must be set");
        }
        Identified {
            name: named.then_some(object),
            metadata: Some(metadata),
            notes,
        }
    }

    /// A shared name; an empty or unusable field gives `None`.
    fn optional_name(
        &mut self,
        notes: &mut Notes,
        field: &Field<String>,
        path: Arguments<'_>,
    ) -> Option<Name> {
        let text = notes.value(field, path)?;
        (!text.is_empty()).then(|| self.names.share(text))
    }
}

/// Labels, selector terms or annotations, without the ones that cannot be read.
fn labels(notes: &mut Notes, field: &Field<StringMap>, path: &str) -> Labels {
    let Some(map) = notes.value(field, format_args!("{path}")) else {
        return Labels::new();
    };
    map.iter()
        .filter_map(|(key, value)| {
            let value = notes.value(value, format_args!("{path}[{key}]"))?;
            Some((key.as_str().into(), value.as_str().into()))
        })
        .collect()
}

/// Whether a label is set, with any value.
fn has_label(metadata: &Metadata, label: &str) -> bool {
    let labels = metadata.labels.value();
    labels.is_some_and(|labels| labels.contains_key(label))
}

/// The text of a label or annotation; empty when there is none.
fn entry<'a>(field: &'a Field<StringMap>, key: &str) -> &'a str {
    let value = field.value().and_then(|map| map.get(key));
    value.map_or("", Field::text)
}

/// Whether a condition is true; `None` when the object does not have it.
fn condition(
    notes: &mut Notes,
    conditions: &Field<Vec<Field<Condition>>>,
    kind: &str,
) -> Option<bool> {
    let conditions = notes.value(conditions, format_args!("status.conditions"))?;
    let mut members = conditions.iter().filter_map(Field::value);
    let found = members.find(|condition| condition.kind.text() == kind)?;
    Some(found.status.text() == "True")
}

/// A port number of 1 to 65535; anything else is reported and left out.
fn port(notes: &mut Notes, number: i64, path: Arguments<'_>) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        notes.error(
            path,
            DiagnosticReason::Invalid,
            alloc::format!("must be 1 to 65535, is {number}"),
        );
    }
    port
}
