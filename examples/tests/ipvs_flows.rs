//! The IPVS ruleset does with the packets of all flow cases what they expect.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use backend_ipvs::{Renderer, Settings, evaluate};
use examples::flow_cases;
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Planner, render};

#[test]
fn every_case() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&fs::read(path).unwrap()).unwrap();
    let mut checked = 0;
    let mut wrong = Vec::new();
    for case in &cases {
        let Some(expected) = case.expected(ProxyMode::Ipvs) else {
            continue;
        };
        let mut planner = Planner::new(case.node_config(ProxyMode::Ipvs));
        case.tell(ProxyMode::Ipvs, &mut planner);
        planner.delta();
        let plan = planner.plan(IpFamily::of(case.flow.destination.ip()));
        let mut renderer = Renderer::new(Settings::default(), plan.family);
        let ruleset = render(&mut renderer, &plan);
        let got = evaluate(&ruleset, &plan.node, plan.family, &case.flow);
        checked += 1;
        if got.as_ref() != Ok(expected) {
            wrong.push(format!(
                "{} {} ({}): expected {expected}, got {got:?}, the plan says {}",
                case.id,
                case.title,
                case.flow,
                plan.route(&case.flow)
            ));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(checked >= 152, "{checked}");
}
