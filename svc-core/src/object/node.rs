use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::name::Name;
use crate::net::IpFamily;

/// A Node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `metadata.name`.
    pub name: Name,
    /// `status.addresses` that are addresses, InternalIP ones first, in their order.
    pub addresses: Vec<IpAddr>,
    /// `spec.podCIDRs` (or `spec.podCIDR`).
    pub pod_cidrs: Vec<IpNet>,
    /// Label `topology.kubernetes.io/zone`, when not empty (B-082).
    pub zone: Option<Name>,
    /// Whether load balancers may send traffic here.
    pub eligibility: NodeEligibility,
    /// Value of condition `Ready`; true when the condition is missing.
    pub ready: bool,
    /// `status.allocatable.cpu` in thousandths of a CPU, for topology hints (B-426).
    pub allocatable_cpu_milli: Option<u64>,
    /// Whether a control-plane label keeps the Node out of topology hints (B-426).
    pub control_plane: bool,
}

/// Whether load balancers may send traffic to a Node (B-217).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeEligibility {
    /// Nothing speaks against it.
    #[default]
    Eligible,
    /// `metadata.deletionTimestamp` is set.
    BeingDeleted,
    /// The taint `ToBeDeletedByClusterAutoscaler` is set.
    ToBeScaledDown,
}

impl Node {
    /// A Node with nothing but a name.
    pub fn named(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            addresses: Vec::new(),
            pod_cidrs: Vec::new(),
            zone: None,
            eligibility: NodeEligibility::Eligible,
            ready: true,
            allocatable_cpu_milli: None,
            control_plane: false,
        }
    }

    /// The primary address of a family: the first one listed.
    pub fn primary(&self, family: IpFamily) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|ip| IpFamily::of(*ip) == family)
    }
}
