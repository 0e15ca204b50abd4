//! Groups 11 to 13: hairpin, session affinity, detection of local traffic.

use svc_core::IpFamily::{V4, V6};
use svc_core::{ClientIpAffinity, Hairpin, IpFamily, LocalDetector};

use crate::{check, plan, port, with_config};

const WEB: &str = "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1
    slice web-1 web port=80 10.64.1.1@n1 10.64.2.1@n2";

fn local() -> String {
    WEB.replace("type=", "etp=Local type=")
}

#[test]
fn b152_an_endpoint_that_reaches_itself_is_masqueraded() {
    let own = "forward 10.64.1.1:80+masquerade 10.64.2.1:80";
    check(WEB, &[("10.64.1.1 -> 10.96.0.1:80/tcp", own)]);
    check(
        &local(),
        &[
            ("10.64.1.1 -> 192.0.2.1:80/tcp", own),
            ("10.64.1.1 -> 198.18.0.10:30080/tcp", own),
        ],
    );
    // An address is enough, whatever the port.
    let two = WEB.replace(
        "10.64.2.1@n2",
        "10.64.2.1@n2\n slice web-2 web port=81 10.64.1.1@n1",
    );
    let both = "forward 10.64.1.1:80+masquerade 10.64.1.1:81+masquerade 10.64.2.1:80";
    check(&two, &[("10.64.1.1 -> 10.96.0.1:80/tcp", both)]);
}

#[test]
fn b153_endpoints_of_other_nodes_come_by_only_where_pods_take_the_short_way() {
    let hairpin = |text: &str| port(&plan(text, V4), "default/web/TCP").hairpin;
    assert_eq!(hairpin(WEB), Hairpin::LocalEndpoints);
    assert_eq!(hairpin(&local()), Hairpin::AllEndpoints);
    // A detector that looks at interfaces takes no pod of another node for a pod.
    assert_eq!(
        hairpin(&with_config("bridge=cbr0", &local())),
        Hairpin::LocalEndpoints
    );
    let remote = "forward 10.64.1.1:80 10.64.2.1:80+masquerade";
    check(&local(), &[("10.64.2.1 -> 192.0.2.1:80/tcp", remote)]);
}

#[test]
fn b154_services_may_share_an_endpoint() {
    check(
        "service a ip=10.96.0.1 port=80\n slice a-1 a port=80 10.64.1.1@n1
         service b ip=10.96.0.2 port=80\n slice b-1 b port=80 10.64.1.1@n1",
        &[
            (
                "10.64.1.1 -> 10.96.0.1:80/tcp",
                "forward 10.64.1.1:80+masquerade",
            ),
            (
                "10.64.1.1 -> 10.96.0.2:80/tcp",
                "forward 10.64.1.1:80+masquerade",
            ),
        ],
    );
}

/// Where an endpoint is does not depend on the Service, even if one of its slices has it wrong.
#[test]
fn b153_b154_an_endpoint_that_one_service_has_on_this_node_is_here_for_all() {
    let own = "forward 10.64.1.1:80+masquerade";
    check(
        "service a ip=10.96.0.1 port=80\n slice a-1 a port=80 10.64.1.1@n1
         service b ip=10.96.0.2 port=80\n slice b-1 b port=80 10.64.1.1@n2",
        &[
            ("10.64.1.1 -> 10.96.0.1:80/tcp", own),
            ("10.64.1.1 -> 10.96.0.2:80/tcp", own),
        ],
    );
}

#[test]
fn b155_a_pod_that_talks_to_itself_is_left_alone() {
    check(WEB, &[("10.64.1.1 -> 10.64.1.1:80/tcp", "pass")]);
}

#[test]
fn b156_a_host_network_endpoint_may_reach_itself() {
    let text = WEB.replace("10.64.1.1@n1", "198.18.0.10@n1");
    let own = "forward 10.64.2.1:80+masquerade 198.18.0.10:80+masquerade";
    check(&text, &[("198.18.0.10 -> 10.96.0.1:80/tcp", own)]);
}

#[test]
fn b157_affinity_is_of_the_service_port_not_of_the_front_end() {
    let text = WEB.replace("type=", "affinity=60 type=");
    let plan = plan(&text, V4);
    let port = port(&plan, "default/web/TCP");
    assert_eq!(
        port.affinity,
        Some(ClientIpAffinity {
            timeout_seconds: 60
        })
    );
    assert_eq!(port.frontends.len(), 3);
}

#[test]
fn b158_the_timeout_is_that_of_the_service() {
    for seconds in [1, 10800, 86400] {
        let text = WEB.replace("type=", &format!("affinity={seconds} type="));
        let plan = plan(&text, V4);
        let affinity = port(&plan, "default/web/TCP").affinity;
        assert_eq!(affinity.map(|a| a.timeout_seconds), Some(seconds));
    }
    let deltas = crate::change(
        &WEB.replace("type=", "affinity=60 type="),
        &WEB.replace("type=", "affinity=20 type="),
    );
    assert_eq!(deltas[0].service_ports.len(), 1);
}

#[test]
fn b162_affinity_that_is_switched_changes_the_port() {
    let with = WEB.replace("type=", "affinity=60 type=");
    for (before, after) in [(WEB, with.as_str()), (&with, WEB)] {
        assert_eq!(crate::change(before, after)[0].service_ports.len(), 1);
    }
    assert_eq!(port(&plan(WEB, V4), "default/web/TCP").affinity, None);
}

#[test]
fn b165_affinity_is_for_every_protocol() {
    let plan = plan(
        "service web affinity=60 ip=10.96.0.1 port=80 port=80/udp port=80/sctp",
        V4,
    );
    assert_eq!(
        plan.service_ports
            .values()
            .filter(|p| p.affinity.is_some())
            .count(),
        3
    );
}

fn detector(config: &str, family: IpFamily) -> LocalDetector {
    plan(&with_config(config, ""), family)
        .node
        .local_detector
        .clone()
}

#[test]
fn b166_the_first_cluster_range_of_a_family_detects_pods() {
    let config = "cluster-cidr=10.64.0.0/11 cluster-cidr=10.0.0.0/8";
    let net = "10.64.0.0/11".parse().unwrap();
    assert_eq!(detector(config, V4), LocalDetector::Cidr(net));
    assert_eq!(detector(config, V6), LocalDetector::None);
}

#[test]
fn b167_node_cidr_takes_the_range_of_the_node() {
    let net = "10.64.1.0/24".parse().unwrap();
    assert_eq!(detector("node-cidr", V4), LocalDetector::Cidr(net));
    assert_eq!(detector("node-cidr", V6), LocalDetector::None);
    let masqueraded = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";
    let plain = "forward 10.64.1.1:80 10.64.2.1:80";
    check(
        &with_config("node-cidr", WEB),
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp", plain),
            ("10.64.2.200 -> 10.96.0.1:80/tcp", masqueraded),
        ],
    );
}

#[test]
fn b168_interfaces_detect_pods_in_both_families() {
    for family in [V4, V6] {
        assert_eq!(
            detector("bridge=cbr0", family),
            LocalDetector::Bridge("cbr0".into())
        );
        let prefix = LocalDetector::InterfacePrefix("veth".into());
        assert_eq!(detector("prefix=veth", family), prefix);
    }
    let masqueraded = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";
    let plain = "forward 10.64.1.1:80 10.64.2.1:80";
    check(
        &with_config("bridge=cbr0", WEB),
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp via cbr0", plain),
            ("10.64.1.200 -> 10.96.0.1:80/tcp via cbr01", masqueraded),
        ],
    );
    check(
        &with_config("prefix=veth", WEB),
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp via veth0", plain),
            ("10.64.1.200 -> 10.96.0.1:80/tcp via eth0", masqueraded),
        ],
    );
}

#[test]
fn b169_the_node_itself_has_no_input_interface() {
    let masqueraded = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";
    for config in ["bridge=cbr0", "prefix=veth"] {
        let text = with_config(config, WEB);
        check(&text, &[("198.18.0.10 -> 10.96.0.1:80/tcp", masqueraded)]);
    }
}

#[test]
fn b170_no_mode_is_no_detector() {
    assert_eq!(detector("mode=nftables", V4), LocalDetector::None);
}
