//! EndpointSlices from Services and Pods: the endpoint-slice controller without a cluster.
//!
//! ```text
//! Service ─┐
//! Pods  ───┼─► endpoint of a Pod (address, conditions, zone, hostname) ─┐
//! Nodes ───┘   ports of a Pod (named target ports)                      ├─► slices of ≤ 100
//!                                                                       ┘
//! ```
//!
//! [`slices`] starts from nothing; a [`SliceController`] keeps slices that exist, with few writes, at
//! a cost that follows the change: one Pod costs the Services that select it and the slices it is in.
//!
//! Rules are cited as B-398 to B-428.

mod auto_hints;
mod controller;
mod endpoint;
mod family;
mod held;
mod mirror;
mod namespace;
mod port;
mod scratch;
mod topology;
mod trigger;

#[cfg(any(test, feature = "testing"))]
mod fixture;
#[cfg(feature = "testing")]
pub(crate) mod laws;
#[cfg(test)]
mod packing_tests;
#[cfg(test)]
mod tests;

pub use controller::{SliceChange, SliceConfig, SliceController};
pub use family::families;
pub use mirror::{MAX_MIRRORED_PER_SUBSET, MIRRORING_CONTROLLER, mirror};
pub use scratch::slices;
pub use topology::Topology;

use alloc::sync::Arc;

use crate::object::{
    EndpointSlice, HEADLESS_LABEL, Labels, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, Service,
    TRIGGER_TIME_ANNOTATION,
};
use crate::time::to_rfc3339;

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

/// All labels of a slice, as an API object has them (B-420).
pub fn labels(slice: &EndpointSlice) -> Labels {
    let mut labels = slice.labels.as_deref().cloned().unwrap_or_default();
    if slice.headless {
        labels.insert(HEADLESS_LABEL.into(), "".into());
    }
    if let Some(managed_by) = &slice.managed_by {
        labels.insert(MANAGED_BY_LABEL.into(), managed_by.clone());
    }
    labels.insert(SERVICE_NAME_LABEL.into(), slice.service.clone());
    labels
}

/// All annotations of a slice, as an API object has them (B-424).
pub fn annotations(slice: &EndpointSlice) -> Labels {
    let time = slice.trigger_time.map(to_rfc3339);
    time.map(|time| (TRIGGER_TIME_ANNOTATION.into(), time.into()))
        .into_iter()
        .collect()
}

/// Labels that slices copy from their Service: all but the reserved ones (B-420).
fn copied_labels(service: &Service) -> Option<Arc<Labels>> {
    let labels = &service.extra.as_ref()?.labels;
    let reserved = [HEADLESS_LABEL, MANAGED_BY_LABEL, SERVICE_NAME_LABEL];
    let copied: Labels = labels
        .iter()
        .filter(|(key, _)| !reserved.contains(&key.as_ref()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    (!copied.is_empty()).then(|| Arc::new(copied))
}

/// Whether annotation `topology-mode` asks for hints in proportion to zones (B-426).
fn topology_mode_is_auto(service: &Service) -> bool {
    service
        .extra
        .as_ref()
        .and_then(|extra| extra.topology_mode.as_deref())
        .is_some_and(|mode| mode == "Auto" || mode == "auto")
}
