//! `status.loadBalancer` of a Service (B-364).

use alloc::format;
use alloc::vec::Vec;

use super::address::{check_ip, is_ip};
use super::check::Check;
use super::error::FieldError;
use super::text::dns_subdomain;
use super::view::View;
use crate::wire;

/// Every error of the status of a Service.
pub fn service_status(service: &wire::Service) -> Vec<FieldError> {
    let mut check = Check::default();
    let view = View::stored(service);
    let status = check.value(&service.status, "status");
    let Some(balancer) =
        status.and_then(|status| check.value(&status.load_balancer, "status.loadBalancer"))
    else {
        return check.errors;
    };
    let path = "status.loadBalancer.ingress";
    let ingress = check
        .value(&balancer.ingress, path)
        .map_or(&[][..], Vec::as_slice);
    if !view.is_load_balancer() && !ingress.is_empty() {
        check.forbidden(path, "only of type LoadBalancer");
    }
    for (i, entry) in ingress.iter().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(entry) = check.value(entry, &path) {
            check_ingress(&mut check, entry, &path);
        }
    }
    check.errors
}

fn check_ingress(check: &mut Check, entry: &wire::Ingress, path: &str) {
    let ip = check.text(&entry.ip, format_args!("{path}.ip"));
    if !ip.is_empty() {
        check_ip(check, format_args!("{path}.ip"), ip, &[]);
    }
    let mode_path = format!("{path}.ipMode");
    match (ip, check.value(&entry.ip_mode, &mode_path)) {
        ("", Some(_)) => check.forbidden(mode_path, "not without an ip"),
        ("", None) => {}
        (_, None) => check.required(mode_path, "VIP or Proxy"),
        (_, Some(mode)) => {
            if !["VIP", "Proxy"].contains(&mode.as_str()) {
                check.not_supported(mode_path, mode, &["Proxy", "VIP"]);
            }
        }
    }
    let hostname_path = format!("{path}.hostname");
    let hostname = check.text(&entry.hostname, &hostname_path);
    if hostname.is_empty() {
        return;
    }
    if let Some(wrong) = dns_subdomain(hostname) {
        check.invalid(&hostname_path, hostname, wrong);
    }
    if is_ip(hostname) {
        check.invalid(
            hostname_path,
            hostname,
            "must be a DNS name, not an address",
        );
    }
}
