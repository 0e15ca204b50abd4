//! What holds after any history, as functions: `Err` says what is broken.

mod convergence;

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

pub use convergence::convergence;

use super::generate::{History, Step};
use super::source::Source;
use crate::explain::explain;
use crate::net::IpFamily;
use crate::plan::{Plan, Scope};
use crate::planner::Planner;
use crate::route::{Flow, Reason, Verdict};
use crate::state::{ClusterState, Event, WatchEvent};

fn same<T: PartialEq + core::fmt::Debug>(what: &str, a: &T, b: &T) -> Result<(), String> {
    match a == b {
        true => Ok(()),
        false => Err(format!("{what}:\n  {a:#?}\nis not\n  {b:#?}")),
    }
}

/// After any history the planner's plan is the plan from scratch, the deltas so far add up to it,
/// it is clean, and the diagnostics are those of a planner that saw only the result.
///
/// # Errors
///
/// What is broken.
pub fn incremental(history: &History) -> Result<(), String> {
    let mut planner = Planner::new(history.config.clone());
    let empty = |family| Plan::empty(family, planner.plan(family).node);
    let mut summed = IpFamily::ALL.map(empty);
    for step in &history.steps {
        match step {
            Step::Event(event) => {
                planner.handle(event.clone());
            }
            Step::Configure(config) => planner.configure(config.clone()),
            Step::Delta => {
                for delta in planner.delta() {
                    for plan in summed.iter_mut().filter(|p| p.family == delta.family) {
                        fits(plan, &delta)?;
                        plan.apply(&delta);
                    }
                }
                same("a second delta", &planner.delta(), &Vec::new())?;
                if planner.state().is_complete() {
                    up_to_date(&planner, &summed)?;
                }
            }
        }
    }
    Ok(())
}

fn fits(plan: &Plan, delta: &crate::PlanDelta) -> Result<(), String> {
    let names = delta.service_ports.iter().map(|change| &change.name);
    if !names.is_sorted_by(|a, b| a < b) {
        return Err(format!("changes are not sorted: {delta:#?}"));
    }
    for change in &delta.service_ports {
        let before = plan.service_ports.get(&change.name);
        same("the plan before a change", &before, &change.before.as_ref())?;
        if change.before == change.after {
            return Err(format!("a change that changes nothing: {change:#?}"));
        }
    }
    Ok(())
}

fn up_to_date(planner: &Planner, summed: &[Plan; 2]) -> Result<(), String> {
    for plan in summed {
        let computed = Plan::compute(planner.state(), planner.config(), plan.family);
        same("the planner's plan", &planner.plan(plan.family), &computed)?;
        same("the sum of the deltas", plan, &computed)?;
        lint(plan)?;
    }
    let fresh = replay(planner.state(), planner.config().clone());
    same("diagnostics", &planner.diagnostics(), &fresh.diagnostics())
}

/// A planner that sees the objects of a state in the reverse order of their names.
fn replay(state: &ClusterState, config: crate::NodeConfig) -> Planner {
    let mut planner = Planner::new(config);
    let mut events = Vec::from([Event::EndpointSlice(WatchEvent::Init)]);
    let services = state.services();
    for service in services.iter().rev() {
        let slices = state.slices(&service.name).iter().rev();
        let slices = slices.map(|slice| WatchEvent::InitApply((**slice).clone()));
        events.extend(slices.map(Event::EndpointSlice));
    }
    events.push(Event::EndpointSlice(WatchEvent::InitDone));
    events.push(Event::Service(WatchEvent::Init));
    for service in services.iter().rev() {
        let service = WatchEvent::InitApply((***service).clone());
        events.push(Event::Service(service));
    }
    events.push(Event::Service(WatchEvent::InitDone));
    let nodes = state
        .nodes()
        .map(|node| WatchEvent::Apply((**node).clone()));
    events.extend(nodes.map(Event::Node));
    let cidrs = state.service_cidrs();
    let cidrs = cidrs.map(|cidr| WatchEvent::Apply((**cidr).clone()));
    events.extend(cidrs.map(Event::ServiceCidr));
    for event in events {
        planner.handle(event);
    }
    planner.delta();
    planner
}

/// The plan does not depend on the order in which objects were seen.
///
/// # Errors
///
/// What is broken.
pub fn order_free(history: &History) -> Result<(), String> {
    let (state, config) = (history.state(), history.last_config());
    let replayed = replay(&state, config.clone());
    for family in IpFamily::ALL {
        let direct = Plan::compute(&state, &config, family);
        same("the plan in another order", &replayed.plan(family), &direct)?;
    }
    Ok(())
}

/// `a.apply(&a.diff(b))` is `b`, and the difference of equal plans is empty.
///
/// # Errors
///
/// What is broken.
pub fn diff(a: &Plan, b: &Plan) -> Result<(), String> {
    if a.family != b.family {
        return Ok(());
    }
    let delta = a.diff(b);
    fits(a, &delta)?;
    let mut patched = a.clone();
    patched.apply(&delta);
    same("a plan and its difference", &patched, b)?;
    match patched.diff(b).is_empty() {
        true => Ok(()),
        false => Err(format!("a difference to itself: {:#?}", patched.diff(b))),
    }
}

/// The plan has no finding.
///
/// # Errors
///
/// The findings.
pub fn lint(plan: &Plan) -> Result<(), String> {
    match plan.lint() {
        findings if findings.is_empty() => Ok(()),
        findings => Err(findings.join("\n")),
    }
}

/// An object that is applied again makes no delta, and neither does a change of what planning
/// does not read.
///
/// # Errors
///
/// What is broken.
pub fn delta_empty_on_noop(history: &History) -> Result<(), String> {
    let state = history.state();
    let mut planner = replay(&state, history.last_config());
    for service in state.services() {
        let mut service = (**service).clone();
        let again = Event::Service(WatchEvent::Apply(service.clone()));
        let changes = planner.handle(again);
        same("changes of the same object", &changes, &Default::default())?;
        service.publish_not_ready_addresses ^= true;
        service.selector.insert("app".into(), "other".into());
        service.extra = Some(Default::default());
        planner.handle(Event::Service(WatchEvent::Apply(service)));
    }
    for service in state.services() {
        for slice in state.slices(&service.name) {
            let mut slice = (**slice).clone();
            slice.managed_by = Some("somebody".into());
            planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice)));
        }
    }
    same("the delta of nothing", &planner.delta(), &Vec::new())
}

/// Every flow has one answer, the answer makes sense, and the explanation agrees with it.
///
/// # Errors
///
/// What is broken.
pub fn route_total(plan: &Plan, state: &ClusterState, flow: &Flow) -> Result<(), String> {
    let decision = plan.decide(flow);
    let broken = |what: &str| Err(format!("{flow}: {what}: {decision:#?}"));
    if plan.route(flow) != decision.verdict {
        return broken("route and decide differ");
    }
    if let Verdict::Forward(targets) = &decision.verdict {
        let Some(answering) = &decision.frontend else {
            return broken("forwarded by nobody");
        };
        if targets.is_empty() || !targets.is_sorted_by(|a, b| a.endpoint < b.endpoint) {
            return broken("targets are not sorted, or there are none");
        }
        let lists = [Scope::Cluster, Scope::Local].map(|scope| {
            let list = answering.plan.endpoints(scope).iter();
            list.map(crate::Endpoint::socket).collect::<BTreeSet<_>>()
        });
        if !targets
            .iter()
            .all(|t| lists.iter().any(|l| l.contains(&t.endpoint)))
        {
            return broken("a target is in no list");
        }
    }
    let rejects = decision.reason == Reason::NoEndpoints;
    if rejects && decision.verdict != Verdict::Reject {
        return broken("no endpoints, and not refused");
    }
    explained(plan, state, flow)
}

/// The endpoints that [`explain`] names are those of the verdict, and none is left out as well.
fn explained(plan: &Plan, state: &ClusterState, flow: &Flow) -> Result<(), String> {
    let explanation = explain(plan, state, flow);
    let named: Vec<String> = explanation
        .endpoints
        .iter()
        .map(|e| match e.masquerade {
            Some(_) => format!("{}+masquerade", e.address),
            None => e.address.to_string(),
        })
        .collect();
    let targets = match &explanation.decision.verdict {
        Verdict::Forward(targets) => targets.iter().map(ToString::to_string).collect(),
        Verdict::Reject | Verdict::Drop | Verdict::Pass => Vec::new(),
    };
    same("explained endpoints", &named, &targets)?;
    let left_out: BTreeSet<_> = explanation.left_out.iter().map(|l| l.address).collect();
    match explanation
        .endpoints
        .iter()
        .any(|e| left_out.contains(&e.address))
    {
        true => Err(format!("{flow}: both used and left out: {explanation:#?}")),
        false => Ok(()),
    }
}

/// A backend's rendered ruleset does with every flow what the plan does.
///
/// # Errors
///
/// The first flow that differs.
pub fn agreement(
    plan: &Plan,
    flows: impl IntoIterator<Item = Flow>,
    mut evaluate: impl FnMut(&Flow) -> Verdict,
) -> Result<(), String> {
    for flow in flows {
        let decision = plan.decide(&flow);
        let got = evaluate(&flow);
        if got != decision.verdict {
            return Err(format!(
                "{flow} via {:?}: the plan says {} ({:?}), the ruleset {got}",
                flow.interface, decision.verdict, decision.reason
            ));
        }
    }
    Ok(())
}

/// The slice controller is right after the history of Services and Pods that `bytes` choose.
///
/// # Panics
///
/// Where it is not.
pub fn slices(bytes: &[u8]) {
    use crate::endpoints::laws::{converges, history};
    converges(history(&mut Source::new(bytes)));
}

/// The allocators hand out nothing twice in the history of Services that `bytes` choose.
///
/// # Panics
///
/// Where they do.
pub fn allocations(bytes: &[u8], seed: u64) {
    use crate::allocate::laws::{history, nothing_twice};
    nothing_twice(history(&mut Source::new(bytes)), seed);
}
