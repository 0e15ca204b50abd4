//! The endpoint that a Pod is for a Service.

use alloc::boxed::Box;
use alloc::sync::Arc;

use super::topology::{NodeZone, Topology};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{
    Conditions, EndpointExtra, Hints, Pod, PodPhase, Service, SliceEndpoint, TrafficDistribution,
};

/// Why a selected Pod is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LeftOut {
    /// It finished (B-402) or has no address of the family (B-401, B-403).
    Rightly,
    /// Its Node is missing, to be reported (B-407).
    NodeMissing,
}

/// Whether the selector of a Service matches a Pod; an empty one matches none (B-398).
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    service.name.namespace == pod.name.namespace
        && !service.selector.is_empty()
        && service
            .selector
            .iter()
            .all(|(key, value)| pod.labels.get(key) == Some(value))
}

/// The endpoint of a selected Pod in one family.
pub(super) fn endpoint_of(
    service: &Service,
    pod: &Pod,
    family: IpFamily,
    topology: &Topology,
) -> Result<SliceEndpoint, LeftOut> {
    match pod.phase {
        PodPhase::Succeeded | PodPhase::Failed => return Err(LeftOut::Rightly),
        PodPhase::Pending | PodPhase::Running | PodPhase::Unknown => {}
    }
    let address = pod
        .ips
        .iter()
        .copied()
        .find(|ip| IpFamily::of(*ip) == family)
        .ok_or(LeftOut::Rightly)?;
    let zone = match topology.zone_of(pod.node.as_ref()) {
        NodeZone::Known(zone) => zone.cloned(),
        NodeZone::Missing if service.publish_not_ready_addresses => None,
        NodeZone::Missing => return Err(LeftOut::NodeMissing),
    };
    let conditions = conditions(service, pod);
    let extra = EndpointExtra {
        hints: hints(service, conditions, zone.as_ref(), pod.node.as_ref()),
        zone,
        hostname: hostname(service, pod).cloned(),
        pod: Some(pod.name.name.clone()),
    };
    Ok(SliceEndpoint {
        address,
        conditions,
        node: pod.node.clone(),
        extra: Some(Arc::new(extra)),
    })
}

/// B-404, B-405: `serving` is the Pod's readiness; `publishNotReadyAddresses` overrides `ready` only.
fn conditions(service: &Service, pod: &Pod) -> Conditions {
    Conditions {
        ready: service.publish_not_ready_addresses || (pod.ready && !pod.terminating),
        serving: pod.ready,
        terminating: pod.terminating,
    }
}

/// B-408: only a Pod whose subdomain is the Service has a name of its own.
fn hostname<'a>(service: &Service, pod: &'a Pod) -> Option<&'a Name> {
    let hostname = pod.hostname.as_ref().filter(|name| !name.is_empty())?;
    (pod.subdomain.as_ref() == Some(&service.name.name)).then_some(hostname)
}

/// B-425: a ready endpoint is hinted to its own zone, and to its own node when asked for.
fn hints(
    service: &Service,
    conditions: Conditions,
    zone: Option<&Name>,
    node: Option<&Name>,
) -> Hints {
    let one = |name: Option<&Name>| -> Box<[Name]> { name.cloned().into_iter().collect() };
    if !conditions.ready || super::topology_mode_is_auto(service) {
        return Hints::default();
    }
    match service.traffic_distribution {
        None => Hints::default(),
        Some(TrafficDistribution::PreferSameZone) => Hints {
            zones: one(zone),
            nodes: Box::default(),
        },
        Some(TrafficDistribution::PreferSameNode) => Hints {
            zones: one(zone),
            nodes: one(node),
        },
    }
}
