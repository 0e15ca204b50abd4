//! From the configuration and the objects of a node to its [`NodePlan`].

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::{
    ClusterIpMasquerade, EmptySourceRanges, LocalDetector, NodePlan, NodePorts, RefusedAt,
    Unserved, loopback_v4, sorted_of,
};
use crate::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{Node, ServiceCidr};

/// The node to plan for, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// Name of the node, as `nodeName` of endpoints has it.
    pub name: Name,
    /// Configuration of the proxy.
    pub proxy: ProxyConfig,
    /// Addresses of the host beside those in the status of its Node (B-123, B-124).
    ///
    /// One inside the service range is the ClusterIP of a Service that somebody binds, such as a DNS cache of the
    /// node: it is no address to serve node ports at.
    pub local_addresses: Vec<IpAddr>,
    /// Where `spec.externalIPs` and load-balancer addresses have to be, anywhere when unset.
    ///
    /// Whoever may write Services can otherwise take traffic of pods to any address outside
    /// (CVE-2020-8554). An address elsewhere is not served, and said to be forbidden.
    pub external_addresses: Option<Vec<IpNet>>,
}

impl NodeConfig {
    /// A node with a configuration and no address of its own.
    pub fn new(name: impl Into<Name>, proxy: ProxyConfig) -> Self {
        Self {
            name: name.into(),
            proxy,
            local_addresses: Vec::new(),
            external_addresses: None,
        }
    }
}

impl NodePlan {
    /// Resolves a configuration for one family.
    ///
    /// `node` is the Node of that name, if it is known; without it the node has only
    /// [`NodeConfig::local_addresses`], and none of them is the primary one (B-059).
    pub fn resolve<'a>(
        config: &NodeConfig,
        node: Option<&Node>,
        service_cidrs: impl IntoIterator<Item = &'a ServiceCidr>,
        family: IpFamily,
    ) -> Self {
        let proxy = &config.proxy;
        let of_node = node.map_or(&[][..], |node| &node.addresses);
        let service_cidrs = aggregate(service_cidrs, family);
        let of_host = config.local_addresses.iter();
        let of_host = of_host.filter(|ip| !service_cidrs.iter().any(|net| net.contains(*ip)));
        let addresses = sorted_of(family, of_node.iter().chain(of_host).copied());
        let primary = primary(config, node, family);
        let local_detector = local_detector(&proxy.detect_local, node, family);
        let (unknown_port, unallocated, empty_source_ranges) = by_mode(proxy.mode);
        Self {
            name: config.name.clone(),
            zone: node.and_then(|node| node.zone.clone()),
            primary,
            cluster_ip_masquerade: match (&local_detector, proxy.masquerade_all) {
                (_, true) => ClusterIpMasquerade::Always,
                (LocalDetector::None, false) => ClusterIpMasquerade::Never,
                (_, false) => ClusterIpMasquerade::NotFromPods,
            },
            local_detector,
            node_ports: node_ports(proxy, &addresses, primary, family),
            addresses,
            service_cidrs,
            unknown_port,
            unallocated,
            empty_source_ranges,
        }
    }
}

/// Where kube-proxy's modes differ, the plan follows the mode (B-032 to B-035, B-143).
fn by_mode(mode: ProxyMode) -> (Unserved, Unserved, EmptySourceRanges) {
    match mode {
        ProxyMode::Nftables => (Unserved::Reject, Unserved::Drop, EmptySourceRanges::Heeded),
        ProxyMode::Iptables => (Unserved::Pass, Unserved::Pass, EmptySourceRanges::Ignored),
        ProxyMode::Ipvs => (Unserved::Reject, Unserved::Pass, EmptySourceRanges::Heeded),
    }
}

/// The bind address, or else the first address of the Node (B-139).
fn primary(config: &NodeConfig, node: Option<&Node>, family: IpFamily) -> Option<IpAddr> {
    let bound = config.proxy.bind_address;
    if IpFamily::of(bound) == family && !bound.is_unspecified() {
        return Some(bound);
    }
    let mut listed = node?.addresses.iter().copied();
    listed.find(|ip| IpFamily::of(*ip) == family && !ip.is_loopback())
}

fn local_detector(
    detection: &LocalDetection,
    node: Option<&Node>,
    family: IpFamily,
) -> LocalDetector {
    let first = |nets: &[IpNet]| {
        let net = nets.iter().find(|net| IpFamily::of_net(net) == family);
        net.map_or(LocalDetector::None, |net| LocalDetector::Cidr(net.trunc()))
    };
    match detection {
        LocalDetection::ClusterCidr(nets) => first(nets),
        LocalDetection::NodeCidr => first(node.map_or(&[], |node| &node.pod_cidrs)),
        LocalDetection::BridgeInterface(name) => LocalDetector::Bridge(name.clone()),
        LocalDetection::InterfaceNamePrefix(name) => LocalDetector::InterfacePrefix(name.clone()),
        LocalDetection::None => LocalDetector::None,
    }
}

fn node_ports(
    proxy: &ProxyConfig,
    addresses: &[IpAddr],
    primary: Option<IpAddr>,
    family: IpFamily,
) -> NodePorts {
    let wanted = wanted_node_ports(proxy, primary, family);
    let loopback = family == IpFamily::V4
        && proxy.mode == ProxyMode::Iptables
        && proxy.localhost_node_ports
        && match &wanted {
            None => true,
            Some(nets) => nets.iter().any(|net| overlap(net, &loopback_v4())),
        };
    NodePorts {
        addresses: match &wanted {
            None => addresses.into(),
            Some(nets) => {
                let inside = addresses
                    .iter()
                    .filter(|ip| nets.iter().any(|n| n.contains(*ip)));
                inside.copied().collect()
            }
        },
        every_local_address: wanted.is_none(),
        localhost: loopback,
        refused_at: match proxy.mode {
            ProxyMode::Iptables => RefusedAt::EveryLocalAddress,
            ProxyMode::Ipvs | ProxyMode::Nftables => RefusedAt::NodePortAddresses,
        },
    }
}

/// The prefixes inside which node ports are served, or `None` for every local address
/// (B-118, B-119, B-121, B-122).
fn wanted_node_ports(
    proxy: &ProxyConfig,
    primary: Option<IpAddr>,
    family: IpFamily,
) -> Option<Vec<IpNet>> {
    // A loopback address is no address of the node, and without any it is everywhere (B-121).
    let primary = primary.filter(|ip| !ip.is_loopback());
    let primary = || primary.map(|ip| Vec::from([IpNet::from(ip)]));
    match &proxy.node_port_addresses {
        NodePortAddresses::Default => match proxy.mode {
            ProxyMode::Nftables => primary(),
            ProxyMode::Iptables | ProxyMode::Ipvs => None,
        },
        NodePortAddresses::Primary => primary(),
        NodePortAddresses::Cidrs(nets) => {
            let own = nets.iter().filter(|net| IpFamily::of_net(net) == family);
            let own: Vec<IpNet> = own.copied().collect();
            let every = own.is_empty() || own.iter().any(|net| net.prefix_len() == 0);
            (!every).then_some(own)
        }
    }
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

fn aggregate<'a>(
    service_cidrs: impl IntoIterator<Item = &'a ServiceCidr>,
    family: IpFamily,
) -> Box<[IpNet]> {
    let nets = service_cidrs.into_iter().flat_map(|cidr| &cidr.cidrs);
    let own: Vec<IpNet> = nets
        .filter(|net| IpFamily::of_net(net) == family)
        .copied()
        .collect();
    let mut own = IpNet::aggregate(&own);
    own.sort_unstable();
    own.into_boxed_slice()
}
