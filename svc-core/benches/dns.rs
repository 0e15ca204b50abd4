//! Cost of a look-up, hit or miss, and of one change, at 100 to 100,000 Services.
#![allow(missing_docs, clippy::unwrap_used)]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use svc_core::dns::{DnsName, RecordType, Zone, ZoneOptions, reverse_name};
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

/// Names spread over the whole zone, so that caches of the processor do not help.
fn questions(count: u32, form: impl Fn(u32) -> String) -> Vec<DnsName> {
    let spread = |k: u32| (k * 7919) % count;
    (0..4096)
        .map(|k| form(spread(k)).parse().unwrap())
        .collect()
}

fn lookups(c: &mut Criterion) {
    type Form = fn(u32) -> String;
    let kinds: [(&str, RecordType, Form); 6] = [
        ("a-hit", RecordType::A, |i| {
            format!("svc-{i}.ns-{}.svc.cluster.local", i % 100)
        }),
        ("srv-hit", RecordType::Srv, |i| {
            format!("_http._tcp.svc-{i}.ns-{}.svc.cluster.local", i % 100)
        }),
        ("ptr-hit", RecordType::Ptr, |i| {
            reverse_name(cluster_ip(i).into()).to_string()
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
    for count in [100, 10_000, 100_000] {
        let (_, zone) = cluster(count);
        let mut group = c.benchmark_group("dns-lookup");
        group.throughput(Throughput::Elements(4096));
        for (kind, record_type, form) in kinds {
            let questions = questions(count, form);
            group.bench_with_input(BenchmarkId::new(kind, count), &questions, |b, questions| {
                b.iter(|| {
                    for question in questions {
                        let answer = zone.lookup(question.as_ref(), record_type);
                        black_box(answer.answers.iter().next().and_then(|set| set.at(0)));
                        black_box(answer.rcode);
                    }
                });
            });
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
