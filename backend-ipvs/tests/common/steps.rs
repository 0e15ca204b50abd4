//! Whether a kernel on its way from one plan to the next is in a sane state.

use backend_ipvs::capabilities::is_bound;
use backend_ipvs::{Evaluator, Key, Scheduler, ServerId, Value, capabilities};
use svc_core::{Flow, Plan, Ruleset, Target, Verdict};

use super::is_possible;

/// The scheduler of virtual servers that somebody else made.
pub const FOREIGN: Scheduler = Scheduler::ShortestExpectedDelay;

/// Whether a kernel holds exactly what it should.
pub fn same(held: &Ruleset<Key, Value>, expected: &Ruleset<Key, Value>) -> Result<(), String> {
    let missing: Vec<_> = expected
        .iter()
        .filter(|(k, v)| held.get(*k) != Some(*v))
        .collect();
    let extra: Vec<_> = held
        .iter()
        .filter(|(k, _)| !expected.contains_key(*k))
        .collect();
    match missing.is_empty() && extra.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "the kernel lacks {missing:#?}\nand has too much {extra:#?}"
        )),
    }
}

/// After every step a packet finds its way as before or as after: never an endpoint that is in
/// neither plan, and where both forward it, it is forwarded.
pub fn check_steps(
    before: &Plan,
    after: &Plan,
    steps: &[Ruleset<Key, Value>],
    flows: impl IntoIterator<Item = Flow>,
) -> Result<(), String> {
    // What becomes of ports that no front end has, and whose address is whose, may change with it.
    if before.node != after.node {
        return Ok(());
    }
    // A source that only one of the plans puts on our link is the node's for a part of the way.
    let settled = |f: &Flow| is_bound(before, f.source) == is_bound(after, f.source);
    let possible = |f: &Flow| is_possible(before, f) && is_possible(after, f) && settled(f);
    for flow in &flows.into_iter().filter(possible).collect::<Vec<_>>() {
        let (old, new) = (expected(before, flow), expected(after, flow));
        for (index, step) in steps.iter().enumerate() {
            let step = &without_foreign(step);
            let got = Evaluator::new(step, &after.node, after.family)
                .verdict(flow)
                .map_err(|fault| fault.to_string())?;
            if !is_sane(&old, &new, &got, &endpoints(before, after, flow)) {
                return Err(format!(
                    "{flow}: before {old}, after {new}, step {index} of {}: {got}",
                    steps.len()
                ));
            }
        }
    }
    Ok(())
}

/// What is there but for virtual servers of somebody else, which answer for themselves.
fn without_foreign(step: &Ruleset<Key, Value>) -> Ruleset<Key, Value> {
    let foreign = |id: &ServerId| {
        matches!(step.get(&Key::Server(*id)), Some(Value::Server(server))
            if *server.scheduler == *FOREIGN.name())
    };
    let ours = step.iter().filter(|(key, _)| match key {
        Key::Server(id) | Key::Destination(id, _) => !foreign(id),
        Key::Companion(_) | Key::Link | Key::Address(_) => true,
    });
    ours.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn expected(plan: &Plan, flow: &Flow) -> Verdict {
    capabilities::expected(plan, flow).0
}

fn is_sane(
    old: &Verdict,
    new: &Verdict,
    got: &Verdict,
    endpoints: &[std::net::SocketAddr],
) -> bool {
    let known = |targets: &[Target]| targets.iter().all(|t| endpoints.contains(&t.endpoint));
    match (old, new, got) {
        (_, _, Verdict::Forward(targets)) => known(targets),
        (Verdict::Forward(_), Verdict::Forward(_), _) => false,
        (_, _, Verdict::Drop) => *old == Verdict::Drop || *new == Verdict::Drop,
        (old, new, got) if old == new => got == old,
        (_, _, Verdict::Reject | Verdict::Pass) => true,
    }
}

/// The endpoints of the service ports that take a flow.
fn endpoints(before: &Plan, after: &Plan, flow: &Flow) -> Vec<std::net::SocketAddr> {
    let answering = [before, after].map(|plan| plan.decide(flow).frontend);
    let plans = answering.iter().flatten().map(|found| &found.plan);
    let endpoints = plans.flat_map(|plan| plan.reachable());
    endpoints.map(svc_core::Endpoint::socket).collect()
}
