//! Affinity, traffic policies and load-balancer fields (B-347, B-350 to B-357).

use alloc::format;

use super::address::check_cidr;
use super::check::Check;
use super::service::Allocation;
use super::text::{port_number, qualified_name};
use super::view::View;

const POLICIES: [&str; 2] = ["Cluster", "Local"];
const DISTRIBUTIONS: [&str; 3] = ["PreferClose", "PreferSameNode", "PreferSameZone"];
const SOURCE_RANGES: &str = "spec.loadBalancerSourceRanges";
/// The annotation that came before the field.
const SOURCE_RANGES_KEY: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const TOPOLOGY_MODE_KEY: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS_KEY: &str = "service.kubernetes.io/topology-aware-hints";
const ONLY_LOAD_BALANCER: &str = "only of type LoadBalancer";

/// B-347.
pub(super) fn check_affinity(check: &mut Check, view: &View<'_>) {
    let path = "spec.sessionAffinity";
    let config = "spec.sessionAffinityConfig";
    match view.session_affinity {
        "" => check.required(path, "None or ClientIP"),
        "None" => {
            if view.affinity_config.is_some() {
                check.forbidden(config, "not without session affinity");
            }
        }
        "ClientIP" => {
            let Some(affinity) = &view.affinity_config else {
                return check.required(config, "the configuration of ClientIP");
            };
            let config = format!("{config}.clientIP");
            let Some(client_ip) = &affinity.client_ip else {
                return check.required(config, "the configuration of ClientIP");
            };
            let config = format!("{config}.timeoutSeconds");
            match client_ip.timeout_seconds {
                None => check.required(config, "a time in seconds"),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    check.invalid(config, seconds, "between 1 and 86400");
                }
                Some(_) => {}
            }
        }
        other => check.not_supported(path, other, &["ClientIP", "None"]),
    }
}

/// B-350; `before` is the Service before an update.
pub(super) fn check_source_ranges(check: &mut Check, view: &View<'_>, before: Option<&View<'_>>) {
    if !view.source_ranges.is_empty() {
        if !view.is_load_balancer() {
            check.forbidden(SOURCE_RANGES, ONLY_LOAD_BALANCER);
        }
        let stored = before.map_or(&[][..], |before| &before.source_ranges);
        for (i, range) in view.source_ranges.iter().enumerate() {
            if !stored.contains(range) {
                // They may be padded, as they were in the annotation.
                check_cidr(
                    check,
                    format_args!("{SOURCE_RANGES}[{i}]"),
                    range.trim(),
                    &[],
                );
            }
        }
        return;
    }
    let Some(ranges) = view.annotation(SOURCE_RANGES_KEY) else {
        return;
    };
    if before.and_then(|before| before.annotation(SOURCE_RANGES_KEY)) == Some(ranges) {
        return;
    }
    let path = format!("metadata.annotations[{SOURCE_RANGES_KEY}]");
    if !view.is_load_balancer() {
        check.forbidden(&path, ONLY_LOAD_BALANCER);
    }
    if !ranges.trim().is_empty() {
        for range in ranges.split(',') {
            check_cidr(check, &path, range.trim(), &[]);
        }
    }
}

/// B-351, B-352.
pub(super) fn check_load_balancer(check: &mut Check, view: &View<'_>) {
    let allocate = "spec.allocateLoadBalancerNodePorts";
    match (view.is_load_balancer(), view.allocate_node_ports) {
        (false, Some(_)) => check.forbidden(allocate, ONLY_LOAD_BALANCER),
        (true, None) => check.required(allocate, "true or false"),
        (true, Some(_)) | (false, None) => {}
    }
    let path = "spec.loadBalancerClass";
    match (view.is_load_balancer(), view.load_balancer_class) {
        (false, Some(_)) => check.forbidden(path, ONLY_LOAD_BALANCER),
        (true, Some(class)) => {
            if let Some(wrong) = qualified_name(class) {
                check.invalid(path, class, wrong);
            }
        }
        (true | false, None) => {}
    }
}

/// B-353, B-354.
pub(super) fn check_external_traffic(check: &mut Check, view: &View<'_>, allocation: Allocation) {
    let path = "spec.externalTrafficPolicy";
    let policy = view.external_traffic_policy;
    match (view.is_externally_accessible(), policy) {
        (false, "") | (true, "Cluster" | "Local") => {}
        (false, _) => check.invalid(path, policy, "only of a Service reachable from outside"),
        (true, "") => check.required(path, "Cluster or Local"),
        (true, _) => check.not_supported(path, policy, &POLICIES),
    }
    let path = "spec.healthCheckNodePort";
    let port = view.health_check_node_port;
    match (view.needs_health_check(), port) {
        (false, 0) => {}
        (false, _) => {
            let detail = "only of type LoadBalancer with externalTrafficPolicy Local";
            check.invalid(path, port, detail);
        }
        (true, 0) => match allocation {
            Allocation::Pending => {}
            Allocation::Done => check.required(path, "a port"),
        },
        (true, _) => {
            if let Some(wrong) = port_number(port) {
                check.invalid(path, port, wrong);
            }
        }
    }
}

/// B-355.
pub(super) fn check_internal_traffic(check: &mut Check, view: &View<'_>) {
    let path = "spec.internalTrafficPolicy";
    match view.internal_traffic_policy {
        None => {
            if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&view.service_type) {
                check.required(path, "Cluster or Local");
            }
        }
        Some(policy) if !POLICIES.contains(&policy) => {
            check.not_supported(path, policy, &POLICIES);
        }
        Some(_) => {}
    }
}

/// B-356.
pub(super) fn check_distribution(check: &mut Check, view: &View<'_>) {
    if let Some(distribution) = view.traffic_distribution
        && !DISTRIBUTIONS.contains(&distribution)
    {
        check.not_supported("spec.trafficDistribution", distribution, &DISTRIBUTIONS);
    }
}

/// B-357.
pub(super) fn check_topology_annotations(check: &mut Check, view: &View<'_>) {
    if let (Some(mode), Some(hints)) = (
        view.annotation(TOPOLOGY_MODE_KEY),
        view.annotation(TOPOLOGY_HINTS_KEY),
    ) && mode != hints
    {
        let path = format_args!("metadata.annotations[{TOPOLOGY_MODE_KEY}]");
        let detail = format!("must be that of {TOPOLOGY_HINTS_KEY}, as both are set");
        check.invalid(path, mode, &detail);
    }
}
