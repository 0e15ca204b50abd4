//! Cost of a look-up, hit or miss, and of one change, at 100 to 100,000 Services.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_core::dns::{
    Answer, DnsName, NameRef, RecordData, RecordType, Zone, ZoneOptions, reverse_name,
};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Service, ServicePort, SliceEndpoint, TargetPort,
};
use svc_core::{ClusterState, Event, IpFamily, NamespacedName, Protocol, WatchEvent};

fn name(i: u32) -> NamespacedName {
    NamespacedName::new(format!("ns-{}", i % 100), format!("svc-{i}"))
}

fn cluster_ip(i: u32) -> [u8; 4] {
    let [_, b, c, d] = i.to_be_bytes();
    [10, 96 + b, c, d]
}

fn service(i: u32) -> Service {
    let mut service = Service::named(name(i));
    service.cluster_ips = vec![cluster_ip(i).into()];
    service.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    }];
    service
}

fn slice(i: u32, generation: u8) -> EndpointSlice {
    let [_, b, c, d] = i.to_be_bytes();
    let endpoint = |k| SliceEndpoint::new([k, b, c, d].into(), Conditions::READY);
    EndpointSlice {
        name: name(i),
        service: name(i).name,
        family: IpFamily::V4,
        ports: [EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]
        .into(),
        endpoints: [11, 12, 13 + generation].map(endpoint).into(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn cluster(count: u32) -> (ClusterState, Zone) {
    let mut options = ZoneOptions::new("cluster.local".parse().unwrap());
    options.reverse = vec!["10.0.0.0/8".parse().unwrap()];
    let mut zone = Zone::new(options).unwrap();
    let mut state = ClusterState::new();
    let mut feed = |event| {
        let changes = state.apply(event);
        zone.refresh(&state, &changes);
    };
    feed(Event::Service(WatchEvent::Init));
    feed(Event::EndpointSlice(WatchEvent::Init));
    for i in 0..count {
        feed(Event::Service(WatchEvent::InitApply(service(i))));
        feed(Event::EndpointSlice(WatchEvent::InitApply(slice(i, 0))));
    }
    feed(Event::Service(WatchEvent::InitDone));
    feed(Event::EndpointSlice(WatchEvent::InitDone));
    (state, zone)
}

/// Look-ups between two readings of the clock.
const BATCH: usize = 1024;
/// Names that are asked for again and again.
const FEW: u32 = 64;

/// The order in which a server is asked for the names of a zone.
#[derive(Clone, Copy)]
enum Order {
    /// Each name of the whole zone once, in a random order, then all over again: at 100,000
    /// Services no cache of the processor holds what is touched between two times.
    Random,
    /// A few names, as when all clients want the same Services.
    Repeated,
}

impl Order {
    fn indices(self, count: u32) -> Vec<u32> {
        let mut all: Vec<u32> = (0..count).collect();
        // SplitMix64: neighbours in the result have nothing to do with each other.
        all.sort_by_key(|i| {
            let x = u64::from(*i).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            x ^ (x >> 27)
        });
        match self {
            Self::Random => all,
            Self::Repeated => {
                all.truncate(FEW as usize);
                all
            }
        }
    }
}

type Form = fn(u32) -> String;

const KINDS: [(&str, RecordType, Form); 7] = [
    ("a-hit", RecordType::A, |i| {
        format!("svc-{i}.ns-{}.svc.cluster.local", i % 100)
    }),
    ("srv-hit", RecordType::Srv, |i| {
        format!("_http._tcp.svc-{i}.ns-{}.svc.cluster.local", i % 100)
    }),
    ("ptr-hit", RecordType::Ptr, |i| {
        reverse_name(cluster_ip(i).into()).to_string()
    }),
    ("ptr-nxdomain", RecordType::Ptr, |i| {
        let [_, b, c, d] = cluster_ip(i);
        reverse_name([10, b + 100, c, d].into()).to_string()
    }),
    ("aaaa-nodata", RecordType::Aaaa, |i| {
        format!("svc-{i}.ns-{}.svc.cluster.local", i % 100)
    }),
    ("nxdomain", RecordType::A, |i| {
        format!("no-{i}.ns-{}.svc.cluster.local", i % 100)
    }),
    ("search-nxdomain", RecordType::A, |i| {
        format!("www.example-{i}.com.ns-{}.svc.cluster.local", i % 100)
    }),
];

/// Names one after another, as packets come: reading them is no random access.
fn octets(indices: &[u32], form: Form) -> Vec<u8> {
    let name = |i: &u32| form(*i).parse::<DnsName>().unwrap();
    let names = indices.iter().map(name);
    names.flat_map(|name| name.octets().to_vec()).collect()
}

fn names(mut octets: &[u8]) -> Vec<NameRef<'_>> {
    let mut names = Vec::new();
    while let Ok((name, rest)) = NameRef::split_from(octets) {
        names.push(name);
        octets = rest;
    }
    names
}

/// Looks at what a server would write: also at the octets of names that records point to.
fn consume(answer: &Answer<'_>) {
    let data = answer.answers.iter().next().and_then(|set| set.at(0));
    if let Some(RecordData::Srv { target, .. } | RecordData::Ptr(target)) = data {
        black_box(target.octets().first());
        black_box(target.octets().last());
    }
    black_box(data);
    black_box(answer.rcode);
}

fn lookups(c: &mut Criterion) {
    for count in [100, 10_000, 100_000] {
        let (_, zone) = cluster(count);
        for (order, word) in [(Order::Random, "random"), (Order::Repeated, "repeated")] {
            let indices = order.indices(count);
            let mut group = c.benchmark_group(format!("dns-lookup-{word}"));
            group.warm_up_time(Duration::from_secs(1));
            group.measurement_time(Duration::from_secs(2));
            group.throughput(Throughput::Elements(BATCH as u64));
            for (kind, record_type, form) in KINDS {
                let octets = octets(&indices, form);
                let mut endless = names(&octets).into_iter().cycle();
                group.bench_function(BenchmarkId::new(kind, count), |b| {
                    b.iter(|| {
                        for name in endless.by_ref().take(BATCH) {
                            consume(&zone.lookup(name, record_type));
                        }
                    });
                });
            }
        }
    }
}

fn changes(c: &mut Criterion) {
    let mut group = c.benchmark_group("dns-change");
    for count in [100, 10_000, 100_000] {
        let (mut state, mut zone) = cluster(count);
        let mut generation = 0;
        // Each change is published as a server does it, by a clone that readers keep.
        let mut published = zone.clone();
        group.bench_function(BenchmarkId::new("one-endpoint-published", count), |b| {
            b.iter(|| {
                generation = (generation + 1) % 2;
                let event = WatchEvent::Apply(slice(count / 2, generation));
                let changes = state.apply(Event::EndpointSlice(event));
                zone.refresh(&state, &changes);
                published = zone.clone();
            });
        });
        black_box(&published);
    }
}

criterion_group!(benches, lookups, changes);
criterion_main!(benches);
