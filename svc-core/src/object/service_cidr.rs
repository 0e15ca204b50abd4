use alloc::vec::Vec;

use ipnet::IpNet;

use crate::name::Name;

/// A ServiceCIDR: ranges that ClusterIPs come from (B-037).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    /// `metadata.name`.
    pub name: Name,
    /// `spec.cidrs`.
    pub cidrs: Vec<IpNet>,
    /// Condition `Ready`; addresses are allocated from ready ranges only (B-381).
    pub ready: bool,
    /// Whether `metadata.deletionTimestamp` is set.
    pub terminating: bool,
}
