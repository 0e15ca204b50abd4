//! What several test crates share.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::panic)]

pub mod steps;

use backend_ipvs::capabilities::is_bound;
use backend_ipvs::{Key, Renderer, Settings, Value};
use svc_core::{Flow, Plan, Render, Ruleset};

/// The ruleset of a plan, as a process that starts makes it.
pub fn render(plan: &Plan) -> Ruleset<Key, Value> {
    render_with(&mut Renderer::new(Settings::default(), plan.family), plan)
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

/// Whether a kernel lets a flow come so far.
///
/// Left out are loopback addresses as destination, which only iptables mode serves (B-125), and
/// sources of the node that come in from outside, which the kernel drops as martian.
pub fn is_possible(plan: &Plan, flow: &Flow) -> bool {
    let own = plan.node.is_local(flow.source) || is_bound(plan, flow.source);
    let martian = flow.interface.is_some() && own;
    !flow.destination.ip().is_loopback() && !martian
}
