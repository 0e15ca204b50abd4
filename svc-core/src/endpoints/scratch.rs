//! Slices from nothing.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::auto_hints::{Part, assign};
use super::endpoint::{LeftOut, endpoint_of, selects};
use super::port::{Ports, ServicePorts, same_ports};
use super::trigger;
use super::{
    CLUSTER_CONTROLLER, DEFAULT_MAX_ENDPOINTS, Topology, copied_labels, families, has_slices,
    is_headless, topology_mode_is_auto,
};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{EndpointSlice, Pod, Service, SliceEndpoint};

/// Ports and the endpoints that have them.
type Group = (Ports, Vec<SliceEndpoint>);

/// The slices of a Service with these Pods, as if none existed before.
///
/// Pods that the Service does not select are passed over, so all Pods may be given. The order of
/// Pods decides the order of endpoints; names are `<service>-<family>-<number>`. A Service whose
/// selector matches nothing gets one empty slice per family (B-399). What led to them is the creation
/// of the Service (B-424).
///
/// ```
/// use svc_core::object::{Pod, Service};
/// use svc_core::{NamespacedName, endpoints};
///
/// let mut web = Service::named(NamespacedName::new("default", "web"));
/// web.selector.insert("app".into(), "web".into());
/// let pods: [Pod; 0] = [];
/// let (slices, diagnostics) = endpoints::slices(&web, &pods, &endpoints::Topology::unknown());
/// assert_eq!(slices.len(), 2, "an empty slice for each family");
/// assert!(diagnostics.is_empty());
/// ```
pub fn slices<'a>(
    service: &Service,
    pods: impl IntoIterator<Item = &'a Pod>,
    topology: &Topology,
) -> (Vec<EndpointSlice>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    if !has_slices(service) {
        return (Vec::new(), diagnostics);
    }
    let pods: Vec<&Pod> = pods
        .into_iter()
        .filter(|pod| selects(service, pod))
        .collect();
    let managed_by = Name::from(CLUSTER_CONTROLLER);
    let labels = copied_labels(service);
    let trigger_time = trigger::service_time(service);
    let mut slices = Vec::new();
    for family in families(service) {
        let groups = groups(service, &pods, family, topology, &mut diagnostics);
        let parts = groups
            .into_iter()
            .flat_map(|(ports, endpoints)| parts(endpoints).map(move |part| (ports.clone(), part)));
        for (number, (ports, endpoints)) in (0..).zip(parts) {
            slices.push(EndpointSlice {
                name: slice_name(&service.name, family, number),
                service: service.name.name.clone(),
                family,
                ports: ports.iter().cloned().collect(),
                endpoints,
                headless: is_headless(service),
                managed_by: Some(managed_by.clone()),
                labels: labels.clone(),
                trigger_time,
            });
        }
    }
    // A Pod is looked at once per family.
    diagnostics.sort_unstable();
    diagnostics.dedup();
    (slices, diagnostics)
}

/// Endpoints of a family by their ports (B-412); one group of nothing when there are none (B-399).
fn groups(
    service: &Service,
    pods: &[&Pod],
    family: IpFamily,
    topology: &Topology,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Group> {
    let ports = ServicePorts::of(service);
    let mut groups: Vec<Group> = Vec::new();
    for pod in pods {
        let endpoint = match endpoint_of(service, pod, family, topology) {
            Ok(endpoint) => endpoint,
            Err(LeftOut::Rightly) => continue,
            Err(LeftOut::NodeMissing) => {
                diagnostics.push(node_missing(service, pod));
                continue;
            }
        };
        let ports = ports.on(service, pod);
        match groups.iter_mut().find(|(held, _)| same_ports(held, &ports)) {
            Some((_, endpoints)) => endpoints.push(endpoint),
            None => groups.push((ports, [endpoint].into())),
        }
    }
    if groups.is_empty() {
        groups.push((Ports::from([]), Vec::new()));
    }
    if topology_mode_is_auto(service) {
        let parts = groups.iter_mut().map(|(_, endpoints)| Part {
            endpoints,
            written_anyway: true,
        });
        let (_, disabled) = assign(&mut parts.collect::<Vec<_>>(), topology.zone_cpu());
        diagnostics.extend(disabled.map(|why| why.diagnostic(service, family)));
    }
    groups
}

/// Name of the n-th slice of a family.
pub(super) fn slice_name(
    service: &NamespacedName,
    family: IpFamily,
    number: u32,
) -> NamespacedName {
    let family = match family {
        IpFamily::V4 => "ipv4",
        IpFamily::V6 => "ipv6",
    };
    NamespacedName {
        namespace: service.namespace.clone(),
        name: format!("{}-{family}-{number:05x}", service.name).into(),
    }
}

pub(super) fn node_missing(service: &Service, pod: &Pod) -> Diagnostic {
    let node = pod.node.as_deref().unwrap_or_default();
    Diagnostic::error(
        ObjectKind::Pod,
        &pod.name,
        "spec.nodeName",
        DiagnosticReason::Invalid,
        format!(
            "no endpoint of Service {} until Node {node:?} exists",
            service.name
        ),
    )
}

/// At most [`DEFAULT_MAX_ENDPOINTS`] each, and one empty part of nothing.
fn parts(endpoints: Vec<SliceEndpoint>) -> impl Iterator<Item = Box<[SliceEndpoint]>> {
    let max = usize::from(DEFAULT_MAX_ENDPOINTS);
    let count = endpoints.len().div_ceil(max).max(1);
    let mut endpoints = endpoints.into_iter();
    (0..count).map(move |_| endpoints.by_ref().take(max).collect())
}
