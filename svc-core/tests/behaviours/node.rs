//! Groups 20 and 23: changes of nodes, and what a configuration means for a plan.

use std::time::Duration;

use svc_core::IpFamily::V4;
use svc_core::config::{
    ConntrackConfig, LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode,
};
use svc_core::{ClusterIpMasquerade, Event, LocalDetector, WatchEvent};

use crate::{change, check_change, cluster, plan, with_config};

const WEB: &str = "service web type=NodePort ip=10.96.0.1 port=80@30080
    slice web-1 web port=80 10.64.1.1@n1";

#[test]
fn b278_changed_pod_ranges_change_the_detector_at_once() {
    let (before, after) = (with_config("node-cidr", WEB), with_config("node-cidr", WEB));
    let after = after.replace("pods=10.64.1.0/24", "pods=10.64.9.0/24");
    let (plain, masqueraded) = ("forward 10.64.1.1:80", "forward 10.64.1.1:80+masquerade");
    check_change(
        &before,
        &after,
        &[("10.64.1.200 -> 10.96.0.1:80/tcp", plain, masqueraded)],
    );
}

#[test]
fn b279_changed_addresses_change_the_plan_at_once() {
    let after = format!(
        "{}\n{WEB}",
        crate::NODE.replace("198.18.0.10", "198.18.0.99")
    );
    let served = "forward 10.64.1.1:80+masquerade";
    check_change(
        WEB,
        &after,
        &[
            ("203.0.113.7 -> 198.18.0.10:30080/tcp", served, "pass"),
            ("203.0.113.7 -> 198.18.0.99:30080/tcp", "pass", served),
        ],
    );
}

#[test]
fn b280_a_deleted_node_keeps_its_services() {
    let scenario = cluster(WEB);
    let mut planner = scenario.planner();
    planner.delta();
    planner.handle(Event::Node(WatchEvent::Delete("n1".into())));
    planner.delta();
    let plan = planner.plan(V4);
    assert_eq!(plan.service_ports.len(), 1);
    assert!(plan.node.addresses.is_empty());
}

#[test]
fn b282_other_nodes_do_not_matter() {
    let after = format!(
        "{}\n{WEB}",
        crate::NODE.replace("198.18.0.12", "198.18.0.13")
    );
    assert_eq!(change(WEB, &after), []);
}

#[test]
fn b317_the_defaults_are_kube_proxys() {
    let config = ProxyConfig::default_for(ProxyMode::Iptables);
    assert_eq!(config.sync_period, Duration::from_secs(30));
    assert_eq!(config.min_sync_period, Duration::from_secs(1));
    assert_eq!(config.config_sync_period, Duration::from_secs(15 * 60));
    assert_eq!(config.masquerade_bit, 14);
    assert!(config.localhost_node_ports);
    assert_eq!(config.oom_score_adj, -999);
    assert_eq!(config.detect_local, LocalDetection::None);
    assert_eq!(config.node_port_addresses, NodePortAddresses::Default);
    let ipvs = ProxyConfig::default_for(ProxyMode::Ipvs);
    assert_eq!(ipvs.min_sync_period, Duration::ZERO);
}

#[test]
fn b318_the_defaults_of_conntrack_are_kube_proxys() {
    let conntrack = ConntrackConfig::default();
    assert_eq!((conntrack.max_per_core, conntrack.min), (32768, 131_072));
    assert_eq!(
        conntrack.tcp_established_timeout,
        Duration::from_secs(24 * 60 * 60)
    );
    assert_eq!(
        conntrack.tcp_close_wait_timeout,
        Duration::from_secs(60 * 60)
    );
    assert_eq!(conntrack.udp_timeout, Duration::ZERO);
    assert_eq!(conntrack.udp_stream_timeout, Duration::ZERO);
}

#[test]
fn b331_masquerade_all_reaches_the_plan() {
    let all = plan(&with_config("masquerade-all", ""), V4);
    assert_eq!(all.node.cluster_ip_masquerade, ClusterIpMasquerade::Always);
    assert_eq!(all.node.local_detector, LocalDetector::None);
    let none = plan(&with_config("mode=nftables", ""), V4);
    assert_eq!(none.node.cluster_ip_masquerade, ClusterIpMasquerade::Never);
}
