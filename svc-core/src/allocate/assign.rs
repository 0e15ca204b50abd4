//! A whole set of Services at once, as manifests give them.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::error::AllocationError;
use super::family::init_families;
use super::service::{Allocators, Operation, Run, has_node_ports, needs_health_check, refused};
use crate::diagnostic::Diagnostic;
use crate::name::NamespacedName;
use crate::object::{IpFamilyPolicy, Service, ServiceType};

impl Allocators {
    /// Gives every Service of a set what it lacks.
    ///
    /// What Services ask for comes first, older ones before younger ones, so that no free choice
    /// takes it away. An address or node port outside of every range is kept and reported, as it is
    /// for a Service that exists (manifests of another cluster work); one that another Service has
    /// is dropped and reported. A Service of policy PreferDualStack that has ClusterIPs and as many
    /// families, or is headless and has families, comes from a cluster and gets no second family
    /// (B-396). The result does not depend on the order of the Services, and doing it again changes
    /// nothing.
    pub fn assign(&mut self, services: &mut [Service], seed: u64) -> Vec<Diagnostic> {
        let mut order: Vec<usize> = (0..services.len()).collect();
        order.sort_by_cached_key(|i| (services[*i].created, services[*i].name.clone()));
        let mut diagnostics = Vec::new();
        let mut complete: Vec<bool> = services.iter().map(|_| true).collect();
        for i in &order {
            complete[*i] = self.take_given(&mut services[*i], &mut diagnostics);
        }
        for i in order {
            if complete[i]
                && let Err(found) = self.fill(&mut services[i], seed)
            {
                diagnostics.extend(found);
            }
        }
        diagnostics
    }

    /// Takes what a Service asks for; false when it lost an address and gets no other.
    fn take_given(&mut self, service: &mut Service, diagnostics: &mut Vec<Diagnostic>) -> bool {
        let owner = service.name.clone();
        let mut complete = true;
        if service.service_type != ServiceType::ExternalName {
            for (i, ip) in service.cluster_ips.iter().enumerate() {
                let field = format!("spec.clusterIPs[{i}]");
                let claimed = self.cluster_ips.claim(*ip, &owner);
                let mut own = || self.cluster_ips.own(*ip, &owner);
                complete &= keep(claimed, &mut own, &owner, field, diagnostics);
            }
            if !complete {
                for ip in core::mem::take(&mut service.cluster_ips) {
                    self.cluster_ips.release_of(ip, &owner);
                }
            }
        }
        if has_node_ports(service) {
            for (i, port) in service.ports.iter_mut().enumerate() {
                let field = format!("spec.ports[{i}].nodePort");
                self.take_port(&mut port.node_port, &owner, field, diagnostics);
            }
        }
        if needs_health_check(service) {
            let field = String::from("spec.healthCheckNodePort");
            self.take_port(
                &mut service.health_check_node_port,
                &owner,
                field,
                diagnostics,
            );
        }
        complete
    }

    fn take_port(
        &mut self,
        port: &mut Option<u16>,
        owner: &NamespacedName,
        field: String,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if let Some(number) = *port {
            let claimed = self.node_ports.claim(number, owner);
            let mut own = || self.node_ports.own(number, owner);
            if !keep(claimed, &mut own, owner, field, diagnostics) {
                *port = None;
            }
        }
    }

    /// Gives a Service what it lacks, when what it asks for is taken already.
    fn fill(&mut self, service: &mut Service, seed: u64) -> Result<(), Vec<Diagnostic>> {
        let mut new = service.clone();
        if !is_stored(service) {
            init_families(&mut new, None, self.cluster_ips.families())?;
        }
        let mut operation = Operation::new(self, &new.name, seed);
        let addresses = match new.headless || new.service_type == ServiceType::ExternalName {
            true => Ok(()),
            false => operation.missing_cluster_ips(&mut new),
        };
        let given: BTreeMap<u16, u16> = new
            .ports
            .iter()
            .rev()
            .filter_map(|port| Some((port.port, port.node_port?)))
            .collect();
        let result = addresses
            .and_then(|()| operation.missing_node_ports(&mut new, given))
            .and_then(|()| match new.health_check_node_port {
                Some(_) => Ok(()),
                None => operation.health_check_node_port(&mut new),
            });
        operation.finish(result, Run::Real)?;
        *service = new;
        Ok(())
    }
}

/// Whether the families of a Service were chosen before: nothing but a change of the Service itself
/// adds one then, and the other policies leave no choice.
fn is_stored(service: &Service) -> bool {
    let families = service.ip_families.len();
    let addresses = match service.headless {
        true => families,
        false => service.cluster_ips.len(),
    };
    let prefers = service.ip_family_policy == Some(IpFamilyPolicy::PreferDualStack);
    prefers && families > 0 && families == addresses
}

/// Whether a Service keeps what it asked for; whatever is odd about it is reported.
///
/// `own` takes it outside of the ranges.
fn keep(
    claimed: Result<(), AllocationError>,
    own: &mut dyn FnMut() -> Result<(), AllocationError>,
    owner: &NamespacedName,
    field: String,
    diagnostics: &mut Vec<Diagnostic>,
) -> bool {
    let Err(error) = claimed else {
        return true;
    };
    match &error {
        AllocationError::AddressNotInRange { .. } | AllocationError::PortNotInRange { .. } => {
            diagnostics.push(refused(owner, field.clone(), &error).warning());
            // Outside of the ranges it is not asked again, so this ends.
            keep(own(), &mut || Ok(()), owner, field, diagnostics)
        }
        // It was assigned before, or ports of different protocols share the number.
        AllocationError::AddressTaken { owner: holder, .. }
        | AllocationError::PortTaken { owner: holder, .. }
            if holder == owner =>
        {
            true
        }
        AllocationError::AddressTaken { .. }
        | AllocationError::PortTaken { .. }
        | AllocationError::AddressesFull { .. }
        | AllocationError::PortsFull { .. } => {
            diagnostics.push(refused(owner, field, &error));
            false
        }
    }
}
