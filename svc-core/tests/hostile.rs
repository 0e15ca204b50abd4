//! Objects that nobody should write: no panic, cost in proportion to size, and remarks that name
//! the object.
//!
//! Sizes are such that work that grows with the square of the input takes minutes, and what is
//! in proportion less than a second, so that the limit holds on a slow and busy machine too.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use svc_core::config::{ProxyConfig, ProxyMode};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, IngressIp, IpMode, Service, ServicePort, ServiceType,
    SliceEndpoint, TargetPort, TrafficPolicy,
};
use svc_core::testing::{Scenario, laws, parse_flow};
use svc_core::{
    DiagnosticReason, Event, IpFamily, NamespacedName, NodeConfig, Plan, Planner, Protocol,
    WatchEvent, explain,
};

const LIMIT: Duration = Duration::from_secs(30);

#[track_caller]
fn in_time<T>(work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    assert!(start.elapsed() < LIMIT, "took {:?}", start.elapsed());
    done
}

fn planner() -> Planner {
    let mut planner = Planner::new(NodeConfig::new(
        "n1",
        ProxyConfig::default_for(ProxyMode::Nftables),
    ));
    for event in [WatchEvent::Init, WatchEvent::InitDone] {
        planner.handle(Event::Service(event));
    }
    for event in [WatchEvent::Init, WatchEvent::InitDone] {
        planner.handle(Event::EndpointSlice(event));
    }
    planner
}

fn service(name: &str) -> Service {
    let mut service = Service::named(NamespacedName::new("default", name));
    service.cluster_ips = vec![[10, 96, 0, 1].into()];
    service.ip_families = vec![IpFamily::V4];
    service
}

fn port(n: u32) -> ServicePort {
    let number = u16::try_from(n % 65_535 + 1).unwrap();
    ServicePort {
        name: format!("port-{n}").as_str().into(),
        protocol: Protocol::ALL[n as usize % 3],
        port: number,
        target_port: TargetPort::Number(number),
        node_port: Some(number),
        app_protocol: None,
    }
}

fn slice(name: &str, service: &str, ports: u32, first: u32, endpoints: u32) -> EndpointSlice {
    let endpoint =
        |n: u32| SliceEndpoint::new((0x0a40_0000 + n).to_be_bytes().into(), Conditions::READY);
    let port = |n: u32| {
        let ServicePort { name, protocol, .. } = port(n);
        EndpointPort {
            name,
            protocol,
            port: 8080,
            app_protocol: None,
        }
    };
    EndpointSlice {
        name: NamespacedName::new("default", name),
        service: service.into(),
        family: IpFamily::V4,
        ports: (0..ports).map(port).collect(),
        endpoints: (first..first + endpoints).map(endpoint).collect(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn apply_service(planner: &mut Planner, service: Service) {
    planner.handle(Event::Service(WatchEvent::Apply(service)));
}

fn apply_slice(planner: &mut Planner, slice: EndpointSlice) {
    planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice)));
}

fn linted(planner: &Planner) -> Plan {
    let plan = planner.plan(IpFamily::V4);
    assert_eq!(laws::lint(&plan), Ok(()));
    plan
}

#[test]
fn a_service_of_ten_thousand_ports() {
    let mut planner = planner();
    in_time(|| {
        let mut web = service("web");
        web.service_type = ServiceType::LoadBalancer;
        web.external_traffic_policy = TrafficPolicy::Local;
        web.health_check_node_port = Some(30900);
        web.ports = (0..10_000).map(port).collect();
        apply_service(&mut planner, web.clone());
        apply_slice(&mut planner, slice("web-1", "web", 10_000, 0, 10));
        assert_eq!(planner.delta()[0].service_ports.len(), 10_000);
        // And again, changed.
        web.ports.rotate_left(1);
        apply_service(&mut planner, web);
        planner.delta();
    });
    assert_eq!(linted(&planner).service_ports.len(), 10_000);
    assert!(planner.diagnostics().is_empty());
}

#[test]
fn ten_thousand_ports_of_one_name_or_of_one_number() {
    let mut planner = planner();
    in_time(|| {
        let mut web = service("web");
        web.ports = (0..10_000).map(port).collect();
        for port in &mut web.ports {
            port.name = "same".into();
        }
        apply_service(&mut planner, web);
        let mut db = service("db");
        db.ports = (0..10_000).map(port).collect();
        for port in &mut db.ports {
            port.port = 80;
            port.node_port = None;
        }
        apply_service(&mut planner, db);
        planner.delta();
    });
    // One for each protocol of each Service; of the same address and port, the older one's.
    linted(&planner);
    let diagnostics = planner.diagnostics();
    let repeated = diagnostics
        .iter()
        .filter(|d| d.reason == DiagnosticReason::Duplicate);
    assert_eq!(repeated.count(), 2 * (10_000 - 3));
    assert!(
        diagnostics
            .iter()
            .all(|d| ["web", "db"].contains(&&*d.object.name))
    );
}

#[test]
fn a_service_of_five_thousand_endpoints() {
    let mut planner = planner();
    in_time(|| {
        let mut web = service("web");
        web.ports = vec![port(0), port(1), port(2)];
        apply_service(&mut planner, web);
        for n in 0..5 {
            apply_slice(
                &mut planner,
                slice(&format!("web-{n}"), "web", 3, n * 1_000, 1_000),
            );
        }
        planner.delta();
    });
    let plan = linted(&planner);
    assert!(
        plan.service_ports
            .values()
            .all(|port| port.cluster.len() == 5_000)
    );
    let flow = parse_flow("10.64.0.9 -> 10.96.0.1:1/tcp").unwrap();
    let explanation = in_time(|| explain(&plan, planner.state(), &flow));
    assert_eq!(explanation.endpoints.len(), 5_000);
}

#[test]
fn a_service_of_five_thousand_slices() {
    let mut planner = planner();
    in_time(|| {
        let mut web = service("web");
        web.ports = (0..20).map(port).collect();
        apply_service(&mut planner, web);
        for n in 0..5_000 {
            apply_slice(&mut planner, slice(&format!("web-{n}"), "web", 20, n, 1));
        }
        planner.delta();
        assert!(
            linted(&planner)
                .service_ports
                .values()
                .all(|p| p.cluster.len() == 5_000)
        );
        // All of them are gone after a new list.
        planner.handle(Event::EndpointSlice(WatchEvent::Init));
        planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
        planner.delta();
    });
    assert!(
        linted(&planner)
            .service_ports
            .values()
            .all(|port| port.cluster.is_empty())
    );
}

#[test]
fn ten_thousand_services_want_one_address() {
    let mut planner = planner();
    in_time(|| {
        for n in 0..10_000u32 {
            let mut web = service(&format!("web-{n}"));
            web.cluster_ips = vec![(0x0a60_0000 + n).to_be_bytes().into()];
            web.ports = vec![port(0)];
            web.external_ips = vec![[192, 0, 2, 1].into()];
            web.ingress = vec![IngressIp {
                ip: [192, 0, 2, 2].into(),
                mode: IpMode::Vip,
            }];
            web.created = i64::from(n % 100);
            apply_service(&mut planner, web);
        }
        planner.delta();
        // A latecomer changes nothing for the others.
        let mut late = service("late");
        late.ports = vec![port(0)];
        late.cluster_ips = vec![[10, 97, 0, 1].into()];
        late.external_ips = vec![[192, 0, 2, 1].into()];
        late.created = 1_000;
        apply_service(&mut planner, late);
        assert_eq!(planner.delta()[0].service_ports.len(), 1);
    });
    linted(&planner);
    let losers = planner.diagnostics();
    let owner = "192.0.2.1:1/tcp is held by Service default/web-0";
    assert!(losers.iter().filter(|d| d.message == owner).count() == 10_000);
}

#[test]
fn lists_of_thousands_inside_one_service() {
    let mut planner = planner();
    in_time(|| {
        let mut web = service("web");
        web.ports = vec![port(0)];
        web.service_type = ServiceType::LoadBalancer;
        let ip = |n: u32| (0xc000_0200 + n % 5_000).to_be_bytes().into();
        web.external_ips = (0..10_000).map(ip).collect();
        web.ingress = (0..10_000)
            .map(|n| IngressIp {
                ip: ip(n),
                mode: IpMode::Vip,
            })
            .collect();
        let range = |n: u32| format!("10.{}.{}.0/24", n % 100, n / 100).parse().unwrap();
        web.load_balancer_source_ranges = (0..100).map(range).collect();
        apply_service(&mut planner, web);
        planner.delta();
    });
    assert_eq!(
        linted(&planner)
            .service_ports
            .values()
            .next()
            .unwrap()
            .frontends
            .len(),
        5_002
    );
}

#[test]
fn empty_and_strange_names_are_as_good_as_others() {
    let mut scenario: Scenario = "node n1 198.18.0.10".parse().unwrap();
    let names = ["", "a/b", "b", "é\0\n\"", &"x".repeat(100_000)];
    for (n, name) in (0u8..).zip(names) {
        for (m, namespace) in (0u8..).zip(["", "default", "a", "a/b"]) {
            let mut strange = service(name);
            strange.name = NamespacedName::new(namespace, name);
            strange.cluster_ips = vec![[10, 96, n, m].into()];
            strange.ports = vec![ServicePort {
                name: name.into(),
                ..port(0)
            }];
            scenario.services.push(strange);
            let mut feeds = slice(name, name, 0, 0, 3);
            feeds.name.namespace = namespace.into();
            feeds.ports = Box::new([EndpointPort {
                name: name.into(),
                protocol: Protocol::Tcp,
                port: 80,
                app_protocol: None,
            }]);
            scenario.slices.push(feeds);
        }
    }
    let mut planner = scenario.planner();
    planner.delta();
    let plan = linted(&planner);
    // An empty namespace means "default", so of those two pairs one object replaced the other.
    assert_eq!(plan.service_ports.len(), 15);
    assert!(
        planner
            .diagnostics()
            .iter()
            .all(|d| d.reason == DiagnosticReason::Claimed)
    );
}

#[test]
fn a_service_of_ports_without_number_and_addresses_of_the_wrong_family() {
    // Conversion leaves such out; a caller who builds objects by hand may not.
    let mut planner = planner();
    let mut odd = service("odd");
    odd.ports = vec![
        ServicePort {
            port: 0,
            node_port: Some(0),
            ..port(0)
        },
        port(1),
    ];
    odd.cluster_ips = vec!["fd10:96::1".parse().unwrap(), [0, 0, 0, 0].into()];
    odd.ip_families = vec![IpFamily::V4, IpFamily::V6, IpFamily::V4];
    apply_service(&mut planner, odd.clone());
    let mut feeds = slice("odd-1", "odd", 2, 0, 2);
    feeds.endpoints[0].address = "fd10::1".parse().unwrap();
    for port in &mut feeds.ports {
        port.port = 0;
    }
    apply_slice(&mut planner, feeds);
    planner.delta();
    linted(&planner);
    odd.cluster_ips = vec![[10, 96, 0, 1].into()];
    odd.ip_families = vec![IpFamily::V4];
    apply_service(&mut planner, odd);
    planner.delta();
    linted(&planner);
}
