//! Groups 15 and 16: health checks of Services, and the health of the proxy itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use svc_core::IpFamily::{V4, V6};
use svc_core::health::{
    DataPlane, HEADERS, ListenerChange, ProxyHealth, WEIGHT_HEADER, listen_addresses,
    listener_changes,
};
use svc_core::object::{Node, NodeEligibility};
use svc_core::{HealthCheck, NamespacedName};

use crate::{cluster, diagnostics, plan, with_config};

const WEB: &str = "service web type=LoadBalancer etp=Local health=30900 ip=10.96.0.1 port=80 \
                   vip=192.0.2.1\n";

fn web(endpoints: &str) -> String {
    format!("{WEB} slice web-1 web port=80 {endpoints}")
}

fn name() -> NamespacedName {
    NamespacedName::new("default", "web")
}

fn check(text: &str) -> Option<HealthCheck> {
    plan(text, V4).health_checks.get(&name()).copied()
}

#[test]
fn b191_only_load_balancers_of_policy_local_have_a_health_check() {
    let found = check(&web("10.64.1.1@n1"));
    assert_eq!(found.map(|c| (c.port, c.local_endpoints)), Some((30900, 1)));
    assert_eq!(check(&web("").replace("LoadBalancer", "NodePort")), None);
    assert_eq!(check(&web("").replace("etp=Local", "")), None);
    assert_eq!(check(&web("").replace("type=", "other-proxy type=")), None);
}

#[test]
fn b192_a_missing_port_is_reported_and_the_rest_works() {
    let text = web("10.64.1.1@n1").replace("health=30900", "");
    assert_eq!(check(&text), None);
    assert_eq!(plan(&text, V4).service_ports.len(), 1);
    let mut planner = cluster(&text).planner();
    planner.delta();
    let told = "Service default/web: spec.healthCheckNodePort: \
                not allocated: load balancers cannot tell which nodes have endpoints";
    assert_eq!(diagnostics(&planner), [told]);
}

#[test]
fn b193_it_listens_where_node_ports_are_served() {
    let listen = |config: &str| {
        let plan = plan(&with_config(config, &web("")), V4);
        let sockets = listen_addresses(&plan.node, V4, 30900).into_iter();
        sockets.map(|s| s.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listen("mode=iptables"), ["0.0.0.0:30900"]);
    assert_eq!(listen("mode=nftables"), ["198.18.0.10:30900"]);
    let both = ["198.18.0.10:30900", "198.18.1.10:30900"];
    assert_eq!(listen("node-ports=198.18.0.0/16"), both);
    let all = plan(&with_config("mode=iptables", ""), V6);
    assert_eq!(
        listen_addresses(&all.node, V6, 1),
        ["[::]:1".parse().unwrap()]
    );
}

#[test]
fn b195_b196_b197_the_answer() {
    let check = HealthCheck {
        port: 30900,
        local_endpoints: 3,
    };
    let good = check.answer(&name(), DataPlane::UpToDate);
    assert_eq!((good.status, good.weight), (200, 3));
    let late = check.answer(&name(), DataPlane::Late);
    assert_eq!((late.status, late.weight), (503, 3));
    let none = HealthCheck {
        local_endpoints: 0,
        ..check
    }
    .answer(&name(), DataPlane::UpToDate);
    assert_eq!((none.status, none.weight), (503, 0));
    assert_eq!(
        serde_json::to_string(&good.body).unwrap(),
        r#"{"service":{"namespace":"default","name":"web"},"localEndpoints":3,"serviceProxyHealthy":true}"#
    );
    assert_eq!(WEIGHT_HEADER, "X-Load-Balancing-Endpoint-Weight");
    assert!(HEADERS.contains(&("Content-Type", "application/json")));
    assert!(HEADERS.contains(&("X-Content-Type-Options", "nosniff")));
}

#[test]
fn b198_endpoints_that_shut_down_do_not_count() {
    let endpoints = "10.64.1.1@n1!terminating 10.64.1.2@n1!unready 10.64.2.1@n2";
    assert_eq!(check(&web(endpoints)).unwrap().local_endpoints, 0);
    assert_eq!(
        check(&web("10.64.1.1@n1 10.64.1.2@n1"))
            .unwrap()
            .local_endpoints,
        2
    );
}

#[test]
fn b199_an_address_counts_once() {
    let text = format!(
        "{}\n slice web-1 web port=a:80 port=b:81 10.64.1.1@n1
         slice web-2 web port=a:90 10.64.1.1@n1",
        WEB.replace("port=80", "port=a:80 port=b:81")
    );
    assert_eq!(check(&text).unwrap().local_endpoints, 1);
}

/// What it takes from the listeners of a plan to those of another.
fn changes(before: &str, after: &str) -> Vec<String> {
    let mut open = BTreeMap::new();
    for change in listener_changes(&open, &plan(before, V4)) {
        match change {
            ListenerChange::Open(at, name) => drop(open.entry(at).or_insert(name)),
            ListenerChange::Close(at) | ListenerChange::HandOver(at, _) => {
                panic!("{at} was never open")
            }
        }
    }
    more_changes(&open, after)
}

fn more_changes(open: &BTreeMap<SocketAddr, NamespacedName>, after: &str) -> Vec<String> {
    let text = |change: &ListenerChange| match change {
        ListenerChange::Close(at) => format!("close {at}"),
        ListenerChange::HandOver(at, name) => format!("hand {at} over to {name}"),
        ListenerChange::Open(at, name) => format!("open {at} for {name}"),
    };
    let changes = listener_changes(open, &plan(after, V4));
    changes.iter().map(text).collect()
}

#[test]
fn b201_b202_b203_servers_open_and_close_with_the_applied_plan() {
    let (opened, closed) = (
        "open 198.18.0.10:30900 for default/web",
        "close 198.18.0.10:30900",
    );
    assert_eq!(changes("", &web("")), [opened]);
    // The count changes, the server stays.
    assert!(changes(&web(""), &web("10.64.1.1@n1")).is_empty());
    let other = web("").replace("30900", "30901");
    let closed_other = "close 198.18.0.10:30901";
    assert_eq!(changes(&other, &web("")), [closed_other, opened]);
    assert_eq!(changes(&web(""), ""), [closed]);
    let elsewhere = web("").replace("etp=Local", "");
    assert_eq!(changes(&web(""), &elsewhere), [closed]);
    // The other family has listeners of its own.
    let ipv6: SocketAddr = "[::]:30900".parse().unwrap();
    let open = BTreeMap::from([(ipv6, name())]);
    assert_eq!(more_changes(&open, &web("")), [opened]);
}

#[test]
fn b202_a_port_that_passes_from_one_service_to_another_stays_open() {
    let passed = web("").replace("service web", "service a");
    let handed = "hand 198.18.0.10:30900 over to default/a";
    assert_eq!(changes(&web(""), &passed), [handed]);
}

#[test]
fn b202_an_address_that_stays_keeps_its_listener() {
    let planned = |config: &str| plan(&with_config(config, &web("")), V4);
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    let open = BTreeMap::from([(at("198.18.0.10:30900"), name())]);
    let more = planned("mode=nftables node-ports=198.18.0.0/16");
    let second = ListenerChange::Open(at("198.18.1.10:30900"), name());
    assert_eq!(listener_changes(&open, &more), [second]);
    // The wildcard address cannot be had before the others are given back.
    let every = planned("mode=iptables");
    let changes = [
        ListenerChange::Close(at("198.18.0.10:30900")),
        ListenerChange::Open(at("0.0.0.0:30900"), name()),
    ];
    assert_eq!(listener_changes(&open, &every), changes);
}

#[test]
fn b204_of_two_services_with_one_port_the_first_keeps_it() {
    let two = |first: &str| {
        let other = web("")
            .replace("10.96.0.1", "10.96.0.2")
            .replace("web", first);
        format!("{}\n{other}", web(""))
    };
    let at: SocketAddr = "198.18.0.10:30900".parse().unwrap();
    let open = BTreeMap::from([(at, name())]);
    // To open it for the other one as well fails, and says why.
    let refused = "open 198.18.0.10:30900 for default/a";
    assert_eq!(more_changes(&open, &two("a")), [refused]);
    let handed = "hand 198.18.0.10:30900 over to default/a";
    let alone = web("").replace("web", "a");
    assert_eq!(more_changes(&open, &alone), [handed]);
}

#[test]
fn b205_a_service_without_endpoints_counts_none() {
    assert_eq!(check(WEB).unwrap().local_endpoints, 0);
}

#[test]
fn b208_each_family_counts_its_own() {
    let text = format!(
        "{} slice web-4 web port=80 10.64.1.1@n1\n slice web-6 web port=80 fd10:64::1@n1 fd10:64::2@n1",
        WEB.replace("ip=10.96.0.1", "ip=10.96.0.1 ip=fd10:96::1")
    );
    let count = |family| plan(&text, family).health_checks[&name()].local_endpoints;
    assert_eq!((count(V4), count(V6)), (1, 2));
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn b211_b212_only_healthz_looks_at_the_node() {
    let health = ProxyHealth::new(at(30));
    let node = Node::named("n1");
    assert_eq!(health.healthz(at(1), Some(&node)).status, 200);
    let leaving = Node {
        eligibility: NodeEligibility::ToBeScaledDown,
        ..node
    };
    assert_eq!(health.healthz(at(1), Some(&leaving)).status, 503);
    assert_eq!(
        health.healthz(at(1), Some(&leaving)).node_eligible,
        Some(false)
    );
    assert_eq!(health.livez(at(1)).status, 200);
    assert_eq!(health.livez(at(1)).node_eligible, None);
}

#[test]
fn b213_an_update_may_wait_twice_the_sync_period() {
    let mut health = ProxyHealth::new(at(30));
    health.updated(V4, at(0));
    assert_eq!(health.data_plane(at(100_000)), DataPlane::UpToDate);
    health.queued_update(V4, at(100_000));
    assert_eq!(health.data_plane(at(100_059)), DataPlane::UpToDate);
    assert_eq!(health.data_plane(at(100_060)), DataPlane::Late);
}

#[test]
fn b214_the_oldest_update_counts() {
    let mut health = ProxyHealth::new(at(30));
    health.queued_update(V4, at(0));
    health.queued_update(V4, at(59));
    assert_eq!(health.data_plane(at(60)), DataPlane::Late);
    health.updated(V4, at(60));
    assert_eq!(health.data_plane(at(1_000)), DataPlane::UpToDate);
}

#[test]
fn b215_a_family_does_not_heal_the_other() {
    let mut health = ProxyHealth::new(at(30));
    health.queued_update(V4, at(0));
    health.queued_update(V6, at(0));
    health.updated(V4, at(60));
    let status = health.livez(at(61));
    assert_eq!(status.status, 503);
    assert!(status.families[&V4].healthy && !status.families[&V6].healthy);
}

#[test]
fn b216_it_is_healthy_from_the_start() {
    let mut health = ProxyHealth::new(at(30));
    assert_eq!(health.livez(at(5)).status, 200);
    health.updated(V4, at(5));
    assert_eq!(health.livez(at(5)).status, 200);
}

#[test]
fn b217_a_node_that_is_unknown_or_being_deleted_is_not_eligible() {
    let health = ProxyHealth::new(at(30));
    assert_eq!(health.healthz(at(1), None).status, 503);
    let mut node = Node::named("n1");
    node.eligibility = NodeEligibility::BeingDeleted;
    assert_eq!(health.healthz(at(1), Some(&node)).status, 503);
    // Not ready is another matter.
    let unready = Node {
        ready: false,
        ..Node::named("n1")
    };
    assert_eq!(health.healthz(at(1), Some(&unready)).status, 200);
}

#[test]
fn b218_the_time_of_the_last_update_is_now_while_healthy() {
    let mut health = ProxyHealth::new(at(30));
    health.updated(V4, at(10));
    let status = health.livez(at(50));
    assert_eq!(status.last_updated, Some(at(50)));
    assert_eq!(status.current_time, at(50));
    health.queued_update(V4, at(60));
    let status = health.livez(at(200));
    assert_eq!((status.healthy, status.last_updated), (false, Some(at(10))));
    assert_eq!(status.families[&V4].last_updated, Some(at(10)));
}
