//! A rendered ruleset does with every flow what the plan says.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use backend_ipvs::{Evaluator, capabilities};
use common::{is_possible, render};
use proptest::prelude::*;
use svc_core::config::ProxyMode;
use svc_core::testing::{Aims, Source, bytes, histories};
use svc_core::{Flow, IpFamily, Plan};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn rulesets_agree_with_plans(history in histories(), aim in bytes(3), ipvs in any::<bool>()) {
        let mut config = history.last_config();
        if ipvs {
            config.proxy.mode = ProxyMode::Ipvs;
        }
        let mut aim = Source::new(&aim);
        for family in IpFamily::ALL {
            let plan = Plan::compute(&history.state(), &config, family);
            let aims = Aims::of(&plan);
            let flows = (0..60).map(|_| aims.flow(&mut aim));
            if let Err(what) = agree(&plan, flows) {
                return Err(TestCaseError::fail(what));
            }
        }
    }
}

pub(crate) fn agree(plan: &Plan, flows: impl IntoIterator<Item = Flow>) -> Result<(), String> {
    let ruleset = render(plan);
    let evaluator = Evaluator::new(&ruleset, &plan.node, plan.family);
    for flow in flows.into_iter().filter(|flow| is_possible(plan, flow)) {
        let got = evaluator
            .verdict(&flow)
            .map_err(|fault| format!("{flow}: {fault}"))?;
        let decision = plan.decide(&flow);
        let (wanted, capability) = capabilities::expected(plan, &flow);
        if wanted != got {
            return Err(format!(
                "{flow} via {:?}: the plan says {} ({:?}), with {capability:?} {wanted}, the \
                 ruleset {got}\n{plan:#?}",
                flow.interface, decision.verdict, decision.reason
            ));
        }
    }
    Ok(())
}

/// What the law looks at has to be there.
#[test]
fn the_corners_are_reached() {
    use std::collections::BTreeMap;

    use backend_ipvs::{Key, ServerId};
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut marked, mut differing, mut verdicts) = (0, BTreeMap::new(), BTreeMap::new());
    for _ in 0..150 {
        let history = histories().new_tree(&mut runner).unwrap().current();
        let plan = Plan::compute(&history.state(), &history.last_config(), IpFamily::V4);
        let ruleset = render(&plan);
        let keys = ruleset.keys();
        marked += keys
            .filter(|key| matches!(key, Key::Server(ServerId::Marked(..))))
            .count();
        let aims = Aims::of(&plan);
        for flow in aims
            .every_flow()
            .step_by(31)
            .filter(|f| is_possible(&plan, f))
        {
            let (_, capability) = capabilities::expected(&plan, &flow);
            *differing.entry(capability).or_insert(0) += 1;
            *verdicts.entry(plan.decide(&flow).reason).or_insert(0) += 1;
        }
    }
    assert!(marked > 10, "{marked}");
    assert_eq!(differing.len(), 4, "{differing:?}");
    assert!(verdicts.len() >= 12, "{verdicts:?}");
}
