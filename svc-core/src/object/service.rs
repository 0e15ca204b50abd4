use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::Labels;
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol};

/// A Service, with what cannot be used already left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: NamespacedName,
    /// `spec.type`.
    pub service_type: ServiceType,
    /// `spec.clusterIPs` (or `spec.clusterIP`); empty when headless, unallocated or ExternalName.
    pub cluster_ips: Vec<IpAddr>,
    /// Whether `spec.clusterIP` is `None`.
    pub headless: bool,
    /// `spec.ipFamilies`.
    pub ip_families: Vec<IpFamily>,
    /// `spec.ipFamilyPolicy`.
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `spec.ports`.
    pub ports: Vec<ServicePort>,
    /// `spec.selector`; empty means that nobody but a person makes endpoints (B-398).
    pub selector: Labels,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// `spec.externalName`, of type ExternalName.
    pub external_name: Option<Name>,
    /// `status.loadBalancer.ingress` entries that have an address (B-055).
    pub ingress: Vec<IngressIp>,
    /// `spec.loadBalancerSourceRanges`; a blank or unreadable one is left out (B-050, B-051).
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.internalTrafficPolicy`.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_traffic_policy: TrafficPolicy,
    /// Seconds of `spec.sessionAffinity: ClientIP`, or `None` without affinity (B-158).
    pub client_ip_affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort`, when not zero.
    pub health_check_node_port: Option<u16>,
    /// `spec.publishNotReadyAddresses`.
    pub publish_not_ready_addresses: bool,
    /// `spec.allocateLoadBalancerNodePorts`.
    pub allocate_load_balancer_node_ports: Option<bool>,
    /// `spec.trafficDistribution`.
    pub traffic_distribution: Option<TrafficDistribution>,
    /// Fields that only the API side needs, kept apart as most Services have none.
    pub extra: Option<Box<ServiceExtra>>,
    /// Whether the label of another proxy is set, with any value (B-004).
    pub service_proxy_name: bool,
    /// Whether the headless label is set, with any value.
    pub headless_label: bool,
    /// `metadata.creationTimestamp` in seconds since 1970, the order of claims; 0 when unknown.
    pub created: i64,
    /// Whether `metadata.deletionTimestamp` is set: no new slices are made (B-423).
    pub terminating: bool,
}

/// Rare fields of a [`Service`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceExtra {
    /// `metadata.labels` but for those with a meaning of their own.
    pub labels: Labels,
    /// `spec.loadBalancerClass`.
    pub load_balancer_class: Option<Name>,
    /// `spec.loadBalancerIP`.
    pub load_balancer_ip: Option<IpAddr>,
    /// Annotation `service.kubernetes.io/topology-mode`.
    pub topology_mode: Option<Name>,
    /// Annotation `metallb`-style requests and others that a load-balancer provider may read.
    pub annotations: Labels,
}

/// `spec.type` of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum ServiceType {
    /// A virtual address inside the cluster.
    #[default]
    #[cfg_attr(feature = "serde", serde(rename = "ClusterIP"))]
    ClusterIp,
    /// ClusterIP and a port on every node.
    NodePort,
    /// NodePort and addresses of a load balancer.
    LoadBalancer,
    /// A CNAME, no proxying (B-003).
    ExternalName,
}

/// `spec.internalTrafficPolicy` or `spec.externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum TrafficPolicy {
    /// Endpoints of the whole cluster.
    #[default]
    Cluster,
    /// Endpoints of the own node only.
    Local,
}

/// `spec.ipFamilyPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum IpFamilyPolicy {
    SingleStack,
    PreferDualStack,
    RequireDualStack,
}

/// `spec.trafficDistribution` (B-356); `PreferClose` is read as [`Self::PreferSameZone`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum TrafficDistribution {
    PreferSameZone,
    PreferSameNode,
}

/// One entry of `spec.ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, may be empty.
    pub name: Name,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`, never 0.
    pub port: u16,
    /// `targetPort`; the proxy never reads it (B-025), the endpoint rules do.
    pub target_port: TargetPort,
    /// `nodePort`, when not zero.
    pub node_port: Option<u16>,
    /// `appProtocol`.
    pub app_protocol: Option<Name>,
}

/// `spec.ports[].targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// A number; never 0, an unset one is the service port itself (B-334).
    Number(u16),
    /// The name of a container port, looked up on each pod (B-410).
    Name(Name),
}

/// One address of `status.loadBalancer.ingress`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IngressIp {
    /// `ip`.
    pub ip: IpAddr,
    /// `ipMode`.
    pub mode: IpMode,
}

/// `status.loadBalancer.ingress[].ipMode` (KEP-1860).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IpMode {
    /// The node gets packets for the address itself and captures them (B-133).
    #[default]
    Vip,
    /// The balancer rewrites or terminates; the proxy leaves the address alone (B-134).
    Proxy,
}

impl ServicePort {
    /// A port without node port; the target port is the same number (B-334).
    pub fn new(name: impl Into<Name>, protocol: Protocol, port: u16) -> Self {
        Self {
            name: name.into(),
            protocol,
            port,
            target_port: TargetPort::Number(port),
            node_port: None,
            app_protocol: None,
        }
    }
}

impl Service {
    /// A ClusterIP Service with nothing but a name.
    pub fn named(name: NamespacedName) -> Self {
        Self {
            name,
            service_type: ServiceType::ClusterIp,
            cluster_ips: Vec::new(),
            headless: false,
            ip_families: Vec::new(),
            ip_family_policy: None,
            ports: Vec::new(),
            selector: Labels::new(),
            external_ips: Vec::new(),
            external_name: None,
            ingress: Vec::new(),
            load_balancer_source_ranges: Vec::new(),
            internal_traffic_policy: TrafficPolicy::Cluster,
            external_traffic_policy: TrafficPolicy::Cluster,
            client_ip_affinity_seconds: None,
            health_check_node_port: None,
            publish_not_ready_addresses: false,
            allocate_load_balancer_node_ports: None,
            traffic_distribution: None,
            extra: None,
            service_proxy_name: false,
            headless_label: false,
            created: 0,
            terminating: false,
        }
    }

    /// The ClusterIP of a family (B-044, B-045).
    ///
    /// The position in `ipFamilies` indexes `clusterIPs`; without `ipFamilies` the first address
    /// of the family counts.
    pub fn cluster_ip(&self, family: IpFamily) -> Option<IpAddr> {
        if self.headless || self.service_type == ServiceType::ExternalName {
            return None;
        }
        if self.ip_families.is_empty() {
            let first = self.cluster_ips.first().copied()?;
            return (IpFamily::of(first) == family).then_some(first);
        }
        let position = self.ip_families.iter().position(|f| *f == family)?;
        let ip = self.cluster_ips.get(position).copied()?;
        (IpFamily::of(ip) == family).then_some(ip)
    }

    /// Whether a proxy serves the Service at all (B-001 to B-004).
    pub fn proxied(&self) -> bool {
        !self.headless
            && self.service_type != ServiceType::ExternalName
            && !self.service_proxy_name
            && !self.cluster_ips.is_empty()
    }
}
