use alloc::boxed::Box;
use alloc::sync::Arc;
use core::net::IpAddr;

use super::Labels;
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol};

/// An EndpointSlice of one address family.
///
/// Slices of address type FQDN do not become a value of this type (B-042).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Namespace and name.
    pub name: NamespacedName,
    /// Value of the label `kubernetes.io/service-name`: the Service in the same namespace.
    pub service: Name,
    /// `addressType`.
    pub family: IpFamily,
    /// `ports` that have a name and a number (B-026, B-028).
    pub ports: Box<[EndpointPort]>,
    /// `endpoints` that have an address of the family.
    pub endpoints: Box<[SliceEndpoint]>,
    /// Whether the label `service.kubernetes.io/headless` is set: no proxy reads it (B-005).
    pub headless: bool,
    /// Value of the label `endpointslice.kubernetes.io/managed-by`.
    pub managed_by: Option<Name>,
    /// `metadata.labels` but for those with a meaning of their own, when there are any: copied from
    /// the Service, so slices of a Service share them (B-420).
    pub labels: Option<Arc<Labels>>,
    /// Annotation [`TRIGGER_TIME_ANNOTATION`](super::TRIGGER_TIME_ANNOTATION), in seconds since
    /// 1970 (B-424).
    pub trigger_time: Option<i64>,
}

/// One entry of `ports` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointPort {
    /// `name`; empty for the unnamed port (B-027).
    pub name: Name,
    /// `protocol`, TCP when unset (B-029).
    pub protocol: Protocol,
    /// `port`, never 0.
    pub port: u16,
    /// `appProtocol`.
    pub app_protocol: Option<Name>,
}

/// One entry of `endpoints` of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// The first of `addresses`; the others are not used (B-056).
    pub address: IpAddr,
    /// `conditions`, with the defaults of unset ones applied.
    pub conditions: Conditions,
    /// `nodeName`; unset means remote (B-072).
    pub node: Option<Name>,
    /// What only some endpoints have; equal ones share one allocation within a slice.
    pub extra: Option<Arc<EndpointExtra>>,
}

/// `conditions` of an endpoint (B-060).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// `ready`, true when unset.
    pub ready: bool,
    /// `serving`, true when unset.
    pub serving: bool,
    /// `terminating`, false when unset.
    pub terminating: bool,
}

impl Conditions {
    /// A ready endpoint.
    pub const READY: Self = Self {
        ready: true,
        serving: true,
        terminating: false,
    };
    /// An endpoint that shuts down and still serves.
    pub const SERVING_TERMINATING: Self = Self {
        ready: false,
        serving: true,
        terminating: true,
    };
    /// An endpoint that is not ready yet, or not any more.
    pub const NOT_READY: Self = Self {
        ready: false,
        serving: false,
        terminating: false,
    };
}

/// Rare fields of an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct EndpointExtra {
    /// `hints`.
    pub hints: Hints,
    /// `zone`, of the node.
    pub zone: Option<Name>,
    /// `hostname`, for DNS.
    pub hostname: Option<Name>,
    /// Name of the Pod in `targetRef`.
    pub pod: Option<Name>,
}

/// `hints` of an endpoint (B-074 to B-090).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hints {
    /// `forZones`.
    pub zones: Box<[Name]>,
    /// `forNodes`.
    pub nodes: Box<[Name]>,
}

impl EndpointSlice {
    /// An EndpointSlice of a Service, without ports and endpoints.
    pub fn of_service(service: &NamespacedName, name: impl Into<Name>, family: IpFamily) -> Self {
        Self {
            name: NamespacedName::new(service.namespace.clone(), name),
            service: service.name.clone(),
            family,
            ports: Box::default(),
            endpoints: Box::default(),
            headless: false,
            managed_by: None,
            labels: None,
            trigger_time: None,
        }
    }

    /// Namespace and name of the Service that the slice belongs to.
    pub fn service_name(&self) -> NamespacedName {
        NamespacedName {
            namespace: self.name.namespace.clone(),
            name: self.service.clone(),
        }
    }
}

impl EndpointPort {
    /// A port with what planning needs of it.
    pub fn new(name: impl Into<Name>, protocol: Protocol, port: u16) -> Self {
        Self {
            name: name.into(),
            protocol,
            port,
            app_protocol: None,
        }
    }
}

impl SliceEndpoint {
    /// An endpoint with an address and nothing else.
    pub fn new(address: IpAddr, conditions: Conditions) -> Self {
        Self {
            address,
            conditions,
            node: None,
            extra: None,
        }
    }

    /// Name of the Pod in `targetRef`.
    pub fn pod(&self) -> Option<&Name> {
        self.extra.as_ref().and_then(|extra| extra.pod.as_ref())
    }

    /// Zone hints, empty when there are none.
    pub fn zone_hints(&self) -> &[Name] {
        self.extra.as_ref().map_or(&[], |extra| &extra.hints.zones)
    }

    /// Node hints, empty when there are none.
    pub fn node_hints(&self) -> &[Name] {
        self.extra.as_ref().map_or(&[], |extra| &extra.hints.nodes)
    }
}
