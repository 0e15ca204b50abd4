//! What a Service keeps of what it was given when its manifest changes.

use std::net::IpAddr;

use svc_core::IpFamily;
use svc_core::object::{IpFamilyPolicy, Service, ServiceType, TrafficPolicy};

/// Takes over what a manifest leaves out, as far as its type has a use for it (B-367, B-369).
///
/// Anything else would be in use without anybody knowing: nothing claims a node port of a Service of
/// type ClusterIP, so the next Service may be given the same one.
pub(super) fn keep(before: &Service, after: &mut Service) {
    keep_cluster_ips(before, after);
    keep_node_ports(before, after);
    keep_health_check(before, after);
    keep_ingress(before, after);
}

fn keep_cluster_ips(before: &Service, after: &mut Service) {
    let has_none = after.headless || after.service_type == ServiceType::ExternalName;
    if has_none || !after.cluster_ips.is_empty() {
        return;
    }
    // Whoever leaves it out does not change it (B-395).
    let policy = after.ip_family_policy.or(before.ip_family_policy);
    let most = match policy {
        Some(IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack) => 2,
        Some(IpFamilyPolicy::SingleStack) | None => 1,
    };
    let fits = |(i, ip): &(usize, IpAddr)| {
        let family = after.ip_families.get(*i);
        family.is_none_or(|family| *family == IpFamily::of(*ip))
    };
    let all = before.cluster_ips.iter().copied().take(most).enumerate();
    let kept: Vec<IpAddr> = all.take_while(fits).map(|(_, ip)| ip).collect();
    if kept.is_empty() {
        return;
    }
    // Under a new policy the families are those of the addresses, and what it adds.
    if after.ip_families.is_empty() && policy == before.ip_family_policy {
        let families = before.ip_families.iter().copied();
        after.ip_families = families.take(most).collect();
    }
    after.ip_family_policy = policy;
    after.cluster_ips = kept;
}

fn keep_node_ports(before: &Service, after: &mut Service) {
    if !gets_node_ports(before) || !gets_node_ports(after) {
        return;
    }
    let given = after.ports.iter();
    let given: Vec<_> = given.map(|port| (port.protocol, port.node_port)).collect();
    for port in after.ports.iter_mut().filter(|p| p.node_port.is_none()) {
        let mut old = before.ports.iter();
        let old = old.find(|old| (&old.name, old.protocol) == (&port.name, port.protocol));
        port.node_port = old
            .and_then(|old| old.node_port)
            // What the manifest gives to some port is not handed to another one.
            .filter(|number| !given.contains(&(port.protocol, Some(*number))));
    }
}

/// Whether ports without a node port get one (B-392).
fn gets_node_ports(service: &Service) -> bool {
    match service.service_type {
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => service.allocate_load_balancer_node_ports != Some(false),
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    }
}

fn keep_health_check(before: &Service, after: &mut Service) {
    let needed = |service: &Service| {
        service.service_type == ServiceType::LoadBalancer
            && service.external_traffic_policy == TrafficPolicy::Local
    };
    if needed(before) && needed(after) && after.health_check_node_port.is_none() {
        after.health_check_node_port = before.health_check_node_port;
    }
}

fn keep_ingress(before: &Service, after: &mut Service) {
    let class = |service: &Service| {
        let extra = service.extra.as_deref();
        extra.and_then(|extra| extra.load_balancer_class.clone())
    };
    let balanced = ServiceType::LoadBalancer;
    if after.ingress.is_empty()
        && before.service_type == balanced
        && after.service_type == balanced
        // The provider of another class does not know of the address.
        && class(before) == class(after)
    {
        after.ingress.clone_from(&before.ingress);
    }
}
