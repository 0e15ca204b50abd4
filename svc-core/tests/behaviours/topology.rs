//! Group 5: topology hints.

use svc_core::IpFamily::V4;
use svc_core::object::Node;
use svc_core::{Event, WatchEvent};

use crate::{NODE, change, check, cluster};

const FLOW: &str = "10.64.1.200 -> 10.96.0.1:80/tcp";

/// What a pod of node n1, in zone za, reaches.
#[track_caller]
fn reaches(endpoints: &str, verdict: &str) {
    let slice = format!("slice web-1 web port=80 {endpoints}");
    check(
        &format!("service web ip=10.96.0.1 port=80\n{slice}"),
        &[(FLOW, verdict)],
    );
}

#[test]
fn b074_only_hints_node_name_and_zone_decide() {
    // The nodes of the endpoints, and the zones of these nodes, are not read.
    reaches("10.64.1.1@n2+za 10.64.2.1@n1+zb", "forward 10.64.1.1:80");
}

#[test]
fn b075_hints_for_the_node_come_first() {
    reaches(
        "10.64.1.1@n1+za~n1 10.64.1.2@n1+za~n2 10.64.2.1@n2+zb~n2",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b076_then_hints_for_the_zone() {
    reaches(
        "10.64.1.1@n1+za 10.64.1.2@n1+zb 10.64.2.1@n2+za",
        "forward 10.64.1.1:80 10.64.2.1:80",
    );
}

#[test]
fn b077_else_every_ready_endpoint() {
    reaches(
        "10.64.1.1@n1+zb 10.64.2.1@n2+zc",
        "forward 10.64.1.1:80 10.64.2.1:80",
    );
}

#[test]
fn b078_no_hint_for_this_node_falls_back_to_the_zone() {
    reaches(
        "10.64.1.1@n1+za~n2 10.64.2.1@n2+zb~n2",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b079_one_endpoint_without_hint_switches_the_hints_off() {
    reaches(
        "10.64.1.1@n1+za 10.64.2.1@n2",
        "forward 10.64.1.1:80 10.64.2.1:80",
    );
    // Of one kind: node hints are incomplete, zone hints are not.
    reaches("10.64.1.1@n1+za~n1 10.64.2.1@n2+zb", "forward 10.64.1.1:80");
}

#[test]
fn b080_unready_endpoints_do_not_take_part() {
    reaches(
        "10.64.1.1@n1+za 10.64.2.1@n2!unready 10.64.2.2@n2+zb",
        "forward 10.64.1.1:80",
    );
    reaches(
        "10.64.1.1@n1!unready+za 10.64.2.1@n2+zb 10.64.2.2@n2+zb",
        "forward 10.64.2.1:80 10.64.2.2:80",
    );
}

#[test]
fn b081_an_endpoint_may_be_for_several_zones() {
    reaches("10.64.1.1@n1+zb,za 10.64.2.1@n2+zb", "forward 10.64.1.1:80");
}

#[test]
fn b082_a_node_without_zone_ignores_zone_hints() {
    let all = "forward 10.64.1.1:80 10.64.2.1:80";
    check(
        "config cluster-cidr=10.64.0.0/11
         node n1 198.18.0.10
         service web ip=10.96.0.1 port=80
         slice web-1 web port=80 10.64.1.1@n1+za 10.64.2.1@n2+",
        &[(FLOW, all)],
    );
}

#[test]
fn b083_the_hint_decides_not_the_zone_of_the_endpoint() {
    let text = "service web ip=10.96.0.1 port=80
                slice web-1 web port=80 10.64.1.1@n1+zb 10.64.2.1@n2+za";
    let mut scenario = cluster(text);
    for (endpoint, zone) in scenario.slices[0].endpoints.iter_mut().zip(["za", "zb"]) {
        let mut extra = (**endpoint.extra.as_ref().unwrap()).clone();
        extra.zone = Some(zone.into());
        endpoint.extra = Some(extra.into());
    }
    let flow = svc_core::testing::parse_flow(FLOW).unwrap();
    assert_eq!(
        scenario.plan(V4).route(&flow).to_string(),
        "forward 10.64.2.1:80"
    );
}

#[test]
fn b084_hints_never_leave_nothing() {
    reaches("10.64.2.1@n2+zb~n2", "forward 10.64.2.1:80");
    // The endpoint hinted for the zone is not ready: the zone does not count.
    reaches(
        "10.64.1.1@n1!terminating+za 10.64.2.1@n2+zb",
        "forward 10.64.2.1:80",
    );
}

#[test]
fn b085_the_last_resort_ignores_hints() {
    reaches(
        "10.64.1.1@n1!terminating+za 10.64.2.1@n2!terminating+zb",
        "forward 10.64.1.1:80 10.64.2.1:80",
    );
}

const EXTERNAL: &str = "service web type=NodePort ip=10.96.0.1 port=80@30080
    slice web-1 web port=80 10.64.1.1@n1+za 10.64.1.2@n1+zb 10.64.2.1@n2+za 10.64.2.2@n2+zb";

#[test]
fn b086_the_local_list_ignores_hints() {
    check(
        &EXTERNAL.replace("type=", "etp=Local type="),
        &[(
            "203.0.113.7 -> 198.18.0.10:30080/tcp",
            "forward 10.64.1.1:80 10.64.1.2:80",
        )],
    );
}

#[test]
fn b087_hints_count_wherever_the_cluster_list_is_used() {
    let masqueraded = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";
    let plain = "forward 10.64.1.1:80 10.64.2.1:80";
    check(
        EXTERNAL,
        &[
            (FLOW, plain),
            ("203.0.113.7 -> 198.18.0.10:30080/tcp", masqueraded),
        ],
    );
    check(
        &EXTERNAL.replace("type=", "etp=Local type="),
        &[
            ("10.64.1.200 -> 198.18.0.10:30080/tcp", plain),
            ("198.18.0.10 -> 198.18.0.10:30080/tcp", masqueraded),
        ],
    );
}

#[test]
fn b088_each_port_and_family_decides_for_itself() {
    check(
        "service web ip=10.96.0.1 ip=fd10:96::1 port=a:80 port=b:81
         slice web-1 web port=a:80 10.64.1.1@n1+za 10.64.2.1@n2+zb
         slice web-2 web port=b:81 10.64.1.1@n1+za 10.64.2.1@n2
         slice web-6 web port=a:80 fd10:64::1@n1 fd10:64::2@n2+za",
        &[
            (FLOW, "forward 10.64.1.1:80"),
            (
                "10.64.1.200 -> 10.96.0.1:81/tcp",
                "forward 10.64.1.1:81 10.64.2.1:81",
            ),
            (
                "fd10:64::200 -> [fd10:96::1]:80/tcp",
                "forward [fd10:64::1]:80 [fd10:64::2]:80",
            ),
        ],
    );
}

#[test]
fn b089_of_the_nodes_labels_only_the_zone_counts() {
    let text = "service web ip=10.96.0.1 port=80
                slice web-1 web port=80 10.64.1.1@n1+za 10.64.2.1@n2+zb";
    let scenario = cluster(text);
    let mut planner = scenario.planner();
    planner.delta();
    let node: Node = Node {
        control_plane: true,
        ..scenario.nodes[0].clone()
    };
    planner.handle(Event::Node(WatchEvent::Apply(node.clone())));
    assert_eq!(planner.delta(), []);
    let node = Node {
        zone: Some("zb".into()),
        ..node
    };
    planner.handle(Event::Node(WatchEvent::Apply(node)));
    assert_eq!(planner.delta()[0].service_ports.len(), 1);
    let flow = svc_core::testing::parse_flow(FLOW).unwrap();
    assert_eq!(
        planner.plan(V4).route(&flow).to_string(),
        "forward 10.64.2.1:80"
    );
}

#[test]
fn b281_a_zone_that_comes_or_goes_changes_the_choice() {
    let slice = "service web ip=10.96.0.1 port=80
                 slice web-1 web port=80 10.64.1.1@n1+za 10.64.2.1@n2+zb";
    let with = format!("{NODE}\n{slice}");
    let without = with.replace("zone=za", "");
    for (before, after) in [(&with, &without), (&without, &with)] {
        assert_eq!(change(before, after)[0].service_ports.len(), 1);
    }
    check(&without, &[(FLOW, "forward 10.64.1.1:80 10.64.2.1:80")]);
}
