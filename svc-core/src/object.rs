//! Trimmed inputs: what planning, DNS and the API rules need of each Kubernetes object.
//!
//! Field names are those of Kubernetes. The types hold only what can be used: conversion (see
//! module `wire`) leaves out what is not and says so in [`crate::Diagnostic`]s. They are compact:
//! an endpoint costs 48 bytes here and more than 800 as a full API object.

mod endpoint_slice;
mod endpoints;
mod node;
mod pod;
mod service;
mod service_cidr;
mod workload;

pub use endpoint_slice::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Hints, SliceEndpoint,
};
pub use endpoints::{EndpointSubset, Endpoints};
pub use node::{Node, NodeEligibility};
pub use pod::{ContainerKind, ContainerPort, Pod, PodPhase};
pub use service::{
    IngressIp, IpFamilyPolicy, IpMode, Service, ServiceExtra, ServicePort, ServiceType, TargetPort,
    TrafficDistribution, TrafficPolicy,
};
pub use service_cidr::ServiceCidr;
pub use workload::{Workload, WorkloadKind};

/// Label whose value names the Service of an EndpointSlice (B-223).
pub const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Label that hands a Service to another proxy (B-004).
pub const SERVICE_PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";
/// Label of Services and EndpointSlices that no proxy serves (B-005).
pub const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";
/// Label that, with value `true`, keeps Endpoints from being mirrored (B-428).
pub const SKIP_MIRROR_LABEL: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Label that names the controller which writes an EndpointSlice (B-422).
pub const MANAGED_BY_LABEL: &str = "endpointslice.kubernetes.io/managed-by";
/// Annotation of an EndpointSlice: when what led to its last write happened, in RFC 3339 (B-234, B-424).
pub const TRIGGER_TIME_ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";
/// Node label that names its zone (B-074).
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// Sorted labels or selector terms.
pub type Labels = alloc::collections::BTreeMap<crate::Name, crate::Name>;
