//! Who gets which address.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::net::{IpFamily, Protocol};
use crate::object::{IpFamilyPolicy, ServicePort, ServiceType, TargetPort, TrafficPolicy};

fn balanced(name: &str, ports: &[u16]) -> Service {
    let mut service = Service::named(NamespacedName::new("ns", name));
    service.service_type = ServiceType::LoadBalancer;
    service.ip_families = [IpFamily::V4].into();
    service.selector.insert("app".into(), name.into());
    service.ports = ports
        .iter()
        .map(|port| ServicePort {
            name: format!("p{port}").into(),
            protocol: Protocol::Tcp,
            port: *port,
            target_port: TargetPort::Number(*port),
            node_port: Some(30_000 + *port),
            app_protocol: None,
        })
        .collect();
    service
}

fn annotated(mut service: Service, key: &str, value: &str) -> Service {
    let extra = service.extra.get_or_insert_default();
    extra.annotations.insert(key.into(), value.into());
    service
}

fn range(text: &str) -> PoolRange {
    text.parse().unwrap()
}

fn pools(ranges: &[&str]) -> AddressPools {
    let ranges = ranges.iter().copied().map(range).collect();
    AddressPools::new([Pool::new("lan", ranges)].into())
}

/// A line per Service, then the remarks.
#[track_caller]
fn check(provider: &mut dyn Provider, services: &mut [Service], expected: Expect) {
    let diagnostics = provide(provider, services);
    let mut text = String::new();
    for service in services {
        let ips: Vec<String> = service
            .ingress
            .iter()
            .map(|i| format!(" {}", i.ip))
            .collect();
        text += &format!("{}{}\n", service.name.name, ips.concat());
    }
    for diagnostic in diagnostics {
        text += &format!("{:?} {diagnostic}\n", diagnostic.reason);
    }
    expected.assert_eq(&text);
}

#[test]
fn the_lowest_free_address_is_given_and_exhaustion_is_reported() {
    let mut services = ["c", "b", "a"].map(|name| balanced(name, &[80]));
    let mut pools = pools(&["192.0.2.1-192.0.2.2"]);
    let expected = expect![[r#"
        c
        b 192.0.2.2
        a 192.0.2.1
        Exhausted Service ns/c: status.loadBalancer.ingress: no IPv4 address is free in lan
    "#]];
    check(&mut pools, &mut services, expected);
    // A Service that goes makes room, and the others stay where they are.
    pools.release(&services[2].name);
    services[2].service_type = ServiceType::ClusterIp;
    services[2].ingress.clear();
    check(
        &mut pools,
        &mut services,
        expect![[r#"
        c 192.0.2.1
        b 192.0.2.2
        a
    "#]],
    );
}

#[test]
fn other_types_and_classes_are_left_alone() {
    let mut services = [
        balanced("a", &[80]),
        balanced("b", &[80]),
        balanced("c", &[80]),
    ];
    services[0]
        .extra
        .get_or_insert_default()
        .load_balancer_class = Some("other".into());
    services[1].service_type = ServiceType::NodePort;
    let range = "192.0.2.0/24";
    check(
        &mut pools(&[range]),
        &mut services.clone(),
        expect![[r#"
        a
        b
        c 192.0.2.0
    "#]],
    );
    check(
        &mut pools(&[range]).of_class("other"),
        &mut services,
        expect![[r#"
        a 192.0.2.0
        b
        c
    "#]],
    );
}

#[test]
fn a_restart_keeps_addresses() {
    let mut services = [balanced("a", &[80]), balanced("b", &[80])];
    check(
        &mut pools(&["192.0.2.1-192.0.2.9"]),
        &mut services,
        expect![[r#"
        a 192.0.2.1
        b 192.0.2.2
    "#]],
    );
    // A new one whose name comes first does not push the others.
    let [a, b] = services;
    let mut services = [balanced("A", &[80]), a, b];
    check(
        &mut pools(&["192.0.2.1-192.0.2.9"]),
        &mut services,
        expect![[r#"
        A 192.0.2.3
        a 192.0.2.1
        b 192.0.2.2
    "#]],
    );
    // An address that left the pool is given up.
    check(
        &mut pools(&["192.0.2.2-192.0.2.9"]),
        &mut services,
        expect![[r#"
        A 192.0.2.3
        a 192.0.2.4
        b 192.0.2.2
    "#]],
    );
}

#[test]
fn requested_addresses() {
    let mut by_field = balanced("field", &[80]);
    by_field.extra.get_or_insert_default().load_balancer_ip = Some([192, 0, 2, 7].into());
    let key = "metallb.io/loadBalancerIPs";
    let by_annotation = annotated(balanced("annotation", &[80]), key, "192.0.2.8");
    let taken = annotated(balanced("taken", &[80]), key, "192.0.2.7");
    let outside = annotated(balanced("outside", &[80]), key, "198.51.100.1");
    let garbled = annotated(balanced("garbled", &[80]), key, "x");
    let stray = annotated(balanced("stray", &[80]), key, "2001:db8::1");
    let mut services = [by_field, by_annotation, taken, outside, garbled, stray];
    check(
        &mut pools(&["192.0.2.0/28"]),
        &mut services,
        expect![[r#"
        field 192.0.2.7
        annotation 192.0.2.8
        taken
        outside
        garbled
        stray
        Invalid Service ns/garbled: metadata.annotations[metallb.io/loadBalancerIPs]: must be addresses, has "x"
        Invalid Service ns/outside: status.loadBalancer.ingress: 198.51.100.1 is in no pool: lan (192.0.2.0-192.0.2.15)
        Invalid Service ns/stray: status.loadBalancer.ingress: 2001:db8::1 is of a family that the Service does not have
        Claimed Service ns/taken: status.loadBalancer.ingress: 192.0.2.7 is that of Service ns/field: they do not share
    "#]],
    );
}

#[test]
fn addresses_are_shared_on_distinct_ports_with_one_key() {
    let key = "metallb.universe.tf/allow-shared-ip";
    let shared = |name: &str, ports: &[u16]| annotated(balanced(name, ports), key, "web");
    let mut services = [
        shared("a", &[80, 443]),
        shared("b", &[8080]),
        shared("c", &[443]),
        balanced("d", &[9090]),
    ];
    check(
        &mut pools(&["192.0.2.1-192.0.2.9"]),
        &mut services,
        expect![[r#"
        a 192.0.2.1
        b 192.0.2.1
        c 192.0.2.2
        d 192.0.2.3
    "#]],
    );
    // A port that collides by now moves the Service that changed.
    services[1].ports = services[0].ports.clone();
    let mut pools = pools(&["192.0.2.1-192.0.2.9"]);
    check(
        &mut pools,
        &mut services,
        expect![[r#"
        a 192.0.2.1
        b 192.0.2.4
        c 192.0.2.2
        d 192.0.2.3
    "#]],
    );
}

#[test]
fn local_policies_share_with_one_selector_only() {
    let key = "metallb.io/allow-shared-ip";
    let shared = |name: &str, port: u16, app: &str| {
        let mut service = annotated(balanced(name, &[port]), key, "web");
        service.external_traffic_policy = TrafficPolicy::Local;
        service.selector = [("app".into(), app.into())].into();
        service
    };
    let mut services = [
        shared("a", 80, "x"),
        shared("b", 81, "x"),
        shared("c", 82, "y"),
    ];
    check(
        &mut pools(&["192.0.2.1-192.0.2.9"]),
        &mut services,
        expect![[r#"
        a 192.0.2.1
        b 192.0.2.1
        c 192.0.2.2
    "#]],
    );
}

#[test]
fn pools_on_request_have_to_be_asked() {
    let mut precious = Pool::new("precious", [range("198.51.100.0/30")].into());
    precious.auto_assign = AutoAssign::OnRequest;
    precious.buggy_addresses = BuggyAddresses::Avoid;
    let cheap = Pool::new("cheap", [range("192.0.2.1-192.0.2.1")].into());
    let mut pools = AddressPools::new([precious, cheap].into());
    let key = "metallb.io/address-pool";
    let mut services = [
        balanced("a", &[80]),
        annotated(balanced("b", &[80]), key, "precious"),
        annotated(balanced("c", &[80]), key, "nowhere"),
        balanced("d", &[80]),
        annotated(
            balanced("e", &[80]),
            "metallb.io/loadBalancerIPs",
            "198.51.100.3",
        ),
    ];
    check(
        &mut pools,
        &mut services,
        expect![[r#"
        a 192.0.2.1
        b 198.51.100.1
        c
        d
        e 198.51.100.3
        Invalid Service ns/c: status.loadBalancer.ingress: there is no pool "nowhere": precious (198.51.100.0-198.51.100.3), cheap (192.0.2.1-192.0.2.1)
        Exhausted Service ns/d: status.loadBalancer.ingress: no IPv4 address is free in cheap
    "#]],
    );
}

#[test]
fn dual_stack_takes_an_address_of_each_family() {
    let with = |name: &str, policy| {
        let mut service = balanced(name, &[80]);
        service.ip_families = IpFamily::ALL.into();
        service.ip_family_policy = Some(policy);
        service
    };
    let mut services = [
        with("prefer", IpFamilyPolicy::PreferDualStack),
        with("require", IpFamilyPolicy::RequireDualStack),
    ];
    check(
        &mut pools(&["192.0.2.1-192.0.2.9", "2001:db8::1-2001:db8::9"]),
        &mut services.clone(),
        expect![[r#"
        prefer 192.0.2.1 2001:db8::1
        require 192.0.2.2 2001:db8::2
    "#]],
    );
    check(
        &mut pools(&["192.0.2.1-192.0.2.9"]),
        &mut services,
        expect![[r#"
        prefer 192.0.2.1
        require
        Exhausted Service ns/require: status.loadBalancer.ingress: no IPv6 address is free in lan
    "#]],
    );
}

#[test]
fn a_report_says_what_would_be_asked() {
    let mut web = balanced("web", &[80, 443]);
    web.external_traffic_policy = TrafficPolicy::Local;
    web.health_check_node_port = Some(31_000);
    web.ports[1].node_port = None;
    web.load_balancer_source_ranges = ["10.0.0.0/8".parse().unwrap()].into();
    let extra = web.extra.get_or_insert_default();
    extra.load_balancer_class = Some("example.com/internal".into());
    extra.load_balancer_ip = Some([192, 0, 2, 7].into());
    let mut report = Report::default();
    let mut services = [web, balanced("plain", &[80])];
    assert!(provide(&mut report, &mut services).is_empty());
    let text: String = report
        .requests()
        .map(|request| format!("{request}"))
        .collect();
    expect![[r#"
        load balancer for ns/plain, IPv4
          80/TCP to every healthy node, node port 30080
          a node is healthy when http://<node>:10256/healthz says 200
        load balancer for ns/web of class example.com/internal, IPv4
          address 192.0.2.7
          80/TCP to every healthy node, node port 30080
          443/TCP to every healthy node, destination kept
          from 10.0.0.0/8
          a node is healthy when http://<node>:31000/healthz says 200: it has endpoints
    "#]]
    .assert_eq(&text);
    assert!(services.iter().all(|service| service.ingress.is_empty()));
    services[0].service_type = ServiceType::ClusterIp;
    assert_eq!(report.ensure(&services[0]), Answer::NotMine);
    assert_eq!(report.requests().count(), 1);
}

fn any_service() -> impl Strategy<Value = Service> {
    let ports = prop::collection::btree_set(80..83u16, 0..3);
    let request = prop_oneof![3 => Just(None), 1 => (0..6u8).prop_map(Some)];
    (0..6u8, ports, 0..3u8, request, any::<bool>()).prop_map(
        |(name, ports, key, request, balance)| {
            let ports: Vec<u16> = ports.into_iter().collect();
            let mut service = balanced(&format!("s{name}"), &ports);
            if key > 0 {
                service = annotated(service, "metallb.io/allow-shared-ip", &format!("k{key}"));
            }
            if let Some(last) = request {
                service.extra.get_or_insert_default().load_balancer_ip =
                    Some([192, 0, 2, last].into());
            }
            if !balance && name == 0 {
                service.service_type = ServiceType::NodePort;
            }
            service
        },
    )
}

proptest! {
    #[test]
    fn no_two_services_have_one_address_and_port(
        steps in prop::collection::vec((any_service(), 0..4u8), 0..40),
    ) {
        let mut pools = pools(&["192.0.2.1-192.0.2.4"]);
        let mut services: BTreeMap<NamespacedName, Service> = BTreeMap::new();
        for (mut service, action) in steps {
            if action == 0 {
                pools.release(&service.name);
                services.remove(&service.name);
                continue;
            }
            service.ingress = services.get(&service.name).map_or(Vec::new(), |s| s.ingress.clone());
            service.ingress = match pools.ensure(&service) {
                Answer::NotMine => Vec::new(),
                Answer::Ingress(ingress, diagnostics) => {
                    prop_assert_eq!(ingress.is_empty(), !diagnostics.is_empty());
                    ingress
                }
            };
            // The same answer when asked again.
            if let Answer::Ingress(again, _) = pools.ensure(&service) {
                prop_assert_eq!(&again, &service.ingress);
            }
            services.insert(service.name.clone(), service);
            let mut used = BTreeMap::new();
            for service in services.values() {
                for ingress in &service.ingress {
                    for port in &service.ports {
                        let before = used.insert((ingress.ip, port.protocol, port.port), &service.name);
                        prop_assert_eq!(before, None);
                    }
                    let tenants: Vec<_> = pools.tenants(ingress.ip).collect();
                    prop_assert!(tenants.contains(&&service.name));
                }
            }
        }
    }
}

#[test]
fn b195_b217_nodes_take_traffic_by_policy() {
    use crate::load_balancer::{NodeHealth, nodes};
    use crate::object::{
        Conditions, EndpointSlice, Node, NodeEligibility, ServiceType, SliceEndpoint, TrafficPolicy,
    };
    use crate::{ClusterState, Event, IpFamily, WatchEvent};

    let mut web = Service::named(NamespacedName::new("shop", "web"));
    web.service_type = ServiceType::LoadBalancer;
    let mut slice = EndpointSlice::of_service(&web.name, "web-1", IpFamily::V4);
    let on = |node: &str, conditions| SliceEndpoint {
        node: Some(node.into()),
        ..SliceEndpoint::new([10, 0, 0, 1].into(), conditions)
    };
    slice.endpoints = [
        on("a", Conditions::READY),
        on("b", Conditions::SERVING_TERMINATING),
        on("c", Conditions::READY),
    ]
    .into();
    let mut state = ClusterState::new();
    state.apply(Event::EndpointSlice(WatchEvent::Apply(slice)));
    for name in ["a", "b", "c"] {
        let mut node = Node::named(name);
        if name == "c" {
            node.eligibility = NodeEligibility::ToBeScaledDown;
        }
        state.apply(Event::Node(WatchEvent::Apply(node)));
    }
    let seen = |service: &Service| -> Vec<NodeHealth> {
        let (request, _) = Request::of(service);
        let nodes = nodes(&request.unwrap(), &state, IpFamily::V4);
        nodes.into_iter().map(|target| target.health).collect()
    };
    use NodeHealth::{HasEndpoints, Healthy, Leaving, NoLocalEndpoints};
    assert_eq!(seen(&web), [Healthy, Healthy, Leaving]);
    web.external_traffic_policy = TrafficPolicy::Local;
    web.health_check_node_port = Some(32_000);
    // B-200: taints do not matter to the health check of a Service.
    assert_eq!(seen(&web), [HasEndpoints, NoLocalEndpoints, HasEndpoints]);
}
