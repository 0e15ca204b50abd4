//! What a Service asks of a load balancer.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol, parse_ip};
use crate::object::{IpFamilyPolicy, Service, ServiceType, TrafficPolicy};

/// Prefixes of the annotations of MetalLB, which others understand, too; the newer one first.
const PREFIXES: [&str; 2] = ["metallb.io/", "metallb.universe.tf/"];
/// Path of the health check of a node for all Services with traffic policy Cluster.
const NODE_HEALTH_PORT: u16 = 10_256;

/// What any load balancer has to know of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The Service.
    pub service: NamespacedName,
    /// `spec.loadBalancerClass`: who is asked; the default one when unset.
    pub class: Option<Name>,
    /// Families to have an address of.
    pub families: Vec<IpFamily>,
    /// Whether one of two families is enough (`ipFamilyPolicy: PreferDualStack`).
    pub one_family_is_enough: bool,
    /// Addresses that are asked for by `spec.loadBalancerIP` or an annotation.
    pub addresses: Vec<IpAddr>,
    /// Pool that is asked for by an annotation.
    pub pool: Option<Name>,
    /// Services with the same key may share an address (annotation `allow-shared-ip`).
    pub sharing_key: Option<Name>,
    /// The ports, with the node ports that they lead to.
    pub frontends: Vec<Frontend>,
    /// Clients that may connect; all when empty.
    pub source_ranges: Vec<IpNet>,
    /// How to tell which nodes take traffic.
    pub health_check: HealthCheck,
}

/// One port of a load balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Frontend {
    /// `spec.ports[].port`.
    pub port: u16,
    /// `spec.ports[].protocol`.
    pub protocol: Protocol,
    /// Where it leads on a node; `None` when packets are to keep their destination.
    pub node_port: Option<u16>,
}

/// How a load balancer tells which nodes take traffic: an HTTP request for `/healthz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthCheck {
    /// Every healthy node does: the port of the proxy.
    Node(u16),
    /// Nodes with ready endpoints do, under externalTrafficPolicy Local.
    Endpoints(u16),
}

impl Request {
    /// The request of a Service; `None` of another type.
    ///
    /// What cannot be read of it is reported, and left out of the request.
    pub fn of(service: &Service) -> (Option<Self>, Vec<Diagnostic>) {
        match service.service_type {
            ServiceType::LoadBalancer => {}
            ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::ExternalName => {
                return (None, Vec::new());
            }
        }
        let mut diagnostics = Vec::new();
        let extra = service.extra.as_deref();
        let health_check = match (
            service.external_traffic_policy,
            service.health_check_node_port,
        ) {
            (TrafficPolicy::Local, Some(port)) => HealthCheck::Endpoints(port),
            (TrafficPolicy::Local, None) | (TrafficPolicy::Cluster, _) => {
                HealthCheck::Node(NODE_HEALTH_PORT)
            }
        };
        let request = Self {
            service: service.name.clone(),
            class: extra.and_then(|extra| extra.load_balancer_class.clone()),
            families: families(service),
            one_family_is_enough: service.ip_family_policy == Some(IpFamilyPolicy::PreferDualStack),
            addresses: addresses(service, &mut diagnostics),
            pool: annotation(service, "address-pool").map(|(_, value)| value.clone()),
            sharing_key: annotation(service, "allow-shared-ip")
                .map(|(_, value)| value.clone())
                .filter(|key| !key.is_empty()),
            frontends: service
                .ports
                .iter()
                .map(|port| Frontend {
                    port: port.port,
                    protocol: port.protocol,
                    node_port: port.node_port,
                })
                .collect(),
            source_ranges: service.load_balancer_source_ranges.clone(),
            health_check,
        };
        (Some(request), diagnostics)
    }
}

/// The value of an annotation, with its full key.
fn annotation<'a>(service: &'a Service, key: &str) -> Option<(&'a Name, &'a Name)> {
    let annotations = &service.extra.as_ref()?.annotations;
    PREFIXES
        .iter()
        .find_map(|prefix| annotations.get_key_value(format!("{prefix}{key}").as_str()))
}

fn families(service: &Service) -> Vec<IpFamily> {
    let mut families = service.ip_families.clone();
    if families.is_empty() {
        families = service
            .cluster_ips
            .iter()
            .copied()
            .map(IpFamily::of)
            .collect();
    }
    if families.is_empty() {
        families.push(IpFamily::V4);
    }
    families.dedup();
    families
}

fn addresses(service: &Service, diagnostics: &mut Vec<Diagnostic>) -> Vec<IpAddr> {
    let field = service
        .extra
        .as_ref()
        .and_then(|extra| extra.load_balancer_ip);
    let mut addresses: Vec<IpAddr> = field.into_iter().collect();
    if let Some((key, value)) = annotation(service, "loadBalancerIPs") {
        let path = format!("metadata.annotations[{key}]");
        let mut report = |message| {
            let reason = DiagnosticReason::Invalid;
            let kind = ObjectKind::Service;
            let error = Diagnostic::error(kind, &service.name, path.clone(), reason, message);
            diagnostics.push(error);
        };
        addresses.clear();
        for text in value.split(',').map(str::trim) {
            match parse_ip(text) {
                Some(ip) => addresses.push(ip),
                None => report(format!("must be addresses, has {text:?}")),
            }
        }
        if let Some(field) = field
            && !addresses.contains(&field)
        {
            report(format!(
                "asks for other addresses than spec.loadBalancerIP, {field}"
            ));
        }
    }
    let mut seen = BTreeSet::new();
    addresses.retain(|ip| {
        let first = seen.insert(IpFamily::of(*ip));
        if !first {
            let message = format!("{ip} is a second address of one family");
            let reason = DiagnosticReason::Invalid;
            let field = "metadata.annotations";
            let kind = ObjectKind::Service;
            let error = Diagnostic::error(kind, &service.name, field, reason, message);
            diagnostics.push(error);
        }
        first
    });
    addresses
}

impl fmt::Display for Request {
    /// One thing a line, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "load balancer for {}", self.service)?;
        if let Some(class) = &self.class {
            write!(f, " of class {class}")?;
        }
        let families: Vec<_> = self.families.iter().map(ToString::to_string).collect();
        writeln!(f, ", {}", families.join(" and "))?;
        for address in &self.addresses {
            writeln!(f, "  address {address}")?;
        }
        if let Some(pool) = &self.pool {
            writeln!(f, "  from pool {pool}")?;
        }
        if let Some(key) = &self.sharing_key {
            writeln!(f, "  shared under key {key:?}")?;
        }
        for frontend in &self.frontends {
            write!(
                f,
                "  {}/{} to every healthy node",
                frontend.port, frontend.protocol
            )?;
            match frontend.node_port {
                Some(node_port) => writeln!(f, ", node port {node_port}")?,
                None => writeln!(f, ", destination kept")?,
            }
        }
        for range in &self.source_ranges {
            writeln!(f, "  from {range}")?;
        }
        match self.health_check {
            HealthCheck::Node(port) => {
                writeln!(
                    f,
                    "  a node is healthy when http://<node>:{port}/healthz says 200"
                )
            }
            HealthCheck::Endpoints(port) => writeln!(
                f,
                "  a node is healthy when http://<node>:{port}/healthz says 200: it has endpoints"
            ),
        }
    }
}
