//! Objects whose names are meant to be more than names.

use std::process::Command;

use examples::backend::Backend as Pure;
use examples::packets::{Backend, iptables, nftables};
use examples::sandbox::{Transport, probe};
use svc_core::config::{ProxyConfig, ProxyMode};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Service, ServicePort, SliceEndpoint, TargetPort,
};
use svc_core::{Event, Flow, IpFamily, NamespacedName, NodeConfig, Planner, Protocol, WatchEvent};

use crate::rig::{PATIENCE, Rig};

/// Names that an API server refuses; whoever writes manifests, or another API server, may not.
const NAMES: [&str; 9] = [
    "web\n-A INPUT -j ACCEPT\nCOMMIT\n*filter",
    "web\" counter accept comment \"",
    "web; flush ruleset; add table ip evil",
    "$(touch /evil) `touch /evil` && touch /evil",
    "--comment evil -j DROP #",
    "\0\u{1}\u{7f}\u{202e}evil",
    "../../evil\\n{}[]",
    "ümläut-🦀-evil",
    "",
];

fn planner(mode: ProxyMode) -> Planner {
    let mut config = NodeConfig::new("n1", ProxyConfig::default_for(mode));
    config.local_addresses = vec![[198, 18, 0, 10].into()];
    let mut planner = Planner::new(config);
    for event in [WatchEvent::Init, WatchEvent::InitDone] {
        planner.handle(Event::Service(event));
    }
    for event in [WatchEvent::Init, WatchEvent::InitDone] {
        planner.handle(Event::EndpointSlice(event));
    }
    let long = "evil-".repeat(2000);
    let names = NAMES.into_iter().chain([long.as_str()]);
    for (number, name) in (1u8..).zip(names) {
        planner.handle(Event::Service(WatchEvent::Apply(service(number, name))));
        planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice(name))));
    }
    planner
}

fn service(number: u8, name: &str) -> Service {
    let mut service = Service::named(NamespacedName::new(format!("ns {name}"), name));
    service.cluster_ips = vec![[10, 96, 0, number].into()];
    service.ip_families = vec![IpFamily::V4];
    service.client_ip_affinity_seconds = number.is_multiple_of(2).then_some(600);
    service.ports = vec![ServicePort {
        target_port: TargetPort::Number(8080),
        ..ServicePort::new(format!("port {name}"), Protocol::Tcp, 80)
    }];
    service
}

fn slice(name: &str) -> EndpointSlice {
    let endpoint = |host: u8| SliceEndpoint {
        node: Some(format!("node {name}").into()),
        ..SliceEndpoint::new([10, 64, 1, host].into(), Conditions::READY)
    };
    EndpointSlice {
        name: NamespacedName::new(format!("ns {name}"), format!("slice {name}")),
        service: name.into(),
        family: IpFamily::V4,
        ports: [EndpointPort {
            name: format!("port {name}").into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]
        .into(),
        endpoints: [endpoint(1), endpoint(2)].into(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn services() -> u8 {
    u8::try_from(NAMES.len() + 1).unwrap()
}

/// The rules of every backend do for each of them what the plan says; those of the backends that this
/// kernel has work with real packets, and no name became a rule, a table or a file.
pub(crate) fn in_the_kernel() {
    for backend in [Pure::Nftables, Pure::Iptables, Pure::Ipvs] {
        let mut planner = planner(backend.mode().unwrap());
        planner.delta();
        let plan = planner.plan(IpFamily::V4);
        assert_eq!(plan.service_ports.len(), usize::from(services()));
        for number in 1..=services() {
            let to = ([10, 96, 0, number], 80).into();
            let flow = Flow::new([203, 0, 113, 7].into(), to, Protocol::Tcp);
            let verdict = plan.route(&flow);
            assert!(verdict.to_string().starts_with("forward"), "{number}");
            assert_eq!(backend.verdict(&plan, &flow).unwrap(), verdict, "{number}");
        }
    }
    let rig = Rig::new();
    let node = rig.sandbox.node();
    node.run(|| {
        check(&rig, ProxyMode::Nftables, nftables().unwrap());
        for variant in [
            backend_iptables::Variant::Legacy,
            backend_iptables::Variant::Nft,
        ] {
            check(&rig, ProxyMode::Iptables, iptables(variant).unwrap());
        }
    })
    .unwrap();
    assert!(!std::path::Path::new("/evil").exists());
}

fn check(rig: &Rig, mode: ProxyMode, mut backend: impl Backend) {
    backend.sync(&mut planner(mode)).unwrap();
    for number in 1..=services() {
        let to = ([10, 96, 0, number], 80).into();
        let outcome = probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap();
        assert!(outcome.pod().is_some(), "{number}: {outcome}");
    }
    // iptables gets no name at all; nothing of ours is a rule that a name spelled.
    let saved = run("iptables-legacy-save") + &run("iptables-nft-save");
    assert!(!saved.contains("evil"), "{saved}");
    for line in saved.lines() {
        assert!(!line.starts_with("-A INPUT -j ACCEPT"), "{saved}");
    }
    let tables = rig.tool("nft", &["list", "tables"], "");
    assert!(!tables.contains("evil"), "{tables}");
    backend.remove().unwrap();
}

fn run(program: &str) -> String {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
