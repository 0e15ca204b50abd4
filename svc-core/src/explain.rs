//! A decision in words: the verdict, the rule, and every endpoint that was left out.

use alloc::vec::Vec;
use core::net::SocketAddr;

use crate::name::{Name, ServicePortName};
use crate::node_plan::ClusterIpMasquerade;
use crate::plan::{FrontendKind, Masquerade, Origin, Plan, Route, Scope};
use crate::route::{Decision, Flow, Reason, Verdict};
use crate::select::{LeftOutReason, select};
use crate::state::ClusterState;

/// What happens to a flow, why, and what else was considered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Verdict, rule, origin and front end.
    pub decision: Decision,
    /// Where the flow may go, in the order of the verdict's targets.
    pub endpoints: Vec<ExplainedEndpoint>,
    /// Endpoints of the service port that the flow cannot go to, sorted by address.
    pub left_out: Vec<LeftOut>,
}

/// An endpoint that a flow may go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedEndpoint {
    /// Address and port.
    pub address: SocketAddr,
    /// `None`, or why its source address is replaced.
    pub masquerade: Option<MasqueradeReason>,
    /// One of how many equally likely endpoints it is.
    pub of: usize,
    /// Where it runs, if its slice says so.
    pub node: Option<Name>,
    /// The name of its Pod, if its slice says so.
    pub pod: Option<Name>,
}

/// An endpoint of the service port that a flow cannot go to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Address and port.
    pub address: SocketAddr,
    /// Why not.
    pub reason: LeftOutReason,
    /// Where it runs, if its slice says so.
    pub node: Option<Name>,
    /// The name of its Pod, if its slice says so.
    pub pod: Option<Name>,
}

/// Why a source address is replaced; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum MasqueradeReason {
    /// The endpoint is the client itself (B-152).
    Hairpin,
    /// The client of a ClusterIP is no pod (B-097).
    NotFromPod,
    /// The configuration masquerades all traffic to ClusterIPs (B-099).
    MasqueradeAll,
    /// External policy Cluster: the answer must come back through this node (B-103).
    ExternalPolicyCluster,
    /// The node itself asks an external front end (B-106).
    NodeShortCircuit,
}

/// Explains what a plan does with a flow; `state` is what the plan was computed from.
///
/// ```
/// use svc_core::config::{ProxyConfig, ProxyMode};
/// use svc_core::object::*;
/// use svc_core::select::LeftOutReason;
/// use svc_core::*;
///
/// let mut web = Service::named(NamespacedName::new("shop", "web"));
/// web.cluster_ips.push([10, 96, 0, 1].into());
/// web.ports.push(ServicePort::new("http", Protocol::Tcp, 80));
/// let mut slice = EndpointSlice::of_service(&web.name, "web-x7k2p", IpFamily::V4);
/// slice.ports = [EndpointPort::new("http", Protocol::Tcp, 8080)].into();
/// slice.endpoints = [
///     SliceEndpoint::new([10, 64, 1, 1].into(), Conditions::READY),
///     SliceEndpoint::new([10, 64, 1, 2].into(), Conditions::SERVING_TERMINATING),
/// ]
/// .into();
/// let mut state = ClusterState::new();
/// state.apply(Event::Service(WatchEvent::Apply(web)));
/// state.apply(Event::EndpointSlice(WatchEvent::Apply(slice)));
/// let node = NodeConfig::new("node-1", ProxyConfig::default_for(ProxyMode::Nftables));
/// let plan = Plan::compute(&state, &node, IpFamily::V4);
///
/// let flow = Flow::new([10, 64, 2, 7].into(), ([10, 96, 0, 1], 80).into(), Protocol::Tcp);
/// let explanation = explain(&plan, &state, &flow);
/// assert_eq!(explanation.decision.reason, Reason::ClusterIp);
/// assert_eq!(explanation.endpoints[0].address.to_string(), "10.64.1.1:8080");
/// assert_eq!(explanation.left_out[0].reason, LeftOutReason::Terminating);
/// ```
pub fn explain(plan: &Plan, state: &ClusterState, flow: &Flow) -> Explanation {
    explain_decision(plan, state, flow, plan.decide(flow))
}

/// The same for the verdict of a backend's ruleset instead of the plan's own.
///
/// Where the two differ the reason is still the plan's: it tells what should have decided.
pub fn explain_verdict(
    plan: &Plan,
    state: &ClusterState,
    flow: &Flow,
    verdict: Verdict,
) -> Explanation {
    let decision = Decision {
        verdict,
        ..plan.decide(flow)
    };
    explain_decision(plan, state, flow, decision)
}

fn explain_decision(
    plan: &Plan,
    state: &ClusterState,
    flow: &Flow,
    decision: Decision,
) -> Explanation {
    let mut explanation = Explanation {
        decision,
        endpoints: Vec::new(),
        left_out: Vec::new(),
    };
    let Some(answering) = &explanation.decision.frontend else {
        return explanation;
    };
    let route = answering
        .frontend()
        .map(|f| *f.routes.at(explanation.decision.origin));
    let scope = match (route, explanation.decision.reason) {
        (Some(Route::Forward { to, .. }), _) => to,
        (_, Reason::NoLocalEndpoints) => Scope::Local,
        (_, _) => Scope::Cluster,
    };
    let name = &answering.name;
    let (endpoints, left_out) = sort_out(plan, state, flow, &explanation.decision, name, scope);
    explanation.endpoints = endpoints;
    explanation.left_out = left_out;
    explanation
}

fn sort_out(
    plan: &Plan,
    state: &ClusterState,
    flow: &Flow,
    decision: &Decision,
    name: &ServicePortName,
    scope: Scope,
) -> (Vec<ExplainedEndpoint>, Vec<LeftOut>) {
    let slices = state.slices(&name.service).iter().map(|slice| &**slice);
    let selection = select(slices, plan.family, &name.port, name.protocol, &plan.node);
    let targets = match &decision.verdict {
        Verdict::Forward(targets) => targets.as_slice(),
        Verdict::Reject | Verdict::Drop | Verdict::Pass => &[],
    };
    let (mut endpoints, mut left_out) = (Vec::new(), Vec::new());
    for candidate in &selection.candidates {
        let address = candidate.endpoint.socket();
        let node = candidate.source.node.clone();
        let pod = candidate
            .source
            .extra
            .as_ref()
            .and_then(|extra| extra.pod.clone());
        // Targets are sorted, each endpoint once.
        let found = targets.binary_search_by(|target| target.endpoint.cmp(&address));
        if let Some(target) = found.ok().and_then(|at| targets.get(at)) {
            let masquerade = match target.masquerade {
                Masquerade::Never => None,
                Masquerade::Always if address.ip() == flow.source => {
                    Some(MasqueradeReason::Hairpin)
                }
                Masquerade::Always => Some(masquerade_reason(plan, decision)),
            };
            endpoints.push(ExplainedEndpoint {
                address,
                masquerade,
                of: targets.len(),
                node,
                pod,
            });
        } else if let Some(reason) = selection.left_out(candidate, scope, &plan.node) {
            left_out.push(LeftOut {
                address,
                reason,
                node,
                pod,
            });
        }
    }
    (endpoints, left_out)
}

fn masquerade_reason(plan: &Plan, decision: &Decision) -> MasqueradeReason {
    let frontend = decision
        .frontend
        .as_ref()
        .and_then(|answering| answering.frontend());
    let kind = frontend.map(|frontend| frontend.kind);
    match kind {
        Some(FrontendKind::ClusterIp) => match plan.node.cluster_ip_masquerade {
            ClusterIpMasquerade::Always => MasqueradeReason::MasqueradeAll,
            ClusterIpMasquerade::NotFromPods | ClusterIpMasquerade::Never => {
                MasqueradeReason::NotFromPod
            }
        },
        _ if decision.reason == Reason::NodeShortCircuit && decision.origin == Origin::Node => {
            MasqueradeReason::NodeShortCircuit
        }
        _ => MasqueradeReason::ExternalPolicyCluster,
    }
}
