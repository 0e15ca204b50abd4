//! Creating and deleting Services: addresses and node ports of a whole Service, or nothing.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;

use super::cluster_ip::ClusterIps;
use super::error::AllocationError;
use super::family::init_families;
use super::fold;
use super::node_port::{NodePortRange, NodePorts};
use crate::diagnostic::{Diagnostic, ObjectKind};
use crate::name::NamespacedName;
use crate::net::{IpFamily, Protocol};
use crate::object::{Service, ServiceCidr, ServiceType, TrafficPolicy};

/// Everything that is given out in a cluster.
///
/// ```
/// use svc_core::allocate::{Allocators, NodePortRange, Run};
/// use svc_core::object::{Service, ServiceCidr};
/// use svc_core::NamespacedName;
///
/// let cidrs = [ServiceCidr {
///     name: "kubernetes".into(),
///     cidrs: vec!["10.96.0.0/16".parse()?],
///     ready: true,
///     terminating: false,
/// }];
/// let (mut allocators, diagnostics) = Allocators::new(&cidrs, NodePortRange::default());
/// assert!(diagnostics.is_empty());
///
/// let mut web = Service::named(NamespacedName::new("default", "web"));
/// allocators.create(&mut web, 42, Run::Real).unwrap();
/// assert_eq!(web.cluster_ips.len(), 1);
/// assert_eq!(allocators.cluster_ips().owner(web.cluster_ips[0]), Some(&web.name));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Allocators {
    pub(super) cluster_ips: ClusterIps,
    pub(super) node_ports: NodePorts,
}

/// Whether allocations are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Run {
    /// They are.
    Real,
    /// The Service says what it would get, and nothing is kept (B-394).
    Dry,
}

impl Allocators {
    /// Nothing allocated yet; ranges that cannot be used are reported.
    pub fn new(cidrs: &[ServiceCidr], node_ports: NodePortRange) -> (Self, Vec<Diagnostic>) {
        let (cluster_ips, diagnostics) = ClusterIps::new(cidrs);
        let new = Self {
            cluster_ips,
            node_ports: NodePorts::new(node_ports),
        };
        (new, diagnostics)
    }

    /// Replaces the ranges of ClusterIPs; what is allocated stays so.
    pub fn set_cidrs(&mut self, cidrs: &[ServiceCidr]) -> Vec<Diagnostic> {
        self.cluster_ips.set_cidrs(cidrs)
    }

    /// The ClusterIPs.
    pub fn cluster_ips(&self) -> &ClusterIps {
        &self.cluster_ips
    }

    /// The node ports.
    pub fn node_ports(&self) -> &NodePorts {
        &self.node_ports
    }

    /// Gives a new Service what it lacks, and takes what it asks for.
    ///
    /// # Errors
    /// What the Service asks for is taken, out of range or does not fit the cluster, or a range is
    /// full. Then the Service is unchanged and nothing is allocated (B-394).
    pub fn create(
        &mut self,
        service: &mut Service,
        seed: u64,
        run: Run,
    ) -> Result<(), Vec<Diagnostic>> {
        let mut new = service.clone();
        init_families(&mut new, None, self.cluster_ips.families())?;
        let mut operation = Operation::new(self, &new.name, seed);
        let result = operation
            .cluster_ips(&mut new)
            .and_then(|()| operation.new_node_ports(&mut new))
            .and_then(|()| operation.health_check_node_port(&mut new));
        operation.finish(result, run)?;
        *service = new;
        Ok(())
    }

    /// Takes back everything that a Service has.
    pub fn delete(&mut self, service: &Service) {
        for ip in &service.cluster_ips {
            self.cluster_ips.release_of(*ip, &service.name);
        }
        for port in node_ports_of(service) {
            self.node_ports.release_of(port, &service.name);
        }
    }
}

/// A change of one Service, which can be undone.
pub(super) struct Operation<'a> {
    allocators: &'a mut Allocators,
    owner: NamespacedName,
    seed: u64,
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(allocators: &'a mut Allocators, owner: &NamespacedName, seed: u64) -> Self {
        Self {
            allocators,
            owner: owner.clone(),
            // Not only by the seed, or all Services of a manifest would contend for one start.
            seed: fold(fold(seed, &owner.namespace), &owner.name),
            ips: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// Keeps what was allocated, or undoes it (B-394).
    pub(super) fn finish(
        self,
        result: Result<(), Diagnostic>,
        run: Run,
    ) -> Result<(), Vec<Diagnostic>> {
        if result.is_err() || run == Run::Dry {
            for ip in self.ips {
                self.allocators.cluster_ips.release(ip);
            }
            for port in self.ports {
                self.allocators.node_ports.release(port);
            }
        }
        result.map_err(|diagnostic| [diagnostic].into())
    }

    /// An address for each family of the Service.
    pub(super) fn cluster_ips(&mut self, service: &mut Service) -> Result<(), Diagnostic> {
        if service.headless || service.service_type == ServiceType::ExternalName {
            return Ok(());
        }
        // Given ones first, so that a free choice does not take one of them.
        for (i, ip) in service.cluster_ips.iter().enumerate() {
            self.claim_ip(*ip, format!("spec.clusterIPs[{i}]"))?;
        }
        self.missing_cluster_ips(service)
    }

    pub(super) fn missing_cluster_ips(&mut self, service: &mut Service) -> Result<(), Diagnostic> {
        for i in service.cluster_ips.len()..service.ip_families.len() {
            let ip = self.next_ip(service.ip_families[i])?;
            service.cluster_ips.push(ip);
        }
        Ok(())
    }

    /// Node ports of a new Service; equal port numbers share one (B-388, B-389).
    fn new_node_ports(&mut self, service: &mut Service) -> Result<(), Diagnostic> {
        if !has_node_ports(service) {
            return Ok(());
        }
        let mut by_port: BTreeMap<u16, u16> = BTreeMap::new();
        for (i, port) in service.ports.iter().enumerate() {
            let Some(node_port) = port.node_port else {
                continue;
            };
            if by_port.get(&port.port) != Some(&node_port) {
                self.claim_port(node_port, format!("spec.ports[{i}].nodePort"))?;
                by_port.entry(port.port).or_insert(node_port);
            }
        }
        self.missing_node_ports(service, by_port)
    }

    /// Node ports for the ports without one; equal numbers share what is in `by_port` (B-388).
    pub(super) fn missing_node_ports(
        &mut self,
        service: &mut Service,
        mut by_port: BTreeMap<u16, u16>,
    ) -> Result<(), Diagnostic> {
        if !allocates_node_ports(service) {
            return Ok(());
        }
        let mut used: Vec<(Protocol, u16)> = service
            .ports
            .iter()
            .filter_map(|port| Some((port.protocol, port.node_port?)))
            .collect();
        for (i, port) in service.ports.iter_mut().enumerate() {
            if port.node_port.is_some() {
                continue;
            }
            let shared = by_port.get(&port.port).copied();
            let node_port = match shared.filter(|n| !used.contains(&(port.protocol, *n))) {
                Some(shared) => shared,
                None => self.next_port(format!("spec.ports[{i}].nodePort"))?,
            };
            by_port.insert(port.port, node_port);
            used.push((port.protocol, node_port));
            port.node_port = Some(node_port);
        }
        Ok(())
    }

    /// The health-check node port of a Service that needs one (B-393).
    pub(super) fn health_check_node_port(
        &mut self,
        service: &mut Service,
    ) -> Result<(), Diagnostic> {
        if !needs_health_check(service) {
            return Ok(());
        }
        let field = String::from("spec.healthCheckNodePort");
        match service.health_check_node_port {
            Some(port) => self.claim_port(port, field)?,
            None => service.health_check_node_port = Some(self.next_port(field)?),
        }
        Ok(())
    }

    pub(super) fn claim_ip(&mut self, ip: IpAddr, field: String) -> Result<(), Diagnostic> {
        let result = self.allocators.cluster_ips.claim(ip, &self.owner);
        result.map_err(|error| refused(&self.owner, field, &error))?;
        self.ips.push(ip);
        Ok(())
    }

    pub(super) fn claim_port(&mut self, port: u16, field: String) -> Result<(), Diagnostic> {
        let result = self.allocators.node_ports.claim(port, &self.owner);
        result.map_err(|error| refused(&self.owner, field, &error))?;
        self.ports.push(port);
        Ok(())
    }

    pub(super) fn next_ip(&mut self, family: IpFamily) -> Result<IpAddr, Diagnostic> {
        let result = self
            .allocators
            .cluster_ips
            .next(family, &self.owner, self.seed);
        let ip = result.map_err(|error| refused(&self.owner, "spec.clusterIPs", &error))?;
        self.ips.push(ip);
        Ok(ip)
    }

    pub(super) fn next_port(&mut self, field: String) -> Result<u16, Diagnostic> {
        // Ports of one Service that start at the same place would only be neighbours.
        let seed = fold(self.seed, &field);
        let result = self.allocators.node_ports.next(&self.owner, seed);
        let port = result.map_err(|error| refused(&self.owner, field, &error))?;
        self.ports.push(port);
        Ok(port)
    }
}

pub(super) fn refused(
    owner: &NamespacedName,
    field: impl Into<String>,
    error: &AllocationError,
) -> Diagnostic {
    Diagnostic::error(
        ObjectKind::Service,
        owner,
        field,
        error.reason(),
        error.to_string(),
    )
}

/// Whether the type has node ports.
pub(super) fn has_node_ports(service: &Service) -> bool {
    match service.service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    }
}

/// Whether ports without a node port get one (B-392).
pub(super) fn allocates_node_ports(service: &Service) -> bool {
    match service.service_type {
        ServiceType::NodePort => true,
        ServiceType::LoadBalancer => service.allocate_load_balancer_node_ports != Some(false),
        ServiceType::ClusterIp | ServiceType::ExternalName => false,
    }
}

/// Whether the Service needs a health-check node port.
pub(super) fn needs_health_check(service: &Service) -> bool {
    service.service_type == ServiceType::LoadBalancer
        && service.external_traffic_policy == TrafficPolicy::Local
}

/// The node ports that a Service holds, each once unless a protocol has it twice.
pub(super) fn node_ports_of(service: &Service) -> Vec<u16> {
    let mut seen: Vec<(u16, Protocol)> = Vec::new();
    let mut ports = Vec::new();
    for port in &service.ports {
        let Some(node_port) = port.node_port else {
            continue;
        };
        let new = seen.iter().all(|(number, _)| *number != node_port);
        if new || seen.contains(&(node_port, port.protocol)) {
            ports.push(node_port);
        }
        seen.push((node_port, port.protocol));
    }
    if let Some(port) = service.health_check_node_port {
        // Health checks are TCP, so a UDP node port of the same number is no second use.
        let new = seen.iter().all(|(number, _)| *number != port);
        if new || seen.contains(&(port, Protocol::Tcp)) {
            ports.push(port);
        }
    }
    ports
}
