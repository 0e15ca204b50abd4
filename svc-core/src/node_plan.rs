//! The node-wide part of a plan.

mod resolve;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::name::Name;
use crate::net::IpFamily;
use crate::plan::Origin;

pub use resolve::NodeConfig;

/// What concerns the node and no Service in particular, in one family.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct NodePlan {
    /// Name of the node; with an empty one no endpoint is local (B-072).
    pub name: Name,
    /// Zone of the node, for topology hints (B-076).
    pub zone: Option<Name>,
    /// Addresses of the node, sorted, without loopback.
    pub addresses: Box<[IpAddr]>,
    /// The one address that counts for the node exception of source ranges (B-139).
    pub primary: Option<IpAddr>,
    /// How pods are told from other sources (B-166).
    pub local_detector: LocalDetector,
    /// Which connections to a ClusterIP are masqueraded.
    pub cluster_ip_masquerade: ClusterIpMasquerade,
    /// Where node ports are served.
    pub node_ports: NodePorts,
    /// Ranges of ClusterIPs, sorted, disjoint (B-037).
    pub service_cidrs: Box<[IpNet]>,
    /// What happens to a port that a ClusterIP does not have (B-032).
    pub unknown_port: Unserved,
    /// What happens to an address of [`Self::service_cidrs`] that no Service has (B-033).
    pub unallocated: Unserved,
    /// Whether a Service without endpoints heeds its source ranges (B-143).
    pub empty_source_ranges: EmptySourceRanges,
}

/// How traffic of pods is recognised (B-166 to B-170).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum LocalDetector {
    /// Not at all (B-098, B-107).
    None,
    /// The source is inside the prefix.
    Cidr(IpNet),
    /// The packet came in through this interface.
    Bridge(Name),
    /// The packet came in through an interface whose name starts so.
    InterfacePrefix(Name),
}

/// Which connections to a ClusterIP are masqueraded (B-097 to B-099).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum ClusterIpMasquerade {
    /// None: there is no local detector (B-098).
    Never,
    /// Those that do not come from a pod (B-097).
    NotFromPods,
    /// All (B-099).
    Always,
}

/// Where node ports are served (B-118 to B-128).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct NodePorts {
    /// Node addresses, sorted, without loopback.
    pub addresses: Box<[IpAddr]>,
    /// Whether the configuration says "every local address"; a backend may then ask the kernel
    /// instead of listing [`Self::addresses`] (B-123).
    pub every_local_address: bool,
    /// Whether 127.0.0.0/8 serves node ports too (B-125); IPv4 and iptables only.
    pub localhost: bool,
    /// Where a node port without endpoints refuses (B-129).
    pub refused_at: RefusedAt,
}

/// Where a node port without endpoints refuses connections (B-129).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum RefusedAt {
    /// At the addresses that serve node ports.
    NodePortAddresses,
    /// At every address of the node.
    EveryLocalAddress,
}

/// What happens to packets inside the service range that no front end takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Unserved {
    /// They pass, as if there were no proxy.
    Pass,
    /// They are refused.
    Reject,
    /// They are dropped.
    Drop,
}

/// Whether source ranges count for a Service that has no endpoints (B-143).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum EmptySourceRanges {
    /// Sources outside are dropped, sources inside refused.
    Heeded,
    /// Everybody is refused.
    Ignored,
}

impl NodePlan {
    /// A node that knows nothing: no detector, no node ports, no service ranges.
    pub fn bare(name: impl Into<Name>) -> Self {
        Self {
            name: name.into(),
            zone: None,
            addresses: Box::default(),
            primary: None,
            local_detector: LocalDetector::None,
            cluster_ip_masquerade: ClusterIpMasquerade::Never,
            node_ports: NodePorts {
                addresses: Box::default(),
                every_local_address: false,
                localhost: false,
                refused_at: RefusedAt::NodePortAddresses,
            },
            service_cidrs: Box::default(),
            unknown_port: Unserved::Reject,
            unallocated: Unserved::Drop,
            empty_source_ranges: EmptySourceRanges::Heeded,
        }
    }

    /// Whether an address belongs to the node, loopback included.
    pub fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.binary_search(&ip).is_ok()
    }

    /// Where a packet comes from (B-108: pods first, then the node).
    ///
    /// `interface` is the input interface, `None` for packets that the node itself sends (B-169).
    pub fn origin(&self, source: IpAddr, interface: Option<&str>) -> Origin {
        let pod = match &self.local_detector {
            LocalDetector::None => false,
            LocalDetector::Cidr(net) => net.contains(&source),
            LocalDetector::Bridge(name) => interface == Some(name),
            LocalDetector::InterfacePrefix(prefix) => {
                interface.is_some_and(|name| name.starts_with(&**prefix))
            }
        };
        if pod {
            Origin::Pod
        } else if self.is_local(source) {
            Origin::Node
        } else {
            Origin::External
        }
    }
}

impl NodePorts {
    /// Whether node ports are served at a local address.
    pub fn serve(&self, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(v4) if v4.is_loopback() => self.localhost,
            IpAddr::V4(_) | IpAddr::V6(_) => self.addresses.binary_search(&ip).is_ok(),
        }
    }
}

/// The loopback range of IPv4.
pub(crate) fn loopback_v4() -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))
}

/// Sorts, drops duplicates and the other family.
pub(crate) fn sorted_of(family: IpFamily, ips: impl IntoIterator<Item = IpAddr>) -> Box<[IpAddr]> {
    let mut ips: Vec<IpAddr> = ips
        .into_iter()
        .filter(|ip| IpFamily::of(*ip) == family && !ip.is_loopback() && !ip.is_unspecified())
        .collect();
    ips.sort_unstable();
    ips.dedup();
    ips.into_boxed_slice()
}
