//! Which entries of the connection-tracking table a plan has made wrong.
//!
//! The kernel chooses an endpoint for the first packet of a connection and remembers it. A TCP
//! client notices when that endpoint is gone; a UDP client may send into the void for hours, or to
//! whoever got the address of the pod. So after every change of UDP service ports the table is
//! compared with the plan, as a whole: [`StaleFlows`] is a pure function of plan and table, so a
//! pass that failed is made up for by the next one (B-179).
//!
//! ```text
//!  Plan ─► StaleFlows::of ──┐
//!  PlanDelta ─► retire ─────┴─► stale(entry) ─► Some(StaleReason) ─► the caller deletes the entry
//! ```

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use hashbrown::{HashMap, HashSet};

use crate::delta::PlanDelta;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::NodePlan;
use crate::plan::{FrontendAddress, Plan, ServicePortPlan};

/// An entry of the connection-tracking table: the tuples of both directions (B-190).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConntrackEntry {
    /// Transport protocol.
    pub protocol: Protocol,
    /// As the first packet was, before any rewriting.
    pub original: Direction,
    /// As an answer arrives: its source is the endpoint that was chosen.
    pub reply: Direction,
}

/// Source and destination of one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Direction {
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
}

/// Why an entry is stale; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum StaleReason {
    /// It leads to an endpoint that does not serve the port, or does not any more (B-183, B-185).
    NotServing,
    /// It was made before the port had endpoints and leads nowhere (B-186).
    NeverForwarded,
    /// Its front end is gone; it still leads to the endpoint of then.
    FrontendGone,
}

/// The UDP front ends of a plan, ready to judge entries: each costs one or two look-ups.
///
/// - Entries of UDP only (B-181) and of the family of the plan only.
/// - A serving endpoint protects its entries, whatever policy, topology and locality say (B-184).
/// - An entry that an address and port of the plan answers for is not held against node ports as
///   well, and a node port counts only at addresses of the node that serve it: kube-proxy also
///   deletes valid entries whose port happens to be a node port (B-188), and those of flows that
///   only pass by on the way to such a port elsewhere (B-187).
/// - Without any serving endpoint, what was forwarded before is stale all the same: kube-proxy
///   leaves it (B-182), and senders go on to an address that is dead or somebody else's.
/// - Entries to front ends that are gone are stale if the caller says which these were
///   ([`StaleFlows::retire`]): nothing in the plan tells them from entries of another proxy.
///
/// ```
/// use svc_core::conntrack::{ConntrackEntry, Direction, StaleFlows, StaleReason};
/// use svc_core::{IpFamily, Protocol, testing::Scenario};
///
/// let scenario: Scenario = "
///     service dns ip=10.96.0.10 port=53/udp
///     slice dns-1 dns port=53/udp 10.64.1.1
/// ".parse()?;
/// let stale = StaleFlows::of(&scenario.plan(IpFamily::V4));
/// let entry = |endpoint: &str| ConntrackEntry {
///     protocol: Protocol::Udp,
///     original: Direction {
///         source: ([10, 64, 1, 9], 40000).into(),
///         destination: ([10, 96, 0, 10], 53).into(),
///     },
///     reply: Direction {
///         source: endpoint.parse().unwrap(),
///         destination: ([10, 64, 1, 9], 40000).into(),
///     },
/// };
/// assert_eq!(stale.judge(&entry("10.64.1.1:53")), None);
/// assert_eq!(stale.judge(&entry("10.64.1.7:53")), Some(StaleReason::NotServing));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct StaleFlows {
    family: IpFamily,
    node: Arc<NodePlan>,
    /// Tables, as every entry is looked up; nothing iterates them.
    frontends: HashMap<FrontendAddress, Arc<ServicePortPlan>>,
    retired: HashSet<FrontendAddress>,
}

impl StaleFlows {
    /// Takes the UDP front ends of a plan.
    pub fn of(plan: &Plan) -> Self {
        let mut frontends = HashMap::new();
        for (name, port) in &plan.service_ports {
            if name.protocol == Protocol::Udp {
                let own = port.frontends.iter();
                frontends.extend(own.map(|frontend| (frontend.at, port.clone())));
            }
        }
        Self {
            family: plan.family,
            node: plan.node.clone(),
            frontends,
            retired: HashSet::new(),
        }
    }

    /// Names front ends that once were the plan's, such as [`retired`] finds them, or as a
    /// backend read them from the kernel when it started.
    pub fn retire(&mut self, frontends: impl IntoIterator<Item = FrontendAddress>) {
        self.retired.extend(frontends);
    }

    /// Why an entry is stale, or `None` if it may stay.
    pub fn judge(&self, entry: &ConntrackEntry) -> Option<StaleReason> {
        let to = entry.original.destination;
        match entry.protocol {
            Protocol::Udp => {}
            Protocol::Tcp | Protocol::Sctp => return None,
        }
        if IpFamily::of(to.ip()) != self.family {
            return None;
        }
        let endpoint = entry.reply.source;
        let forwarded = endpoint != to;
        let node_port = FrontendAddress::NodePort(to.port());
        let served = self.node.node_ports.serve(to.ip());
        let found = self.frontends.get(&FrontendAddress::Ip(to));
        let at_node = || self.frontends.get(&node_port).filter(|_| served);
        let Some(port) = found.or_else(at_node) else {
            let retired = self.retired.contains(&FrontendAddress::Ip(to))
                || (served && self.retired.contains(&node_port));
            return (forwarded && retired).then_some(StaleReason::FrontendGone);
        };
        if serves(port, endpoint) {
            None
        } else if forwarded {
            Some(StaleReason::NotServing)
        } else {
            // With no endpoint to go to, a new entry would be no better.
            (!port.serving.is_empty()).then_some(StaleReason::NeverForwarded)
        }
    }

    /// The stale ones among the entries of a table, in their order.
    pub fn stale(
        &self,
        entries: impl IntoIterator<Item = ConntrackEntry>,
    ) -> Vec<(ConntrackEntry, StaleReason)> {
        let judged = entries.into_iter().map(|entry| (entry, self.judge(&entry)));
        judged
            .filter_map(|(entry, reason)| Some((entry, reason?)))
            .collect()
    }
}

fn serves(port: &ServicePortPlan, endpoint: SocketAddr) -> bool {
    let wanted = (endpoint.ip(), endpoint.port());
    let found = port
        .serving
        .binary_search_by(|own| (own.ip, own.port).cmp(&wanted));
    found.is_ok()
}

/// Whether a delta may make entries stale: a UDP port lost a serving endpoint or a front end, or
/// got its first endpoint (B-178).
///
/// kube-proxy looks at endpoints only, so it misses the address that a Service lost.
pub fn may_make_stale(delta: &PlanDelta) -> bool {
    let mut udp = delta
        .service_ports
        .iter()
        .filter(|change| change.name.protocol == Protocol::Udp);
    udp.any(|change| match (&change.before, &change.after) {
        (_, None) => true,
        // What a new Service took over may have entries of its former owner, or of nobody.
        (None, Some(_)) => true,
        (Some(before), Some(after)) => {
            let at =
                |port: &ServicePortPlan| port.frontends.iter().map(|f| f.at).collect::<Vec<_>>();
            before.serving != after.serving || at(before) != at(after)
        }
    })
}

/// The UDP front ends that a delta takes away, for [`StaleFlows::retire`]; not those that pass from
/// one service port to another.
pub fn retired(delta: &PlanDelta) -> Vec<FrontendAddress> {
    let udp = || {
        let changes = delta.service_ports.iter();
        changes.filter(|change| change.name.protocol == Protocol::Udp)
    };
    let after = udp().flat_map(|change| change.after.iter().flat_map(|port| &port.frontends));
    let after: HashSet<FrontendAddress> = after.map(|frontend| frontend.at).collect();
    let before = udp().flat_map(|change| change.before.iter().flat_map(|port| &port.frontends));
    let before = before.map(|frontend| frontend.at);
    before.filter(|at| !after.contains(at)).collect()
}
