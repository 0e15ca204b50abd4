//! One packet each: what a plan does with it, in every mode that a case has an answer for.

use std::collections::BTreeSet;

use serde_json::Value as Json;
use svc_core::testing::laws;
use svc_core::{Masquerade, Verdict};

use super::{Cases, apply, family, flow, mode};

#[derive(Clone, Debug, PartialEq, Eq)]
struct Answer {
    verdict: String,
    /// Address, and whether the source is replaced.
    endpoints: BTreeSet<(String, bool)>,
}

/// What a backend is held to. IPVS, where a case does not name it, does what the other two agree
/// on, but for "pass": an address that is bound to the node answers for its other ports itself.
fn expected(case: &Json, backend: &str) -> Option<Answer> {
    let of = |backend: &str| {
        let expect = case["expect"].get(backend)?;
        let verdict = expect["verdict"].as_str()?.to_owned();
        let endpoints = match (verdict.as_str(), expect["endpoints"].as_array()) {
            ("forward", Some(endpoints)) => endpoints
                .iter()
                .map(|e| {
                    let masquerade = e["masquerade"].as_bool().unwrap_or(false);
                    (e["address"].as_str().unwrap().to_owned(), masquerade)
                })
                .collect(),
            _ => BTreeSet::new(),
        };
        Some(Answer { verdict, endpoints })
    };
    if backend != "ipvs" || case["expect"].get("ipvs").is_some() {
        return of(backend);
    }
    let agreed = of("nftables").filter(|answer| Some(answer) == of("iptables").as_ref());
    agreed.filter(|answer| answer.verdict != "pass")
}

fn answer(verdict: &Verdict) -> Answer {
    let (verdict, targets) = match verdict {
        Verdict::Forward(targets) => ("forward", targets.as_slice()),
        Verdict::Reject => ("reject", &[][..]),
        Verdict::Drop => ("drop", &[][..]),
        Verdict::Pass => ("pass", &[][..]),
    };
    let endpoints = targets.iter();
    Answer {
        verdict: verdict.to_owned(),
        endpoints: endpoints
            .map(|t| (t.endpoint.to_string(), t.masquerade == Masquerade::Always))
            .collect(),
    }
}

#[track_caller]
fn all_pass_in(backend: &str, at_least: usize) {
    let cases = Cases::read(include_str!("../data/flows.json"));
    let (mut tried, mut failed) = (0, Vec::new());
    for case in cases.file["cases"].as_array().unwrap() {
        let Some(expected) = expected(case, backend) else {
            continue;
        };
        tried += 1;
        let mut planner = cases.planner(case, mode(backend));
        apply(&mut planner, &cases.objects(case));
        let flow = flow(case["from"].as_str().unwrap(), case["to"].as_str().unwrap());
        let plan = planner.plan(family(&flow));
        assert_eq!(laws::lint(&plan), Ok(()));
        assert_eq!(laws::route_total(&plan, planner.state(), &flow), Ok(()));
        let decision = plan.decide(&flow);
        let got = answer(&decision.verdict);
        if got != expected {
            let id = case["id"].as_str().unwrap();
            failed.push(format!(
                "{id} {flow}: {got:?} ({:?}), expected {expected:?}",
                decision.reason
            ));
        }
    }
    assert!(tried >= at_least, "only {tried} cases");
    assert!(
        failed.is_empty(),
        "{} of {tried} failed:\n{}",
        failed.len(),
        failed.join("\n")
    );
}

#[test]
fn every_case_of_nftables_passes() {
    all_pass_in("nftables", 150);
}

#[test]
fn every_case_of_iptables_passes() {
    all_pass_in("iptables", 150);
}

#[test]
fn every_case_of_ipvs_passes() {
    all_pass_in("ipvs", 100);
}
