//! Groups 7 and 9: external traffic, short circuits, load-balancer addresses, source ranges.

use svc_core::IpFamily::V4;
use svc_core::{FrontendKind, SourceRanges};

use crate::{check, frontends, plan, port, with_config};

const WEB: &str = "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1 \
    external=192.0.2.2
    slice web-1 web port=80 10.64.1.1@n1 10.64.2.1@n2";
const FRONTENDS: [&str; 3] = [
    "192.0.2.1:80/tcp",
    "192.0.2.2:80/tcp",
    "198.18.0.10:30080/tcp",
];
const PLAIN: &str = "forward 10.64.1.1:80 10.64.2.1:80";
const MASQUERADED: &str = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";

fn local() -> String {
    WEB.replace("type=", "etp=Local type=")
}

/// What a source gets at every external front end.
#[track_caller]
fn at_each(text: &str, source: &str, verdict: &str) {
    for to in FRONTENDS {
        check(text, &[(&format!("{source} -> {to}"), verdict)]);
    }
}

#[test]
fn b103_external_policy_cluster_masquerades_everybody() {
    for source in ["203.0.113.7", "10.64.1.200", "198.18.0.10"] {
        at_each(WEB, source, MASQUERADED);
    }
}

/// What stays on the node does not pass POSTROUTING, where sources are masqueraded.
#[test]
fn an_endpoint_with_an_address_of_the_node_sees_clients_as_they_are() {
    let text = WEB.replace("10.64.1.1", "198.18.0.10");
    let outside = "forward 10.64.2.1:80+masquerade 198.18.0.10:80";
    for source in ["203.0.113.7", "10.64.1.200"] {
        at_each(&text, source, outside);
    }
    let own = "forward 10.64.2.1:80+masquerade 198.18.0.10:80+masquerade";
    at_each(&text, "198.18.0.10", own);
}

#[test]
fn b104_external_policy_local_preserves_the_source() {
    at_each(&local(), "203.0.113.7", "forward 10.64.1.1:80");
}

#[test]
fn b105_pods_take_the_short_way() {
    at_each(&local(), "10.64.1.200", PLAIN);
}

#[test]
fn b106_the_node_takes_the_short_way_masqueraded() {
    at_each(&local(), "198.18.0.10", MASQUERADED);
    at_each(&local(), "198.18.1.10", MASQUERADED);
}

#[test]
fn b107_without_detector_pods_are_like_anybody_outside() {
    let text = with_config("mode=nftables", &local());
    at_each(&text, "10.64.1.200", "forward 10.64.1.1:80");
    at_each(&text, "198.18.0.10", MASQUERADED);
}

#[test]
fn b108_a_node_address_in_the_pod_range_counts_as_a_pod() {
    let text = with_config("cluster-cidr=198.18.0.0/16", &local());
    at_each(&text, "198.18.0.10", PLAIN);
}

#[test]
fn b109_the_internal_policy_does_not_touch_external_front_ends() {
    let text = WEB.replace("type=", "itp=Local type=");
    at_each(&text, "203.0.113.7", MASQUERADED);
    at_each(&text, "10.64.1.200", MASQUERADED);
}

#[test]
fn b110_the_short_way_leads_everywhere_even_when_both_policies_are_local() {
    let text = local().replace("type=", "itp=Local type=");
    at_each(&text, "10.64.1.200", PLAIN);
    check(
        &text,
        &[("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:80")],
    );
}

#[test]
fn b111_without_local_endpoint_outside_traffic_is_dropped() {
    let text = local().replace("10.64.1.1@n1", "");
    at_each(&text, "203.0.113.7", "drop");
    at_each(&text, "10.64.1.200", "forward 10.64.2.1:80");
    at_each(&text, "198.18.0.10", "forward 10.64.2.1:80+masquerade");
}

#[test]
fn b112_without_endpoints_every_front_end_refuses() {
    for text in [WEB.to_owned(), local()] {
        let text = text.replace("10.64.1.1@n1 10.64.2.1@n2", "");
        for source in ["203.0.113.7", "10.64.1.200", "198.18.0.10"] {
            at_each(&text, source, "reject");
        }
    }
}

#[test]
fn b113_a_pod_of_another_node_counts_as_a_pod() {
    at_each(&local(), "10.64.2.200", PLAIN);
}

#[test]
fn b114_external_ips_are_like_load_balancer_addresses_without_ranges() {
    let text = WEB.replace("type=", "range=203.0.113.0/25 type=");
    check(
        &text,
        &[
            ("203.0.113.200 -> 192.0.2.1:80/tcp", "drop"),
            ("203.0.113.200 -> 192.0.2.2:80/tcp", MASQUERADED),
        ],
    );
}

#[test]
fn b115_an_external_ip_need_not_be_an_address_of_the_node() {
    assert!(!plan(WEB, V4).node.is_local([192, 0, 2, 2].into()));
    check(WEB, &[("203.0.113.7 -> 192.0.2.2:80/tcp", MASQUERADED)]);
}

const SHADOW: &str = "service np type=NodePort ip=10.96.0.2 port=80@30080
    slice np-1 np port=80 10.64.1.9@n1
    service web ip=10.96.0.1 port=30080 external=198.18.0.10
    slice web-1 web port=80 10.64.1.1@n1";

#[test]
fn b116_an_external_ip_of_the_node_goes_before_the_node_port() {
    check(
        SHADOW,
        &[
            (
                "203.0.113.7 -> 198.18.0.10:30080/tcp",
                "forward 10.64.1.1:80+masquerade",
            ),
            ("203.0.113.7 -> 198.18.0.10:80/tcp", "pass"),
        ],
    );
    let text = with_config("mode=iptables", SHADOW);
    let np = "forward 10.64.1.9:80+masquerade";
    check(&text, &[("203.0.113.7 -> 198.18.1.10:30080/tcp", np)]);
    let plan = plan(&text, V4);
    let node_port = port(&plan, "default/np/TCP").frontends.last().unwrap();
    assert_eq!(
        node_port.shadowed.to_vec(),
        [core::net::IpAddr::from([198, 18, 0, 10])]
    );
}

#[test]
fn b117_node_ports_are_looked_up_last() {
    let text = SHADOW.replace("external=", "type=LoadBalancer vip=");
    let forward = "forward 10.64.1.1:80+masquerade";
    check(&text, &[("203.0.113.7 -> 198.18.0.10:30080/tcp", forward)]);
}

#[test]
fn b133_a_load_balancer_address_answers_on_every_port() {
    let plan = plan(
        "service web type=LoadBalancer ip=10.96.0.1 port=a:80 port=b:81 vip=192.0.2.1",
        V4,
    );
    let vips = frontends(&plan)
        .into_iter()
        .filter(|f| f.ends_with("LoadBalancerIp"));
    let wanted = [
        "192.0.2.1:80/tcp default/web:a LoadBalancerIp",
        "192.0.2.1:81/tcp default/web:b LoadBalancerIp",
    ];
    assert_eq!(vips.collect::<Vec<_>>(), wanted);
}

#[test]
fn b134_ip_mode_proxy_leaves_the_address_alone() {
    let text = WEB.replace("vip=", "range=203.0.113.0/25 proxied=");
    check(
        &text,
        &[
            ("203.0.113.7 -> 192.0.2.1:80/tcp", "pass"),
            ("203.0.113.200 -> 192.0.2.1:80/tcp", "pass"),
            ("203.0.113.7 -> 198.18.0.10:30080/tcp", MASQUERADED),
            ("10.64.1.200 -> 10.96.0.1:80/tcp", PLAIN),
        ],
    );
    let empty = text.replace("10.64.1.1@n1 10.64.2.1@n2", "");
    check(&empty, &[("203.0.113.7 -> 192.0.2.1:80/tcp", "pass")]);
}

#[test]
fn b135_each_ingress_entry_has_its_own_mode() {
    let text = WEB.replace(
        "vip=192.0.2.1",
        "vip=192.0.2.1 proxied=192.0.2.3 vip=192.0.2.4",
    );
    check(
        &text,
        &[
            ("203.0.113.7 -> 192.0.2.1:80/tcp", MASQUERADED),
            ("203.0.113.7 -> 192.0.2.3:80/tcp", "pass"),
            ("203.0.113.7 -> 192.0.2.4:80/tcp", MASQUERADED),
        ],
    );
}

#[test]
fn b136_ingress_addresses_count_whatever_the_type() {
    let text = "service web ip=10.96.0.1 port=80 vip=192.0.2.1";
    assert_eq!(frontends(&plan(text, V4)).len(), 2);
}

fn ranges(words: &str) -> String {
    WEB.replace("type=", &format!("{words} type="))
}

#[test]
fn b137_source_ranges_count_for_everybody() {
    for text in [
        ranges("range=203.0.113.0/25"),
        ranges("etp=Local range=203.0.113.0/25"),
    ] {
        for source in ["203.0.113.200", "10.64.1.200", "198.18.0.10"] {
            check(&text, &[(&format!("{source} -> 192.0.2.1:80/tcp"), "drop")]);
        }
    }
    let inside = "203.0.113.7 -> 192.0.2.1:80/tcp";
    check(&ranges("range=203.0.113.0/25"), &[(inside, MASQUERADED)]);
    let local = ranges("etp=Local range=203.0.113.0/25");
    check(&local, &[(inside, "forward 10.64.1.1:80")]);
}

#[test]
fn b138_a_node_that_may_come_in_may_use_the_balancers_address() {
    let own = "192.0.2.1 -> 192.0.2.1:80/tcp";
    check(&ranges("range=198.18.0.0/24"), &[(own, MASQUERADED)]);
    check(&ranges("range=203.0.113.0/25"), &[(own, "drop")]);
    let node = "198.18.0.10 -> 192.0.2.1:80/tcp";
    check(&ranges("range=198.18.0.0/24"), &[(node, MASQUERADED)]);
}

#[test]
fn b139_only_the_primary_address_counts_for_that() {
    let own = "192.0.2.1 -> 192.0.2.1:80/tcp";
    check(&ranges("range=198.18.1.0/24"), &[(own, "drop")]);
    // bindAddress says which one is primary.
    let text = with_config("bind=198.18.1.10", &ranges("range=198.18.1.0/24"));
    assert!(plan(&text, V4).node.primary == Some([198, 18, 1, 10].into()));
    check(&text, &[(own, MASQUERADED)]);
}

#[test]
fn b140_ranges_are_for_load_balancer_addresses_only() {
    let plan = plan(&ranges("range=203.0.113.0/25"), V4);
    for frontend in &port(&plan, "default/web/TCP").frontends {
        let restricted = frontend.sources != SourceRanges::All;
        assert_eq!(restricted, frontend.kind == FrontendKind::LoadBalancerIp);
    }
}

#[test]
fn b143_ranges_of_a_service_without_endpoints_depend_on_the_mode() {
    let text = ranges("range=203.0.113.0/25").replace("10.64.1.1@n1 10.64.2.1@n2", "");
    let (inside, outside) = (
        "203.0.113.7 -> 192.0.2.1:80/tcp",
        "203.0.113.200 -> 192.0.2.1:80/tcp",
    );
    check(&text, &[(inside, "reject"), (outside, "drop")]);
    let iptables = with_config("mode=iptables", &text);
    check(&iptables, &[(inside, "reject"), (outside, "reject")]);
}
