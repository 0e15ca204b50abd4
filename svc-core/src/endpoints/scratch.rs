//! Slices from nothing.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use super::auto_hints::{Part, assign};
use super::endpoint::{LeftOut, endpoint_of, selects};
use super::port::{Ports, ServicePorts, same_ports};
use super::{
    CLUSTER_CONTROLLER, DEFAULT_MAX_ENDPOINTS, Topology, copied_labels, families, has_slices,
    is_headless, topology_mode_is_auto,
};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{EndpointSlice, Pod, Service, SliceEndpoint};

/// The slices of a Service with these Pods, as if none existed before.
///
/// Pods that the Service does not select are passed over, so all Pods may be given. The order of
/// Pods decides the order of endpoints; names are `<service>-<family>-<number>`. A Service whose
/// selector matches nothing gets one empty slice per family (B-399).
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
    let ports = ServicePorts::of(service);
    let managed_by = Name::from(CLUSTER_CONTROLLER);
    let labels = copied_labels(service);
    let mut slices = Vec::new();
    for family in families(service) {
        let mut groups: Vec<(Ports, Vec<SliceEndpoint>)> = Vec::new();
        for pod in &pods {
            match endpoint_of(service, pod, family, topology) {
                Ok(endpoint) => {
                    let ports = ports.on(service, pod);
                    match groups.iter_mut().find(|(held, _)| same_ports(held, &ports)) {
                        Some((_, endpoints)) => endpoints.push(endpoint),
                        None => groups.push((ports, [endpoint].into())),
                    }
                }
                Err(LeftOut::Rightly) => {}
                Err(LeftOut::NodeMissing) => diagnostics.push(node_missing(service, pod)),
            }
        }
        if groups.is_empty() {
            groups.push((Ports::from([]), Vec::new()));
        }
        if topology_mode_is_auto(service) {
            let mut parts: Vec<Part<'_>> = groups
                .iter_mut()
                .map(|(_, endpoints)| Part {
                    endpoints,
                    written_anyway: true,
                })
                .collect();
            let (_, disabled) = assign(&mut parts, topology.zone_cpu());
            diagnostics.extend(disabled.map(|why| why.diagnostic(service, family)));
        }
        let mut number = 0;
        for (ports, endpoints) in groups {
            for part in parts(endpoints) {
                slices.push(EndpointSlice {
                    name: slice_name(&service.name, family, number),
                    service: service.name.name.clone(),
                    family,
                    ports: ports.iter().cloned().collect(),
                    endpoints: part,
                    headless: is_headless(service),
                    managed_by: Some(managed_by.clone()),
                    labels: labels.clone(),
                });
                number += 1;
            }
        }
    }
    // A Pod is looked at once per family.
    diagnostics.sort_unstable();
    diagnostics.dedup();
    (slices, diagnostics)
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
fn parts(endpoints: Vec<SliceEndpoint>) -> Vec<Box<[SliceEndpoint]>> {
    let max = usize::from(DEFAULT_MAX_ENDPOINTS);
    if endpoints.len() <= max {
        return [endpoints.into_boxed_slice()].into();
    }
    endpoints.chunks(max).map(Box::from).collect()
}
