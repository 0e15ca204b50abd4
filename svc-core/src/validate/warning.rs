//! What works, but surely not as meant, or not for long (B-370).

use alloc::format;
use alloc::vec::Vec;

use super::address::{canonical_ip, strict_cidr, strict_ip};
use super::check::Check;
use super::error::FieldError;
use super::view::View;
use crate::net::parse_cidr;
use crate::wire;
use crate::wire::quoted::quoted;

/// The warnings that a client sees on creating or updating a Service.
pub fn service_warnings(service: &wire::Service) -> Vec<FieldError> {
    let mut check = Check::default();
    let view = View::stored(service);
    let hints = "service.kubernetes.io/topology-aware-hints";
    if view.annotation(hints).is_some() {
        let detail = "deprecated, use service.kubernetes.io/topology-mode";
        check.warning(format_args!("metadata.annotations[{hints}]"), detail);
    }
    if view.is_headless() && view.service_type == "ClusterIP" {
        warn_headless(&mut check, &view);
    } else {
        for (i, ip) in view.cluster_ips.iter().enumerate() {
            warn_ip(&mut check, &format!("spec.clusterIPs[{i}]"), ip);
        }
        if !view.external_ips.is_empty() && !view.is_external_name() {
            let detail = "deprecated, and not implemented in every cluster";
            check.warning("spec.externalIPs", detail);
        }
    }
    for (i, ip) in view.external_ips.iter().enumerate() {
        warn_ip(&mut check, &format!("spec.externalIPs[{i}]"), ip);
    }
    warn_ip(&mut check, "spec.loadBalancerIP", view.load_balancer_ip);
    for (i, range) in view.source_ranges.iter().enumerate() {
        warn_cidr(
            &mut check,
            &format!("spec.loadBalancerSourceRanges[{i}]"),
            range.trim(),
        );
    }
    if view.is_external_name() && !view.external_ips.is_empty() {
        check.warning("spec.externalIPs", "ignored of type ExternalName");
    }
    if !view.is_external_name() && !view.external_name.is_empty() {
        check.warning(
            "spec.externalName",
            "ignored of other types than ExternalName",
        );
    }
    if view.traffic_distribution == Some("PreferClose") {
        let detail = "PreferClose is deprecated, use PreferSameZone";
        check.warning("spec.trafficDistribution", detail);
    }
    check.errors
}

fn warn_headless(check: &mut Check, view: &View<'_>) {
    let ignored = "ignored of a headless Service";
    if !view.load_balancer_ip.is_empty() {
        check.warning("spec.loadBalancerIP", ignored);
    }
    if !view.external_ips.is_empty() {
        check.warning("spec.externalIPs", ignored);
    }
    if !["", "None"].contains(&view.session_affinity) {
        check.warning("spec.sessionAffinity", ignored);
    }
}

fn warn_ip(check: &mut Check, path: &str, text: &str) {
    let Some(ip) = canonical_ip(text) else {
        return;
    };
    let detail = match strict_ip(text) {
        None => format!("{} will be refused some day, use {ip}", quoted(text)),
        Some(_) => format!("{} should be written {ip}", quoted(text)),
    };
    check.warning(path, &detail);
}

fn warn_cidr(check: &mut Check, path: &str, text: &str) {
    use alloc::string::ToString;
    let Some(net) = parse_cidr(text) else {
        return;
    };
    let detail = match strict_cidr(text) {
        None => format!("{} will be refused some day, use {net}", quoted(text)),
        Some(strict) if strict != net => {
            let host = strict.addr();
            format!("{} is ambiguous: {net}, or {host} alone?", quoted(text))
        }
        Some(strict) if strict.to_string() != text => {
            format!("{} should be written {strict}", quoted(text))
        }
        Some(_) => return,
    };
    check.warning(path, &detail);
}
