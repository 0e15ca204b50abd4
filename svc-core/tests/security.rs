//! What a Service may not do to others.
#![allow(clippy::panic, clippy::unwrap_used)]

use svc_core::testing::{Scenario, parse_flow};
use svc_core::{DiagnosticReason, IpFamily, Plan};

/// Whoever may write Services must not take traffic of pods to a resolver outside, or to the API.
const GREEDY: &str = "
    config mode=nftables
    node n1 198.18.0.10
    service bad type=LoadBalancer ip=10.96.0.66 port=53/udp external=9.9.9.9 external=192.0.2.7 vip=8.8.8.8 vip=192.0.2.8
    slice bad-1 bad port=53/udp 10.64.1.66@n1
";

#[test]
fn cve_2020_8554_addresses_outside_of_the_list_are_forbidden() {
    let scenario: Scenario = GREEDY.parse().unwrap();
    let mut planner = scenario.planner();
    let route = |plan: &Plan, to: &str| {
        let flow = parse_flow(&format!("10.64.1.1 -> {to}")).unwrap();
        plan.route(&flow).to_string()
    };
    planner.delta();
    assert_eq!(planner.diagnostics().len(), 0);
    let plan = planner.plan(IpFamily::V4);
    assert!(route(&plan, "9.9.9.9:53/udp").starts_with("forward"));

    let mut config = planner.config().clone();
    config.external_addresses = Some(vec!["192.0.2.0/24".parse().unwrap()]);
    planner.configure(config.clone());
    planner.delta();
    let plan = planner.plan(IpFamily::V4);
    for outside in ["9.9.9.9:53/udp", "8.8.8.8:53/udp"] {
        assert_eq!(route(&plan, outside), "pass");
    }
    for allowed in ["192.0.2.7:53/udp", "192.0.2.8:53/udp", "10.96.0.66:53/udp"] {
        assert!(route(&plan, allowed).starts_with("forward"), "{allowed}");
    }
    let named: Vec<_> = planner
        .diagnostics()
        .into_iter()
        .map(|d| (d.reason, d.object.to_string(), d.field.clone()))
        .collect();
    let forbidden = |field: &str| {
        (
            DiagnosticReason::Forbidden,
            "default/bad".into(),
            field.into(),
        )
    };
    assert_eq!(
        named,
        [
            forbidden("spec.externalIPs"),
            forbidden("status.loadBalancer.ingress")
        ]
    );
    assert_eq!(plan, Plan::compute(planner.state(), &config, IpFamily::V4));

    config.external_addresses = None;
    planner.configure(config);
    planner.delta();
    let plan = planner.plan(IpFamily::V4);
    assert!(route(&plan, "8.8.8.8:53/udp").starts_with("forward"));
    assert_eq!(planner.diagnostics().len(), 0);
}
