//! The rules mean what the plan means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use backend_iptables::{AffinityBy, Config, HairpinBy, Host, Program, capabilities};
use common::{flows, plan, ruleset};
use proptest::prelude::*;
use svc_core::{Plan, Verdict};

/// For every flow, the rules do what the plan says but for the declared deviations, and chance
/// treats all endpoints alike (B-040).
fn agree(config: &Config, plan: &Plan) -> Result<(), TestCaseError> {
    let program = Program::of(config, &ruleset(config, plan));
    let host = Host::of(plan);
    for flow in flows(plan) {
        let wanted = capabilities::route(config, plan, &flow);
        let got = program.evaluate(&host, &flow);
        prop_assert_eq!(&got, &wanted, "{} {:?}\n{}", flow, flow.interface, program);
        let outcomes = program.outcomes(&host, &flow);
        let whole: f64 = outcomes.iter().map(|outcome| outcome.probability).sum();
        prop_assert!((whole - 1.0).abs() < 1e-9, "{} adds up to {}", flow, whole);
        if let Verdict::Forward(targets) = wanted {
            let share = 1.0 / targets.len() as f64;
            for outcome in outcomes {
                let off = (outcome.probability - share).abs();
                prop_assert!(off < 1e-8, "{}: {} of {}", flow, outcome.probability, share);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn the_rules_mean_what_the_plan_means(plan in plan(), sets in any::<bool>(), tree in any::<bool>()) {
        let mut config = Config::new(plan.family);
        if sets {
            config.features.affinity = AffinityBy::Sets;
        }
        if tree {
            config.features.hairpin = HairpinBy::Tree;
        }
        agree(&config, &plan)?;
    }

    #[test]
    fn printed_rules_mean_the_same(plan in plan()) {
        let config = Config::new(plan.family);
        let program = Program::of(&config, &ruleset(&config, &plan));
        prop_assert_eq!(Program::parse(&program.to_string()), program);
    }
}
