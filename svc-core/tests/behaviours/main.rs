//! One test for one rule: the number in a test's name is that of `docs/behaviours.md`.
#![allow(clippy::panic, clippy::unwrap_used)]

mod addresses;
mod conntrack;
mod external;
mod health;
mod internal;
mod mechanics;
mod node;
mod node_ports;
mod ports;
mod readiness;
mod services;
mod slices;
mod topology;

use svc_core::testing::{Scenario, laws, parse_flow};
use svc_core::{FrontendAddress, IpFamily, Plan, PlanDelta, Planner, ServicePortPlan};

/// Node n1 with a detector, addresses, a zone and service ranges; more words follow.
const NODE: &str = "
    config cluster-cidr=10.64.0.0/11 cluster-cidr=fd10:64::/48
    node n1 198.18.0.10 2001:db8:a::10 198.18.1.10 2001:db8:b::10 zone=za pods=10.64.1.0/24
    node n2 198.18.0.12 2001:db8:a::12 zone=zb
    cidr 10.96.0.0/16 fd10:96::/112
";

/// Reads a cluster; what its own lines say goes before [`NODE`].
fn cluster(text: &str) -> Scenario {
    let text = match text.contains("config ") {
        true => text.to_owned(),
        false => format!("{NODE}\n{text}"),
    };
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

/// The cluster on a node with other words of `config`.
fn with_config(config: &str, text: &str) -> String {
    let node = NODE.lines().filter(|line| !line.contains("config "));
    format!(
        "config {config}\n{}\n{text}",
        node.collect::<Vec<_>>().join("\n")
    )
}

/// The plan of a family, linted.
fn plan(text: &str, family: IpFamily) -> Plan {
    let plan = cluster(text).plan(family);
    assert_eq!(laws::lint(&plan), Ok(()));
    plan
}

/// Checks what happens to flows: `"SOURCE -> IP:PORT/PROTOCOL"` and the verdict in words.
#[track_caller]
fn check(text: &str, cases: &[(&str, &str)]) {
    let scenario = cluster(text);
    let mut planner = scenario.planner();
    planner.delta();
    for (flow, verdict) in cases {
        let flow = parse_flow(flow).unwrap_or_else(|error| panic!("{error}"));
        let family = IpFamily::of(flow.source);
        let plan = planner.plan(family);
        assert_eq!(plan, scenario.plan(family), "incremental and computed plan");
        assert_eq!(laws::lint(&plan), Ok(()));
        assert_eq!(laws::route_total(&plan, planner.state(), &flow), Ok(()));
        let decision = plan.decide(&flow);
        assert_eq!(
            decision.verdict.to_string(),
            *verdict,
            "{flow}: {:?}",
            decision.reason
        );
    }
}

/// Checks what happens to flows after a change of the cluster, by way of the planner.
#[track_caller]
fn check_change(before: &str, after: &str, cases: &[(&str, &str, &str)]) {
    let (before, after) = (cluster(before), cluster(after));
    let mut planner = before.planner();
    planner.delta();
    let old = IpFamily::ALL.map(|family| planner.plan(family));
    for event in before.changes_to(&after) {
        planner.handle(event);
    }
    planner.delta();
    for (flow, then, now) in cases {
        let flow = parse_flow(flow).unwrap_or_else(|error| panic!("{error}"));
        let family = IpFamily::of(flow.source);
        let old = old.iter().find(|plan| plan.family == family).unwrap();
        assert_eq!(old.route(&flow).to_string(), *then, "{flow} before");
        let new = planner.plan(family);
        assert_eq!(laws::lint(&new), Ok(()));
        assert_eq!(new, after.plan(family), "incremental and computed plan");
        assert_eq!(new.route(&flow).to_string(), *now, "{flow} after");
    }
}

/// The deltas of a change.
fn change(before: &str, after: &str) -> Vec<PlanDelta> {
    let (before, after) = (cluster(before), cluster(after));
    let mut planner = before.planner();
    planner.delta();
    for event in before.changes_to(&after) {
        planner.handle(event);
    }
    planner.delta()
}

/// What a planner has to say about Services, one line each.
fn diagnostics(planner: &Planner) -> Vec<String> {
    planner
        .diagnostics()
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// The plan of the service port whose name prints so.
#[track_caller]
fn port<'a>(plan: &'a Plan, name: &str) -> &'a ServicePortPlan {
    let found = plan
        .service_ports
        .iter()
        .find(|(n, _)| format!("{n:?}") == name);
    found
        .unwrap_or_else(|| panic!("no {name} in {:?}", plan.service_ports.keys()))
        .1
}

/// The front ends of a plan in words, sorted.
fn frontends(plan: &Plan) -> Vec<String> {
    let mut all = Vec::new();
    for (name, port) in &plan.service_ports {
        for frontend in &port.frontends {
            let at = match frontend.at {
                FrontendAddress::Ip(at) => at.to_string(),
                FrontendAddress::NodePort(port) => format!("*:{port}"),
            };
            all.push(format!(
                "{at}/{} {name} {:?}",
                name.protocol.lower(),
                frontend.kind
            ));
        }
    }
    all.sort();
    all
}
