//! Every packet-flow case, asked of rulesets that are rendered and interpreted without a kernel.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use examples::backend::Backend;
use examples::flow_cases;
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Planner};

#[test]
fn nftables_rulesets_do_what_the_cases_expect() {
    assert_eq!(
        failures(Backend::Nftables, ProxyMode::Nftables),
        (158, Vec::new())
    );
}

#[test]
fn plans_say_what_the_cases_expect() {
    assert_eq!(
        failures(Backend::Core, ProxyMode::Nftables),
        (158, Vec::new())
    );
    assert_eq!(
        failures(Backend::Core, ProxyMode::Iptables),
        (163, Vec::new())
    );
}

/// Number of cases that concern a backend, and those with another verdict.
fn failures(backend: Backend, mode: ProxyMode) -> (usize, Vec<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&fs::read(path).unwrap()).unwrap();
    let mut asked = 0;
    let mut failures = Vec::new();
    for case in &cases {
        let Some(expected) = case.expected(mode) else {
            continue;
        };
        let mut planner = Planner::new(case.node_config(mode));
        case.tell(mode, &mut planner);
        planner.delta();
        let plan = planner.plan(IpFamily::of(case.flow.destination.ip()));
        let got = backend.verdict(&plan, &case.flow);
        asked += 1;
        if got.as_ref().ok() != Some(expected) {
            failures.push(format!(
                "{} {}: {got:?}, not {expected}",
                case.id, case.title
            ));
        }
    }
    (asked, failures)
}
