//! Small clusters at random, and what they mean.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use backend_iptables::{Config, Key, Renderer, Value};
use proptest::prelude::*;
use svc_core::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, IngressIp, IpMode, Node, Service, ServicePort,
    ServiceType, SliceEndpoint, TargetPort, TrafficPolicy,
};
use svc_core::{
    ClusterState, Event, Flow, IpFamily, IpNet, Name, NamespacedName, NodeConfig, Plan, Pretend,
    Protocol, Reconciler, Ruleset, WatchEvent,
};

/// Addresses that may mean something: few, so that they meet.
pub fn ip(family: IpFamily, kind: u8, number: u8) -> IpAddr {
    let (v4, v6): ([u8; 3], u16) = match kind {
        0 => ([10, 96, 0], 0x96),
        1 => ([10, 64, 1], 0x6401),
        2 => ([10, 64, 2], 0x6402),
        3 => ([192, 0, 2], 0x0192),
        4 => ([198, 18, 0], 0x0198),
        5 => ([203, 0, 113], 0x0203),
        _ => ([127, 0, 0], 0),
    };
    match (family, kind) {
        (IpFamily::V4, _) => Ipv4Addr::new(v4[0], v4[1], v4[2], number).into(),
        (IpFamily::V6, 0..=5) => Ipv6Addr::new(0xfd00, v6, 0, 0, 0, 0, 0, number.into()).into(),
        (IpFamily::V6, _) => Ipv6Addr::LOCALHOST.into(),
    }
}

pub const CLUSTER: u8 = 0;
pub const PODS_HERE: u8 = 1;
pub const PODS_THERE: u8 = 2;
pub const BALANCER: u8 = 3;
pub const NODE: u8 = 4;
pub const OUTSIDE: u8 = 5;
pub const LOOPBACK: u8 = 6;

fn net(family: IpFamily, kind: u8, bits: (u8, u8)) -> IpNet {
    let bits = if family == IpFamily::V4 {
        bits.0
    } else {
        bits.1
    };
    IpNet::new(ip(family, kind, 0), bits).unwrap().trunc()
}

fn policy() -> impl Strategy<Value = TrafficPolicy> {
    prop::sample::select(vec![TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn port(family: IpFamily) -> impl Strategy<Value = (ServicePort, Vec<SliceEndpoint>)> {
    let protocol = prop::sample::select(Protocol::ALL.to_vec());
    let number = prop::sample::select(vec![80u16, 443, 30_801]);
    let node_port = prop::option::of(30_800u16..30_806);
    let endpoints = prop::collection::vec(endpoint(family), 0..5);
    // Now and then enough for groups, or for groups of groups.
    let many = prop_oneof![3 => 70u8..90, 1 => 150u8..160].prop_map(move |count| {
        let endpoint = |number| {
            let mut endpoint = SliceEndpoint::new(ip(family, PODS_HERE, number), Conditions::READY);
            endpoint.node = Some("n1".into());
            endpoint
        };
        (0..count).map(endpoint).collect()
    });
    let endpoints = prop_oneof![12 => endpoints, 1 => many];
    (protocol, number, node_port, endpoints).prop_map(|(protocol, port, node_port, endpoints)| {
        let port = ServicePort {
            name: Name::from(""),
            protocol,
            port,
            target_port: TargetPort::Number(port),
            node_port,
            app_protocol: None,
        };
        (port, endpoints)
    })
}

fn endpoint(family: IpFamily) -> impl Strategy<Value = SliceEndpoint> {
    let conditions = prop::sample::select(vec![
        Conditions::READY,
        Conditions::READY,
        Conditions::READY,
        Conditions::SERVING_TERMINATING,
        Conditions::NOT_READY,
    ]);
    (
        prop::sample::select(vec![PODS_HERE, PODS_THERE]),
        1u8..6,
        conditions,
    )
        .prop_map(move |(kind, number, conditions)| {
            let mut endpoint = SliceEndpoint::new(ip(family, kind, number), conditions);
            endpoint.node = Some(if kind == PODS_HERE { "n1" } else { "n2" }.into());
            endpoint
        })
}

/// A Service with its slice.
pub fn service(family: IpFamily) -> impl Strategy<Value = (Service, EndpointSlice)> {
    let addresses = (
        1u8..9,
        prop::collection::vec(1u8..4, 0..3),
        prop::collection::vec((1u8..4, any::<bool>()), 0..3),
        // An external address may belong to the node.
        prop::option::weighted(0.2, 10u8..12),
    );
    let policies = (
        policy(),
        policy(),
        prop::option::weighted(0.3, 1u32..20_000),
    );
    let ranges = prop::sample::select(vec![
        vec![],
        vec![net(family, OUTSIDE, (25, 126))],
        vec![net(family, NODE, (24, 64)), net(family, OUTSIDE, (25, 126))],
        vec![net(family, PODS_HERE, (24, 64))],
    ]);
    let kind = prop::sample::select(vec![
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
    ]);
    (port(family), addresses, policies, ranges, kind, 0u8..12).prop_map(
        move |((mut port, endpoints), addresses, policies, ranges, kind, number)| {
            let (cluster, external, ingress, on_node) = addresses;
            let name = NamespacedName::new("ns", format!("s{number}"));
            let mut service = Service::named(name.clone());
            service.service_type = kind;
            service.cluster_ips = vec![ip(family, CLUSTER, cluster)];
            service.external_ips = external.iter().map(|n| ip(family, BALANCER, *n)).collect();
            service
                .external_ips
                .extend(on_node.map(|n| ip(family, NODE, n)));
            if kind == ServiceType::ClusterIp {
                port.node_port = None;
            }
            if kind == ServiceType::LoadBalancer {
                let ingress_ip = |(n, proxy): &(u8, bool)| IngressIp {
                    ip: ip(family, BALANCER, n + 10),
                    mode: if *proxy { IpMode::Proxy } else { IpMode::Vip },
                };
                service.ingress = ingress.iter().map(ingress_ip).collect();
                service.load_balancer_source_ranges = ranges;
            }
            service.internal_traffic_policy = policies.0;
            service.external_traffic_policy = policies.1;
            service.client_ip_affinity_seconds = policies.2;
            let slice = EndpointSlice {
                name: NamespacedName::new("ns", format!("s{number}-a")),
                service: name.name,
                family,
                ports: vec![EndpointPort {
                    name: Name::from(""),
                    protocol: port.protocol,
                    port: 8080,
                    app_protocol: None,
                }]
                .into(),
                endpoints: endpoints.into(),
                headless: false,
                managed_by: None,
                labels: Default::default(),
                trigger_time: None,
            };
            service.ports = vec![port];
            (service, slice)
        },
    )
}

/// A configuration of the proxy.
pub fn proxy(family: IpFamily) -> impl Strategy<Value = ProxyConfig> {
    let pods = match family {
        IpFamily::V4 => net(family, PODS_HERE, (16, 0)),
        IpFamily::V6 => net(family, PODS_HERE, (0, 32)),
    };
    let detection = prop::sample::select(vec![
        LocalDetection::ClusterCidr(vec![pods]),
        LocalDetection::ClusterCidr(vec![pods]),
        LocalDetection::None,
        LocalDetection::BridgeInterface("cni0".into()),
        LocalDetection::InterfaceNamePrefix("veth".into()),
    ]);
    let node_ports = prop::sample::select(vec![
        NodePortAddresses::Default,
        NodePortAddresses::Primary,
        NodePortAddresses::Cidrs(vec![net(family, NODE, (28, 124))]),
        NodePortAddresses::Cidrs(vec![
            "127.0.0.0/8".parse().unwrap(),
            net(family, NODE, (32, 128)),
        ]),
        NodePortAddresses::Cidrs(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]),
    ]);
    (detection, node_ports, any::<bool>(), any::<bool>()).prop_map(
        |(detection, node_ports, masquerade_all, localhost)| {
            let mut proxy = ProxyConfig::default_for(ProxyMode::Iptables);
            proxy.detect_local = detection;
            proxy.node_port_addresses = node_ports;
            proxy.masquerade_all = masquerade_all;
            proxy.localhost_node_ports = localhost;
            proxy
        },
    )
}

/// A plan of iptables mode.
pub fn plan() -> impl Strategy<Value = Plan> {
    prop::sample::select(IpFamily::ALL.to_vec()).prop_flat_map(|family| {
        let services = prop::collection::vec(service(family), 0..12);
        (proxy(family), services)
            .prop_map(move |(proxy, services)| plan_of(family, proxy, services))
    })
}

/// Plans with the same node, for histories.
pub fn history() -> impl Strategy<Value = Vec<Plan>> {
    prop::sample::select(IpFamily::ALL.to_vec()).prop_flat_map(|family| {
        let services = prop::collection::vec(service(family), 0..12);
        let rounds =
            prop::collection::vec((services, prop::option::weighted(0.2, proxy(family))), 1..5);
        (proxy(family), rounds).prop_map(move |(proxy, rounds)| {
            let round = |(services, other): (_, Option<ProxyConfig>)| {
                plan_of(family, other.unwrap_or_else(|| proxy.clone()), services)
            };
            rounds.into_iter().map(round).collect()
        })
    })
}

/// The plan of node n1 for these objects.
pub fn plan_of(
    family: IpFamily,
    proxy: ProxyConfig,
    services: Vec<(Service, EndpointSlice)>,
) -> Plan {
    let mut node = Node::named("n1");
    node.addresses = vec![ip(family, NODE, 10), ip(family, NODE, 40)];
    let mut config = NodeConfig::new("n1", proxy);
    config.local_addresses = vec![ip(family, NODE, 11)];
    let mut state = ClusterState::new();
    let (services, slices): (Vec<_>, Vec<_>) = services.into_iter().unzip();
    for event in list(services) {
        state.apply(Event::Service(event));
    }
    for event in list(slices) {
        state.apply(Event::EndpointSlice(event));
    }
    for event in list(vec![node]) {
        state.apply(Event::Node(event));
    }
    let plan = Plan::compute(&state, &config, family);
    assert_eq!(plan.lint(), Vec::<String>::new());
    plan
}

fn list<T, K>(objects: Vec<T>) -> impl Iterator<Item = WatchEvent<T, K>> {
    let objects = objects.into_iter().map(WatchEvent::InitApply);
    [WatchEvent::Init]
        .into_iter()
        .chain(objects)
        .chain([WatchEvent::InitDone])
}

/// Flows that concern a plan: every front end, and things beside, from everywhere.
pub fn flows(plan: &Plan) -> Vec<Flow> {
    let family = plan.family;
    let mut sources: BTreeSet<IpAddr> = BTreeSet::new();
    for (kind, number) in [
        (PODS_HERE, 1),
        (PODS_HERE, 200),
        (PODS_THERE, 2),
        (NODE, 10),
        (NODE, 11),
        (OUTSIDE, 2),
        (OUTSIDE, 200),
        (BALANCER, 11),
        (LOOPBACK, 1),
    ] {
        sources.insert(ip(family, kind, number));
    }
    let mut targets: BTreeSet<(SocketAddr, Protocol)> = BTreeSet::new();
    for (name, port) in &plan.service_ports {
        for frontend in &port.frontends {
            let ips = match frontend.at {
                svc_core::FrontendAddress::Ip(socket) => vec![socket.ip()],
                svc_core::FrontendAddress::NodePort(_) => vec![
                    ip(family, NODE, 10),
                    ip(family, NODE, 11),
                    ip(family, NODE, 40),
                    ip(family, NODE, 99),
                    ip(family, LOOPBACK, 1),
                ],
            };
            for ip in ips {
                let port = frontend.at.port();
                targets.insert((SocketAddr::new(ip, port), name.protocol));
                targets.insert((SocketAddr::new(ip, port + 1), name.protocol));
                targets.insert((SocketAddr::new(ip, port), Protocol::Udp));
            }
        }
    }
    targets.insert((
        SocketAddr::new(ip(family, PODS_HERE, 1), 8080),
        Protocol::Tcp,
    ));
    targets.insert((SocketAddr::new(ip(family, CLUSTER, 250), 80), Protocol::Tcp));
    let mut flows = Vec::new();
    for (destination, protocol) in targets {
        for source in &sources {
            for interface in [None, Some("cni0"), Some("veth7"), Some("eth0")] {
                flows.push(Flow {
                    source: *source,
                    destination,
                    protocol,
                    interface: interface.map(Name::from),
                });
            }
        }
    }
    flows
}

/// A plan whose longest way through the chains is as long as it can get: an external address
/// with ports behind source ranges, of a Service with affinity and many endpoints, among others
/// that let the tree branch at every step.
pub fn deep_plan(family: IpFamily) -> Plan {
    let mut services = Vec::new();
    let mut number = 0u32;
    let mut add = |address: IpAddr, port: u16, deep: bool| {
        number += 1;
        let name = NamespacedName::new("ns", format!("s{number}"));
        let mut service = Service::named(name.clone());
        service.service_type = ServiceType::LoadBalancer;
        let cluster = match family {
            IpFamily::V4 => Ipv4Addr::from_bits(0x0a60_0000 + number).into(),
            IpFamily::V6 => Ipv6Addr::from_bits((0xfd96 << 112) + u128::from(number)).into(),
        };
        service.cluster_ips = vec![cluster];
        service.ingress = vec![IngressIp {
            ip: address,
            mode: IpMode::Vip,
        }];
        if deep {
            service.load_balancer_source_ranges = vec![net(family, OUTSIDE, (25, 126))];
            service.client_ip_affinity_seconds = Some(60);
        }
        service.ports = vec![ServicePort {
            name: Name::from(""),
            protocol: Protocol::Tcp,
            port,
            target_port: TargetPort::Number(port),
            node_port: None,
            app_protocol: None,
        }];
        let endpoint = |n: u8| SliceEndpoint::new(ip(family, PODS_HERE, n), Conditions::READY);
        let count = if deep { 200 } else { 1 };
        let slice = EndpointSlice {
            name: NamespacedName::new("ns", format!("s{number}-a")),
            service: name.name,
            family,
            ports: vec![EndpointPort {
                name: Name::from(""),
                protocol: Protocol::Tcp,
                port: 8080,
                app_protocol: None,
            }]
            .into(),
            endpoints: (1..=count).map(endpoint).collect(),
            headless: false,
            managed_by: None,
            labels: None,
            trigger_time: None,
        };
        services.push((service, slice));
    };
    // Around one address, a crowd at each distance.
    let bits = if family == IpFamily::V4 { 32 } else { 128 };
    let home: u128 = match family {
        IpFamily::V4 => 0xc000_0200,
        IpFamily::V6 => (0x2001_0db8 << 96) | 0x1234_0000,
    };
    let at = |value: u128| -> IpAddr {
        match family {
            IpFamily::V4 => Ipv4Addr::from_bits(value as u32).into(),
            IpFamily::V6 => Ipv6Addr::from_bits(value).into(),
        }
    };
    for bit in 0..bits {
        add(at(home ^ (1 << bit)), 80, false);
    }
    for port in 0..40u16 {
        add(at(home), 1000 + port, port == 0);
    }
    let mut proxy = ProxyConfig::default_for(ProxyMode::Iptables);
    proxy.detect_local = LocalDetection::None;
    plan_of(family, proxy, services)
}

/// What a backend would write for a plan.
pub fn ruleset(config: &Config, plan: &Plan) -> Ruleset<Key, Value> {
    let mut reconciler = Reconciler::new(Renderer::new(*config), plan.family);
    let mut kernel: Pretend<Key, Value> = Pretend(Default::default());
    let empty = Plan::empty(plan.family, plan.node.clone());
    let mut delta = empty.diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
    reconciler.settle(&mut kernel, 4).unwrap();
    kernel.0
}
