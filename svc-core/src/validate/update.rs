//! What an update may change.

use alloc::vec::Vec;

use super::check::Check;
use super::cluster_ip::{check_cluster_ips_update, check_families_update};
use super::error::FieldError;
use super::service::{Allocation, check_service};
use super::view::View;
use crate::wire;

/// Every error of an update (B-361, B-362, and the rules of a new Service but for its name, B-366).
///
/// `after` has been prepared and defaulted, see [`super::update`].
pub fn service_update(
    before: &wire::Service,
    after: &wire::Service,
    allocation: Allocation,
) -> Vec<FieldError> {
    let mut check = Check::default();
    let old = View::stored(before);
    let new = View::of(after, &mut check);
    check_identity(&mut check, &old, &new);
    check_cluster_ips_update(&mut check, &old, &new);
    check_families_update(&mut check, &old, &new);
    if old.is_load_balancer()
        && new.is_load_balancer()
        && old.load_balancer_class != new.load_balancer_class
    {
        let class = new.load_balancer_class.unwrap_or("");
        check.invalid("spec.loadBalancerClass", class, "may not change once set");
    }
    if old.needs_health_check()
        && new.needs_health_check()
        && old.health_check_node_port != new.health_check_node_port
    {
        check.forbidden("spec.healthCheckNodePort", "may not change");
    }
    check_service(&mut check, &new, Some(&old), allocation);
    check.errors
}

fn check_identity(check: &mut Check, old: &View<'_>, new: &View<'_>) {
    if old.name != new.name {
        check.invalid("metadata.name", new.name, "may not change");
    }
    if old.namespace != new.namespace {
        check.invalid("metadata.namespace", new.namespace, "may not change");
    }
}
