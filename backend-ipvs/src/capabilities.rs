//! Where IPVS does something else than a plan says, declared.
//!
//! This is about plans that the kernel shows. On the way from one to the next, packets go the old way or
//! the new one, but for those of pods and the node to a front end that goes from one service port to
//! another while both have a mark: they may get to any endpoint that one of the two has or had.

use std::fmt;

use svc_core::{Flow, FrontendAddress, Masquerade, Origin, Plan, Route, Target, Unserved, Verdict};

/// Something that IPVS does otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Capability {
    /// An address on our link is one of the node: its ports without a front end are unknown ports
    /// of the node, whatever kind of front end has the address (B-303).
    OtherPorts,
    /// A connection of the node whose source is an address on our link, as the kernel picks it
    /// when a program does not, counts as one of the node and is masqueraded.
    OwnSource,
    /// An endpoint with an address on our link, which is that of a front end, is this node: what others
    /// send it is delivered here, and not masqueraded.
    OwnEndpoint,
    /// A client stays with its destination at one address and port: each virtual server remembers
    /// clients for itself (B-289).
    PersistencePerServer,
    /// Where pods and the node have other destinations than clients from outside, those of them
    /// stay with a destination by a hash of their address and not by memory.
    HashedInsiders,
    /// The scheduler chooses: round robin instead of chance, unless configured otherwise (B-288).
    Scheduled,
}

impl Capability {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::OtherPorts,
        Self::OwnSource,
        Self::OwnEndpoint,
        Self::PersistencePerServer,
        Self::HashedInsiders,
        Self::Scheduled,
    ];
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OtherPorts => {
                "other ports of a front end's address are unknown ports of the node"
            }
            Self::OwnSource => "the node's connections from a front end's address are masqueraded",
            Self::OwnEndpoint => {
                "connections to an endpoint with a front end's address are not masqueraded"
            }
            Self::PersistencePerServer => "a client stays with its endpoint per address and port",
            Self::HashedInsiders => {
                "under a Local policy pods and the node stay with an endpoint by a hash"
            }
            Self::Scheduled => "the scheduler chooses the endpoint",
        })
    }
}

/// What IPVS does with the first packet of a connection of a client that it does not know yet, and
/// the capability that makes it another verdict than that of the plan.
pub fn expected(plan: &Plan, flow: &Flow) -> (Verdict, Option<Capability>) {
    let (mut verdict, mut capability) = scheduled(plan, flow);
    if let Verdict::Forward(targets) = &mut verdict {
        let sent = flow.interface.is_none()
            && (plan.node.is_local(flow.source) || is_bound(plan, flow.source));
        for target in targets.iter_mut().filter(|_| !sent) {
            if target.masquerade == Masquerade::Always && is_bound(plan, target.endpoint.ip()) {
                target.masquerade = Masquerade::Never;
                capability = Some(Capability::OwnEndpoint);
            }
        }
    }
    (verdict, capability)
}

/// The same before packets leave, or do not.
fn scheduled(plan: &Plan, flow: &Flow) -> (Verdict, Option<Capability>) {
    let decision = plan.decide(flow);
    let Some(answering) = decision.frontend else {
        if is_bound(plan, flow.destination.ip()) {
            let verdict = match plan.node.unknown_port {
                Unserved::Pass => Verdict::Pass,
                Unserved::Reject => Verdict::Reject,
                Unserved::Drop => Verdict::Drop,
            };
            let differs = verdict != decision.verdict;
            return (verdict, differs.then_some(Capability::OtherPorts));
        }
        return (decision.verdict, None);
    };
    let frontend = answering.frontend();
    let own = flow.interface.is_none() && is_bound(plan, flow.source);
    let serves = |at: FrontendAddress| match at {
        FrontendAddress::Ip(_) => true,
        FrontendAddress::NodePort(_) => plan.node.node_ports.serve(flow.destination.ip()),
    };
    let Some(frontend) = frontend
        .filter(|frontend| own && serves(frontend.at) && frontend.sources.allow(flow.source))
    else {
        return (decision.verdict, None);
    };
    let verdict = match frontend.routes.at(Origin::Node) {
        Route::Reject => Verdict::Reject,
        Route::Drop => Verdict::Drop,
        Route::Forward { to, .. } => {
            let endpoints = answering.plan.endpoints(*to).iter();
            let targets = endpoints.map(|endpoint| Target {
                endpoint: endpoint.socket(),
                masquerade: Masquerade::Always,
            });
            let mut targets: Vec<Target> = targets.collect();
            targets.sort_unstable();
            Verdict::Forward(targets)
        }
    };
    let differs = verdict != decision.verdict;
    (verdict, differs.then_some(Capability::OwnSource))
}

/// Whether an address is on our link, and so one of the node.
pub fn is_bound(plan: &Plan, ip: std::net::IpAddr) -> bool {
    let mut frontends = plan.service_ports.values().flat_map(|plan| &plan.frontends);
    !plan.node.is_local(ip)
        && frontends.any(|frontend| match frontend.at {
            FrontendAddress::Ip(at) => at.ip() == ip,
            FrontendAddress::NodePort(_) => false,
        })
}
