//! Group 8: node ports and the addresses that serve them.

use svc_core::IpFamily::{V4, V6};
use svc_core::{IpFamily, RefusedAt};

use crate::{check, plan, with_config};

const WEB: &str = "service web type=NodePort ip=10.96.0.1 ip=fd10:96::1 port=80@30080
    slice web-4 web port=80 10.64.2.1@n2
    slice web-6 web port=80 fd10:64::1@n2";
const SERVED: &str = "forward 10.64.2.1:80+masquerade";
const SERVED_6: &str = "forward [fd10:64::1]:80+masquerade";
const PRIMARY: &str = "203.0.113.7 -> 198.18.0.10:30080/tcp";
const SECOND: &str = "203.0.113.7 -> 198.18.1.10:30080/tcp";
const PRIMARY_6: &str = "2600:5200::7 -> [2001:db8:a::10]:30080/tcp";
const SECOND_6: &str = "2600:5200::7 -> [2001:db8:b::10]:30080/tcp";
const LOOPBACK: &str = "127.0.0.1 -> 127.0.0.1:30080/tcp";
const LOOPBACK_6: &str = "::1 -> [::1]:30080/tcp";

#[track_caller]
fn with(config: &str, cases: &[(&str, &str)]) {
    check(&with_config(config, WEB), cases);
}

#[test]
fn b118_a_family_without_range_is_served_everywhere() {
    let cases = [
        (PRIMARY, SERVED),
        (SECOND, "pass"),
        (PRIMARY_6, SERVED_6),
        (SECOND_6, SERVED_6),
    ];
    with("node-ports=198.18.0.0/24", &cases);
}

#[test]
fn b119_a_range_of_length_zero_is_everywhere() {
    with(
        "node-ports=198.18.0.0/24 node-ports=0.0.0.0/0",
        &[(PRIMARY, SERVED), (SECOND, SERVED)],
    );
}

#[test]
fn b120_node_ports_are_served_inside_the_ranges() {
    let both = "node-ports=198.18.0.0/24 node-ports=198.18.1.0/24";
    with(both, &[(PRIMARY, SERVED), (SECOND, SERVED)]);
    with(
        "node-ports=198.18.1.0/24",
        &[(PRIMARY, "pass"), (SECOND, SERVED)],
    );
    // An interface that no Node lists.
    with(
        "node-ports=192.0.2.0/24 local=192.0.2.9",
        &[
            ("203.0.113.7 -> 192.0.2.9:30080/tcp", SERVED),
            (PRIMARY, "pass"),
        ],
    );
    // No address inside: nowhere, not everywhere.
    with(
        "node-ports=192.0.2.0/24",
        &[(PRIMARY, "pass"), (SECOND, "pass")],
    );
}

#[test]
fn b121_primary_means_the_first_address_of_each_family() {
    let cases = [
        (PRIMARY, SERVED),
        (SECOND, "pass"),
        (PRIMARY_6, SERVED_6),
        (SECOND_6, "pass"),
    ];
    with("mode=iptables node-ports=primary", &cases);
    let bound = [(PRIMARY, "pass"), (SECOND, SERVED), (PRIMARY_6, SERVED_6)];
    with("node-ports=primary bind=198.18.1.10", &bound);
    // A loopback address is as good as none.
    with(
        "node-ports=primary bind=127.0.0.1",
        &[(PRIMARY, SERVED), (SECOND, SERVED)],
    );
    // Nobody knows the node: everywhere.
    for local in ["", "local=192.0.2.9 local=198.18.1.10"] {
        let config = with_config(&format!("node-ports=primary node=n9 {local}"), WEB);
        let plan = plan(&config, V4);
        assert!(plan.node.node_ports.every_local_address, "{local}");
        assert_eq!(plan.node.primary, None, "{local}");
    }
}

#[test]
fn b122_the_default_depends_on_the_mode() {
    with("mode=nftables", &[(PRIMARY, SERVED), (SECOND, "pass")]);
    with("mode=iptables", &[(PRIMARY, SERVED), (SECOND, SERVED)]);
    with("mode=ipvs", &[(PRIMARY, SERVED), (SECOND, SERVED)]);
}

#[test]
fn b123_everywhere_is_every_local_address() {
    let plan = plan(&with_config("mode=iptables local=192.0.2.9", WEB), V4);
    assert!(plan.node.node_ports.every_local_address);
    assert_eq!(plan.node.node_ports.addresses, plan.node.addresses);
    let bound = ("203.0.113.7 -> 192.0.2.9:30080/tcp", SERVED);
    with("mode=iptables local=192.0.2.9", &[bound]);
    with(
        "mode=iptables",
        &[("203.0.113.7 -> 192.0.2.9:30080/tcp", "pass")],
    );
    // A ClusterIP that somebody binds, as DNS caches of nodes do.
    let text =
        with_config("mode=ipvs local=10.96.0.10 local=192.0.2.9", WEB) + "\ncidr 10.96.0.0/16";
    let plan = crate::plan(&text, V4);
    let addresses: Vec<String> = plan
        .node
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(addresses, ["192.0.2.9", "198.18.0.10", "198.18.1.10"]);
}

#[test]
fn b125_loopback_serves_node_ports_with_iptables_and_ipv4_only() {
    with("mode=iptables", &[(LOOPBACK, SERVED), (LOOPBACK_6, "pass")]);
    with("mode=iptables no-localhost", &[(LOOPBACK, "pass")]);
    with(
        "mode=iptables node-ports=127.0.0.0/8",
        &[(LOOPBACK, SERVED), (PRIMARY, "pass")],
    );
    with(
        "mode=iptables node-ports=198.18.0.0/24",
        &[(LOOPBACK, "pass")],
    );
    with(
        "mode=nftables node-ports=0.0.0.0/0",
        &[(LOOPBACK, "pass"), (LOOPBACK_6, "pass")],
    );
    with("mode=ipvs", &[(LOOPBACK, "pass")]);
}

/// Otherwise a route to 127.0.0.1 through a node would do what its configuration does not want.
#[test]
fn b126_loopback_serves_node_ports_to_the_node_itself_only() {
    for config in ["mode=iptables", "mode=iptables node-ports=127.0.0.0/8"] {
        let refused =
            ["203.0.113.7", "10.64.1.1"].map(|from| format!("{from} -> 127.0.0.1:30080/tcp"));
        for flow in &refused {
            with(config, &[(flow, "pass"), (LOOPBACK, SERVED)]);
        }
    }
}

#[test]
fn b127_a_loopback_range_is_ignored_where_it_cannot_be_served() {
    for mode in ["nftables", "ipvs", "iptables no-localhost"] {
        let config = format!("mode={mode} node-ports=127.0.0.0/8 node-ports=198.18.0.0/24");
        with(&config, &[(LOOPBACK, "pass"), (PRIMARY, SERVED)]);
    }
}

#[test]
fn b128_everywhere_leaves_loopback_out_with_nftables() {
    with(
        "node-ports=0.0.0.0/0",
        &[(LOOPBACK, "pass"), (SECOND, SERVED)],
    );
}

#[test]
fn b129_where_a_node_port_without_endpoints_refuses_depends_on_the_mode() {
    let empty = WEB.replace("10.64.2.1@n2", "");
    let primary = |mode: &str| with_config(&format!("mode={mode} node-ports=primary"), &empty);
    check(
        &primary("nftables"),
        &[(PRIMARY, "reject"), (SECOND, "pass")],
    );
    check(
        &primary("iptables"),
        &[(PRIMARY, "reject"), (SECOND, "reject")],
    );
    let refused =
        |mode: &str, family: IpFamily| plan(&primary(mode), family).node.node_ports.refused_at;
    assert_eq!(refused("iptables", V6), RefusedAt::EveryLocalAddress);
    assert_eq!(refused("ipvs", V6), RefusedAt::NodePortAddresses);
}

#[test]
fn b130_node_ports_follow_the_external_policy() {
    let text = WEB
        .replace("type=", "etp=Local type=")
        .replace("10.64.2.1@n2", "10.64.2.1@n2 10.64.1.1@n1");
    check(
        &text,
        &[
            (PRIMARY, "forward 10.64.1.1:80"),
            (
                "10.64.1.200 -> 198.18.0.10:30080/tcp",
                "forward 10.64.1.1:80 10.64.2.1:80",
            ),
            (
                "198.18.0.10 -> 198.18.0.10:30080/tcp",
                "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade",
            ),
        ],
    );
}

#[test]
fn b131_source_ranges_do_not_filter_node_ports() {
    let text = WEB.replace(
        "type=NodePort",
        "type=LoadBalancer vip=192.0.2.1 range=198.51.100.0/24",
    );
    check(&text, &[(PRIMARY, SERVED)]);
}
