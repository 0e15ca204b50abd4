//! Group 3: addresses and dual stack.

use svc_core::IpFamily::{V4, V6};
use svc_core::{Reason, SourceRanges, testing::parse_flow};

use crate::{change, check, cluster, frontends, plan, port, with_config};

#[test]
fn b041_the_families_are_planned_apart() {
    let text = "service web ip=10.96.0.1 ip=fd10:96::1 port=80
                slice web-4 web port=80 10.64.1.1@n1
                slice web-6 web port=8080 fd10:64::1@n1";
    check(
        text,
        &[
            ("10.64.1.200 -> 10.96.0.1:80/tcp", "forward 10.64.1.1:80"),
            (
                "fd10:64::200 -> [fd10:96::1]:80/tcp",
                "forward [fd10:64::1]:8080",
            ),
        ],
    );
    let more = format!("{text}\n slice web-5 web port=8080 fd10:64::2@n1");
    let deltas = change(text, &more);
    let families: Vec<_> = deltas.iter().map(|delta| delta.family).collect();
    assert_eq!(families, [V6]);
    let flow = parse_flow("fd10:64::200 -> [fd10:96::1]:80/tcp").unwrap();
    assert_eq!(plan(text, V4).decide(&flow).reason, Reason::OtherFamily);
}

#[test]
fn b043_slices_of_the_other_family_are_ignored() {
    let text = "service web ip=10.96.0.1 port=80\n slice web-1 web port=80 10.64.1.1@n1";
    let more = format!("{text}\n slice web-6 web port=80 fd10:64::1@n1");
    assert_eq!(change(text, &more), []);
}

#[test]
fn b044_the_place_in_ip_families_says_which_cluster_ip_is_whose() {
    let swapped = "service web ip=fd10:96::1 ip=10.96.0.1 port=80";
    assert_eq!(
        frontends(&plan(swapped, V4)),
        ["10.96.0.1:80/tcp default/web ClusterIp"]
    );
    assert_eq!(
        frontends(&plan(swapped, V6)),
        ["[fd10:96::1]:80/tcp default/web ClusterIp"]
    );
    // Without ipFamilies the first address counts, in its family only.
    let plain = "service web families= ip=10.96.0.1 ip=fd10:96::1 port=80";
    assert_eq!(plan(plain, V4).service_ports.len(), 1);
    assert_eq!(plan(plain, V6).service_ports.len(), 0);
    // An address in the place of the other family is nobody's.
    let wrong = "service web families=IPv6 ip=10.96.0.1 port=80";
    assert_eq!(plan(wrong, V4).service_ports.len(), 0);
    assert_eq!(plan(wrong, V6).service_ports.len(), 0);
}

#[test]
fn b045_a_family_without_cluster_ip_is_absent() {
    let text = "service web families=IPv4,IPv6 ip=10.96.0.1 port=80 external=2001:db8:f::1";
    assert_eq!(plan(text, V4).service_ports.len(), 1);
    assert_eq!(plan(text, V6).service_ports.len(), 0);
}

#[test]
fn b046_a_family_without_slices_has_no_endpoints() {
    check(
        "service web ip=10.96.0.1 ip=fd10:96::1 port=80
         slice web-4 web port=80 10.64.1.1@n1",
        &[("fd10:64::200 -> [fd10:96::1]:80/tcp", "reject")],
    );
}

const MIXED: &str = "service web type=LoadBalancer ip=10.96.0.1 ip=fd10:96::1 port=80 \
    vip=192.0.2.1 vip=2001:db8:f::1 external=192.0.2.2 external=2001:db8:f::2";

#[test]
fn b047_lists_of_addresses_are_split_by_family() {
    assert_eq!(
        frontends(&plan(MIXED, V4)),
        [
            "10.96.0.1:80/tcp default/web ClusterIp",
            "192.0.2.1:80/tcp default/web LoadBalancerIp",
            "192.0.2.2:80/tcp default/web ExternalIp"
        ]
    );
    assert_eq!(
        frontends(&plan(MIXED, V6)),
        [
            "[2001:db8:f::1]:80/tcp default/web LoadBalancerIp",
            "[2001:db8:f::2]:80/tcp default/web ExternalIp",
            "[fd10:96::1]:80/tcp default/web ClusterIp"
        ]
    );
}

#[test]
fn b048_ranges_of_the_other_family_do_not_restrict() {
    let text = format!("{MIXED} range=203.0.113.0/25");
    let sources = |family, at: usize| {
        let plan = plan(&text, family);
        port(&plan, "default/web/TCP").frontends[at].sources.clone()
    };
    assert!(matches!(sources(V4, 1), SourceRanges::Only(_)));
    assert_eq!(sources(V6, 0), SourceRanges::All);
}

#[test]
fn b049_a_range_of_length_zero_lifts_the_restriction_of_its_family() {
    let slice = "slice web-1 web port=80 10.64.1.1@n1";
    let flow = "203.0.113.200 -> 192.0.2.1:80/tcp";
    let forward = "forward 10.64.1.1:80+masquerade";
    let text = format!("{MIXED} range=203.0.113.0/25 range=0.0.0.0/0\n{slice}");
    check(&text, &[(flow, forward)]);
    let text = format!("{MIXED} range=203.0.113.0/25 range=::/0\n{slice}");
    check(&text, &[(flow, "drop")]);
}

#[test]
fn b059_an_unknown_node_is_only_loopback() {
    let text = with_config("node=n9 mode=iptables", "");
    let plan = plan(&text, V4);
    assert!(plan.node.addresses.is_empty());
    assert_eq!(plan.node.primary, None);
    assert!(plan.node.is_local([127, 0, 0, 1].into()));
    assert!(cluster(&text).planner().diagnostics().is_empty());
}

/// What conversion makes of `spec.loadBalancerSourceRanges` and an annotation.
fn ranges(json: &str) -> Vec<String> {
    let text = format!(
        r#"{{"metadata":{{"name":"web","annotations":{{
            "service.beta.kubernetes.io/load-balancer-source-ranges":"203.0.113.0/24"}}}},
            "spec":{{"type":"LoadBalancer","clusterIP":"10.96.0.1","ipFamilies":["IPv4"],
            "ports":[{{"port":80}}],"loadBalancerSourceRanges":{json}}},
            "status":{{"loadBalancer":{{"ingress":[{{"ip":"192.0.2.1"}}]}}}}}}"#
    );
    let service = serde_json::from_str(&text).unwrap();
    let (service, _) = svc_core::wire::Conversion::default().service(&service);
    let mut scenario = cluster("");
    scenario.services.extend(service);
    let plan = scenario.plan(V4);
    let sources = &port(&plan, "default/web/TCP").frontends[1].sources;
    match sources {
        SourceRanges::All => vec!["all".into()],
        SourceRanges::Only(ranges) => ranges.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn b051_ranges_of_which_none_can_be_read_do_not_restrict() {
    assert_eq!(ranges(r#"["nonsense", "1.2.3.4/99"]"#), ["all"]);
    assert_eq!(
        ranges(r#"["nonsense", "198.51.100.0/24"]"#),
        ["198.51.100.0/24"]
    );
}

#[test]
fn b052_blanks_around_a_range_are_trimmed() {
    assert_eq!(ranges(r#"["  198.51.100.0/24 "]"#), ["198.51.100.0/24"]);
}

#[test]
fn b141_the_old_annotation_is_not_read() {
    assert_eq!(ranges("[]"), ["all"]);
}
