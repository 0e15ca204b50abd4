//! Updating Services: what is kept, added and given back.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::family::{init_families, keeps_prefer_dual_stack};
use super::service::{
    Allocators, Operation, Run, allocates_node_ports, has_node_ports, needs_health_check,
    node_ports_of,
};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::object::{Service, ServiceType};

impl Allocators {
    /// Gives an updated Service what it lacks, takes what it asks for, and takes back the rest.
    ///
    /// What the update leaves out is taken over from `before` while the type still needs it
    /// (B-369), and what the new type has no use for is dropped (B-367).
    ///
    /// # Errors
    /// As [`Allocators::create`], and when the primary ClusterIP would change (B-361). Then `after`
    /// is unchanged, and nothing is allocated or taken back (B-394).
    pub fn update(
        &mut self,
        before: &Service,
        after: &mut Service,
        seed: u64,
        run: Run,
    ) -> Result<(), Vec<Diagnostic>> {
        let mut new = after.clone();
        drop_unused(before, &mut new);
        patch(before, &mut new);
        let keeps_ips = keeps_prefer_dual_stack(before, &new);
        init_families(&mut new, Some(before), self.cluster_ips.families())?;
        check_primary(before, &new)?;
        let mut operation = Operation::new(self, &new.name, seed);
        let result = match keeps_ips {
            true => Ok(()),
            false => operation.changed_cluster_ips(before, &mut new),
        };
        let result = result
            .and_then(|()| operation.changed_node_ports(before, &mut new))
            .and_then(|()| operation.changed_health_check(before, &mut new));
        operation.finish(result, run)?;
        if run == Run::Real {
            self.give_back(before, &new);
        }
        *after = new;
        Ok(())
    }

    /// What only the old version has; after success only.
    fn give_back(&mut self, before: &Service, after: &Service) {
        for ip in &before.cluster_ips {
            if !addresses(after).contains(ip) {
                self.cluster_ips.release_of(*ip, &before.name);
            }
        }
        let kept = node_ports_of(after);
        for port in node_ports_of(before) {
            if !kept.contains(&port) {
                self.node_ports.release_of(port, &before.name);
            }
        }
    }
}

impl Operation<'_> {
    fn changed_cluster_ips(
        &mut self,
        before: &Service,
        after: &mut Service,
    ) -> Result<(), Diagnostic> {
        if after.service_type == ServiceType::ExternalName || after.headless {
            return Ok(());
        }
        for (i, ip) in after.cluster_ips.iter().enumerate() {
            if !addresses(before).contains(ip) {
                self.claim_ip(*ip, format!("spec.clusterIPs[{i}]"))?;
            }
        }
        self.missing_cluster_ips(after)
    }

    /// Numbers that any port had before are not allocated anew, and added ports do not share (B-390).
    fn changed_node_ports(
        &mut self,
        before: &Service,
        after: &mut Service,
    ) -> Result<(), Diagnostic> {
        if !has_node_ports(after) {
            return Ok(());
        }
        // Not its health-check node port: that one stays in use.
        let mut held: Vec<u16> = before.ports.iter().filter_map(|p| p.node_port).collect();
        for (i, port) in after.ports.iter().enumerate() {
            let Some(node_port) = port.node_port else {
                continue;
            };
            if !held.contains(&node_port) {
                self.claim_port(node_port, format!("spec.ports[{i}].nodePort"))?;
                held.push(node_port);
            }
        }
        if !allocates_node_ports(after) {
            return Ok(());
        }
        for (i, port) in after.ports.iter_mut().enumerate() {
            if port.node_port.is_none() {
                port.node_port = Some(self.next_port(format!("spec.ports[{i}].nodePort"))?);
            }
        }
        Ok(())
    }

    fn changed_health_check(
        &mut self,
        before: &Service,
        after: &mut Service,
    ) -> Result<(), Diagnostic> {
        match (needs_health_check(before), needs_health_check(after)) {
            (false, true) => self.health_check_node_port(after),
            // It may not change while it is needed (B-354).
            (true, true) => match before.health_check_node_port {
                Some(port) => {
                    after.health_check_node_port = Some(port);
                    Ok(())
                }
                None => self.health_check_node_port(after),
            },
            (true | false, false) => {
                after.health_check_node_port = None;
                Ok(())
            }
        }
    }
}

fn addresses(service: &Service) -> &[IpAddr] {
    match service.service_type {
        ServiceType::ExternalName => &[],
        ServiceType::ClusterIp | ServiceType::NodePort | ServiceType::LoadBalancer => {
            &service.cluster_ips
        }
    }
}

/// Fields that the type has no use for any more go, unless the update changed them (B-367).
fn drop_unused(before: &Service, after: &mut Service) {
    let is_external = after.service_type == ServiceType::ExternalName;
    if is_external && before.service_type != ServiceType::ExternalName {
        if after.cluster_ips == before.cluster_ips {
            after.cluster_ips.clear();
            after.headless = false;
        }
        if after.ip_families == before.ip_families {
            after.ip_families.clear();
        }
        if after.ip_family_policy == before.ip_family_policy {
            after.ip_family_policy = None;
        }
    }
    let adds_none = after
        .ports
        .iter()
        .filter_map(|port| port.node_port)
        .all(|new| before.ports.iter().any(|port| port.node_port == Some(new)));
    if has_node_ports(before) && !has_node_ports(after) && adds_none {
        for port in &mut after.ports {
            port.node_port = None;
        }
    }
    let is_balanced = after.service_type == ServiceType::LoadBalancer;
    if before.service_type == ServiceType::LoadBalancer && !is_balanced {
        after.ingress.clear();
        if after.allocate_load_balancer_node_ports == before.allocate_load_balancer_node_ports {
            after.allocate_load_balancer_node_ports = None;
        }
        if let (Some(old), Some(new)) = (&before.extra, &mut after.extra)
            && old.load_balancer_class == new.load_balancer_class
        {
            new.load_balancer_class = None;
        }
    }
}

/// Values that the update leaves out are those of before (B-369).
fn patch(before: &Service, after: &mut Service) {
    let has_ip = |service: &Service| service.service_type != ServiceType::ExternalName;
    if has_ip(before) && has_ip(after) && after.cluster_ips.is_empty() && !after.headless {
        after.cluster_ips = before.cluster_ips.clone();
        after.headless = before.headless;
    }
    if has_node_ports(before) && has_node_ports(after) {
        let numbers = |service: &Service| -> Vec<u16> {
            service.ports.iter().filter_map(|p| p.node_port).collect()
        };
        let (old, new) = (numbers(before), numbers(after));
        let by_name: BTreeMap<_, _> = before
            .ports
            .iter()
            .map(|port| (port.name.clone(), port.node_port))
            .collect();
        for port in &mut after.ports {
            // A number that the update gives to some port is not handed to another one.
            port.node_port = port.node_port.or_else(|| {
                let known = by_name.get(&port.name).copied().flatten()?;
                let used = old.contains(&known) && new.contains(&known);
                (!used).then_some(known)
            });
        }
    }
}

/// The primary address stays while the Service has addresses (B-361).
fn check_primary(before: &Service, after: &Service) -> Result<(), Vec<Diagnostic>> {
    let (Some(old), false) = (
        addresses(before).first(),
        after.service_type == ServiceType::ExternalName,
    ) else {
        return Ok(());
    };
    if !after.headless && after.cluster_ips.first() == Some(old) {
        return Ok(());
    }
    let message = format!("may not change once set, is {old}");
    Err([Diagnostic::error(
        ObjectKind::Service,
        &after.name,
        "spec.clusterIPs[0]",
        DiagnosticReason::Invalid,
        message,
    )]
    .into())
}
