//! Group 4: which endpoints are ready to be used.

use svc_core::IpFamily::V4;
use svc_core::object::Conditions;

use crate::{check, plan, port};

const LOCAL: &str = "service web type=NodePort etp=Local ip=10.96.0.1 port=80@30080";
const TO_CLUSTER: &str = "10.64.1.200 -> 10.96.0.1:80/tcp";
const TO_LOCAL: &str = "203.0.113.7 -> 198.18.0.10:30080/tcp";

/// What a pod reaches (the cluster list) and what an outside client reaches (the local list).
#[track_caller]
fn reaches(endpoints: &str, cluster: &str, local: &str) {
    let text = format!("{LOCAL}\n slice web-1 web port=80 {endpoints}");
    check(&text, &[(TO_CLUSTER, cluster), (TO_LOCAL, local)]);
}

#[test]
fn b060_an_endpoint_without_conditions_is_ready() {
    let Conditions {
        ready,
        serving,
        terminating,
    } = Conditions::READY;
    assert!(ready && serving && !terminating);
    reaches(
        "10.64.1.1@n1",
        "forward 10.64.1.1:80",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b061_ready_is_what_the_slice_says() {
    // Terminating and ready, as publishNotReadyAddresses makes it (B-405): ready.
    let scenario = format!("{LOCAL}\n slice web-1 web port=80 10.64.1.1@n1 10.64.1.2@n1");
    let mut scenario = crate::cluster(&scenario);
    scenario.slices[0].endpoints[0].conditions.terminating = true;
    scenario.slices[0].endpoints[0].conditions.serving = false;
    let plan = scenario.plan(V4);
    assert_eq!(port(&plan, "default/web/TCP").cluster.len(), 2);
}

#[test]
fn b062_serving_endpoints_that_shut_down_are_the_last_resort() {
    reaches(
        "10.64.1.1@n1!terminating 10.64.1.2@n1!dead 10.64.2.1@n2!terminating",
        "forward 10.64.1.1:80 10.64.2.1:80",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b063_unready_endpoints_are_never_used() {
    reaches(
        "10.64.1.1@n1!unready 10.64.1.2@n1!serving",
        "reject",
        "reject",
    );
}

#[test]
fn b064_endpoints_that_have_stopped_serving_are_never_used() {
    reaches("10.64.1.1@n1!dead", "reject", "reject");
}

#[test]
fn b065_with_one_ready_endpoint_terminating_ones_are_left_out() {
    reaches(
        "10.64.2.1@n2 10.64.1.1@n1!terminating 10.64.2.2@n2!terminating",
        "forward 10.64.2.1:80",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b066_the_local_list_does_not_look_at_remote_readiness() {
    reaches(
        "10.64.1.1@n1 10.64.1.2@n1!terminating 10.64.2.1@n2!unready",
        "forward 10.64.1.1:80",
        "forward 10.64.1.1:80",
    );
}

#[test]
fn b067_the_two_lists_may_be_in_different_modes() {
    let text = format!(
        "{LOCAL}\n slice web-1 web port=80 10.64.2.1@n2 10.64.1.1@n1!terminating 10.64.1.1@n1"
    );
    let both = plan(&text, V4);
    let both = port(&both, "default/web/TCP");
    // Reachable is the union, each once.
    assert_eq!(both.reachable().count(), 2);
    let text = format!("{LOCAL}\n slice web-1 web port=80 10.64.2.1@n2 10.64.1.1@n1!terminating");
    let apart = plan(&text, V4);
    let apart = port(&apart, "default/web/TCP");
    assert_eq!((apart.cluster.len(), apart.local.len()), (1, 1));
    assert_eq!(apart.reachable().count(), 2);
}

/// Sizes of the cluster and the local list.
fn lists(service: &str) -> (usize, usize) {
    let text = format!("service web {service}\n slice web-1 web port=80 10.64.1.1@n1 10.64.2.1@n2");
    let plan = plan(&text, V4);
    let port = port(&plan, "default/web/TCP");
    (port.cluster.len(), port.local.len())
}

#[test]
fn b068_the_cluster_list_is_kept_where_a_route_may_need_it() {
    assert_eq!(lists("ip=10.96.0.1 port=80"), (2, 0));
    assert_eq!(lists("itp=Local ip=10.96.0.1 port=80"), (0, 1));
    assert_eq!(
        lists("type=NodePort itp=Local ip=10.96.0.1 port=80@30080"),
        (2, 1)
    );
}

#[test]
fn b069_the_local_list_is_kept_where_a_policy_is_local() {
    assert_eq!(lists("type=NodePort ip=10.96.0.1 port=80@30080"), (2, 0));
    assert_eq!(
        lists("type=NodePort etp=Local ip=10.96.0.1 port=80@30080"),
        (2, 1)
    );
    assert_eq!(lists("etp=Local ip=10.96.0.1 port=80"), (2, 0));
}

#[test]
fn b070_usable_endpoints_elsewhere_make_it_a_drop() {
    reaches("10.64.2.1@n2", "forward 10.64.2.1:80", "drop");
    reaches("10.64.2.1@n2!terminating", "forward 10.64.2.1:80", "drop");
    reaches("10.64.2.1@n2!unready", "reject", "reject");
}

#[test]
fn b071_an_internal_local_service_keeps_no_remote_endpoint() {
    let text = "service web itp=Local ip=10.96.0.1 port=80\n slice web-1 web port=80 10.64.2.1@n2";
    let plan = plan(text, V4);
    assert_eq!(port(&plan, "default/web/TCP").reachable().count(), 0);
    check(text, &[(TO_CLUSTER, "drop")]);
}

#[test]
fn b072_local_is_who_names_this_node() {
    reaches(
        "10.64.1.1@n1 10.64.1.2 10.64.2.1@n2",
        "forward 10.64.1.1:80 10.64.1.2:80 10.64.2.1:80",
        "forward 10.64.1.1:80",
    );
    // A proxy without a name of its own has no local endpoint.
    let text = format!(
        "{}\n{LOCAL}\n slice web-1 web port=80 10.64.1.1@n1 10.64.1.2@",
        "config node= local=198.18.0.10"
    );
    check(&text, &[(TO_LOCAL, "drop")]);
}

#[test]
fn b073_endpoints_are_sorted() {
    // By number, not as text: only determinism matters.
    reaches(
        "10.64.1.10@n1 10.64.1.9@n1",
        "forward 10.64.1.9:80 10.64.1.10:80",
        "forward 10.64.1.9:80 10.64.1.10:80",
    );
}
