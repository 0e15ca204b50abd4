//! Group 1: which Services are proxied, and what their kinds mean.

use svc_core::IpFamily::V4;
use svc_core::object::Service;
use svc_core::testing::parse_flow;
use svc_core::{Event, NamespacedName, WatchEvent};

use crate::{change, check, check_change, cluster, diagnostics, frontends, plan, with_config};

const SLICE: &str = "slice web-1 web port=8080 10.64.1.1@n1";

#[test]
fn b001_each_port_of_a_service_is_planned_by_name_and_protocol() {
    let plan = plan(
        "service web ip=10.96.0.1 port=a:80 port=a:80/udp port=b:81",
        V4,
    );
    let names: Vec<String> = plan
        .service_ports
        .keys()
        .map(|n| format!("{n:?}"))
        .collect();
    let wanted = [
        "default/web:a/TCP",
        "default/web:a/UDP",
        "default/web:b/TCP",
    ];
    assert_eq!(names, wanted);
}

#[test]
fn b002_headless_services_are_not_planned() {
    for headless in [
        "headless port=80 external=192.0.2.1",
        "port=80 external=192.0.2.1",
    ] {
        let plan = plan(&format!("service web {headless}\n{SLICE}"), V4);
        assert!(plan.service_ports.is_empty());
    }
}

#[test]
fn b003_external_names_are_not_planned() {
    let service = "service web type=ExternalName ip=10.96.0.1 port=80 external=192.0.2.1";
    assert!(
        plan(&format!("{service}\n{SLICE}"), V4)
            .service_ports
            .is_empty()
    );
}

#[test]
fn b004_services_of_another_proxy_are_not_planned() {
    let service = "service web ip=10.96.0.1 port=80";
    let own = format!("{service}\n{SLICE}");
    let other = format!("{service} other-proxy\n{SLICE}");
    let flow = "10.64.1.200 -> 10.96.0.1:80/tcp";
    check_change(&own, &other, &[(flow, "forward 10.64.1.1:8080", "drop")]);
    check_change(&other, &own, &[(flow, "drop", "forward 10.64.1.1:8080")]);
}

#[test]
fn b005_slices_with_the_headless_label_are_ignored() {
    check(
        "service web ip=10.96.0.1 port=80
         slice web-1 web headless port=80 10.64.1.1@n1",
        &[("10.64.1.200 -> 10.96.0.1:80/tcp", "reject")],
    );
}

#[test]
fn b006_a_service_that_turns_headless_is_gone() {
    let deltas = change(
        &format!("service web ip=10.96.0.1 port=80\n{SLICE}"),
        &format!("service web headless port=80\n{SLICE}"),
    );
    assert_eq!(deltas.len(), 1);
    assert_eq!(deltas[0].service_ports.len(), 1);
    assert!(deltas[0].service_ports[0].after.is_none());
}

#[test]
fn b007_slices_may_come_before_their_service() {
    let flow = "10.64.1.200 -> 10.96.0.1:80/tcp";
    let service = "service web ip=10.96.0.1 port=80";
    let both = format!("{service}\n{SLICE}");
    check_change(SLICE, &both, &[(flow, "drop", "forward 10.64.1.1:8080")]);
    check_change(
        service,
        &both,
        &[(flow, "reject", "forward 10.64.1.1:8080")],
    );
    assert!(plan(SLICE, V4).service_ports.is_empty());
}

#[test]
fn b008_a_node_port_service_has_a_cluster_ip_and_node_ports() {
    let plan = plan(
        "service web type=NodePort ip=10.96.0.1 port=a:80@30080 port=b:81@30081",
        V4,
    );
    assert_eq!(
        frontends(&plan),
        [
            "*:30080/tcp default/web:a NodePort",
            "*:30081/tcp default/web:b NodePort",
            "10.96.0.1:80/tcp default/web:a ClusterIp",
            "10.96.0.1:81/tcp default/web:b ClusterIp",
        ]
    );
}

#[test]
fn b009_a_load_balancer_has_its_addresses_too() {
    let plan = plan(
        "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1 vip=192.0.2.2",
        V4,
    );
    assert_eq!(
        frontends(&plan),
        [
            "*:30080/tcp default/web NodePort",
            "10.96.0.1:80/tcp default/web ClusterIp",
            "192.0.2.1:80/tcp default/web LoadBalancerIp",
            "192.0.2.2:80/tcp default/web LoadBalancerIp",
        ]
    );
}

#[test]
fn b010_a_load_balancer_without_address_is_like_a_node_port() {
    let plan = plan(
        "service web type=LoadBalancer ip=10.96.0.1 port=80@30080",
        V4,
    );
    assert_eq!(
        frontends(&plan),
        [
            "*:30080/tcp default/web NodePort",
            "10.96.0.1:80/tcp default/web ClusterIp"
        ]
    );
}

#[test]
fn b011_a_load_balancer_may_have_no_node_port() {
    let plan = plan(
        "service web type=LoadBalancer ip=10.96.0.1 port=80 vip=192.0.2.1",
        V4,
    );
    assert_eq!(
        frontends(&plan),
        [
            "10.96.0.1:80/tcp default/web ClusterIp",
            "192.0.2.1:80/tcp default/web LoadBalancerIp"
        ]
    );
}

#[test]
fn b012_each_port_has_endpoints_of_its_own() {
    check(
        "service web ip=10.96.0.1 port=a:80 port=b:81 port=c:82
         slice web-1 web port=a:8080 port=b:8081 10.64.1.1@n1
         slice web-2 web port=b:9091 10.64.1.2@n1",
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:8080"),
            (
                "10.64.1.200 -> 10.96.0.1:81/tcp",
                "forward 10.64.1.1:8081 10.64.1.2:9091",
            ),
            ("10.64.1.200 -> 10.96.0.1:82/tcp", "reject"),
        ],
    );
}

#[test]
fn b013_what_changes_nothing_makes_no_delta() {
    let before = cluster(&format!("service web ip=10.96.0.1 port=80\n{SLICE}"));
    let mut planner = before.planner();
    planner.delta();
    let mut service: Service = before.services[0].clone();
    service.selector.insert("app".into(), "web".into());
    service.extra = Some(Box::default());
    planner.handle(Event::Service(WatchEvent::Apply(service.clone())));
    assert_eq!(planner.delta(), []);
    // There and back again between two deltas.
    service.ports[0].port = 81;
    planner.handle(Event::Service(WatchEvent::Apply(service.clone())));
    service.ports[0].port = 80;
    planner.handle(Event::Service(WatchEvent::Apply(service)));
    assert_eq!(planner.delta(), []);
}

#[test]
fn b014_a_renamed_port_is_another_port() {
    let slice = "slice web-1 web port=a:8080 port=b:8081 10.64.1.1@n1";
    let deltas = change(
        &format!("service web ip=10.96.0.1 port=a:80\n{slice}"),
        &format!("service web ip=10.96.0.1 port=b:80\n{slice}"),
    );
    let names = deltas[0].service_ports.iter();
    let changes: Vec<_> = names
        .map(|c| {
            (
                c.name.port.to_string(),
                c.before.is_some(),
                c.after.is_some(),
            )
        })
        .collect();
    assert_eq!(
        changes,
        [("a".into(), true, false), ("b".into(), false, true)]
    );
    check_change(
        "service web ip=10.96.0.1 port=80",
        "service web ip=10.96.0.1 port=80/udp",
        &[
            ("10.64.1.200 -> 10.96.0.1:53/tcp", "reject", "reject"),
            ("10.64.1.200 -> 10.96.0.1:80/udp", "reject", "reject"),
        ],
    );
}

#[test]
fn b015_a_changed_type_changes_the_front_ends() {
    let (flow, flow_to_node) = (
        "10.64.1.200 -> 10.96.0.1:80/tcp",
        "203.0.113.7 -> 198.18.0.10:30080/tcp",
    );
    let forward = "forward 10.64.1.1:8080";
    let masqueraded = "forward 10.64.1.1:8080+masquerade";
    let cluster_ip = format!("service web ip=10.96.0.1 port=80\n{SLICE}");
    let node_port = format!("service web type=NodePort ip=10.96.0.1 port=80@30080\n{SLICE}");
    let name = format!("service web type=ExternalName port=80\n{SLICE}");
    let to_node = [
        (flow, forward, forward),
        (flow_to_node, "pass", masqueraded),
    ];
    check_change(&cluster_ip, &node_port, &to_node);
    let to_name = [(flow, forward, "drop"), (flow_to_node, masqueraded, "pass")];
    check_change(&node_port, &name, &to_name);
    check_change(&name, &cluster_ip, &[(flow, "drop", forward)]);
}

#[test]
fn b016_and_b017_without_an_external_front_end_the_external_policy_does_not_count() {
    // A load balancer without address and node port: no route needs the local list.
    let text = "service web type=LoadBalancer etp=Local ip=10.96.0.1 port=80
                slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2";
    let plan = plan(text, V4);
    assert!(crate::port(&plan, "default/web/TCP").local.is_empty());
    let both = "forward 10.64.1.1:8080 10.64.2.1:8080";
    check(text, &[("10.64.1.200 -> 10.96.0.1:80/tcp", both)]);
}

#[test]
fn b018_external_policy_local_means_nothing_for_a_plain_cluster_ip() {
    let masqueraded = "forward 10.64.2.1:8080+masquerade";
    check(
        "service web etp=Local ip=10.96.0.1 port=80
         slice web-1 web port=8080 10.64.2.1@n2",
        &[("203.0.113.7 -> 10.96.0.1:80/tcp", masqueraded)],
    );
}

#[test]
fn b019_external_ips_can_be_switched_off() {
    let text = format!("service web ip=10.96.0.1 port=80 external=192.0.2.1\n{SLICE}");
    let mut scenario = cluster(&text);
    let flow = parse_flow("203.0.113.7 -> 192.0.2.1:80/tcp").unwrap();
    let mut planner = scenario.planner();
    planner.delta();
    let on = "forward 10.64.1.1:8080+masquerade";
    assert_eq!(planner.plan(V4).route(&flow).to_string(), on);
    let gates = &mut scenario.config.proxy.feature_gates;
    gates.insert("AllowServiceExternalIPs".into(), false);
    planner.configure(scenario.config.clone());
    assert_eq!(planner.delta().len(), 1);
    assert_eq!(planner.plan(V4), scenario.plan(V4));
    assert_eq!(planner.plan(V4).route(&flow).to_string(), "pass");
    // Unlike upstream, what is not served does not count as a way in either.
    let local = format!("{text} \n service db etp=Local ip=10.96.0.2 port=80 external=192.0.2.2");
    scenario.services = cluster(&local).services;
    assert!(
        crate::port(&scenario.plan(V4), "default/db/TCP")
            .local
            .is_empty()
    );
}

#[test]
fn b020_the_older_service_owns_an_address_that_two_want() {
    let claims = |a: &str, b: &str| {
        format!(
            "service a {a} ip=10.96.0.1 port=80 external=192.0.2.1
             service b {b} ip=10.96.0.2 port=80 external=192.0.2.1
             slice a-1 a port=8080 10.64.1.1@n1
             slice b-1 b port=8080 10.64.1.2@n1"
        )
    };
    let flow = "203.0.113.7 -> 192.0.2.1:80/tcp";
    let (a, b) = (
        "forward 10.64.1.1:8080+masquerade",
        "forward 10.64.1.2:8080+masquerade",
    );
    check(&claims("created=2", "created=1"), &[(flow, b)]);
    check(&claims("created=1", "created=2"), &[(flow, a)]);
    // Equally old: the smaller name.
    check(&claims("", ""), &[(flow, a)]);
    let text = claims("created=2", "created=1");
    let mut planner = cluster(&text).planner();
    planner.delta();
    let told = "Service default/a: spec.externalIPs: \
                192.0.2.1:80/tcp is held by Service default/b";
    assert_eq!(diagnostics(&planner), [told]);
    // The owner lets go, the next one takes over.
    let name = NamespacedName::new("default", "b");
    planner.handle(Event::Service(WatchEvent::Delete(name)));
    planner.delta();
    let flow = parse_flow(flow).unwrap();
    assert_eq!(planner.plan(V4).route(&flow).to_string(), a);
    assert!(planner.diagnostics().is_empty());
}

#[test]
fn b020_a_cluster_ip_goes_before_an_address_that_a_person_wrote() {
    check(
        "service thief created=1 ip=10.96.0.2 port=80 external=10.96.0.1
         service web created=2 ip=10.96.0.1 port=80
         slice thief-1 thief port=8080 10.64.1.66@n1
         slice web-1 web port=8080 10.64.1.1@n1",
        &[("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:8080")],
    );
}

#[test]
fn b020_node_ports_have_one_owner_too() {
    let text = "service a type=NodePort ip=10.96.0.1 port=80@30080
                service b type=NodePort ip=10.96.0.2 port=80@30080
                slice a-1 a port=8080 10.64.1.1@n1
                slice b-1 b port=8080 10.64.1.2@n1";
    let forward = "forward 10.64.1.1:8080+masquerade";
    check(text, &[("203.0.113.7 -> 198.18.0.10:30080/tcp", forward)]);
    let mut planner = cluster(text).planner();
    planner.delta();
    let told = "Service default/b: spec.ports[0].nodePort: \
                IPv4 node port 30080/tcp is held by Service default/a";
    assert_eq!(diagnostics(&planner), [told]);
}

#[test]
fn b021_a_load_balancer_address_may_be_an_external_ip_of_the_same_service() {
    let plan = plan(
        "service web type=LoadBalancer ip=10.96.0.1 port=80 vip=192.0.2.1 external=192.0.2.1",
        V4,
    );
    assert_eq!(
        frontends(&plan),
        [
            "10.96.0.1:80/tcp default/web ClusterIp",
            "192.0.2.1:80/tcp default/web LoadBalancerIp"
        ]
    );
}

#[test]
fn two_ports_of_one_service_cannot_share_an_address_and_port() {
    let text = "service web type=NodePort ip=10.96.0.1 port=a:80@30080 port=b:80@30081 port=a:81
                slice web-1 web port=a:8080 port=b:8081 10.64.1.1@n1";
    check(
        text,
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:8080"),
            (
                "203.0.113.7 -> 198.18.0.10:30081/tcp",
                "forward 10.64.1.1:8081+masquerade",
            ),
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "reject"),
        ],
    );
    let mut planner = cluster(text).planner();
    planner.delta();
    assert_eq!(
        diagnostics(&planner),
        [
            "Service default/web: spec.ports[1].port: 10.96.0.1:80/tcp is spec.ports[0] already",
            "Service default/web: spec.ports[2].name: \"a\"/tcp is spec.ports[0] already",
        ]
    );
}

#[test]
fn a_service_without_its_family_on_the_node_is_absent_there() {
    let bare = with_config("node=n9", "service web ip=10.96.0.1 port=80");
    assert!(plan(&bare, svc_core::IpFamily::V6).service_ports.is_empty());
    assert_eq!(plan(&bare, V4).service_ports.len(), 1);
}
