//! Services as JSON, and errors as text.

use alloc::format;
use alloc::string::String;

use serde_json::{Value, json};

use super::FieldError;
use crate::wire::Service;

/// A valid ClusterIP Service, before defaulting.
pub(super) fn base() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    })
}

/// The base with a JSON merge patch (`null` removes a field).
pub(super) fn patched(patch: Value) -> Service {
    let mut value = base();
    merge(&mut value, patch);
    read(value)
}

/// The base with a JSON merge patch of its `spec`.
pub(super) fn with_spec(spec: Value) -> Service {
    patched(json!({"spec": spec}))
}

pub(super) fn read<T: for<'de> serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let target = target.as_object_mut().unwrap();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(&key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// One error a line.
pub(super) fn text(errors: &[FieldError]) -> String {
    errors.iter().map(|error| format!("{error}\n")).collect()
}
