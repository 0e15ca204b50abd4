//! The plan: what one node does with the traffic of every Service, as a value.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::fmt;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::name::{NamespacedName, ServicePortName};
use crate::net::{IpFamily, Protocol};
use crate::node_plan::NodePlan;

/// What one node does with the traffic of every Service, in one address family.
///
/// A plan leaves no choice to a backend: what it does not say, no backend does. Its meaning is
/// [`Plan::route`].
///
/// ```
/// use std::sync::Arc;
/// use svc_core::{Flow, IpFamily, NodePlan, Plan, Protocol, Reason, Verdict};
///
/// let mut node = NodePlan::bare("node-1");
/// node.service_cidrs = ["10.96.0.0/16".parse()?].into();
/// let plan = Plan::empty(IpFamily::V4, Arc::new(node));
/// let flow = Flow::new([10, 64, 2, 7].into(), ([10, 96, 0, 1], 80).into(), Protocol::Tcp);
/// let decision = plan.decide(&flow);
/// assert_eq!(decision.verdict, Verdict::Drop);
/// assert_eq!(decision.reason, Reason::UnallocatedAddress);
/// assert_eq!(plan.lint(), Vec::<String>::new());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct Plan {
    /// The family of every address in the plan.
    pub family: IpFamily,
    /// What concerns the node and no Service in particular.
    pub node: Arc<NodePlan>,
    /// Every proxied service port.
    #[cfg_attr(feature = "serde", serde(serialize_with = "serialize::service_ports"))]
    pub service_ports: BTreeMap<ServicePortName, Arc<ServicePortPlan>>,
    /// Health-check node ports (B-191), by Service.
    pub health_checks: BTreeMap<NamespacedName, HealthCheck>,
}

/// What a node does with the traffic of one service port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct ServicePortPlan {
    /// Endpoints for [`Scope::Cluster`], sorted; empty when no route needs them (B-068).
    pub cluster: Box<[Endpoint]>,
    /// Endpoints for [`Scope::Local`], sorted; empty when no route needs them (B-069).
    pub local: Box<[Endpoint]>,
    /// Of UDP ports: every serving endpoint, which keeps its conntrack entries (B-184).
    pub serving: Box<[Endpoint]>,
    /// Whether a client is sent to the same endpoint again.
    pub affinity: Option<ClientIpAffinity>,
    /// Where clients find the service port, sorted by [`Frontend::at`], each address once.
    pub frontends: Box<[Frontend]>,
    /// Which hairpin connections need another source address.
    pub hairpin: Hairpin,
}

/// An address and port that answers for a service port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// Address of the pod.
    pub ip: IpAddr,
    /// Port on the pod, never 0.
    pub port: u16,
    /// Where the pod runs.
    pub locality: Locality,
}

/// Where an endpoint runs, seen from the planned node (B-072).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Locality {
    /// On this node.
    Local,
    /// On another node, or nobody knows where.
    Remote,
}

/// Session affinity by client address (B-157).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct ClientIpAffinity {
    /// Seconds after the latest new connection in which the client stays pinned (B-158).
    pub timeout_seconds: u32,
}

/// Which connections of an endpoint to itself are masqueraded (B-152).
///
/// A pod that reaches itself through a Service would answer past the node if it saw its own
/// address as source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Hairpin {
    /// Those of endpoints on this node; others cannot come by (B-153).
    LocalEndpoints,
    /// Those of every endpoint: pods of other nodes may use an external front end here and are
    /// then not masqueraded for another reason (B-105, B-113).
    AllEndpoints,
}

/// One place where clients find a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct Frontend {
    /// Where.
    pub at: FrontendAddress,
    /// Which field of the Service asks for it.
    pub kind: FrontendKind,
    /// Who may use it; others are dropped (B-137).
    pub sources: SourceRanges,
    /// What happens, by where the packet comes from.
    pub routes: PerOrigin<Route>,
    /// Of a node port: node addresses at which another front end holds address and port (B-116).
    pub shadowed: Box<[IpAddr]>,
}

/// The address of a [`Frontend`]; the protocol is that of the service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum FrontendAddress {
    /// One address and port.
    Ip(SocketAddr),
    /// A port on every node-port address ([`crate::NodePorts`]).
    NodePort(u16),
}

/// Which field of a Service asks for a front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub enum FrontendKind {
    ClusterIp,
    LoadBalancerIp,
    ExternalIp,
    NodePort,
}

/// Who may use a front end.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum SourceRanges {
    /// Everybody.
    All,
    /// Only sources inside one of these, sorted and disjoint.
    Only(Box<[IpNet]>),
}

impl SourceRanges {
    /// Whether a source may use the front end.
    pub fn allow(&self, source: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Only(ranges) => ranges.iter().any(|range| range.contains(&source)),
        }
    }
}

/// One value for each [`Origin`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct PerOrigin<T> {
    /// From a pod, as far as the local-traffic detector can tell.
    pub pod: T,
    /// From the node itself.
    pub node: T,
    /// From anywhere else.
    pub external: T,
}

/// Where a packet comes from (B-108).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Origin {
    /// A pod, as the local-traffic detector says.
    Pod,
    /// An address of this node.
    Node,
    /// Anywhere else.
    External,
}

impl<T> PerOrigin<T> {
    /// The value for one origin.
    pub fn at(&self, origin: Origin) -> &T {
        match origin {
            Origin::Pod => &self.pod,
            Origin::Node => &self.node,
            Origin::External => &self.external,
        }
    }
}

impl<T: Copy> PerOrigin<T> {
    /// The same value for each origin.
    pub fn same(value: T) -> Self {
        Self {
            pod: value,
            node: value,
            external: value,
        }
    }
}

/// What happens with a new connection to a front end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub enum Route {
    /// It goes to one of the endpoints of a list, each with equal probability (B-040).
    Forward {
        /// Which list.
        to: Scope,
        /// Whether the endpoint sees the node's address instead of the client's.
        masquerade: Masquerade,
    },
    /// It is refused: ICMP port unreachable (B-144).
    Reject,
    /// It is dropped silently (B-145).
    Drop,
}

/// Which list of endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Scope {
    /// [`ServicePortPlan::cluster`].
    Cluster,
    /// [`ServicePortPlan::local`].
    Local,
}

/// Whether the source address is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum Masquerade {
    /// The endpoint sees the client's address.
    Never,
    /// The endpoint sees an address of this node.
    Always,
}

/// The health-check server of a Service of type LoadBalancer and policy Local (B-191).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct HealthCheck {
    /// `spec.healthCheckNodePort`.
    pub port: u16,
    /// Number of distinct addresses of ready endpoints on this node (B-198, B-199).
    pub local_endpoints: u32,
}

impl ServicePortPlan {
    /// The endpoints of a list.
    pub fn endpoints(&self, scope: Scope) -> &[Endpoint] {
        match scope {
            Scope::Cluster => &self.cluster,
            Scope::Local => &self.local,
        }
    }

    /// Every endpoint that some route may choose, each once, sorted (B-067).
    pub fn reachable(&self) -> impl Iterator<Item = &Endpoint> {
        let extra = self
            .local
            .iter()
            .filter(|endpoint| self.cluster.binary_search(endpoint).is_err());
        self.cluster.iter().chain(extra)
    }

    /// Whether a connection of an endpoint to itself is masqueraded.
    pub fn masquerades_hairpin(&self, endpoint: &Endpoint) -> bool {
        match self.hairpin {
            Hairpin::AllEndpoints => true,
            Hairpin::LocalEndpoints => endpoint.locality == Locality::Local,
        }
    }
}

impl Endpoint {
    /// Address and port.
    pub fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.socket(), f)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.socket(), self.locality)
    }
}

impl FrontendAddress {
    /// The port that clients use.
    pub fn port(&self) -> u16 {
        match self {
            Self::Ip(socket) => socket.port(),
            Self::NodePort(port) => *port,
        }
    }
}

/// Writes an address, port and protocol as command lines do: `10.96.0.10:53/udp`.
pub fn address_text(socket: SocketAddr, protocol: Protocol) -> alloc::string::String {
    alloc::format!("{socket}/{}", protocol.lower())
}

#[cfg(feature = "serde")]
mod serialize {
    use alloc::collections::BTreeMap;
    use alloc::string::ToString;
    use alloc::sync::Arc;

    use serde::ser::{SerializeSeq, SerializeStruct};
    use serde::{Serialize, Serializer};

    use super::{Endpoint, Locality, ServicePortPlan};
    use crate::name::ServicePortName;
    use crate::net::Protocol;

    #[derive(serde::Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Row<'a> {
        service: &'a ServicePortName,
        protocol: Protocol,
        #[serde(flatten)]
        plan: &'a ServicePortPlan,
    }

    /// A list, as neither the name nor the protocol alone is a key.
    pub(super) fn service_ports<S: Serializer>(
        ports: &BTreeMap<ServicePortName, Arc<ServicePortPlan>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut rows = serializer.serialize_seq(Some(ports.len()))?;
        for (service, plan) in ports {
            rows.serialize_element(&Row {
                service,
                protocol: service.protocol,
                plan,
            })?;
        }
        rows.end()
    }

    impl Serialize for Endpoint {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut fields = serializer.serialize_struct("Endpoint", 2)?;
            fields.serialize_field("address", &self.socket().to_string())?;
            fields.serialize_field("local", &(self.locality == Locality::Local))?;
            fields.end()
        }
    }
}
