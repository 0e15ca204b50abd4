//! The laws of `svc_core::testing`, tried on many histories.

use proptest::prelude::*;
use svc_core::testing::{Aims, History, Source, Step, Toy, bytes, histories, laws, plans};
use svc_core::{IpFamily, Plan};

fn holds(law: Result<(), String>) -> Result<(), TestCaseError> {
    law.map_err(TestCaseError::fail)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256,
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default() })]

    #[test]
    fn b247_the_incremental_plan_is_the_computed_one(history in histories()) {
        holds(laws::incremental(&history))?;
    }

    #[test]
    fn the_order_of_objects_does_not_matter(history in histories()) {
        holds(laws::order_free(&history))?;
    }

    #[test]
    fn b265_what_planning_does_not_read_makes_no_delta(history in histories()) {
        holds(laws::delta_empty_on_noop(&history))?;
    }

    #[test]
    fn applying_a_difference_makes_the_other_plan(a in plans(), b in plans()) {
        for (a, b) in a.iter().zip(&b) {
            holds(laws::diff(a, b))?;
        }
    }

    #[test]
    fn every_flow_has_one_answer(history in histories(), aim in bytes(2)) {
        let state = history.state();
        let mut aim = Source::new(&aim);
        for family in IpFamily::ALL {
            let plan = Plan::compute(&state, &history.last_config(), family);
            holds(laws::lint(&plan))?;
            let aims = Aims::of(&plan);
            for _ in 0..40 {
                let flow = aims.flow(&mut aim);
                holds(laws::route_total(&plan, &state, &flow))?;
            }
        }
    }

    #[test]
    fn the_kernel_converges_whatever_fails(history in histories(), faults in bytes(10)) {
        for family in IpFamily::ALL {
            holds(laws::convergence(Toy::default, family, &history, &faults))?;
        }
    }
}

/// A generator that makes nothing interesting proves nothing.
#[test]
fn generated_histories_reach_the_corners() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let strategy = histories();
    let (mut forwards, mut deltas, mut claimed, mut verdicts) =
        (0, 0, 0, std::collections::BTreeMap::new());
    for _ in 0..200 {
        let history: History = strategy.new_tree(&mut runner).unwrap().current();
        deltas += history
            .steps
            .iter()
            .filter(|step| matches!(step, Step::Delta))
            .count();
        let plan = Plan::compute(&history.state(), &history.last_config(), IpFamily::V4);
        forwards += plan
            .service_ports
            .values()
            .filter(|p| !p.cluster.is_empty())
            .count();
        let mut planner = svc_core::Planner::new(history.last_config());
        for step in history.steps {
            if let Step::Event(event) = step {
                planner.handle(event);
            }
        }
        planner.delta();
        let claims = planner.diagnostics().into_iter();
        claimed += claims
            .filter(|d| d.reason == svc_core::DiagnosticReason::Claimed)
            .count();
        for flow in Aims::of(&plan).every_flow().step_by(97) {
            *verdicts.entry(plan.decide(&flow).reason).or_insert(0) += 1;
        }
    }
    assert!(forwards > 150, "{forwards} service ports with endpoints");
    assert!(deltas > 1_000, "{deltas} deltas");
    assert!(claimed > 100, "{claimed} lost claims");
    assert_eq!(verdicts.len(), 13, "reasons that were seen: {verdicts:?}");
}
