//! The nf_tables ruleset of any plan can be interpreted for any flow, and forwards only where the
//! plan does.
#![no_main]

use backend_nftables::{Evaluator, Host, Renderer};
use libfuzzer_sys::fuzz_target;
use svc_core::testing::{Aims, Source, history};
use svc_core::{IpFamily, Plan, Verdict, render};

fuzz_target!(|bytes: &[u8]| {
    let (aims, objects) = bytes.split_at(bytes.len().min(32));
    let history = history(&mut Source::new(objects));
    let state = history.state();
    for family in IpFamily::ALL {
        let plan = Plan::compute(&state, &history.last_config(), family);
        let ruleset = render(&mut Renderer::new("fuzz", family), &plan);
        let evaluator = Evaluator::new(&ruleset, Host::of(&plan.node, family));
        let mut source = Source::new(aims);
        let targets = Aims::of(&plan);
        for _ in 0..8 {
            let flow = targets.flow(&mut source);
            // No kernel lets these come so far, or serves them in this mode.
            let martian = flow.interface.is_some() && plan.node.is_local(flow.source);
            if martian || flow.destination.ip().is_loopback() {
                continue;
            }
            let got = evaluator.verdict(&flow).expect("a ruleset can be interpreted");
            let wanted = plan.route(&flow);
            let endpoints = |verdict: &Verdict| match verdict {
                Verdict::Forward(to) => Ok(to.iter().map(|t| t.endpoint).collect::<Vec<_>>()),
                other => Err(other.clone()),
            };
            assert_eq!(endpoints(&got), endpoints(&wanted), "{flow}");
        }
    }
});
