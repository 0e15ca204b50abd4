//! The law of the zone: refreshed over any history, it equals one built from the last state.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use svc_core::dns::{PodNames, Rcode, RecordType, Zone, ZoneOptions, reverse_name};
use svc_core::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Labels, Pod, PodPhase, Service,
    ServicePort, ServiceType, SliceEndpoint, TargetPort,
};
use svc_core::{ClusterState, Event, IpFamily, Name, NamespacedName, Protocol, WatchEvent};

#[derive(Clone, Debug)]
enum Step {
    Cluster(Event),
    Pod(WatchEvent<Pod, NamespacedName>),
    Namespace(WatchEvent<Name, Name>),
}

fn object_name() -> impl Strategy<Value = NamespacedName> {
    ("[ab]", "[xyz]").prop_map(|(namespace, name)| NamespacedName::new(namespace, name))
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0u8..2, 1u8..4).prop_map(|(c, d)| IpAddr::from([10, 0, c, d])),
        (1u16..4).prop_map(|d| IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, d])),
    ]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)]
}

prop_compose! {
    fn service_port()(name in "[pq]?", port in 1u16..4, protocol in protocol()) -> ServicePort {
        ServicePort {
            name: name.into(),
            protocol,
            port,
            target_port: TargetPort::Number(port),
            node_port: None,
            app_protocol: None,
        }
    }
}

prop_compose! {
    fn service()(
        name in object_name(),
        kind in 0u8..4,
        ips in vec(address(), 0..3),
        ports in vec(service_port(), 0..3),
        external in "[xyz]\\.[ab]\\.svc\\.k\\.?|[xyz]\\.example|1\\.2\\.3\\.4",
    ) -> Service {
        let mut service = Service::named(name);
        service.ports = ports;
        match kind {
            0 => service.headless = true,
            1 => {
                service.service_type = ServiceType::ExternalName;
                service.external_name = Some(external.into());
            }
            _ => service.cluster_ips = ips,
        }
        service
    }
}

prop_compose! {
    fn endpoint()(
        address in address(),
        ready in any::<bool>(),
        hostname in prop::option::of("[hp]"),
        pod in prop::option::of("[mn]"),
    ) -> SliceEndpoint {
        let conditions = if ready { Conditions::READY } else { Conditions::NOT_READY };
        SliceEndpoint {
            extra: Some(Arc::new(EndpointExtra {
                hostname: hostname.map(Into::into),
                pod: pod.map(Into::into),
                ..EndpointExtra::default()
            })),
            ..SliceEndpoint::new(address, conditions)
        }
    }
}

prop_compose! {
    fn slice()(
        name in object_name(),
        service in "[xyz]",
        ports in vec(("[pq]?", protocol(), 1u16..4), 0..3),
        endpoints in vec(endpoint(), 0..4),
    ) -> EndpointSlice {
        EndpointSlice {
            name,
            service: service.into(),
            family: IpFamily::V4,
            ports: ports
                .into_iter()
                .map(|(name, protocol, port)| EndpointPort {
                    name: name.into(),
                    protocol,
                    port,
                    app_protocol: None,
                })
                .collect(),
            endpoints: endpoints.into(),
            headless: false,
            managed_by: None,
            labels: None,
        }
    }
}

prop_compose! {
    fn pod()(
        name in object_name(),
        ips in vec(address(), 0..3),
        phase in prop_oneof![Just(PodPhase::Running), Just(PodPhase::Succeeded)],
        terminating in any::<bool>(),
    ) -> Pod {
        Pod {
            name,
            labels: Labels::new(),
            ips,
            phase,
            ready: true,
            terminating,
            node: None,
            hostname: None,
            subdomain: None,
            host_network: false,
            ports: Vec::new(),
        }
    }
}

fn watch<T: std::fmt::Debug + Clone, K: std::fmt::Debug + Clone>(
    object: impl Strategy<Value = T> + Clone + 'static,
    key: impl Strategy<Value = K> + 'static,
) -> impl Strategy<Value = WatchEvent<T, K>> {
    prop_oneof![
        6 => object.clone().prop_map(WatchEvent::Apply),
        3 => key.prop_map(WatchEvent::Delete),
        1 => Just(WatchEvent::Init),
        2 => object.prop_map(WatchEvent::InitApply),
        1 => Just(WatchEvent::InitDone),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let namespace = || "[ab]".prop_map(Name::from);
    prop_oneof![
        3 => watch(service().boxed(), object_name()).prop_map(|e| Step::Cluster(Event::Service(e))),
        3 => watch(slice().boxed(), object_name())
            .prop_map(|e| Step::Cluster(Event::EndpointSlice(e))),
        2 => watch(pod().boxed(), object_name()).prop_map(Step::Pod),
        1 => watch(namespace().boxed(), namespace()).prop_map(Step::Namespace),
    ]
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

prop_compose! {
    pub(crate) fn histories()(
        steps in vec(step(), 1..40),
        flags in any::<[bool; 5]>(),
        pods in prop_oneof![
            Just(PodNames::Disabled), Just(PodNames::Verified), Just(PodNames::Insecure)
        ],
        refresh_every in 1usize..4,
    ) -> ZoneHistory {
        ZoneHistory { steps, flags, pods, refresh_every }
    }
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
    fn refreshing_equals_rebuilding(history in histories()) {
        refreshing(history)?;
    }
}
