//! Laws of the allocators over random histories, for tests and for `fuzz`.
// What is broken shows as a panic, as in any test.
#![allow(clippy::panic, clippy::unwrap_used)]

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

use proptest::prelude::*;

use super::fixture::{allocators, service};
use super::service::node_ports_of;
use super::*;
use crate::name::NamespacedName;
use crate::net::Protocol;
use crate::object::{IpFamilyPolicy, Service, ServiceType, TrafficPolicy};

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

fn any_service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::vec(
        (
            80..83u16,
            0..2u8,
            prop_oneof![3 => Just(0), 1 => 29_999..30_006u16],
        ),
        0..4,
    );
    let address = prop_oneof![4 => Just(None), 1 => (0..18u8).prop_map(Some)];
    (0..8u8, 0..4u8, ports, address, 0..8u8, any::<bool>()).prop_map(
        |(name, kind, ports, address, policy, local)| {
            let service_type = match kind {
                0 => ServiceType::ClusterIp,
                1 => ServiceType::NodePort,
                2 => ServiceType::LoadBalancer,
                _ => ServiceType::ExternalName,
            };
            let mut seen = Vec::new();
            let ports: Vec<(u16, Protocol, u16)> = ports
                .into_iter()
                .map(|(port, udp, node_port)| {
                    // Other types may not have any (B-345).
                    let node_port = match service_type {
                        ServiceType::NodePort | ServiceType::LoadBalancer => node_port,
                        ServiceType::ClusterIp | ServiceType::ExternalName => 0,
                    };
                    let protocol = if udp == 1 {
                        Protocol::Udp
                    } else {
                        Protocol::Tcp
                    };
                    (port, protocol, node_port)
                })
                // What validation refuses (B-344) is not here.
                .filter(|(port, protocol, node_port)| {
                    let new = !seen.contains(&(*protocol, *port, 0))
                        && !seen.contains(&(*protocol, 0, *node_port));
                    seen.push((*protocol, *port, 0));
                    if *node_port != 0 {
                        seen.push((*protocol, 0, *node_port));
                    }
                    new
                })
                .collect();
            let mut service = service(&format!("s{name}"), service_type, &ports);
            if service_type != ServiceType::ExternalName {
                service.cluster_ips = address
                    .map(|last| [10, 0, 0, last].into())
                    .into_iter()
                    .collect();
                service.headless = service.cluster_ips.is_empty() && policy == 7;
                service.ip_family_policy = match policy {
                    0 => Some(IpFamilyPolicy::PreferDualStack),
                    1 => Some(IpFamilyPolicy::RequireDualStack),
                    2 => Some(IpFamilyPolicy::SingleStack),
                    _ => None,
                };
            }
            if local {
                service.external_traffic_policy = TrafficPolicy::Local;
            }
            service
        },
    )
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => any_service().prop_map(Step::Create),
        4 => any_service().prop_map(Step::Update),
        3 => (0..8usize).prop_map(Step::Delete),
        1 => prop::collection::vec(any_service(), 0..5).prop_map(Step::Assign),
        1 => Just(Step::Crash),
        1 => Just(Step::Leak),
    ]
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

/// Histories of up to 40 steps.
pub(crate) fn histories() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 0..40)
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

proptest! {
    #[test]
    fn nothing_is_handed_out_twice(steps in histories(), seed: u64) {
        nothing_twice(steps, seed);
    }
}
