//! Cost of keeping EndpointSlices: everything from nothing, and one Pod changed.
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use svc_core::endpoints::{SliceConfig, SliceController, Topology};
use svc_core::object::{
    ContainerKind, ContainerPort, Node, Pod, PodPhase, Service, ServicePort, TargetPort,
    TrafficDistribution,
};
use svc_core::{IpFamily, NamespacedName, Protocol};

fn service(name: &str, target_port: TargetPort) -> Service {
    let mut service = Service::named(NamespacedName::new("default", name));
    service.selector.insert("app".into(), name.into());
    service.selector.insert("part-of".into(), "shop".into());
    service.ip_families = vec![IpFamily::V4];
    service.cluster_ips = vec![[10, 96, 0, 1].into()];
    service.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
    service.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port,
        node_port: None,
        app_protocol: None,
    }];
    service
}

fn pod(app: &str, i: u32) -> Pod {
    Pod {
        name: NamespacedName::new("default", format!("{app}-6f7d8c9b5-{i:05}")),
        labels: [
            ("app".into(), app.into()),
            ("part-of".into(), "shop".into()),
            ("pod-template-hash".into(), "6f7d8c9b5".into()),
        ]
        .into(),
        ips: vec![(0x0a40_0000 + i).to_be_bytes().into()],
        phase: PodPhase::Running,
        ready: true,
        ready_changed: Some(i64::from(i)),
        terminating: false,
        node: Some(format!("node-{}", i % 100).into()),
        hostname: None,
        subdomain: None,
        host_network: false,
        ports: vec![ContainerPort {
            name: "http".into(),
            port: 8080,
            protocol: Protocol::Tcp,
            container: ContainerKind::Regular,
        }],
    }
}

fn topology() -> Topology {
    let nodes: Vec<Node> = (0..100)
        .map(|i| {
            let mut node = Node::named(format!("node-{i}"));
            node.zone = Some(format!("zone-{}", i % 3).into());
            node
        })
        .collect();
    Topology::of(&nodes)
}

struct Cluster {
    services: Vec<Service>,
    pods: Vec<Pod>,
}

fn cluster(services: u32, pods_each: u32) -> Cluster {
    let names = || (0..services).map(|i| (i, format!("svc-{i}")));
    Cluster {
        services: names()
            .map(|(_, name)| service(&name, TargetPort::Name("http".into())))
            .collect(),
        pods: names()
            .flat_map(|(s, name)| (0..pods_each).map(move |i| pod(&name, s * pods_each + i)))
            .collect(),
    }
}

fn filled(cluster: Cluster) -> SliceController {
    let mut controller = SliceController::new(SliceConfig::default(), topology());
    for service in cluster.services {
        controller.apply_service(service);
    }
    for pod in cluster.pods {
        controller.apply_pod(pod);
    }
    controller
}

fn from_scratch(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoints");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    group.bench_function("from scratch, 10000 Services x 10 Pods", |b| {
        b.iter_batched(
            || cluster(10_000, 10),
            |cluster| {
                let mut controller = filled(cluster);
                let changes = controller.reconcile();
                assert_eq!(changes.0.len(), 10_000);
                // What is returned is dropped outside of the measurement.
                (controller, changes)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn one_pod_changed(c: &mut Criterion) {
    let mut group = c.benchmark_group("endpoints");
    for (services, pods_each) in [(10_000, 10), (100, 1000), (1, 100_000)] {
        let name = format!("one Pod changed, {services} Services x {pods_each} Pods");
        let all = cluster(services, pods_each);
        let mut one = all.pods[all.pods.len() / 2].clone();
        let mut controller = filled(all);
        controller.reconcile();
        group.bench_function(name, |b| {
            b.iter(|| {
                one.ready = !one.ready;
                controller.apply_pod(one.clone());
                let changes = controller.reconcile();
                assert_eq!(changes.0.len(), 1);
                black_box(changes)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, from_scratch, one_pod_changed);
criterion_main!(benches);
