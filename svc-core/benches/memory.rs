//! Heap bytes per endpoint, of the objects and of the plans, and of the DNS zone per Service.
#![allow(missing_docs, clippy::unwrap_used)]

use std::fmt;
use std::net::Ipv4Addr;
use std::sync::Arc;

use peak_alloc::PeakAlloc;
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::dns::{Zone, ZoneOptions};
use svc_core::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Service, ServicePort, SliceEndpoint,
    TargetPort,
};
use svc_core::{
    ClusterState, Event, IpFamily, Name, NamespacedName, NodeConfig, Plan, Planner, Protocol,
    WatchEvent,
};

#[global_allocator]
static HEAP: PeakAlloc = PeakAlloc;

const SLICE: u32 = 100;
const SLICES_OF_A_SERVICE: u32 = 10;

/// Bytes per endpoint.
#[derive(Clone, Copy)]
pub struct Figures {
    /// Of [`ClusterState`].
    pub state: f64,
    /// Of a [`Planner`]: the objects, the plans of both families and all that planning keeps.
    pub planner: f64,
    /// Of a [`Planner`] and a [`Plan`] made of it, as a backend is given it.
    pub planner_and_plan: f64,
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state,
            planner,
            planner_and_plan,
        } = self;
        write!(
            f,
            "bytes per endpoint: objects {state:.1}, with plans {planner:.1}, \
             with a plan for a backend {planner_and_plan:.1}"
        )
    }
}

fn event(endpoint: u32, names: &[Name], zones: &[Arc<EndpointExtra>]) -> Vec<Event> {
    let slice = endpoint / SLICE;
    let service = slice / SLICES_OF_A_SERVICE;
    let name = NamespacedName::new(
        format!("team-{}", service % 50),
        format!("service-{service}"),
    );
    let mut events = Vec::new();
    if slice.is_multiple_of(SLICES_OF_A_SERVICE) {
        let ip = Ipv4Addr::from_bits(0x0a60_0000 + service);
        let object = http_service(name.clone(), Some(ip));
        events.push(Event::Service(WatchEvent::InitApply(object)));
    }
    let endpoints = (endpoint..endpoint + SLICE).map(|e| SliceEndpoint {
        node: Some(names[e as usize % names.len()].clone()),
        extra: Some(zones[e as usize % zones.len()].clone()),
        ..SliceEndpoint::new(
            Ipv4Addr::from_bits(0x0a40_0000 + e).into(),
            Conditions::READY,
        )
    });
    let object = http_slice(name, slice, endpoints.collect());
    events.push(Event::EndpointSlice(WatchEvent::InitApply(object)));
    events
}

/// A Service with one port; headless without an address.
fn http_service(name: NamespacedName, ip: Option<Ipv4Addr>) -> Service {
    let mut object = Service::named(name);
    object.headless = ip.is_none();
    object.cluster_ips = ip.into_iter().map(Into::into).collect();
    object.ip_families = vec![IpFamily::V4];
    object.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    }];
    object
}

/// A slice of it.
fn http_slice(
    service: NamespacedName,
    number: u32,
    endpoints: Box<[SliceEndpoint]>,
) -> EndpointSlice {
    EndpointSlice {
        name: NamespacedName::new(service.namespace, format!("{}-{number}", service.name)),
        service: service.name,
        family: IpFamily::V4,
        ports: Box::new([EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]),
        endpoints,
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

/// Feeds objects as a watch does, each with strings of its own, as conversion makes them.
fn feed(endpoints: u32, mut handle: impl FnMut(Event)) {
    handle(Event::Service(WatchEvent::Init));
    handle(Event::EndpointSlice(WatchEvent::Init));
    for first in (0..endpoints).step_by(SLICE as usize) {
        let names: Vec<Name> = (0..1_000)
            .map(|n| Name::from(format!("node-{n}")))
            .collect();
        let zone = |zone: &str| EndpointExtra {
            zone: Some(zone.into()),
            ..EndpointExtra::default()
        };
        let zones = ["zone-a", "zone-b", "zone-c"].map(|name| Arc::new(zone(name)));
        event(first, &names, &zones)
            .into_iter()
            .for_each(&mut handle);
    }
    handle(Event::Service(WatchEvent::InitDone));
    handle(Event::EndpointSlice(WatchEvent::InitDone));
}

#[allow(clippy::cast_precision_loss)]
pub fn measure(endpoints: u32) -> Figures {
    let per_endpoint = |bytes: usize| bytes as f64 / f64::from(endpoints);
    let start = HEAP.current_usage();
    let mut state = ClusterState::new();
    feed(endpoints, |event| {
        state.apply(event);
    });
    let state_bytes = HEAP.current_usage() - start;
    drop(state);
    let mut proxy = ProxyConfig::default_for(ProxyMode::Nftables);
    proxy.detect_local = LocalDetection::ClusterCidr(vec!["10.64.0.0/11".parse().unwrap()]);
    let config = NodeConfig::new("node-1", proxy);
    let start = HEAP.current_usage();
    let mut planner = Planner::new(config);
    feed(endpoints, |event| {
        planner.handle(event);
    });
    drop(planner.delta());
    let planner_bytes = HEAP.current_usage() - start;
    let plan: Plan = planner.plan(IpFamily::V4);
    let both_bytes = HEAP.current_usage() - start;
    assert!(
        plan.service_ports
            .values()
            .all(|port| !port.cluster.is_empty())
    );
    Figures {
        state: per_endpoint(state_bytes),
        planner: per_endpoint(planner_bytes),
        planner_and_plan: per_endpoint(both_bytes),
    }
}

/// What a DNS zone adds to the objects, in bytes.
#[derive(Clone, Copy)]
pub struct ZoneFigures {
    /// Per Service with a ClusterIP, a port and three endpoints, its reverse name included.
    pub cluster_ip: f64,
    /// Per endpoint of headless Services with three: names and reverse names of both.
    pub headless: f64,
}

impl fmt::Display for ZoneFigures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cluster_ip,
            headless,
        } = self;
        write!(
            f,
            "bytes of the DNS zone: {cluster_ip:.0} per Service with a ClusterIP and three endpoints, \
             {headless:.0} per endpoint of headless ones"
        )
    }
}

const ENDPOINTS_OF_A_SERVICE: u32 = 3;

fn small_service(number: u32, headless: bool) -> [Event; 2] {
    let name = NamespacedName::new(format!("team-{}", number % 50), format!("service-{number}"));
    let ip = (!headless).then_some(Ipv4Addr::from_bits(0x0a60_0000 + number));
    let object = http_service(name.clone(), ip);
    let first = 0x0a80_0000 + number * ENDPOINTS_OF_A_SERVICE;
    let addresses = (first..first + ENDPOINTS_OF_A_SERVICE).map(Ipv4Addr::from_bits);
    let endpoints = addresses.map(|ip| SliceEndpoint::new(ip.into(), Conditions::READY));
    let slice = http_slice(name, 0, endpoints.collect());
    [
        Event::Service(WatchEvent::InitApply(object)),
        Event::EndpointSlice(WatchEvent::InitApply(slice)),
    ]
}

/// Bytes of a zone that follows a watch from its start.
fn zone_bytes(services: u32, headless: bool) -> usize {
    let mut options = ZoneOptions::new("cluster.local".parse().unwrap());
    options.reverse = vec!["10.0.0.0/8".parse().unwrap()];
    let mut state = ClusterState::new();
    let start = HEAP.current_usage();
    let mut zone = Zone::new(options).unwrap();
    let mut feed = |event| {
        let changes = state.apply(event);
        zone.refresh(&state, &changes);
    };
    feed(Event::Service(WatchEvent::Init));
    feed(Event::EndpointSlice(WatchEvent::Init));
    let objects = (0..services).flat_map(|number| small_service(number, headless));
    objects.for_each(&mut feed);
    feed(Event::Service(WatchEvent::InitDone));
    feed(Event::EndpointSlice(WatchEvent::InitDone));
    assert_eq!(zone.service_count(), services as usize);
    let both = HEAP.current_usage() - start;
    drop(zone);
    // What is left is the state: both were counted together.
    both - (HEAP.current_usage() - start)
}

#[allow(clippy::cast_precision_loss)]
pub fn measure_zone(services: u32) -> ZoneFigures {
    let per_service = |headless| zone_bytes(services, headless) as f64 / f64::from(services);
    ZoneFigures {
        cluster_ip: per_service(false),
        headless: per_service(true) / f64::from(ENDPOINTS_OF_A_SERVICE),
    }
}

#[allow(dead_code)] // The test that includes this file has a main of its own.
fn main() {
    println!("1000000 endpoints in slices of 100: {}", measure(1_000_000));
    for services in [10_000, 100_000] {
        println!("{services} Services: {}", measure_zone(services));
    }
}
