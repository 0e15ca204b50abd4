//! Laws of the slice controller over random histories, for tests and for `fuzz`.
// What is broken shows as a panic, as in any test.
#![allow(clippy::panic, clippy::unwrap_used)]

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;

#[cfg(test)]
use proptest::prelude::*;

use super::fixture::{container_port, nodes, pod, port, service};
use super::*;
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{
    EndpointPort, EndpointSlice, Pod, PodPhase, Service, SliceEndpoint, TargetPort,
};
use crate::testing::Source;
#[cfg(test)]
use crate::testing::bytes;

const MAX_ENDPOINTS: u16 = 4;
const PODS: u16 = 30;
const APPS: [&str; 3] = ["a", "b", "c"];

#[derive(Clone, Debug)]
pub(crate) enum Step {
    ApplyPod(Pod),
    DeletePod(u16),
    ApplyService(Service),
    DeleteService(usize),
    Reconcile,
    /// Somebody deletes the n-th slice.
    LoseSlice(usize),
    /// Somebody copies the n-th slice, so that addresses stand twice.
    DoubleSlice(usize),
    /// The controller crashes after a reconciliation whose last writes were lost.
    Crash {
        written: usize,
    },
}

fn any_pod(source: &mut Source<'_>) -> Pod {
    let mut pod = pod("p", number(source, PODS));
    let apps = APPS.into_iter().filter(|_| source.chance(50));
    pod.labels = apps.map(|app| (app.into(), "1".into())).collect();
    pod.ready = source.chance(50);
    pod.ports = match number(source, 4) {
        0 => Vec::new(),
        n => [container_port("http", 8080 + n)].into(),
    };
    let phase = source.below(6);
    pod.terminating = phase == 1;
    pod.phase = match phase {
        2 => PodPhase::Failed,
        _ => PodPhase::Running,
    };
    pod.ips.truncate(source.below(3));
    pod
}

fn any_service(source: &mut Source<'_>) -> Service {
    let i = source.below(APPS.len());
    let mut service = service(APPS[i]);
    service.selector = [(APPS[i].into(), "1".into())].into();
    service.ip_families = match source.below(4) {
        0 => [IpFamily::V4].into(),
        1 => [IpFamily::V6].into(),
        _ => IpFamily::ALL.into(),
    };
    if source.chance(50) {
        service.ports = [port("", 80, TargetPort::Name("http".into()))].into();
    }
    match source.below(4) {
        1 => service.headless = true,
        2 => {
            let second = APPS[(i + 1) % APPS.len()];
            service.selector.insert(second.into(), "1".into());
        }
        _ => {}
    }
    service
}

fn any_step(source: &mut Source<'_>) -> Step {
    match source.below(30) {
        0..=11 => Step::ApplyPod(any_pod(source)),
        12..=16 => Step::DeletePod(number(source, PODS)),
        17..=19 => Step::ApplyService(any_service(source)),
        20 => Step::DeleteService(source.below(APPS.len())),
        21..=26 => Step::Reconcile,
        27 => Step::LoseSlice(source.byte().into()),
        28 => Step::DoubleSlice(source.byte().into()),
        _ => Step::Crash {
            written: source.below(4),
        },
    }
}

fn number(source: &mut Source<'_>, bound: u16) -> u16 {
    u16::from(source.byte()) % bound
}

/// A history of up to 80 steps.
pub(crate) fn history(source: &mut Source<'_>) -> Vec<Step> {
    let mut steps = Vec::new();
    while !source.is_empty() && steps.len() < 80 {
        steps.push(any_step(source));
    }
    steps
}

/// What the API server has.
#[derive(Default)]
struct World {
    services: BTreeMap<NamespacedName, Service>,
    pods: BTreeMap<NamespacedName, Pod>,
    slices: BTreeMap<NamespacedName, EndpointSlice>,
    /// Whether somebody else wrote slices since the last reconciliation.
    disturbed: bool,
}

impl World {
    fn controller(&self) -> SliceController {
        let config = SliceConfig {
            max_endpoints: MAX_ENDPOINTS,
            ..SliceConfig::default()
        };
        let mut controller = SliceController::new(config, Topology::of(&nodes()));
        let (slices, pods) = (self.slices.values(), self.pods.values());
        slices.for_each(|slice| controller.apply_slice(slice.clone()));
        pods.for_each(|pod| controller.apply_pod(pod.clone()));
        let services = self.services.values();
        services.for_each(|service| controller.apply_service(service.clone()));
        controller
    }

    fn write(&mut self, changes: impl IntoIterator<Item = SliceChange>) {
        for change in changes {
            match change {
                SliceChange::Apply(slice) => {
                    let before = self.slices.insert(slice.name.clone(), slice.clone());
                    if let Some(before) = before {
                        assert_eq!(before.family, slice.family, "addressType is immutable");
                        assert!(
                            before != slice || self.disturbed,
                            "a write that changes nothing: {slice:?}"
                        );
                    }
                }
                SliceChange::Delete(name) => {
                    assert!(self.slices.remove(&name).is_some(), "no slice {name}");
                }
            }
        }
    }

    fn reconcile(&mut self, controller: &mut SliceController) {
        self.write(controller.reconcile().0);
        self.disturbed = false;
    }

    fn nth_slice(&self, n: usize) -> Option<EndpointSlice> {
        let own = self.slices.values().filter(|slice| !foreign(slice));
        own.clone().nth(n % own.count().max(1)).cloned()
    }

    fn step(&mut self, controller: &mut SliceController, step: Step) {
        match step {
            Step::ApplyPod(pod) => {
                self.pods.insert(pod.name.clone(), pod.clone());
                controller.apply_pod(pod);
            }
            Step::DeletePod(i) => {
                let name = pod("p", i).name;
                self.pods.remove(&name);
                controller.delete_pod(&name);
            }
            Step::ApplyService(service) => {
                self.services.insert(service.name.clone(), service.clone());
                controller.apply_service(service);
            }
            Step::DeleteService(i) => {
                let name = NamespacedName::new("ns", APPS[i]);
                self.services.remove(&name);
                controller.delete_service(&name);
            }
            Step::Reconcile => self.reconcile(controller),
            Step::LoseSlice(n) => {
                self.disturbed = true;
                if let Some(slice) = self.nth_slice(n) {
                    self.slices.remove(&slice.name);
                    controller.delete_slice(&slice.name);
                }
            }
            Step::DoubleSlice(n) => {
                self.disturbed = true;
                if let Some(mut slice) = self.nth_slice(n) {
                    slice.name.name = format!("{}-copy", slice.name.name).into();
                    self.slices.insert(slice.name.clone(), slice.clone());
                    controller.apply_slice(slice);
                }
            }
            Step::Crash { written } => {
                self.write(controller.reconcile().0.into_iter().take(written));
                *controller = self.controller();
                self.disturbed = true;
            }
        }
    }
}

fn foreign(slice: &EndpointSlice) -> bool {
    slice.managed_by.as_deref() != Some(CLUSTER_CONTROLLER)
}

type Endpoints = BTreeMap<(Name, IpFamily), Vec<(Vec<EndpointPort>, SliceEndpoint)>>;

/// All endpoints with their ports, sorted by Pod.
fn endpoints<'a>(slices: impl IntoIterator<Item = &'a EndpointSlice>) -> Endpoints {
    let mut all = Endpoints::new();
    for slice in slices {
        let key = (slice.service.clone(), slice.family);
        let all = all.entry(key).or_default();
        for endpoint in &slice.endpoints {
            all.push((slice.ports.to_vec(), endpoint.clone()));
        }
    }
    for endpoints in all.values_mut() {
        endpoints.sort_by(|a, b| a.1.pod().cmp(&b.1.pod()));
    }
    all
}

/// The slices are those that the Services and Pods ask for, however they came about.
fn assert_right(world: &World) {
    let wanted: Vec<EndpointSlice> = world
        .services
        .values()
        .flat_map(|service| slices(service, world.pods.values(), &Topology::of(&nodes())).0)
        .collect();
    let held: Vec<&EndpointSlice> = world.slices.values().filter(|s| !foreign(s)).collect();
    assert_eq!(endpoints(&wanted), endpoints(held.iter().copied()));
    let mut seen = BTreeSet::new();
    for slice in held {
        assert!(
            slice.endpoints.len() <= usize::from(MAX_ENDPOINTS),
            "{slice:?}"
        );
        let service = &world.services[&slice.service_name()];
        assert_eq!(slice.headless, is_headless(service));
        for endpoint in &slice.endpoints {
            let key = (slice.service.clone(), endpoint.address);
            assert!(seen.insert(key), "{} twice", endpoint.address);
        }
        if slice.endpoints.is_empty() {
            assert!(slice.ports.is_empty());
            let key = (slice.service.clone(), slice.family);
            assert!(endpoints(world.slices.values().filter(|s| !foreign(s)))[&key].is_empty());
        }
    }
}

/// After any history one reconciliation makes the slices right, a second one and a controller that
/// starts anew write nothing, slices of somebody else are left alone, and when all objects are gone
/// nothing is remembered.
pub(crate) fn converges(steps: Vec<Step>) {
    let mut world = World::default();
    let mut theirs = slices(&service("a"), &[pod("a", 1)], &Topology::unknown())
        .0
        .remove(0);
    theirs.managed_by = Some("somebody.example".into());
    world.slices.insert(theirs.name.clone(), theirs.clone());
    let mut controller = world.controller();
    for step in steps {
        world.step(&mut controller, step);
    }
    world.reconcile(&mut controller);
    assert_right(&world);
    assert_eq!(world.slices[&theirs.name], theirs);
    assert_eq!(controller.reconcile().0, []);
    assert_eq!(world.controller().reconcile().0, []);
    forgets(world, controller);
}

/// Nothing is remembered of objects that are gone.
fn forgets(mut world: World, mut controller: SliceController) {
    for name in core::mem::take(&mut world.services).into_keys() {
        controller.delete_service(&name);
    }
    for name in core::mem::take(&mut world.pods).into_keys() {
        controller.delete_pod(&name);
    }
    world.reconcile(&mut controller);
    // Those that a controller has no right to delete.
    for name in core::mem::take(&mut world.slices).into_keys() {
        controller.delete_slice(&name);
    }
    world.reconcile(&mut controller);
    assert!(controller.is_empty(), "{controller:?}");
    let unknown = NamespacedName::new("elsewhere", "x");
    controller.delete_service(&unknown);
    controller.delete_pod(&unknown);
    controller.delete_slice(&unknown);
    assert!(controller.is_empty(), "{controller:?}");
}

#[cfg(test)]
proptest! {
    #[test]
    fn slices_converge_after_any_history(bytes in bytes(12)) {
        converges(history(&mut Source::new(&bytes)));
    }

    #[test]
    fn one_pod_touches_two_slices_per_service_and_family(
        bytes in bytes(12),
    ) {
        let mut source = Source::new(&bytes);
        let changed = any_pod(&mut source);
        let services: Vec<_> = (0..4).map(|_| any_service(&mut source)).collect();
        let pods: Vec<_> = (0..60).map(|_| any_pod(&mut source)).collect();
        let mut world = World::default();
        world.services.extend(services.into_iter().map(|s| (s.name.clone(), s)));
        world.pods.extend(pods.into_iter().map(|pod| (pod.name.clone(), pod)));
        let mut controller = world.controller();
        world.write(controller.reconcile().0);
        controller.apply_pod(changed);
        let mut writes: BTreeMap<(Name, bool), usize> = BTreeMap::new();
        for change in controller.reconcile().0 {
            let name = match change {
                SliceChange::Apply(slice) => slice.name,
                SliceChange::Delete(name) => name,
            };
            let service = Name::from(&name.name[..1]);
            *writes.entry((service, name.name.contains("ipv4"))).or_default() += 1;
        }
        // The slice that it leaves, when its ports change, and the one that it enters.
        prop_assert!(writes.values().all(|n| *n <= 2), "{:?}", writes);
    }
}
