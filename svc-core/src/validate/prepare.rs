//! What the API server changes in a Service before it validates it (B-367 to B-369).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use super::defaults::is_externally_accessible;
use crate::wire::{Field, Service, ServicePort, ServiceSpec};

/// Copies `clusterIP` to `clusterIPs` where a client set or changed one of them alone (B-368).
///
/// `before` is the stored Service on an update. The other way round nothing is copied: whoever knows
/// `clusterIPs` has to set both.
pub fn link_cluster_ips(before: Option<&Service>, after: &mut Service) {
    let Field::Value(after) = &mut after.spec else {
        return;
    };
    let Some(before) = before.map(|before| before.spec.value()) else {
        if !after.cluster_ip.text().is_empty() && is_empty(&after.cluster_ips) {
            after.cluster_ips = Field::Value([after.cluster_ip.clone()].into());
        }
        return;
    };
    let nothing = ServiceSpec::default();
    let before = before.unwrap_or(&nothing);
    let single_same = before.cluster_ip.text() == after.cluster_ip.text();
    if !is_empty(&before.cluster_ips) && is_empty(&after.cluster_ips) && single_same {
        after.cluster_ips = before.cluster_ips.clone();
    }
    if !single_same && texts(&before.cluster_ips) == texts(&after.cluster_ips) {
        after.cluster_ips = match after.cluster_ip.text() {
            "" => Field::Unset,
            _ => Field::Value([after.cluster_ip.clone()].into()),
        };
    }
}

/// Drops what the new type has no use for and takes over what the update leaves out.
///
/// Fields are dropped only if the update did not change them (B-367); addresses and ports are taken
/// over only if both types have them (B-369).
pub fn prepare_update(before: &Service, after: &mut Service) {
    link_cluster_ips(Some(before), after);
    let Some(old) = before.spec.value() else {
        return;
    };
    let Field::Value(new) = &mut after.spec else {
        return;
    };
    take_over(old, new);
    drop_cluster_ips(old, new);
    drop_node_ports(old, new);
    drop_load_balancer_fields(old, new);
    if new.service_type.text() != "LoadBalancer"
        && let Field::Value(status) = &mut after.status
    {
        status.load_balancer = Field::Unset;
    }
}

fn take_over(old: &ServiceSpec, new: &mut ServiceSpec) {
    if has_cluster_ip(old) && has_cluster_ip(new) {
        if new.cluster_ip.text().is_empty() {
            new.cluster_ip = old.cluster_ip.clone();
        }
        if is_empty(&new.cluster_ips) && !is_empty(&old.cluster_ips) {
            new.cluster_ips = old.cluster_ips.clone();
        }
    }
    if has_node_ports(old) && has_node_ports(new) {
        let (in_old, in_new) = (node_ports(old), node_ports(new));
        let by_name: BTreeMap<&str, i64> = old
            .ports
            .members()
            .map(|port| (port.name.text(), node_port(port)))
            .collect();
        for port in members_mut(&mut new.ports) {
            let known = by_name.get(port.name.text()).copied().unwrap_or(0);
            // A number that the update gives to some port is not handed to another one.
            let used = in_old.contains(&known) && in_new.contains(&known);
            if node_port(port) == 0 && known != 0 && !used {
                port.node_port = Field::Value(known);
            }
        }
    }
    if needs_health_check(old)
        && needs_health_check(new)
        && new
            .health_check_node_port
            .value()
            .is_none_or(|port| *port == 0)
    {
        new.health_check_node_port = old.health_check_node_port.clone();
    }
}

fn drop_cluster_ips(old: &ServiceSpec, new: &mut ServiceSpec) {
    if !has_cluster_ip(old) || has_cluster_ip(new) {
        return;
    }
    if old.cluster_ip.text() == new.cluster_ip.text()
        && texts(&old.cluster_ips) == texts(&new.cluster_ips)
    {
        new.cluster_ip = Field::Unset;
        new.cluster_ips = Field::Unset;
    }
    if texts(&old.ip_families) == texts(&new.ip_families) {
        new.ip_families = Field::Unset;
    }
    if old.ip_family_policy.text() == new.ip_family_policy.text() {
        new.ip_family_policy = Field::Unset;
    }
}

fn drop_node_ports(old: &ServiceSpec, new: &mut ServiceSpec) {
    if has_node_ports(old) && !has_node_ports(new) && node_ports(new).is_subset(&node_ports(old)) {
        for port in members_mut(&mut new.ports) {
            port.node_port = Field::Unset;
        }
    }
    if needs_health_check(old)
        && !needs_health_check(new)
        && old.health_check_node_port == new.health_check_node_port
    {
        new.health_check_node_port = Field::Unset;
    }
}

fn drop_load_balancer_fields(old: &ServiceSpec, new: &mut ServiceSpec) {
    let is_load_balancer = |spec: &ServiceSpec| spec.service_type.text() == "LoadBalancer";
    if is_load_balancer(old) && !is_load_balancer(new) {
        if old.allocate_load_balancer_node_ports == new.allocate_load_balancer_node_ports {
            new.allocate_load_balancer_node_ports = Field::Unset;
        }
        if old.load_balancer_class == new.load_balancer_class {
            new.load_balancer_class = Field::Unset;
        }
    }
    if is_externally_accessible(old)
        && !is_externally_accessible(new)
        && old.external_traffic_policy.text() == new.external_traffic_policy.text()
    {
        new.external_traffic_policy = Field::Unset;
    }
}

fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    spec.service_type.text() != "ExternalName"
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    ["NodePort", "LoadBalancer"].contains(&spec.service_type.text())
}

fn needs_health_check(spec: &ServiceSpec) -> bool {
    spec.service_type.text() == "LoadBalancer" && spec.external_traffic_policy.text() == "Local"
}

fn node_ports(spec: &ServiceSpec) -> BTreeSet<i64> {
    let ports = spec.ports.members().map(node_port);
    ports.filter(|port| *port != 0).collect()
}

fn node_port(port: &ServicePort) -> i64 {
    port.node_port.value().copied().unwrap_or(0)
}

fn members_mut(
    ports: &mut Field<Vec<Field<ServicePort>>>,
) -> impl Iterator<Item = &mut ServicePort> {
    let members = match ports {
        Field::Value(members) => members.as_mut_slice(),
        Field::Unset | Field::Wrong(_) => &mut [],
    };
    members.iter_mut().filter_map(|member| match member {
        Field::Value(port) => Some(port),
        Field::Unset | Field::Wrong(_) => None,
    })
}

fn is_empty(list: &Field<Vec<Field<String>>>) -> bool {
    list.value().is_none_or(Vec::is_empty)
}

fn texts(list: &Field<Vec<Field<String>>>) -> Vec<&str> {
    let members = list.value().map_or(&[][..], Vec::as_slice);
    members.iter().map(Field::text).collect()
}
