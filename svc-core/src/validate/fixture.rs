//! Services as JSON, and errors as text.

use alloc::format;
use alloc::string::String;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::{Allocation, FieldError, create, default_service, service};
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

/// Errors of a new Service whose `spec` is that of the base with a patch.
#[track_caller]
pub(super) fn check(spec: Value, expected: Expect) {
    let mut service = with_spec(spec);
    let errors = create(&mut service).err().unwrap_or_default();
    expected.assert_eq(&text(&errors));
}

#[track_caller]
pub(super) fn check_valid(spec: Value) {
    check(spec, expect![""]);
}

/// Errors of a Service that has not been defaulted.
#[track_caller]
pub(super) fn check_raw(spec: Value, expected: Expect) {
    let errors = service(&with_spec(spec), Allocation::Done);
    expected.assert_eq(&text(&errors));
}

#[track_caller]
pub(super) fn check_warnings(spec: Value, expected: Expect) {
    let warnings = create(&mut with_spec(spec)).unwrap();
    expected.assert_eq(&text(&warnings));
}

pub(super) fn defaulted(spec: Value) -> String {
    let mut service = with_spec(spec);
    default_service(&mut service);
    serde_json::to_string(&service.spec).unwrap()
}
