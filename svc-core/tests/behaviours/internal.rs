//! Groups 6 and 10: traffic to ClusterIPs, and what happens when there is nowhere to go.

use svc_core::IpFamily::V4;
use svc_core::Route;

use crate::{change, check, check_change, plan, port, with_config};

const ENDPOINTS: &str = "slice web-1 web port=80 10.64.1.1@n1 10.64.2.1@n2";
const POD: &str = "10.64.1.200 -> 10.96.0.1:80/tcp";
const NODE: &str = "198.18.0.10 -> 10.96.0.1:80/tcp";
const OUTSIDE: &str = "203.0.113.7 -> 10.96.0.1:80/tcp";
const PLAIN: &str = "forward 10.64.1.1:80 10.64.2.1:80";
const MASQUERADED: &str = "forward 10.64.1.1:80+masquerade 10.64.2.1:80+masquerade";

fn web(words: &str) -> String {
    format!("service web {words} ip=10.96.0.1 port=80\n{ENDPOINTS}")
}

#[test]
fn b091_internal_policy_cluster_means_every_endpoint() {
    check(&web(""), &[(POD, PLAIN)]);
}

#[test]
fn b092_internal_policy_local_means_those_of_the_node() {
    check(&web("itp=Local"), &[(POD, "forward 10.64.1.1:80")]);
}

#[test]
fn b093_internal_policy_local_without_local_endpoint_drops() {
    let text = web("itp=Local").replace("10.64.1.1@n1", "");
    check(&text, &[(POD, "drop"), (NODE, "drop"), (OUTSIDE, "drop")]);
}

#[test]
fn b094_without_any_endpoint_everybody_is_refused() {
    for policy in ["", "itp=Local"] {
        let text = web(policy).replace(ENDPOINTS, "");
        check(
            &text,
            &[(POD, "reject"), (NODE, "reject"), (OUTSIDE, "reject")],
        );
    }
}

#[test]
fn b095_the_external_policy_does_not_touch_cluster_ips() {
    let text = web("type=NodePort etp=Local").replace("port=80\n", "port=80@30080\n");
    check(
        &text,
        &[(POD, PLAIN), (NODE, MASQUERADED), (OUTSIDE, MASQUERADED)],
    );
}

#[test]
fn b096_cluster_ips_work_from_outside() {
    check(&web(""), &[(OUTSIDE, MASQUERADED)]);
}

#[test]
fn b097_who_is_no_pod_is_masqueraded() {
    check(
        &web(""),
        &[(POD, PLAIN), (NODE, MASQUERADED), (OUTSIDE, MASQUERADED)],
    );
}

#[test]
fn b098_without_detector_nobody_is_masqueraded() {
    let text = with_config("mode=nftables", &web(""));
    check(&text, &[(POD, PLAIN), (NODE, PLAIN), (OUTSIDE, PLAIN)]);
    let hairpin = "forward 10.64.1.1:80+masquerade 10.64.2.1:80";
    check(&text, &[("10.64.1.1 -> 10.96.0.1:80/tcp", hairpin)]);
}

#[test]
fn b099_masquerade_all_is_for_cluster_ips_only() {
    let service = web("type=NodePort etp=Local").replace("port=80\n", "port=80@30080\n");
    for detector in ["", "cluster-cidr=10.64.0.0/11"] {
        let text = with_config(&format!("masquerade-all {detector}"), &service);
        check(
            &text,
            &[
                (POD, MASQUERADED),
                (NODE, MASQUERADED),
                (OUTSIDE, MASQUERADED),
            ],
        );
        let local = "forward 10.64.1.1:80";
        check(&text, &[("203.0.113.7 -> 198.18.0.10:30080/tcp", local)]);
    }
}

#[test]
fn b100_the_internal_policy_does_not_change_masquerading() {
    let (plain, masqueraded) = ("forward 10.64.1.1:80", "forward 10.64.1.1:80+masquerade");
    let cases = [(POD, plain), (NODE, masqueraded), (OUTSIDE, masqueraded)];
    check(&web("itp=Local"), &cases);
}

#[test]
fn b101_a_short_circuit_into_the_same_endpoints_is_not_masqueraded() {
    let service = web("type=NodePort etp=Local").replace("port=80\n", "port=80@30080\n");
    // masqueradeAll is for ClusterIPs; the pod that takes the short way is left alone.
    let text = with_config("masquerade-all cluster-cidr=10.64.0.0/11", &service);
    check(&text, &[("10.64.1.200 -> 198.18.0.10:30080/tcp", PLAIN)]);
}

#[test]
fn b145_drop_is_for_endpoints_that_exist_elsewhere() {
    let text = web("itp=Local").replace("10.64.1.1@n1", "");
    check(&text, &[(POD, "drop")]);
    check(&text.replace("@n2", "@n2!unready"), &[(POD, "reject")]);
}

#[test]
fn b147_a_verdict_on_one_port_leaves_the_others_alone() {
    check(
        "service web ip=10.96.0.1 port=a:80 port=b:81
         slice web-1 web port=a:80 10.64.1.1@n1",
        &[
            (POD, "forward 10.64.1.1:80"),
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "reject"),
        ],
    );
}

#[test]
fn b149_a_front_end_may_forward_some_and_drop_others() {
    let text = "service web type=NodePort etp=Local ip=10.96.0.1 port=80@30080
                slice web-1 web port=80 10.64.2.1@n2";
    let plan = plan(text, V4);
    let routes = port(&plan, "default/web/TCP")
        .frontends
        .last()
        .unwrap()
        .routes;
    assert!(matches!(routes.pod, Route::Forward { .. }));
    assert!(matches!(routes.node, Route::Forward { .. }));
    assert_eq!(routes.external, Route::Drop);
}

#[test]
fn b150_the_last_endpoint_and_the_first_change_one_service_port() {
    let (none, some) = (web("").replace(ENDPOINTS, ""), web(""));
    check_change(&none, &some, &[(POD, "reject", PLAIN)]);
    check_change(&some, &none, &[(POD, PLAIN, "reject")]);
    let deltas = change(&some, &none);
    let change = &deltas[0].service_ports[0];
    assert!(change.before.is_some() && change.after.is_some());
}
