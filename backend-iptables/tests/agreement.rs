//! The rules mean what the plan means.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use backend_iptables::{AffinityBy, Config, HairpinBy, Host, Program, capabilities};
use common::{flows, plan, ruleset};
use proptest::prelude::*;
use svc_core::testing::{Aims, Source, bytes, plans};
use svc_core::{Flow, Plan, Verdict};

/// For every flow, the rules do what the plan says but for the declared deviations, and chance
/// treats all endpoints alike (B-040).
pub(crate) fn agree(
    config: &Config,
    plan: &Plan,
    flows: impl IntoIterator<Item = Flow>,
) -> Result<(), TestCaseError> {
    let program = Program::of(config, &ruleset(config, plan));
    let host = Host::of(plan);
    for flow in flows {
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

/// The same with recent or sets for affinity and both ways to see a hairpin.
pub(crate) fn agree_in_every_variant(
    plan: &Plan,
    flows: impl Iterator<Item = Flow> + Clone,
) -> Result<(), TestCaseError> {
    let mut config = Config::new(plan.family);
    agree(&config, plan, flows.clone())?;
    config.features.affinity = AffinityBy::Sets;
    config.features.hairpin = HairpinBy::Tree;
    agree(&config, plan, flows)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn so_they_do_for_objects_that_nobody_should_write(plans in plans(), aim in bytes(3)) {
        for plan in plans {
            let (aims, mut source) = (Aims::of(&plan), Source::new(&aim));
            let flows: Vec<Flow> = (0..40).map(|_| aims.flow(&mut source)).collect();
            agree_in_every_variant(&plan, flows.into_iter())?;
        }
    }

    #[test]
    fn the_rules_mean_what_the_plan_means(plan in plan(), sets in any::<bool>(), tree in any::<bool>()) {
        let mut config = Config::new(plan.family);
        if sets {
            config.features.affinity = AffinityBy::Sets;
        }
        if tree {
            config.features.hairpin = HairpinBy::Tree;
        }
        agree(&config, &plan, flows(&plan))?;
    }

    #[test]
    fn printed_rules_mean_the_same(plan in plan()) {
        let config = Config::new(plan.family);
        let program = Program::of(&config, &ruleset(&config, &plan));
        prop_assert_eq!(Program::parse(&program.to_string()), program);
    }
}
