//! ClusterIPs, their families and the policy (B-358 to B-362).

use alloc::collections::BTreeSet;

use super::address::{check_ip, is_ipv4};
use super::check::Check;
use super::view::{NONE, View};

const IPS: &str = "spec.clusterIPs";
const FAMILIES: &str = "spec.ipFamilies";
const POLICY: &str = "spec.ipFamilyPolicy";
pub(super) const IP_FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];

/// `stored` are the addresses of the Service before an update.
pub(super) fn check_cluster_ips(check: &mut Check, view: &View<'_>, stored: &[&str]) {
    // Type ExternalName has none of these fields at all, see `check_external_name`.
    if view.is_external_name() {
        return;
    }
    check_linked(check, view);
    check_families(check, view);
    let ips = &view.cluster_ips[..];
    let mut malformed = false;
    for (i, ip) in ips.iter().enumerate() {
        if i == 0 && *ip == NONE {
            if ips.len() > 1 {
                malformed = true;
                check.invalid(IPS, ips, "None must be the only value");
            }
            continue;
        }
        malformed |= !check_ip(check, format_args!("{IPS}[{i}]"), ip, stored);
    }
    if ips.len() > 2 {
        check.invalid(IPS, ips, "at most 2 values");
    }
    // What follows would only be noise on malformed values.
    if malformed {
        return;
    }
    if ips.len() > 1 && !is_dual_stack(ips) {
        check.invalid(IPS, ips, "at most one address of each family");
    }
    if view.is_headless() {
        return;
    }
    for (i, (ip, family)) in ips.iter().zip(&view.ip_families).enumerate() {
        let wrong = match (*family, is_ipv4(ip)) {
            ("IPv4", false) => "must be IPv4, as the entry of ipFamilies says",
            ("IPv6", true) => "must be IPv6, as the entry of ipFamilies says",
            _ => continue,
        };
        check.invalid(format_args!("{IPS}[{i}]"), *ip, wrong);
    }
}

/// An ExternalName has no addresses, but a name (B-338, B-339).
pub(super) fn check_external_name(check: &mut Check, view: &View<'_>) {
    let detail = "not of type ExternalName";
    if !view.cluster_ips.is_empty() {
        check.forbidden(IPS, detail);
    }
    if !view.ip_families.is_empty() {
        check.forbidden(FAMILIES, detail);
    }
    if view.ip_family_policy.is_some() {
        check.forbidden(POLICY, detail);
    }
    let path = "spec.externalName";
    let name = view.external_name;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        check.required(path, "a DNS name");
    } else if let Some(wrong) = super::text::dns_subdomain(name) {
        check.invalid(path, name, wrong);
    }
}

/// B-361: addresses stay, but for a second one that comes, or goes with policy SingleStack.
pub(super) fn check_cluster_ips_update(check: &mut Check, before: &View<'_>, after: &View<'_>) {
    if before.is_external_name()
        || after.is_external_name()
        || (before.is_headless() && after.is_headless())
    {
        return;
    }
    let (old, new) = (&before.cluster_ips[..], &after.cluster_ips[..]);
    let first = format_first(IPS);
    if old.len() == new.len() {
        for (i, (old, new_ip)) in old.iter().zip(new).enumerate() {
            if old != new_ip {
                check.invalid(format_args!("{IPS}[{i}]"), new, "may not change once set");
            }
        }
        return;
    }
    if old.len() > new.len() && new.is_empty() {
        check.invalid(&first, new, "the primary address may not be taken away");
    }
    if let (Some(old), Some(new_ip)) = (old.first(), new.first())
        && old != new_ip
    {
        check.invalid(&first, new, "may not change once set");
    }
    if old.len() > new.len() && new.len() == 1 {
        check_released(check, after, "the secondary address");
    }
}

/// B-362: families stay, with the same exceptions, and when a Service becomes headless or ceases to be.
pub(super) fn check_families_update(check: &mut Check, before: &View<'_>, after: &View<'_>) {
    if before.is_external_name()
        || after.is_external_name()
        || before.is_headless()
        || after.is_headless()
    {
        return;
    }
    let (old, new) = (&before.ip_families[..], &after.ip_families[..]);
    let first = format_first(FAMILIES);
    if old.len() == new.len() {
        for (i, (old, new_family)) in old.iter().zip(new).enumerate() {
            if old != new_family {
                check.invalid(
                    format_args!("{FAMILIES}[{i}]"),
                    new,
                    "may not change once set",
                );
            }
        }
        return;
    }
    if old.len() > new.len() && new.is_empty() {
        check.invalid(&first, new, "the primary family may not be taken away");
    }
    if let (Some(old), Some(new_family)) = (old.first(), new.first())
        && old != new_family
    {
        check.invalid(&first, new, "may not change once set");
    }
    if old.len() > new.len() && new.len() == 1 {
        check_released(check, after, "the secondary family");
    }
}

fn check_released(check: &mut Check, after: &View<'_>, what: &str) {
    if after.ip_family_policy != Some("SingleStack") {
        let detail = alloc::format!("must be SingleStack to release {what}");
        check.invalid(POLICY, after.ip_family_policy.unwrap_or(""), &detail);
    }
}

fn format_first(path: &str) -> alloc::string::String {
    alloc::format!("{path}[0]")
}

/// `clusterIP` is the first of `clusterIPs` (B-358).
fn check_linked(check: &mut Check, view: &View<'_>) {
    let ips = &view.cluster_ips[..];
    match (view.cluster_ip, ips.first()) {
        ("", None) => {}
        ("", Some(_)) => check.invalid(IPS, ips, "must be empty when clusterIP is"),
        (_, None) => check.required(IPS, "the value of clusterIP"),
        (single, Some(first)) => {
            if single != *first {
                check.invalid(IPS, ips, "the first value must be that of clusterIP");
            }
        }
    }
}

/// B-360.
fn check_families(check: &mut Check, view: &View<'_>) {
    let mut seen = BTreeSet::new();
    for (i, family) in view.ip_families.iter().enumerate() {
        if !IP_FAMILIES.contains(family) {
            check.not_supported(format_args!("{FAMILIES}[{i}]"), family, &IP_FAMILIES);
        }
        if !seen.insert(family) {
            check.duplicate(format_args!("{FAMILIES}[{i}]"), *family);
        }
    }
    if let Some(policy) = view.ip_family_policy
        && !POLICIES.contains(&policy)
    {
        check.not_supported(POLICY, policy, &POLICIES);
    }
}

fn is_dual_stack(ips: &[&str]) -> bool {
    let v4 = ips.iter().filter(|ip| is_ipv4(ip)).count();
    v4 > 0 && v4 < ips.len()
}
