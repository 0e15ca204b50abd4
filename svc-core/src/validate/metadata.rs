//! Names, labels and annotations of an object.

use core::fmt::Display;

use super::check::Check;
use super::text::{dns_label, label_value, qualified_name};
use super::view::View;
use crate::wire::StringMap;

/// Annotations of an object, keys and values together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// What an object of this name has to have; `name_rule` says what is wrong with a name (B-366).
pub(super) fn check_metadata(
    check: &mut Check,
    view: &View<'_>,
    name_rule: fn(&str) -> Option<&'static str>,
) {
    if !view.generate_name.is_empty() {
        // The API server adds a random suffix, so a hyphen at the end is fine.
        let prefix = view.generate_name.trim_end_matches('-');
        if let Some(wrong) = name_rule(prefix) {
            check.invalid("metadata.generateName", view.generate_name, wrong);
        }
    }
    if view.name.is_empty() {
        if view.generate_name.is_empty() {
            check.required("metadata.name", "a name, or generateName");
        }
    } else if let Some(wrong) = name_rule(view.name) {
        check.invalid("metadata.name", view.name, wrong);
    }
    if let Some(wrong) = dns_label(view.namespace).filter(|_| !view.namespace.is_empty()) {
        check.invalid("metadata.namespace", view.namespace, wrong);
    }
    check_labels_and_annotations(check, view);
}

/// Labels and annotations, also of an object whose name was accepted before.
pub(super) fn check_labels_and_annotations(check: &mut Check, view: &View<'_>) {
    check_labels(check, view.labels, "metadata.labels");
    let mut size = 0;
    for (key, value) in view.annotations.into_iter().flatten() {
        size += key.len() + value.text().len();
        // Annotation keys may have capitals in their prefix.
        if let Some(wrong) = qualified_name(&key.to_ascii_lowercase()) {
            check.invalid("metadata.annotations", key.as_str(), wrong);
        }
    }
    if size > MAX_ANNOTATIONS {
        check.too_many("metadata.annotations", size, MAX_ANNOTATIONS);
    }
}

/// Keys and values of labels, or of a selector (B-346).
pub(super) fn check_labels(check: &mut Check, labels: Option<&StringMap>, path: impl Display) {
    for (key, value) in labels.into_iter().flatten() {
        if let Some(wrong) = qualified_name(key) {
            check.invalid(&path, key.as_str(), wrong);
        }
        if let Some(wrong) = label_value(value.text()) {
            check.invalid(&path, value.text(), wrong);
        }
    }
}
