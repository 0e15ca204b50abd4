//! The rules of a Service, new or updated.

use alloc::vec::Vec;

use super::address::{check_ip, check_not_special};
use super::check::Check;
use super::cluster_ip::{check_cluster_ips, check_external_name};
use super::error::FieldError;
use super::metadata::{check_labels, check_labels_and_annotations, check_metadata};
use super::policy::{
    check_affinity, check_distribution, check_external_traffic, check_internal_traffic,
    check_load_balancer, check_source_ranges, check_topology_annotations,
};
use super::port::{check_port_sets, check_ports};
use super::text::dns_label;
use super::view::View;
use crate::wire;

const TYPES: [&str; 4] = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

/// Whether addresses and ports have been allocated already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocation {
    /// Not yet: a health-check node port may be missing.
    Pending,
    /// Yes, as when the API server validates (B-354).
    Done,
}

/// Every error of a new Service, which has been defaulted (B-336 to B-360, B-365, B-366).
pub fn service(service: &wire::Service, allocation: Allocation) -> Vec<FieldError> {
    let mut check = Check::default();
    let view = View::of(service, &mut check);
    check_metadata(&mut check, &view, dns_label);
    check_service(&mut check, &view, None, allocation);
    check.errors
}

/// All but the name; `before` is the Service before an update.
pub(super) fn check_service(
    check: &mut Check,
    view: &View<'_>,
    before: Option<&View<'_>>,
    allocation: Allocation,
) {
    if before.is_some() {
        check_labels_and_annotations(check, view);
    }
    check_topology_annotations(check, view);
    if view.ports.is_empty() && !view.is_headless() && !view.is_external_name() {
        check.required("spec.ports", "at least one port");
    }
    match view.service_type {
        "LoadBalancer" | "NodePort" if view.is_headless() => {
            let detail = "not None of type LoadBalancer or NodePort";
            check.invalid("spec.clusterIPs[0]", view.cluster_ips[0], detail);
        }
        "ExternalName" => check_external_name(check, view),
        _ => {}
    }
    check_ports(check, view);
    check_labels(check, view.selector, "spec.selector");
    check_affinity(check, view);
    let stored = before.map_or(&[][..], |before| &before.cluster_ips);
    check_cluster_ips(check, view, stored);
    check_external_ips(check, view, before);
    match view.service_type {
        "" => check.required("spec.type", "a type"),
        known if TYPES.contains(&known) => {}
        other => check.not_supported("spec.type", other, &TYPES),
    }
    check_port_sets(check, view);
    check_source_ranges(check, view, before);
    check_load_balancer(check, view);
    check_external_traffic(check, view, allocation);
    check_internal_traffic(check, view);
    check_distribution(check, view);
}

/// B-348.
fn check_external_ips(check: &mut Check, view: &View<'_>, before: Option<&View<'_>>) {
    let stored = before.map_or(&[][..], |before| &before.external_ips);
    for (i, ip) in view.external_ips.iter().enumerate() {
        let path = alloc::format!("spec.externalIPs[{i}]");
        if check_ip(check, &path, ip, stored) {
            check_not_special(check, &path, ip);
        }
    }
}
