//! Which address families the slices of a Service have.

use alloc::vec::Vec;

use crate::net::IpFamily;
use crate::object::Service;

/// Families of the slices of a Service, IPv4 first (B-400).
///
/// `spec.ipFamilies` decides. An older object without it has the family of its ClusterIP; without
/// an address either (headless, or not allocated yet) it has both.
pub fn families(service: &Service) -> Vec<IpFamily> {
    let mut families: Vec<IpFamily> = if !service.ip_families.is_empty() {
        service.ip_families.clone()
    } else if let Some(first) = service.cluster_ips.first() {
        [IpFamily::of(*first)].into()
    } else {
        IpFamily::ALL.into()
    };
    families.sort_unstable();
    families.dedup();
    families
}
