//! After any history, with faults at any commit, one good round makes the kernel show the plan.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use backend_iptables::fake::{FakeKernel, Fault};
use backend_iptables::{AffinityBy, Config, HairpinBy, Program, Renderer, Variant};
use common::{history, ruleset};
use proptest::prelude::*;
use svc_core::testing::{History, Source, Step, bytes, histories};
use svc_core::{IpFamily, Kernel, Plan, Planner, Reconciler};

fn fault() -> impl Strategy<Value = Option<Fault>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some(Fault::Locked)),
        2 => (0usize..3).prop_map(|blocks| Some(Fault::KilledAfter(blocks))),
    ]
}

/// What the kernel runs is what a fresh start would have written, and it says so itself.
pub(crate) fn holds(
    kernel: &mut FakeKernel,
    config: &Config,
    plan: &Plan,
) -> Result<(), TestCaseError> {
    let wanted = Program::of(config, &ruleset(config, plan));
    let got = kernel.program().ours().to_string();
    prop_assert_eq!(got, wanted.ours().to_string());
    let mut fresh = Reconciler::new(Renderer::new(*config), plan.family);
    let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
    delta.node = Some(plan.node.clone());
    fresh.change(&delta);
    let held = kernel.read().unwrap();
    prop_assert!(fresh.on_read(held).is_empty());
    Ok(())
}

/// After any history of objects, with faults and restarts drawn from `source`, good rounds make
/// the kernel show the plan.
pub(crate) fn converge(
    history: &History,
    source: &mut Source<'_>,
    family: IpFamily,
) -> Result<(), TestCaseError> {
    let mut config = Config::new(family);
    if source.chance(50) {
        config.features.affinity = AffinityBy::Sets;
    }
    if source.chance(50) {
        config.features.hairpin = HairpinBy::Tree;
    }
    let variant = source.pick(&[Variant::Nft, Variant::Legacy]);
    let mut kernel = FakeKernel::new(config, variant);
    let mut planner = Planner::new(history.config.clone());
    let mut reconciler = Reconciler::new(Renderer::new(config), family);
    let mut injected = 0;
    for step in &history.steps {
        match step {
            Step::Event(event) => drop(planner.handle(event.clone())),
            Step::Configure(config) => planner.configure(config.clone()),
            Step::Delta => {
                let deltas = planner.delta();
                deltas.iter().for_each(|delta| reconciler.change(delta));
                if source.chance(10) {
                    reconciler = restarted(&planner, config, family);
                }
                let fault = match source.below(6) {
                    3 => Some(Fault::Locked),
                    number @ 4.. => Some(Fault::KilledAfter(number - 4 + source.below(3))),
                    _ => None,
                };
                injected += usize::from(fault.is_some());
                fault.into_iter().for_each(|fault| kernel.inject(fault));
                // A failure shows again in the next round.
                let _ = reconciler.settle(&mut kernel, 6);
            }
        }
    }
    // Each round takes a fault that is left.
    let mut rounds = 0..=injected;
    let settled = rounds.any(|_| reconciler.settle(&mut kernel, 6).is_ok());
    if !planner.state().is_complete() {
        return Ok(());
    }
    prop_assert!(settled && reconciler.is_settled());
    prop_assert!(reconciler.quarantine().is_empty());
    holds(&mut kernel, &config, &planner.plan(family))
}

/// A process that starts with the plan as it is.
fn restarted(planner: &Planner, config: Config, family: IpFamily) -> Reconciler<Renderer> {
    let mut reconciler = Reconciler::new(Renderer::new(config), family);
    if planner.state().is_complete() {
        let plan = planner.plan(family);
        let mut delta = Plan::empty(family, plan.node.clone()).diff(&plan);
        delta.node = Some(plan.node.clone());
        reconciler.change(&delta);
    }
    reconciler
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn the_kernel_converges(history in histories(), faults in bytes(3), v6 in any::<bool>()) {
        let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
        converge(&history, &mut Source::new(&faults), family)?;
    }

    #[test]
    fn faults_lose_nothing(
        plans in history(),
        faults in prop::collection::vec(fault(), 8),
        nft in any::<bool>(),
        sets in any::<bool>(),
        tree in any::<bool>(),
    ) {
        let family = plans[0].family;
        let mut config = Config::new(family);
        if sets {
            config.features.affinity = AffinityBy::Sets;
        }
        if tree {
            config.features.hairpin = HairpinBy::Tree;
        }
        let variant = if nft { Variant::Nft } else { Variant::Legacy };
        let mut kernel = FakeKernel::new(config, variant);
        let mut reconciler = Reconciler::new(Renderer::new(config), family);
        let mut faults = faults.into_iter().flatten();
        let mut last: Option<Plan> = None;
        for plan in plans {
            let from = last.unwrap_or_else(|| Plan::empty(family, plan.node.clone()));
            let mut delta = from.diff(&plan);
            delta.node = Some(plan.node.clone());
            reconciler.change(&delta);
            if let Some(fault) = faults.next() {
                kernel.inject(fault);
                let settled = reconciler.settle(&mut kernel, 6);
                let unaware = settled.is_ok();
                // A fault in a commit that never came waits for the next.
                prop_assert!(unaware || !reconciler.is_settled());
            }
            for _ in 0..3 {
                if reconciler.settle(&mut kernel, 6).is_ok() {
                    break;
                }
            }
            prop_assert!(reconciler.is_settled());
            holds(&mut kernel, &config, &plan)?;
            last = Some(plan);
        }
    }

    #[test]
    fn a_restart_changes_nothing(plans in history(), nft in any::<bool>()) {
        let plan = &plans[0];
        let config = Config::new(plan.family);
        let variant = if nft { Variant::Nft } else { Variant::Legacy };
        let mut kernel = FakeKernel::new(config, variant);
        for _ in 0..2 {
            let mut reconciler = Reconciler::new(Renderer::new(config), plan.family);
            let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
            delta.node = Some(plan.node.clone());
            reconciler.change(&delta);
            reconciler.settle(&mut kernel, 4).unwrap();
        }
        let lines = kernel.lines();
        let mut reconciler = Reconciler::new(Renderer::new(config), plan.family);
        let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
        delta.node = Some(plan.node.clone());
        reconciler.change(&delta);
        reconciler.settle(&mut kernel, 4).unwrap();
        prop_assert_eq!(kernel.lines(), lines);
    }
}
