//! What was wrong with an input, in words that name the object and the field.

use alloc::string::String;
use core::fmt;

use crate::name::NamespacedName;

/// The kind of object that a [`Diagnostic`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub enum ObjectKind {
    Service,
    EndpointSlice,
    Node,
    Pod,
    ServiceCIDR,
    Namespace,
    Endpoints,
    Deployment,
    DaemonSet,
    ReplicaSet,
    StatefulSet,
    KubeProxyConfiguration,
}

/// How much a [`Diagnostic`] matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Severity {
    /// The value is odd but used.
    Warning,
    /// The value, or the object, is left out; everything else keeps working.
    Error,
}

/// Why a value was reported; a closed set, for metrics and Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum DiagnosticReason {
    /// A field that is needed is missing or empty.
    Required,
    /// A value does not have the form or range of its field.
    Invalid,
    /// A value is none of those that the field knows.
    NotSupported,
    /// The field may not be set here.
    Forbidden,
    /// The same value stands twice where it may stand once.
    Duplicate,
    /// A list is longer than its field allows.
    TooMany,
    /// Another Service holds the address, port or node port.
    Claimed,
    /// No address, port or node port is free.
    Exhausted,
    /// A field of the object is not known to this version.
    UnknownField,
    /// The object works, but surely not as meant.
    Suspicious,
}

/// One remark about one field of one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Diagnostic {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// The object; the namespace is `default` for objects that have none.
    pub object: NamespacedName,
    /// Path of the field, such as `spec.ports[0].port`.
    pub field: String,
    /// How much it matters.
    pub severity: Severity,
    /// Why, from a closed set.
    pub reason: DiagnosticReason,
    /// Why, in words, with the offending value.
    pub message: String,
}

impl Diagnostic {
    /// Makes a remark of severity [`Severity::Error`].
    pub fn error(
        kind: ObjectKind,
        object: &NamespacedName,
        field: impl Into<String>,
        reason: DiagnosticReason,
        message: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            object: object.clone(),
            field: field.into(),
            severity: Severity::Error,
            reason,
            message: message.into(),
        }
    }

    /// The same remark as a warning.
    pub fn warning(self) -> Self {
        Self {
            severity: Severity::Warning,
            ..self
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {}: {}: {}",
            self.kind, self.object, self.field, self.message
        )
    }
}
