//! The law of the zone: refreshed over any history, it equals one built from the last state.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;
use svc_core::dns::{PodNames, Rcode, RecordType, Zone, ZoneOptions, reverse_name};
use svc_core::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Labels, Pod, PodPhase, Service,
    ServicePort, ServiceType, SliceEndpoint, TargetPort,
};
use svc_core::testing::{Source, bytes};
use svc_core::{ClusterState, Event, IpFamily, Name, NamespacedName, Protocol, WatchEvent};

#[derive(Clone, Debug)]
enum Step {
    Cluster(Event),
    Pod(WatchEvent<Pod, NamespacedName>),
    Namespace(WatchEvent<Name, Name>),
}

fn object_name(source: &mut Source<'_>) -> NamespacedName {
    NamespacedName::new(source.pick(&["a", "b"]), source.pick(&["x", "y", "z"]))
}

fn address(source: &mut Source<'_>) -> IpAddr {
    let last = 1 + source.byte() % 3;
    match source.below(3) {
        2 => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, last.into()]),
        third => IpAddr::from([10, 0, third.try_into().unwrap(), last]),
    }
}

fn protocol(source: &mut Source<'_>) -> Protocol {
    source.pick(&[Protocol::Tcp, Protocol::Udp])
}

fn service_port(source: &mut Source<'_>) -> ServicePort {
    let port = 1 + u16::from(source.byte() % 3);
    ServicePort {
        name: source.pick(&["", "p", "q"]).into(),
        protocol: protocol(source),
        port,
        target_port: TargetPort::Number(port),
        node_port: None,
        app_protocol: None,
    }
}

fn service(source: &mut Source<'_>) -> Service {
    let mut service = Service::named(object_name(source));
    service.ports = source.several(2, service_port);
    match source.below(4) {
        2 => service.headless = true,
        3 => {
            service.service_type = ServiceType::ExternalName;
            let name = object_name(source);
            let text = match source.below(4) {
                0 => format!("{}.{}.svc.k", name.name, name.namespace),
                1 => format!("{}.{}.svc.k.", name.name, name.namespace),
                2 => format!("{}.example", name.name),
                _ => "1.2.3.4".to_owned(),
            };
            service.external_name = Some(text.into());
        }
        _ => service.cluster_ips = source.several(2, address),
    }
    service
}

fn endpoint(source: &mut Source<'_>) -> SliceEndpoint {
    let conditions = source.pick(&[Conditions::READY, Conditions::NOT_READY]);
    let address = address(source);
    SliceEndpoint {
        extra: Some(Arc::new(EndpointExtra {
            hostname: source.pick(&[None, Some("h"), Some("p")]).map(Into::into),
            pod: source.pick(&[None, Some("m"), Some("n")]).map(Into::into),
            ..EndpointExtra::default()
        })),
        ..SliceEndpoint::new(address, conditions)
    }
}

fn slice(source: &mut Source<'_>) -> EndpointSlice {
    let ports = source.several(2, |source| EndpointPort {
        name: source.pick(&["", "p", "q"]).into(),
        protocol: protocol(source),
        port: 1 + u16::from(source.byte() % 3),
        app_protocol: None,
    });
    EndpointSlice {
        name: object_name(source),
        service: source.pick(&["x", "y", "z"]).into(),
        family: IpFamily::V4,
        ports: ports.into(),
        endpoints: source.several(3, endpoint).into(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn pod(source: &mut Source<'_>) -> Pod {
    Pod {
        name: object_name(source),
        labels: Labels::new(),
        ips: source.several(2, address),
        phase: source.pick(&[PodPhase::Running, PodPhase::Succeeded]),
        ready: true,
        ready_changed: None,
        terminating: source.chance(50),
        node: None,
        hostname: None,
        subdomain: None,
        host_network: false,
        ports: Vec::new(),
    }
}

fn namespace(source: &mut Source<'_>) -> Name {
    source.pick(&["a", "b"]).into()
}

fn watch<T, K>(
    source: &mut Source<'_>,
    object: fn(&mut Source<'_>) -> T,
    key: fn(&mut Source<'_>) -> K,
) -> WatchEvent<T, K> {
    match source.below(13) {
        0..=5 => WatchEvent::Apply(object(source)),
        6..=8 => WatchEvent::Delete(key(source)),
        9 => WatchEvent::Init,
        10 | 11 => WatchEvent::InitApply(object(source)),
        _ => WatchEvent::InitDone,
    }
}

fn step(source: &mut Source<'_>) -> Step {
    match source.below(9) {
        0..=2 => Step::Cluster(Event::Service(watch(source, service, object_name))),
        3..=5 => Step::Cluster(Event::EndpointSlice(watch(source, slice, object_name))),
        6 | 7 => Step::Pod(watch(source, pod, object_name)),
        _ => Step::Namespace(watch(source, namespace, namespace)),
    }
}

fn options(flags: [bool; 5], pods: PodNames) -> ZoneOptions {
    let [
        endpoint_pod_names,
        ignore_empty_services,
        port_alias,
        pod_alias,
        filter,
    ] = flags;
    ZoneOptions {
        reverse: vec!["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()],
        pods,
        endpoint_pod_names,
        ignore_empty_services,
        port_alias,
        pod_alias,
        namespaces: filter.then(|| ["a".into()].into()),
        ..ZoneOptions::new("k".parse().unwrap())
    }
}

/// What a watch has told, kept in the plainest way.
struct Told<K, T> {
    objects: BTreeMap<K, T>,
    list: Option<BTreeSet<K>>,
}

impl<K: Ord + Clone, T: Clone> Told<K, T> {
    fn new() -> Self {
        let (objects, list) = (BTreeMap::new(), None);
        Self { objects, list }
    }

    fn apply(&mut self, event: &WatchEvent<T, K>, key: fn(&T) -> K) {
        match event {
            WatchEvent::Init => self.list = Some(BTreeSet::new()),
            WatchEvent::InitApply(object) => {
                if let Some(list) = &mut self.list {
                    list.insert(key(object));
                }
                self.objects.insert(key(object), object.clone());
            }
            WatchEvent::Apply(object) => {
                self.objects.insert(key(object), object.clone());
            }
            WatchEvent::Delete(key) => {
                self.objects.remove(key);
            }
            WatchEvent::InitDone => {
                let list = self.list.take().unwrap_or_default();
                self.objects.retain(|key, _| list.contains(key));
            }
        }
    }
}

/// Every name of up to five of the labels that histories use: nothing may be left behind.
fn compare_answers(zone: &Zone, fresh: &Zone) -> Result<(), TestCaseError> {
    let tails = ["x.a.svc.k", "y.b.svc.k", "a.svc.k", "a.pod.k", "m.a.pod.k"];
    let heads = ["", "h.", "p.", "_tcp.", "_p._tcp.", "10-0-0-1.", "fd00--1."];
    let mut names: Vec<_> = tails
        .iter()
        .flat_map(|tail| heads.map(|head| format!("{head}{tail}").parse().unwrap()))
        .collect();
    names.push(reverse_name([10, 0, 0, 1].into()));
    names.push("0.0.10.in-addr.arpa".parse().unwrap());
    for name in &names {
        for kind in [
            RecordType::A,
            RecordType::Aaaa,
            RecordType::Srv,
            RecordType::Ptr,
        ] {
            let (a, b) = (
                zone.lookup(name.as_ref(), kind),
                fresh.lookup(name.as_ref(), kind),
            );
            prop_assert_eq!(format!("{a:?}"), format!("{b:?}"));
            let chain = a
                .answers
                .iter()
                .any(|set| set.record_type() == RecordType::Cname);
            let proof = a.answers.is_empty() && matches!(a.rcode, Rcode::NoError | Rcode::NxDomain);
            prop_assert!(chain || a.authority.is_some() == proof, "{:?}", a);
            // RFC 8020: whether a name exists does not depend on the type.
            let text = zone.lookup(name.as_ref(), RecordType::Txt);
            prop_assert_eq!(a.rcode, text.rcode);
        }
    }
    Ok(())
}

/// What happens to a zone of some options, which is refreshed every few steps.
#[derive(Clone, Debug)]
pub(crate) struct ZoneHistory {
    steps: Vec<Step>,
    flags: [bool; 5],
    pods: PodNames,
    refresh_every: usize,
}

/// A history of up to 60 steps.
pub(crate) fn history(source: &mut Source<'_>) -> ZoneHistory {
    let mut history = ZoneHistory {
        steps: Vec::new(),
        flags: [(); 5].map(|()| source.chance(50)),
        pods: source.pick(&[PodNames::Disabled, PodNames::Verified, PodNames::Insecure]),
        refresh_every: 1 + source.below(3),
    };
    while !source.is_empty() && history.steps.len() < 60 {
        history.steps.push(step(source));
    }
    history
}

/// The refreshed zone equals the one from scratch, and so do its answers.
pub(crate) fn refreshing(history: ZoneHistory) -> Result<(), TestCaseError> {
    let ZoneHistory {
        steps,
        flags,
        pods,
        refresh_every,
    } = history;
    let options = options(flags, pods);
    let mut zone = Zone::new(options.clone()).unwrap();
    let mut fresh = Zone::new(options).unwrap();
    let mut state = ClusterState::new();
    let (mut told_pods, mut told_namespaces) = (Told::new(), Told::new());
    let mut waiting = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        match step {
            Step::Cluster(event) => waiting.push(state.apply(event.clone())),
            Step::Pod(event) => {
                zone.apply_pod(event.clone());
                told_pods.apply(event, |pod| pod.name.clone());
            }
            Step::Namespace(event) => {
                zone.apply_namespace(event.clone());
                told_namespaces.apply(event, Name::clone);
            }
        }
        if at % refresh_every == 0 {
            let published = zone.clone();
            let before = format!(
                "{:?}",
                published.lookup(reverse_name([10, 0, 0, 1].into()).as_ref(), RecordType::Ptr)
            );
            for changes in waiting.drain(..) {
                zone.refresh(&state, &changes);
            }
            let after = format!(
                "{:?}",
                published.lookup(reverse_name([10, 0, 0, 1].into()).as_ref(), RecordType::Ptr)
            );
            prop_assert_eq!(before, after);
        }
    }
    for changes in waiting {
        zone.refresh(&state, &changes);
    }
    // A list that is still under way would only change what a missing name is.
    if told_pods.list.is_some() {
        told_pods.apply(&WatchEvent::InitDone, |pod| pod.name.clone());
        zone.apply_pod(WatchEvent::InitDone);
    }
    if told_namespaces.list.is_some() {
        told_namespaces.apply(&WatchEvent::InitDone, Name::clone);
        zone.apply_namespace(WatchEvent::InitDone);
    }
    for pod in told_pods.objects.into_values() {
        fresh.apply_pod(WatchEvent::Apply(pod));
    }
    for namespace in told_namespaces.objects.into_keys() {
        fresh.apply_namespace(WatchEvent::Apply(namespace));
    }
    fresh.rebuild(&state);
    prop_assert_eq!(&zone, &fresh);
    compare_answers(&zone, &fresh)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn refreshing_equals_rebuilding(bytes in bytes(12)) {
        refreshing(history(&mut Source::new(&bytes)))?;
    }
}
