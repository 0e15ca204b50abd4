//! What several test crates share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod edits;
pub mod scenarios;

use backend_nftables::{Key, Renderer, Value};
use svc_core::{Masquerade, Plan, Render, Ruleset, Verdict};

/// The table's name in tests.
pub const TABLE: &str = "svc";

/// The ruleset of a plan, as a process that starts makes it.
pub fn render(plan: &Plan) -> Ruleset<Key, Value> {
    render_with(&mut Renderer::new(TABLE, plan.family), plan)
}

/// The ruleset of a plan.
pub fn render_with(renderer: &mut Renderer, plan: &Plan) -> Ruleset<Key, Value> {
    let mut ruleset = renderer.skeleton(&plan.node);
    for (name, port) in &plan.service_ports {
        for (key, value) in renderer.service_port(&plan.node, name, port) {
            match ruleset.insert(key.clone(), value.clone()) {
                None => {}
                Some(old) => assert!(
                    Renderer::is_shared(&key) && old == value,
                    "{key:?} of {name} is {old:?} and {value:?}"
                ),
            }
        }
    }
    ruleset
}

/// Whether a ruleset can do with a flow what a plan says.
///
/// Left out are flows that no kernel lets come so far, and what only other subsystems do:
/// - loopback addresses as destination, which only iptables mode serves (B-125);
/// - sources of the node that come in from outside, which the kernel drops as martian.
pub fn is_possible(plan: &Plan, flow: &svc_core::Flow) -> bool {
    let martian = flow.interface.is_some() && plan.node.is_local(flow.source);
    !flow.destination.ip().is_loopback() && !martian
}

/// What a ruleset should do, where that is a little other than the plan.
///
/// An endpoint with the very address of the front end needs no translation, and without
/// translation there is nothing to masquerade. A connection of an endpoint to itself is always
/// masqueraded, also where the plan cares not as the endpoint runs elsewhere (B-153).
pub fn expected(flow: &svc_core::Flow, verdict: Verdict, got: &Verdict) -> Verdict {
    let (Verdict::Forward(mut targets), Verdict::Forward(found)) = (verdict.clone(), got) else {
        return verdict;
    };
    for target in &mut targets {
        if target.endpoint == flow.destination {
            target.masquerade = Masquerade::Never;
        }
        let masqueraded = found
            .iter()
            .any(|t| t.endpoint == target.endpoint && t.masquerade == Masquerade::Always);
        if target.endpoint.ip() == flow.source && masqueraded {
            target.masquerade = Masquerade::Always;
        }
    }
    Verdict::Forward(targets)
}
