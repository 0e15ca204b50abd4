//! Kubernetes objects as they come over the wire, and their conversion to [`crate::object`]s.
//!
//! ```text
//!  JSON, YAML ──► Document ──► Object ─┐
//!  a watch of one kind ──► Service, …  ├─► Conversion ──► (Option<object::…>, Vec<Diagnostic>)
//!  k8s-openapi's types ──► Service, …  ┘
//! ```
//!
//! Reading is tolerant: unknown fields are skipped, `null` counts as missing everywhere, and a
//! value of the wrong type is kept as [`Field::Wrong`] until [`Conversion`] names it. Numbers are
//! kept as they are, so that a port of 70000 is a remark and not a broken file.

#[cfg(feature = "k8s-openapi")]
mod api_types;
mod cluster;
mod convert;
mod document;
mod endpoint_slice;
mod field;
mod metadata;
mod pod;
pub(crate) mod quoted;
mod record;
mod service;
#[cfg(test)]
mod tests;
mod value;

pub use cluster::{
    Namespace, Node, NodeAddress, NodeSpec, NodeStatus, Resources, ServiceCidr, ServiceCidrSpec,
    ServiceCidrStatus, Taint,
};
pub use convert::{Conversion, Converted, PodNames};
pub use document::{Document, NotAnObject, Object};
pub use endpoint_slice::{
    Endpoint, EndpointAddress, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice,
    EndpointSubset, Endpoints, Hint,
};
pub use field::{Field, IntOrString, Quantity, Shape, StringMap};
pub use metadata::{Condition, Metadata, ObjectReference};
pub use pod::{
    Container, ContainerPort, LabelSelector, MatchExpression, Pod, PodIp, PodSpec, PodStatus,
    PodTemplate, Workload, WorkloadSpec,
};
pub use service::{
    ClientIpConfig, Ingress, LoadBalancerStatus, Service, ServicePort, ServiceSpec, ServiceStatus,
    SessionAffinityConfig,
};
pub use value::{Value, ValueError};
