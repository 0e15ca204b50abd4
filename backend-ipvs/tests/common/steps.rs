//! Whether a kernel on its way from one plan to the next is in a sane state.

use std::net::{IpAddr, SocketAddr};

use backend_ipvs::capabilities::is_bound;
use backend_ipvs::companion::read_frontend;
use backend_ipvs::{Evaluator, Key, Scheduler, ServerId, Value, capabilities, companion};
use svc_core::{Flow, Origin, Plan, Protocol, Ruleset, Target, Verdict};

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
///
/// One exception: see [`is_switched`].
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
        let mut known = endpoints(before, after, flow);
        if is_switched(before, after, steps, flow) {
            known.extend(endpoints_of_both(before, after, flow));
        }
        for (index, step) in steps.iter().enumerate() {
            let step = &without_foreign(step);
            let got = Evaluator::new(step, &after.node, after.family)
                .verdict(flow)
                .map_err(|fault| fault.to_string())?;
            if !is_sane(&old, &new, &got, &known) {
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

fn is_sane(old: &Verdict, new: &Verdict, got: &Verdict, endpoints: &[SocketAddr]) -> bool {
    let known = |targets: &[Target]| targets.iter().all(|t| endpoints.contains(&t.endpoint));
    match (old, new, got) {
        (_, _, Verdict::Forward(targets)) => known(targets),
        (Verdict::Forward(_), Verdict::Forward(_), _) => false,
        (_, _, Verdict::Drop) => *old == Verdict::Drop || *new == Verdict::Drop,
        (old, new, got) if old == new => got == old,
        (_, _, Verdict::Reject | Verdict::Pass) => true,
    }
}

/// The endpoints of the service ports that take a flow, each in the plan in which it does.
fn endpoints(before: &Plan, after: &Plan, flow: &Flow) -> Vec<SocketAddr> {
    let answering = [before, after].map(|plan| plan.decide(flow).frontend);
    let plans = answering.iter().flatten().map(|found| &found.plan);
    let endpoints = plans.flat_map(|plan| plan.reachable());
    endpoints.map(svc_core::Endpoint::socket).collect()
}

/// The same, each in both plans.
fn endpoints_of_both(before: &Plan, after: &Plan, flow: &Flow) -> Vec<SocketAddr> {
    let names = [before, after].map(|plan| plan.decide(flow).frontend.map(|found| found.name));
    let names = names.iter().flatten();
    let plans = names.flat_map(|name| [before, after].map(|plan| plan.service_ports.get(name)));
    let endpoints = plans.flatten().flat_map(|plan| plan.reachable());
    endpoints.map(svc_core::Endpoint::socket).collect()
}

/// Whether pods and the node get from the mark of one service port to that of another, which had
/// one before. The virtual server of a mark is shared by all front ends of its service port: where
/// two swap front ends, and endpoints change as well, no order of steps has each packet at
/// endpoints that are old or new for its front end. It gets to those of either service port.
fn is_switched(before: &Plan, after: &Plan, steps: &[Ruleset<Key, Value>], flow: &Flow) -> bool {
    let [old, new] = [before, after].map(|plan| plan.decide(flow));
    let inside = old.origin != Origin::External || is_bound(before, flow.source);
    let (Some(old), Some(new), true) = (old.frontend, new.frontend, inside) else {
        return false;
    };
    let (Some(first), Some(last)) = (steps.first(), steps.last()) else {
        return false;
    };
    let at = (
        flow.destination.ip(),
        flow.protocol,
        flow.destination.port(),
    );
    let owner = |step| marks(step).find(|(frontend, _)| *frontend == at);
    let [from, to] = [&old.name, &new.name].map(ToString::to_string);
    let had_mark = |((_, protocol, _), owner)| protocol == flow.protocol && owner == to;
    from != to
        && owner(first).is_some_and(|(_, owner)| owner == from)
        && owner(last).is_some()
        && marks(first).any(had_mark)
}

/// Front ends with marks, and the service port of each.
fn marks(step: &Ruleset<Key, Value>) -> impl Iterator<Item = ((IpAddr, Protocol, u16), &str)> {
    step.iter().filter_map(|(key, value)| match (key, value) {
        (
            Key::Companion(companion::Key::Element(companion::SetId::Marks, key)),
            Value::Companion(companion::Value::Element(value)),
        ) => Some((read_frontend(key)?, value.comment.as_ref()?.as_str())),
        (
            Key::Companion(_) | Key::Link | Key::Address(_) | Key::Server(_) | Key::Destination(..),
            _,
        ) => None,
    })
}
