//! EndpointSlices from Services and Pods: the endpoint-slice controller without a cluster.
//!
//! ```text
//! Service ─┐
//! Pods  ───┼─► endpoint of a Pod (address, conditions, zone, hostname) ─┐
//! Nodes ───┘   ports of a Pod (named target ports)                      ├─► slices of ≤ 100
//!                                                                       ┘
//! ```
//!
//! [`slices`] starts from nothing.
//!
//! Rules are cited as B-398 to B-428.

mod endpoint;
mod family;
mod port;
mod scratch;
mod topology;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod tests;

pub use family::families;
pub use scratch::slices;
pub use topology::Topology;

use crate::name::Name;
use crate::object::{HEADLESS_LABEL, Labels, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, Service};

/// Value of the label `endpointslice.kubernetes.io/managed-by` that the cluster's own controller uses.
pub const CLUSTER_CONTROLLER: &str = "endpointslice-controller.k8s.io";

/// How many endpoints a slice holds at most unless configured otherwise (B-415).
pub const DEFAULT_MAX_ENDPOINTS: u16 = 100;

/// Whether a controller makes slices for the Service at all (B-398).
///
/// Without a selector a person makes them, and ExternalName has no endpoints.
pub fn has_slices(service: &Service) -> bool {
    use crate::object::ServiceType;
    match service.service_type {
        ServiceType::ExternalName => false,
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {
            !service.selector.is_empty()
        }
    }
}

/// Whether the slices of a Service carry the headless label: it has no ClusterIP (B-420).
pub fn is_headless(service: &Service) -> bool {
    service.headless || service.cluster_ips.is_empty()
}

/// Labels of the slices of a Service: its own but for the reserved ones, which are set here (B-420).
pub fn labels(service: &Service, managed_by: &Name) -> Labels {
    let mut labels = Labels::new();
    if let Some(extra) = &service.extra {
        for (key, value) in &extra.labels {
            if ![HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL].contains(&key.as_ref()) {
                labels.insert(key.clone(), value.clone());
            }
        }
    }
    if is_headless(service) {
        labels.insert(HEADLESS_LABEL.into(), "".into());
    }
    labels.insert(MANAGED_BY_LABEL.into(), managed_by.clone());
    labels.insert(SERVICE_NAME_LABEL.into(), service.name.name.clone());
    labels
}

/// Whether annotation `topology-mode` asks for hints in proportion to zones (B-426).
fn topology_mode_is_auto(service: &Service) -> bool {
    service
        .extra
        .as_ref()
        .and_then(|extra| extra.topology_mode.as_deref())
        .is_some_and(|mode| mode == "Auto" || mode == "auto")
}
