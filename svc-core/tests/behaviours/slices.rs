//! Group 17: EndpointSlices and how they merge.

use svc_core::IpFamily::V4;
use svc_core::{Event, NamespacedName, WatchEvent};

use crate::{change, check, check_change, cluster};

const WEB: &str = "service web ip=10.96.0.1 port=80";
const FLOW: &str = "10.64.1.200 -> 10.96.0.1:80/tcp";

#[test]
fn b223_a_slice_of_no_service_feeds_none() {
    let mut scenario = cluster(&format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1"));
    scenario.slices[0].service = "".into();
    let plan = scenario.plan(V4);
    assert!(
        plan.service_ports
            .values()
            .all(|port| port.cluster.is_empty())
    );
}

#[test]
fn b224_the_slices_of_a_service_are_one_list() {
    let one = format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1");
    let two = format!("{one}\n slice web-2 web port=80 10.64.1.2@n1");
    let both = "forward 10.64.1.1:80 10.64.1.2:80";
    check_change(&one, &two, &[(FLOW, "forward 10.64.1.1:80", both)]);
    check_change(&two, &one, &[(FLOW, both, "forward 10.64.1.1:80")]);
    // A slice of the same name in another namespace is another slice, of another Service.
    let other = format!("{one}\n slice a/web-1 web port=80 10.64.9.9@n1");
    check(&other, &[(FLOW, "forward 10.64.1.1:80")]);
}

#[test]
fn b224_a_slice_may_pass_to_another_service() {
    let text = |service: &str| {
        format!("{WEB}\n service db ip=10.96.0.2 port=80\n slice s {service} port=80 10.64.1.1@n1")
    };
    let to_db = "10.64.1.200 -> 10.96.0.2:80/tcp";
    let cases = [
        (FLOW, "forward 10.64.1.1:80", "reject"),
        (to_db, "reject", "forward 10.64.1.1:80"),
    ];
    check_change(&text("web"), &text("db"), &cases);
}

#[test]
fn b225_a_slice_that_is_known_changes_nothing() {
    let text = format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1");
    assert_eq!(change(&text, &text), []);
}

#[test]
fn b226_deleting_an_unknown_slice_changes_nothing() {
    let mut planner = cluster(WEB).planner();
    planner.delta();
    let gone = WatchEvent::Delete(NamespacedName::new("default", "nobody"));
    let changes = planner.handle(Event::EndpointSlice(gone));
    assert!(changes.services.is_empty());
    assert_eq!(planner.delta(), []);
}

#[test]
fn b227_a_slice_that_comes_and_goes_between_two_deltas_leaves_nothing() {
    let scenario = cluster(WEB);
    let mut planner = scenario.planner();
    planner.delta();
    let slice = cluster("slice web-1 web port=80 10.64.1.1@n1")
        .slices
        .remove(0);
    let name = slice.name.clone();
    planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice)));
    planner.handle(Event::EndpointSlice(WatchEvent::Delete(name)));
    assert_eq!(planner.delta(), []);
    assert!(
        planner
            .state()
            .slices(&scenario.services[0].name)
            .is_empty()
    );
}

#[test]
fn b228_without_its_last_slice_a_service_has_no_endpoints() {
    let text = format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1");
    check_change(&text, WEB, &[(FLOW, "forward 10.64.1.1:80", "reject")]);
}

#[test]
fn b229_address_and_port_are_the_identity_of_an_endpoint() {
    check(
        &format!(
            "{WEB}
             slice web-1 web port=80 10.64.1.1@n1
             slice web-2 web port=81 10.64.1.1@n1"
        ),
        &[(FLOW, "forward 10.64.1.1:80 10.64.1.1:81")],
    );
}

#[test]
fn b230_the_better_of_two_equal_endpoints_wins() {
    let text = |first: &str, second: &str| {
        format!(
            "service web type=NodePort etp=Local ip=10.96.0.1 port=80@30080
             slice web-1 web port=80 10.64.1.1{first}
             slice web-2 web port=80 10.64.1.1{second}"
        )
    };
    let local = "203.0.113.7 -> 198.18.0.10:30080/tcp";
    for (first, second) in [("@n1", "@n2!terminating"), ("@n2!terminating", "@n1")] {
        check(&text(first, second), &[(local, "forward 10.64.1.1:80")]);
    }
    // Not terminating wins, even if it is not ready.
    for (first, second) in [
        ("@n1!unready", "@n1!terminating"),
        ("@n1!terminating", "@n1!unready"),
    ] {
        check(&text(first, second), &[(FLOW, "reject")]);
    }
    // Undefined upstream: ready wins, then serving, then local.
    for (first, second) in [
        ("@n1", "@n2!unready"),
        ("@n2!unready", "@n1"),
        ("@n2", "@n1"),
    ] {
        check(&text(first, second), &[(local, "forward 10.64.1.1:80")]);
    }
}

#[test]
fn b231_a_port_that_no_slice_has_is_without_endpoints() {
    check(
        "service web ip=10.96.0.1 port=a:80 port=b:81
         slice web-1 web port=a:80 10.64.1.1@n1",
        &[
            (FLOW, "forward 10.64.1.1:80"),
            ("10.64.1.200 -> 10.96.0.1:81/tcp", "reject"),
        ],
    );
}

#[test]
fn b232_a_changed_slice_concerns_its_service_only() {
    let text = |ip: &str| {
        format!(
            "service web ip=10.96.0.1 port=a:80 port=b:81
             service db ip=10.96.0.2 port=80
             slice web-1 web port=a:80 port=b:81 {ip}@n1
             slice db-1 db port=80 10.64.1.1@n1"
        )
    };
    let deltas = change(&text("10.64.1.1"), &text("10.64.1.2"));
    let names: Vec<_> = deltas[0]
        .service_ports
        .iter()
        .map(|c| format!("{:?}", c.name))
        .collect();
    assert_eq!(names, ["default/web:a/TCP", "default/web:b/TCP"]);
}

#[test]
fn b233_changes_of_services_and_slices_meet_in_one_delta() {
    let deltas = change(
        "service web ip=10.96.0.1 port=80\n service db ip=10.96.0.2 port=80
         slice web-1 web port=80 10.64.1.1@n1",
        "service web ip=10.96.0.1 port=80\n service db ip=10.96.0.2 port=81
         slice web-1 web port=80 10.64.1.2@n1",
    );
    assert_eq!(deltas.len(), 1);
    assert_eq!(deltas[0].service_ports.len(), 2);
}

#[test]
fn b236_changes_are_handed_over_once() {
    let mut planner = cluster(&format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1")).planner();
    assert_eq!(planner.delta().len(), 2);
    assert_eq!(planner.delta(), []);
}

#[test]
fn b237_before_both_lists_are_complete_there_is_no_plan() {
    let scenario = cluster(&format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1"));
    let mut planner = svc_core::Planner::new(scenario.config.clone());
    let events = scenario.events();
    let (last, rest) = events.split_last().unwrap();
    for event in rest {
        planner.handle(event.clone());
        assert_eq!(planner.delta(), []);
    }
    planner.handle(last.clone());
    let names = planner
        .delta()
        .into_iter()
        .flat_map(|delta| delta.service_ports);
    assert_eq!(names.count(), 1);
}

#[test]
fn the_end_of_a_list_that_never_started_deletes_nothing() {
    let scenario = cluster(&format!("{WEB}\n slice web-1 web port=80 10.64.1.1@n1"));
    let mut planner = scenario.planner();
    planner.delta();
    planner.handle(Event::Service(WatchEvent::InitDone));
    planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
    planner.handle(Event::Node(WatchEvent::InitDone));
    assert_eq!(planner.delta(), []);
    // And does not make a list complete either.
    let mut fresh = svc_core::Planner::new(scenario.config);
    fresh.handle(Event::Service(WatchEvent::InitDone));
    fresh.handle(Event::EndpointSlice(WatchEvent::InitDone));
    assert!(!fresh.state().is_complete());
}
