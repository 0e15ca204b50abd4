//! A rendered ruleset does with every flow what the plan says.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use backend_nftables::{Evaluator, Host};
use common::{expected, is_possible, render};
use proptest::prelude::*;
use svc_core::testing::{Aims, plans};
use svc_core::{Flow, Plan};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn rulesets_agree_with_plans(plans in plans(), skip in 0..40usize) {
        for plan in plans {
            let aims = Aims::of(&plan);
            let flows = aims.every_flow().skip(skip).step_by(41);
            if let Err(what) = agree(&plan, flows) {
                return Err(TestCaseError::fail(what));
            }
        }
    }
}

pub(crate) fn agree(plan: &Plan, flows: impl IntoIterator<Item = Flow>) -> Result<(), String> {
    let ruleset = render(plan);
    let evaluator = Evaluator::new(&ruleset, Host::of(&plan.node, plan.family));
    for flow in flows.into_iter().filter(|flow| is_possible(plan, flow)) {
        let got = evaluator
            .verdict(&flow)
            .map_err(|fault| format!("{flow}: {fault}"))?;
        let decision = plan.decide(&flow);
        if expected(&flow, decision.verdict.clone(), &got) != got {
            return Err(format!(
                "{flow} via {:?}: the plan says {} ({:?}), the ruleset {got}\n{plan:#?}",
                flow.interface, decision.verdict, decision.reason
            ));
        }
    }
    Ok(())
}
