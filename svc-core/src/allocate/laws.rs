//! Laws of the allocators over random histories, for tests and for `fuzz`.
// What is broken shows as a panic, as in any test.
#![allow(clippy::panic, clippy::unwrap_used)]

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

#[cfg(test)]
use proptest::prelude::*;

use super::fixture::{allocators, service};
use super::service::node_ports_of;
use super::*;
use crate::name::NamespacedName;
use crate::net::Protocol;
use crate::object::{IpFamilyPolicy, Service, ServiceType, TrafficPolicy};
use crate::testing::Source;
#[cfg(test)]
use crate::testing::bytes;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create(Service),
    Update(Service),
    Delete(usize),
    /// Several at once, as manifests.
    Assign(Vec<Service>),
    /// The allocators forget everything and are repaired from the Services.
    Crash,
    /// An allocation without a Service.
    Leak,
}

fn any_service(source: &mut Source<'_>) -> Service {
    let name = source.below(8);
    let service_type = source.pick(&[
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
        ServiceType::ExternalName,
    ]);
    let ports = any_ports(source, service_type);
    let mut service = service(&format!("s{name}"), service_type, &ports);
    if service_type != ServiceType::ExternalName {
        if source.chance(20) {
            let last = source.byte() % 18;
            service.cluster_ips = [[10, 0, 0, last].into()].into();
        }
        service.ip_family_policy = source.pick(&[
            None,
            Some(IpFamilyPolicy::PreferDualStack),
            Some(IpFamilyPolicy::RequireDualStack),
            Some(IpFamilyPolicy::SingleStack),
        ]);
        service.headless = service.cluster_ips.is_empty() && source.chance(12);
    }
    if source.chance(50) {
        service.external_traffic_policy = TrafficPolicy::Local;
    }
    service
}

/// Ports with node ports; what validation refuses (B-344) is not there.
fn any_ports(source: &mut Source<'_>, service_type: ServiceType) -> Vec<(u16, Protocol, u16)> {
    let mut seen = Vec::new();
    let mut ports = Vec::new();
    for _ in 0..source.below(4) {
        let port = 80 + u16::from(source.byte() % 3);
        let protocol = source.pick(&[Protocol::Tcp, Protocol::Udp]);
        // Other types may not have any (B-345).
        let node_port = match service_type {
            ServiceType::NodePort | ServiceType::LoadBalancer if source.chance(25) => {
                29_999 + u16::from(source.byte() % 7)
            }
            ServiceType::NodePort | ServiceType::LoadBalancer => 0,
            ServiceType::ClusterIp | ServiceType::ExternalName => 0,
        };
        let new = !seen.contains(&(protocol, port, 0)) && !seen.contains(&(protocol, 0, node_port));
        seen.push((protocol, port, 0));
        if node_port != 0 {
            seen.push((protocol, 0, node_port));
        }
        if new {
            ports.push((port, protocol, node_port));
        }
    }
    ports
}

fn any_step(source: &mut Source<'_>) -> Step {
    match source.below(16) {
        0..=5 => Step::Create(any_service(source)),
        6..=9 => Step::Update(any_service(source)),
        10..=12 => Step::Delete(source.below(8)),
        13 => Step::Assign(source.several(5, any_service)),
        14 => Step::Crash,
        _ => Step::Leak,
    }
}

struct World {
    services: BTreeMap<NamespacedName, Service>,
    allocators: Allocators,
}

fn empty() -> Allocators {
    allocators(&["10.0.0.0/28", "fd00::/124"], 30_000, 30_005)
}

impl World {
    fn step(&mut self, step: Step, seed: u64) {
        match step {
            Step::Create(mut service) => {
                if !self.services.contains_key(&service.name)
                    && self
                        .allocators
                        .create(&mut service, seed, Run::Real)
                        .is_ok()
                {
                    self.services.insert(service.name.clone(), service);
                }
            }
            Step::Update(mut after) => {
                if let Some(before) = self.services.get(&after.name)
                    && self
                        .allocators
                        .update(before, &mut after, seed, Run::Real)
                        .is_ok()
                {
                    self.services.insert(after.name.clone(), after);
                }
            }
            Step::Delete(n) => {
                let name = self.services.keys().nth(n).cloned();
                if let Some(service) = name.and_then(|name| self.services.remove(&name)) {
                    self.allocators.delete(&service);
                }
            }
            Step::Assign(services) => {
                let mut services: Vec<Service> = services
                    .into_iter()
                    .filter(|service| !self.services.contains_key(&service.name))
                    .map(|service| (service.name.clone(), service))
                    .collect::<BTreeMap<_, _>>()
                    .into_values()
                    .collect();
                let _ = self.allocators.assign(&mut services, seed);
                let named = services.into_iter().map(|s| (s.name.clone(), s));
                self.services.extend(named);
            }
            Step::Crash => {
                self.allocators = empty();
                let _ = Repair::default().round(&mut self.allocators, self.services.values());
            }
            Step::Leak => {
                let mut lost = service("lost", ServiceType::NodePort, &[(80, Protocol::Tcp, 0)]);
                let _ = self.allocators.create(&mut lost, seed, Run::Real);
                let mut repair = Repair::default();
                for _ in 0..3 {
                    let _ = repair.round(&mut self.allocators, self.services.values());
                }
            }
        }
    }

    /// Allocated is what the Services have, each to its own, and nothing twice.
    fn check(&self) {
        let mut ips: BTreeMap<IpAddr, &NamespacedName> = BTreeMap::new();
        let mut ports: BTreeMap<u16, &NamespacedName> = BTreeMap::new();
        for service in self.services.values() {
            for ip in &service.cluster_ips {
                assert_eq!(ips.insert(*ip, &service.name), None, "{ip} twice");
            }
            for port in node_ports_of(service) {
                let before = ports.insert(port, &service.name);
                assert_eq!(before, None, "{port} twice");
            }
        }
        assert_eq!(
            self.allocators
                .cluster_ips()
                .allocated()
                .collect::<BTreeMap<_, _>>(),
            ips
        );
        assert_eq!(
            self.allocators
                .node_ports()
                .allocated()
                .collect::<BTreeMap<_, _>>(),
            ports
        );
    }
}

/// A history of up to 60 steps.
pub(crate) fn history(source: &mut Source<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    while !source.is_empty() && steps.len() < 60 {
        steps.push(any_step(source));
    }
    steps
}

/// After every step what is allocated is what Services have, nothing twice, and nothing of it is
/// left when they are gone.
pub(crate) fn nothing_twice(steps: Vec<Step>, seed: u64) {
    let mut world = World {
        services: BTreeMap::new(),
        allocators: empty(),
    };
    for (i, step) in steps.into_iter().enumerate() {
        world.step(step, seed.wrapping_add(i as u64));
        world.check();
    }
    for service in core::mem::take(&mut world.services).into_values() {
        world.allocators.delete(&service);
    }
    world.check();
}

#[cfg(test)]
proptest! {
    #[test]
    fn nothing_is_handed_out_twice(bytes in bytes(8), seed: u64) {
        nothing_twice(history(&mut Source::new(&bytes)), seed);
    }
}
