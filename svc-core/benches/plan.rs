//! Cost of planning: everything from nothing, and one event.
//!
//! Events are made one at a time: a batch of thousands would measure how long it takes to fetch
//! them from memory, where an event that was just decoded is in the cache.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::conntrack::{ConntrackEntry, Direction, StaleFlows};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Node, Service, ServicePort, SliceEndpoint, TargetPort,
};
use svc_core::{
    Event, IpFamily, Name, NamespacedName, NodeConfig, Plan, Planner, Protocol, WatchEvent,
};

const ENDPOINTS: u32 = 10;

fn config() -> NodeConfig {
    let mut proxy = ProxyConfig::default_for(ProxyMode::Nftables);
    proxy.detect_local = LocalDetection::ClusterCidr(vec!["10.64.0.0/11".parse().unwrap()]);
    NodeConfig::new("node-1", proxy)
}

fn service(n: u32, protocol: Protocol) -> Service {
    let name = NamespacedName::new(format!("team-{}", n % 100), format!("service-{n}"));
    let mut service = Service::named(name);
    service.cluster_ips = vec![Ipv4Addr::from_bits(0x0a60_0000 + n).into()];
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort {
        name: "http".into(),
        protocol,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    }];
    service
}

fn endpoint(service: u32, n: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a40_0000 + service.wrapping_mul(101) % 0x10_0000 + n)
}

/// A slice of a Service; endpoint 0 is ready or not.
fn slice(n: u32, endpoints: u32, protocol: Protocol, first: Conditions) -> EndpointSlice {
    let service = service(n, protocol).name;
    let endpoints = (0..endpoints).map(|e| SliceEndpoint {
        node: Some(Name::from(format!("node-{}", e % 100))),
        ..SliceEndpoint::new(
            endpoint(n, e).into(),
            if e == 0 { first } else { Conditions::READY },
        )
    });
    EndpointSlice {
        name: NamespacedName::new(service.namespace, format!("{}-x7k2p", service.name)),
        service: service.name,
        family: IpFamily::V4,
        ports: Box::new([EndpointPort {
            name: "http".into(),
            protocol,
            port: 8080,
            app_protocol: None,
        }]),
        endpoints: endpoints.collect(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn planner(services: u32, endpoints: u32, protocol: Protocol) -> Planner {
    let mut planner = Planner::new(config());
    let mut node = Node::named("node-1");
    node.addresses = vec![[198, 18, 0, 10].into()];
    planner.handle(Event::Node(WatchEvent::Apply(node)));
    planner.handle(Event::Service(WatchEvent::Init));
    planner.handle(Event::EndpointSlice(WatchEvent::Init));
    for n in 0..services {
        let service = WatchEvent::InitApply(service(n, protocol));
        planner.handle(Event::Service(service));
        let slice = WatchEvent::InitApply(slice(n, endpoints, protocol, Conditions::READY));
        planner.handle(Event::EndpointSlice(slice));
    }
    planner.handle(Event::Service(WatchEvent::InitDone));
    planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
    planner.delta();
    planner
}

fn compute(c: &mut Criterion) {
    let planner = planner(10_000, ENDPOINTS, Protocol::Tcp);
    let compute = || Plan::compute(planner.state(), planner.config(), IpFamily::V4);
    // Dropping a plan is not computing it.
    c.bench_function("compute/10000x10", |b| b.iter_with_large_drop(compute));
}

/// One endpoint of a slice changes: the delta, at different sizes of the cluster.
fn endpoint_event(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoint-event");
    for services in [1_000, 10_000, 100_000] {
        let mut planner = planner(services, ENDPOINTS, Protocol::Tcp);
        for (what, spread) in [("one-service", 1), ("any-service", services)] {
            let mut turn = 0u32;
            group.bench_function(BenchmarkId::new(what, services), |b| {
                b.iter_batched(
                    || {
                        turn = turn.wrapping_add(1);
                        let first = match turn.is_multiple_of(2) {
                            true => Conditions::READY,
                            false => Conditions::NOT_READY,
                        };
                        // Each Service twice, far from the one before.
                        let n = (turn / 2).wrapping_mul(7919) % spread;
                        let slice = slice(n, ENDPOINTS, Protocol::Tcp, first);
                        Event::EndpointSlice(WatchEvent::Apply(slice))
                    },
                    |event| {
                        planner.handle(event);
                        black_box(planner.delta())
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

/// A Service comes and goes.
fn service_event(c: &mut Criterion) {
    let mut group = c.benchmark_group("service-event");
    for services in [1_000, 100_000] {
        let mut planner = planner(services, ENDPOINTS, Protocol::Tcp);
        let mut turn = 0u32;
        group.bench_function(BenchmarkId::from_parameter(services), |b| {
            b.iter_batched(
                || {
                    turn = turn.wrapping_add(1);
                    let n = (turn / 2).wrapping_mul(7919) % services;
                    let service = service(n, Protocol::Tcp);
                    Event::Service(match turn.is_multiple_of(2) {
                        true => WatchEvent::Apply(service),
                        false => WatchEvent::Delete(service.name),
                    })
                },
                |event| {
                    planner.handle(event);
                    black_box(planner.delta())
                },
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// An event that changes nothing.
fn idle_event(c: &mut Criterion) {
    let mut planner = planner(10_000, ENDPOINTS, Protocol::Tcp);
    c.bench_function("idle-event", |b| {
        b.iter_batched(
            || slice(77, ENDPOINTS, Protocol::Tcp, Conditions::READY),
            |slice| {
                planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice)));
                black_box(planner.delta())
            },
            BatchSize::PerIteration,
        );
    });
}

/// A table of 100,000 entries of connections is compared with a plan of 10,000 Services.
fn conntrack(c: &mut Criterion) {
    let plan = planner(10_000, ENDPOINTS, Protocol::Udp).plan(IpFamily::V4);
    let entries: Vec<ConntrackEntry> = (0..100_000u32)
        .map(|n| {
            let client = ([203, 0, 113, 7], 4000).into();
            ConntrackEntry {
                protocol: Protocol::Udp,
                original: Direction {
                    source: client,
                    destination: (Ipv4Addr::from_bits(0x0a60_0000 + n % 10_000), 80).into(),
                },
                // One in a hundred leads to an endpoint that is gone.
                reply: Direction {
                    source: (
                        endpoint(n % 10_000, if n % 100 == 0 { 77 } else { n % 10 }),
                        8080,
                    )
                        .into(),
                    destination: client,
                },
            }
        })
        .collect();
    c.bench_function("conntrack/100000-entries", |b| {
        b.iter(|| black_box(StaleFlows::of(&plan).stale(entries.iter().copied())));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = compute, endpoint_event, service_event, idle_event, conntrack
}
criterion_main!(benches);
