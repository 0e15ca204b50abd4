use alloc::vec::Vec;

use super::{ContainerPort, Labels};
use crate::name::NamespacedName;

/// An object that makes Pods: what a Service that exposes it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Which kind of object it is.
    pub kind: WorkloadKind,
    /// Namespace and name.
    pub name: NamespacedName,
    /// `metadata.labels`.
    pub labels: Labels,
    /// `spec.replicas`; `None` when unset or without meaning for the kind.
    pub replicas: Option<u32>,
    /// `spec.selector.matchLabels`.
    pub selector: Labels,
    /// Whether `spec.selector.matchExpressions` has entries, which no Service can express.
    pub selects_by_expression: bool,
    /// Labels of `spec.template`.
    pub template_labels: Labels,
    /// Ports of the containers of `spec.template`, then of its restartable init containers.
    pub ports: Vec<ContainerPort>,
}

/// Kind of a [`Workload`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub enum WorkloadKind {
    Deployment,
    DaemonSet,
    ReplicaSet,
    StatefulSet,
}
