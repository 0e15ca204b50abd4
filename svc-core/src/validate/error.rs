//! One thing that is wrong with one field.

use alloc::format;
use alloc::string::String;
use core::fmt;

use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;

/// An error or warning about one field.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct FieldError {
    /// Path of the field, such as `spec.ports[0].port`.
    pub field: String,
    /// Why, from a closed set; [`DiagnosticReason::Suspicious`] in warnings.
    pub reason: DiagnosticReason,
    /// The value, as JSON, unless it is missing or may not be there at all.
    pub value: Option<String>,
    /// What is expected instead.
    pub detail: String,
}

impl FieldError {
    /// The same about an object.
    pub fn diagnostic(&self, kind: ObjectKind, object: &NamespacedName) -> Diagnostic {
        let message = match &self.value {
            Some(value) if self.detail.is_empty() => value.clone(),
            Some(value) => format!("{value}: {}", self.detail),
            None => self.detail.clone(),
        };
        let error = Diagnostic::error(kind, object, self.field.clone(), self.reason, message);
        match self.reason == DiagnosticReason::Suspicious {
            true => error.warning(),
            false => error,
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reason = match self.reason {
            DiagnosticReason::Required => "required",
            DiagnosticReason::Invalid => "invalid",
            DiagnosticReason::NotSupported => "not supported",
            DiagnosticReason::Forbidden => "forbidden",
            DiagnosticReason::Duplicate => "duplicate",
            DiagnosticReason::TooMany => "too many",
            DiagnosticReason::Claimed => "claimed",
            DiagnosticReason::Exhausted => "exhausted",
            DiagnosticReason::UnknownField => "unknown field",
            DiagnosticReason::Suspicious => "warning",
        };
        write!(f, "{}: {reason}", self.field)?;
        if let Some(value) = &self.value {
            write!(f, ": {value}")?;
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        Ok(())
    }
}
