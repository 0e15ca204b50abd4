//! The meaning of a plan: what happens to the first packet of a connection.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use crate::name::{Name, ServicePortName};
use crate::net::{IpFamily, Protocol};
use crate::node_plan::{RefusedAt, Unserved};
use crate::plan::{
    Frontend, FrontendAddress, FrontendKind, Masquerade, Origin, Plan, Route, Scope,
    ServicePortPlan,
};

/// The first packet of a connection, before any rewriting.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Source address.
    pub source: IpAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Interface that the packet came in through; `None` for packets of the node itself.
    pub interface: Option<Name>,
}

/// What a node does with a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It goes to one of these, each with equal probability; sorted, never empty.
    Forward(Vec<Target>),
    /// It is refused: ICMP port unreachable.
    Reject,
    /// It is dropped silently.
    Drop,
    /// The proxy leaves it alone.
    Pass,
}

/// Where a forwarded flow may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Address and port of the endpoint.
    pub endpoint: SocketAddr,
    /// Whether the endpoint sees an address of the node as source.
    pub masquerade: Masquerade,
}

/// The rule that decided about a flow; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Reason {
    /// The ClusterIP and its internal policy (B-091, B-092).
    ClusterIp,
    /// A load-balancer address and the external policy (B-103, B-104).
    LoadBalancerIp,
    /// An external address and the external policy (B-114).
    ExternalIp,
    /// A node port and the external policy (B-130).
    NodePort,
    /// External policy Local, but a pod asks: any endpoint will do (B-105).
    PodShortCircuit,
    /// External policy Local, but the node itself asks: any endpoint will do (B-106).
    NodeShortCircuit,
    /// No endpoint is usable anywhere (B-094, B-112).
    NoEndpoints,
    /// The policy is Local and no usable endpoint is on this node (B-093, B-111).
    NoLocalEndpoints,
    /// The source is outside the source ranges of the load balancer (B-137).
    SourceNotAllowed,
    /// The address is a ClusterIP, and no Service has the port (B-032).
    UnknownPort,
    /// The address is inside the service range, and no Service has it (B-033).
    UnallocatedAddress,
    /// The port is a node port, and the address does not serve node ports (B-120).
    NotANodePortAddress,
    /// No front end has this address and port.
    NotAService,
    /// The two addresses are not of the family of the plan.
    OtherFamily,
}

/// What a node does with a flow, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What happens.
    pub verdict: Verdict,
    /// The rule that decided.
    pub reason: Reason,
    /// Where the packet comes from, as far as the node can tell.
    pub origin: Origin,
    /// The front end that answers, if one does.
    pub frontend: Option<Answering>,
}

/// The front end that answers for a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answering {
    /// The service port.
    pub name: ServicePortName,
    /// Its plan.
    pub plan: Arc<ServicePortPlan>,
    /// Index in [`ServicePortPlan::frontends`].
    pub index: usize,
}

impl Answering {
    /// The front end.
    pub fn frontend(&self) -> Option<&Frontend> {
        self.plan.frontends.get(self.index)
    }
}

impl Plan {
    /// What the node does with a flow.
    pub fn route(&self, flow: &Flow) -> Verdict {
        self.decide(flow).verdict
    }

    /// What the node does with a flow, and why.
    ///
    /// Addresses with a port go before node ports (B-117), node ports before the rest of the
    /// service range.
    pub fn decide(&self, flow: &Flow) -> Decision {
        let origin = self.node.origin(flow.source, flow.interface.as_deref());
        let ip = flow.destination.ip();
        let decision = |verdict, reason| Decision {
            verdict,
            reason,
            origin,
            frontend: None,
        };
        if IpFamily::of(ip) != self.family || IpFamily::of(flow.source) != self.family {
            return decision(Verdict::Pass, Reason::OtherFamily);
        }
        if let Some(found) = self.answering(flow.protocol, &FrontendAddress::Ip(flow.destination)) {
            return self.answer(flow, origin, found);
        }
        let node_port = FrontendAddress::NodePort(flow.destination.port());
        if let Some(found) = self.answering(flow.protocol, &node_port) {
            if self.node.node_ports.serve(ip) {
                return match is_to_loopback_of_others(flow) {
                    true => no_node_port(origin, found),
                    false => self.answer(flow, origin, found),
                };
            }
            if self.node.is_local(ip) {
                return self.beside_node_ports(flow, origin, found);
            }
        }
        if self.node.is_local(ip) {
            return decision(Verdict::Pass, Reason::NotAService);
        }
        if self.is_cluster_ip(ip) {
            return decision(unserved(self.node.unknown_port), Reason::UnknownPort);
        }
        if self.node.service_cidrs.iter().any(|net| net.contains(&ip)) {
            return decision(unserved(self.node.unallocated), Reason::UnallocatedAddress);
        }
        decision(Verdict::Pass, Reason::NotAService)
    }

    fn answering(&self, protocol: Protocol, at: &FrontendAddress) -> Option<Answering> {
        let ports = self.service_ports.iter();
        ports
            .filter(|(name, _)| name.protocol == protocol)
            .find_map(|(name, plan)| {
                let index = plan
                    .frontends
                    .binary_search_by(|frontend| frontend.at.cmp(at))
                    .ok()?;
                Some(Answering {
                    name: name.clone(),
                    plan: plan.clone(),
                    index,
                })
            })
    }

    /// A node port at an address of the node that does not serve node ports (B-129).
    fn beside_node_ports(&self, flow: &Flow, origin: Origin, found: Answering) -> Decision {
        let refuses = match self.node.node_ports.refused_at {
            RefusedAt::NodePortAddresses => false,
            RefusedAt::EveryLocalAddress => found
                .frontend()
                .is_some_and(|f| matches!(f.routes.external, Route::Reject | Route::Drop)),
        };
        if refuses {
            return Decision {
                origin,
                ..self.answer(flow, Origin::External, found)
            };
        }
        no_node_port(origin, found)
    }

    fn is_cluster_ip(&self, ip: IpAddr) -> bool {
        let mut frontends = self.service_ports.values().flat_map(|plan| &plan.frontends);
        frontends.any(|frontend| {
            frontend.kind == FrontendKind::ClusterIp
                && matches!(frontend.at, FrontendAddress::Ip(at) if at.ip() == ip)
        })
    }
    fn answer(&self, flow: &Flow, origin: Origin, found: Answering) -> Decision {
        let Some(frontend) = found.frontend() else {
            return Decision {
                verdict: Verdict::Pass,
                reason: Reason::NotAService,
                origin,
                frontend: None,
            };
        };
        let (verdict, reason) = if frontend.sources.allow(flow.source) {
            let route = frontend.routes.at(origin);
            let verdict = match route {
                Route::Reject => Verdict::Reject,
                Route::Drop => Verdict::Drop,
                Route::Forward { to, masquerade } => {
                    Verdict::Forward(self.targets(&found.plan, *to, *masquerade, flow))
                }
            };
            (verdict, reason(frontend, origin, route))
        } else {
            (Verdict::Drop, Reason::SourceNotAllowed)
        };
        Decision {
            verdict,
            reason,
            origin,
            frontend: Some(found),
        }
    }

    fn targets(
        &self,
        port: &ServicePortPlan,
        to: Scope,
        masquerade: Masquerade,
        flow: &Flow,
    ) -> Vec<Target> {
        let endpoints = port.endpoints(to).iter();
        let mut targets: Vec<Target> = endpoints
            .map(|endpoint| Target {
                endpoint: endpoint.socket(),
                masquerade: if self.is_delivered(endpoint.ip, flow) {
                    Masquerade::Never
                } else if endpoint.ip == flow.source
                    && self.masquerades_hairpin(flow.protocol, endpoint.socket())
                {
                    Masquerade::Always
                } else {
                    masquerade
                },
            })
            .collect();
        targets.sort_unstable();
        targets
    }

    /// Whether a connection of an endpoint to itself is masqueraded, through whatever Service: that it
    /// is on this node is true even where only one of its Services says so (B-153).
    pub fn masquerades_hairpin(&self, protocol: Protocol, endpoint: SocketAddr) -> bool {
        let ports = self.service_ports.iter();
        let mut ports = ports.filter(|(name, _)| name.protocol == protocol);
        ports.any(|(_, port)| {
            let mut same = port.reachable().filter(|e| e.socket() == endpoint);
            same.any(|e| port.masquerades_hairpin(e))
        })
    }

    /// Whether a packet from elsewhere reaches an endpoint without leaving the node, as those in the
    /// host's network: it does not pass POSTROUTING, the only place where sources are masqueraded,
    /// and answers come by here all the same.
    pub fn is_delivered(&self, endpoint: IpAddr, flow: &Flow) -> bool {
        let sent = flow.interface.is_none() && self.node.is_local(flow.source);
        !sent && self.node.is_local(endpoint)
    }
}

fn no_node_port(origin: Origin, found: Answering) -> Decision {
    Decision {
        verdict: Verdict::Pass,
        reason: Reason::NotANodePortAddress,
        origin,
        frontend: Some(found),
    }
}

/// Whether a packet wants a loopback address of this node, but does not come from one. Other hosts
/// and pods get there by a route of their own, also where node ports are for the node alone (B-126).
fn is_to_loopback_of_others(flow: &Flow) -> bool {
    flow.destination.ip().is_loopback() && !flow.source.is_loopback()
}

fn unserved(what: Unserved) -> Verdict {
    match what {
        Unserved::Pass => Verdict::Pass,
        Unserved::Reject => Verdict::Reject,
        Unserved::Drop => Verdict::Drop,
    }
}

fn reason(frontend: &Frontend, origin: Origin, route: &Route) -> Reason {
    let short_circuit = matches!(
        frontend.routes.external,
        Route::Drop
            | Route::Forward {
                to: Scope::Local,
                ..
            }
    );
    match (route, origin, frontend.kind) {
        (Route::Reject, _, _) => Reason::NoEndpoints,
        (Route::Drop, _, _) => Reason::NoLocalEndpoints,
        (Route::Forward { .. }, _, FrontendKind::ClusterIp) => Reason::ClusterIp,
        (
            Route::Forward {
                to: Scope::Cluster, ..
            },
            Origin::Pod,
            _,
        ) if short_circuit => Reason::PodShortCircuit,
        (
            Route::Forward {
                to: Scope::Cluster, ..
            },
            Origin::Node,
            _,
        ) if short_circuit => Reason::NodeShortCircuit,
        (Route::Forward { .. }, _, FrontendKind::LoadBalancerIp) => Reason::LoadBalancerIp,
        (Route::Forward { .. }, _, FrontendKind::ExternalIp) => Reason::ExternalIp,
        (Route::Forward { .. }, _, FrontendKind::NodePort) => Reason::NodePort,
    }
}

impl Flow {
    /// A flow whose input interface does not matter.
    pub fn new(source: IpAddr, destination: SocketAddr, protocol: Protocol) -> Self {
        Self {
            source,
            destination,
            protocol,
            interface: None,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (to, protocol) = (self.destination, self.protocol.lower());
        write!(f, "{} -> {to}/{protocol}", self.source)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reject => f.write_str("reject"),
            Self::Drop => f.write_str("drop"),
            Self::Pass => f.write_str("pass"),
            Self::Forward(targets) => {
                f.write_str("forward")?;
                targets.iter().try_for_each(|target| write!(f, " {target}"))
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.masquerade {
            Masquerade::Never => write!(f, "{}", self.endpoint),
            Masquerade::Always => write!(f, "{}+masquerade", self.endpoint),
        }
    }
}
