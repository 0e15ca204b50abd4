//! Group 2: ports and protocols.

use svc_core::IpFamily::{V4, V6};
use svc_core::Unserved;

use crate::{change, check, cluster, plan, with_config};

#[test]
fn b023_protocols_of_one_number_are_apart() {
    check(
        "service dns ip=10.96.0.1 port=t:53 port=u:53/udp port=s:53/sctp
         slice dns-1 dns port=t:5301 port=u:5302/udp port=s:5303/sctp 10.64.1.1@n1",
        &[
            ("10.64.1.200 -> 10.96.0.1:53/tcp", "forward 10.64.1.1:5301"),
            ("10.64.1.200 -> 10.96.0.1:53/udp", "forward 10.64.1.1:5302"),
            ("10.64.1.200 -> 10.96.0.1:53/sctp", "forward 10.64.1.1:5303"),
        ],
    );
}

#[test]
fn b024_another_protocol_does_not_match() {
    let text = "service web ip=10.96.0.1 port=80\n slice web-1 web port=80 10.64.1.1@n1";
    check(text, &[("10.64.1.200 -> 10.96.0.1:80/udp", "reject")]);
    let iptables = with_config("mode=iptables", text);
    check(&iptables, &[("10.64.1.200 -> 10.96.0.1:80/udp", "pass")]);
}

#[test]
fn b025_only_a_slice_port_of_the_same_name_and_protocol_counts() {
    // The scenario's targetPort is the service port, 80: nothing reads it.
    check(
        "service web ip=10.96.0.1 port=http:80 port=dns:53/udp
         slice web-1 web port=other:80 port=dns:53 10.64.1.1@n1
         slice web-2 web port=http:8080 10.64.1.2@n1",
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.2:8080"),
            ("10.64.1.200 -> 10.96.0.1:53/udp", "reject"),
        ],
    );
}

#[test]
fn b027_the_unnamed_port_matches_the_unnamed_port() {
    check(
        "service web ip=10.96.0.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1
         slice web-2 web port=http:8081 10.64.1.1@n1",
        &[("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:8080")],
    );
}

#[test]
fn b030_each_slice_has_its_own_number_for_a_port() {
    check(
        "service web ip=10.96.0.1 port=http:80
         slice web-1 web port=http:8080 10.64.1.1@n1
         slice web-2 web port=http:9090 10.64.1.2@n1",
        &[(
            "10.64.1.200 -> 10.96.0.1:80/tcp",
            "forward 10.64.1.1:8080 10.64.1.2:9090",
        )],
    );
}

#[test]
fn b031_slice_ports_that_no_service_port_has_are_ignored() {
    let plan = plan(
        "service web ip=10.96.0.1 port=http:80
         slice web-1 web port=http:8080 port=metrics:9090 10.64.1.1@n1",
        V4,
    );
    assert_eq!(plan.service_ports.len(), 1);
}

const UNKNOWN: &str = "service web type=LoadBalancer ip=10.96.0.1 port=80 vip=192.0.2.1 \
                       external=192.0.2.2\n slice web-1 web port=80 10.64.1.1@n1";

#[test]
fn b032_an_unknown_port_of_a_cluster_ip_is_refused_with_nftables() {
    check(UNKNOWN, &[("10.64.1.200 -> 10.96.0.1:81/tcp", "reject")]);
}

#[test]
fn b033_an_unallocated_address_is_dropped_with_nftables() {
    check(
        UNKNOWN,
        &[
            ("10.64.1.200 -> 10.96.0.9:80/tcp", "drop"),
            ("10.64.1.200 -> 10.97.0.9:80/tcp", "pass"),
        ],
    );
}

#[test]
fn b034_iptables_leaves_both_alone() {
    check(
        &with_config("mode=iptables", UNKNOWN),
        &[
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "pass"),
            ("10.64.1.200 -> 10.96.0.9:80/tcp", "pass"),
        ],
    );
}

#[test]
fn b035_ipvs_refuses_unknown_ports_only() {
    check(
        &with_config("mode=ipvs", UNKNOWN),
        &[
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "reject"),
            ("10.64.1.200 -> 10.96.0.9:80/tcp", "pass"),
        ],
    );
}

#[test]
fn b036_unknown_ports_of_other_addresses_pass() {
    check(
        UNKNOWN,
        &[
            ("203.0.113.7 -> 192.0.2.1:81/tcp", "pass"),
            ("203.0.113.7 -> 192.0.2.2:81/tcp", "pass"),
        ],
    );
}

#[test]
fn b037_service_ranges_are_split_by_family() {
    let text = "cidr 10.97.0.0/16 10.96.0.0/16";
    let ranges = |family| {
        let plan = plan(text, family);
        plan.node
            .service_cidrs
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    // Neighbours are one range.
    assert_eq!(ranges(V4), ["10.96.0.0/15"]);
    assert_eq!(ranges(V6), ["fd10:96::/112"]);
    let none = "config mode=nftables\n service web ip=10.96.0.1 port=80";
    assert_eq!(plan(none, V4).node.unknown_port, Unserved::Reject);
    check(
        none,
        &[
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "reject"),
            ("10.64.1.200 -> 10.96.0.9:80/tcp", "pass"),
        ],
    );
}

#[test]
fn b038_a_changed_service_range_changes_the_plan_at_once() {
    let deltas = change("", "cidr 10.98.0.0/16");
    assert_eq!(deltas.len(), 1);
    let node = deltas[0].node.as_ref().unwrap();
    assert_eq!(node.service_cidrs.len(), 2);
}

#[test]
fn b039_a_node_port_may_be_of_two_services_with_two_protocols() {
    check(
        "service a type=NodePort ip=10.96.0.1 port=53@30053
         service b type=NodePort ip=10.96.0.2 port=53/udp@30053
         slice a-1 a port=53 10.64.1.1@n1
         slice b-1 b port=53/udp 10.64.1.2@n1",
        &[
            (
                "203.0.113.7 -> 198.18.0.10:30053/tcp",
                "forward 10.64.1.1:53+masquerade",
            ),
            (
                "203.0.113.7 -> 198.18.0.10:30053/udp",
                "forward 10.64.1.2:53+masquerade",
            ),
            ("203.0.113.7 -> 198.18.0.10:30053/sctp", "pass"),
        ],
    );
}

#[test]
fn b040_every_endpoint_is_as_likely_as_the_others() {
    let text = "service web ip=10.96.0.1 port=80
                slice web-1 web port=80 10.64.1.1@n1 10.64.1.2@n1
                slice web-2 web port=80 10.64.1.2@n1 10.64.1.3@n1";
    // Listed twice, chosen as often as the others.
    let all = "forward 10.64.1.1:80 10.64.1.2:80 10.64.1.3:80";
    check(text, &[("10.64.1.200 -> 10.96.0.1:80/tcp", all)]);
    let planner = cluster(text).planner();
    assert!(planner.diagnostics().is_empty());
}
