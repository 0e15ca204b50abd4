//! The node, pods and clients that objects speak of.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use svc_core::config::ProxyMode;
use svc_core::object::{EndpointSlice, Node, Service};
use svc_core::{IpNet, Ipv4Net, Ipv6Net, Name};

use crate::manifest::Manifests;
use crate::sandbox::{self, Layout, Namespace, Place, PodSpec, Sandbox, Server, Transport};

/// A node with every pod that some objects speak of, and clients of any address.
///
/// Each endpoint answers on all ports of its slices, ready or not, and names the address and port
/// that was reached. The node has addresses that are used for masquerading only, so that it shows
/// in every packet whether it was masqueraded, those of the node itself included.
#[derive(Debug)]
pub struct World {
    // Before the namespaces, so that sockets are closed first.
    pub(super) pods: BTreeMap<IpAddr, Running>,
    pub(super) sandbox: Sandbox,
    node: Name,
    node_addresses: Vec<IpAddr>,
    /// Where pods of each node live.
    pod_cidrs: Vec<(IpNet, Place)>,
    /// Addresses of load balancers.
    virtual_ips: BTreeSet<IpAddr>,
    pub(super) choice: Choice,
}

/// How a backend chooses endpoints, which decides how many connections show all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// By chance.
    #[default]
    Chance,
    /// One after the other.
    Turns,
}

impl Choice {
    /// That of a backend with the configuration that a mode has by default.
    pub fn of(mode: ProxyMode) -> Self {
        match mode {
            ProxyMode::Nftables | ProxyMode::Iptables => Self::Chance,
            ProxyMode::Ipvs => Self::Turns,
        }
    }
}

/// A pod that runs.
#[derive(Debug)]
pub(super) struct Running {
    place: Place,
    pub(super) servers: BTreeMap<(Transport, u16), Server>,
}

/// Why a world could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorldError {
    /// A namespace or link refused.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// The objects do not describe the node.
    #[error("there is no node {name:?}")]
    NoNode {
        /// Its name.
        name: Name,
    },
    /// The sandbox has no sockets for it.
    #[error("there are no SCTP sockets here")]
    NoSctp,
}

/// Where a packet starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sender {
    /// Where this address is.
    Owner(IpAddr),
    /// On the node, which has this address only for as long as it sends.
    Borrower(IpAddr),
}

impl World {
    /// A node of these addresses without pods.
    ///
    /// # Errors
    /// [`WorldError::Sandbox`].
    pub fn new(node: &Node) -> Result<Self, WorldError> {
        let layout = Layout {
            node: node.name.to_string(),
            node_addresses: node.addresses.clone(),
            clients: vec![ROUTER_V6.into()],
            ..Layout::default()
        };
        let sandbox = Sandbox::build(&layout)?;
        for address in [MASQUERADED_TO_OTHERS, MASQUERADED_V6] {
            sandbox.node().add_address(UPLINK, address)?;
        }
        let added = [MASQUERADED_TO_OTHERS.addr(), MASQUERADED_V6.addr()];
        sandbox.node().wait_ready(UPLINK, &added)?;
        Ok(Self {
            pods: BTreeMap::new(),
            sandbox,
            node: node.name.clone(),
            node_addresses: node.addresses.clone(),
            pod_cidrs: Vec::new(),
            virtual_ips: BTreeSet::new(),
            choice: Choice::default(),
        })
    }

    /// The same for a backend that chooses so.
    #[must_use]
    pub fn choosing(self, choice: Choice) -> Self {
        Self { choice, ..self }
    }

    /// Whether a node of this name and addresses is the one of this world.
    pub fn fits(&self, node: &Node) -> bool {
        self.node == node.name && self.node_addresses == node.addresses
    }

    /// The namespaces.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Starts the pods that objects speak of; those that run go on.
    ///
    /// # Errors
    /// [`WorldError::Sandbox`].
    pub fn add(&mut self, manifests: &Manifests) -> Result<(), WorldError> {
        for slice in &manifests.endpoint_slices {
            self.add_endpoints(slice)?;
        }
        for node in &manifests.nodes {
            let place = self.place(Some(&node.name));
            let cidrs = node.pod_cidrs.iter().map(|cidr| (*cidr, place));
            self.pod_cidrs.extend(cidrs);
        }
        let ingress = |service: &Service| service.ingress.clone();
        let all = manifests.services.iter().flat_map(ingress);
        self.virtual_ips.extend(all.map(|ingress| ingress.ip));
        Ok(())
    }

    fn add_endpoints(&mut self, slice: &EndpointSlice) -> Result<(), WorldError> {
        let served = slice.ports.iter().filter_map(|port| {
            let transport = Transport::of(port.protocol)?;
            (port.port != 0).then_some((transport, port.port))
        });
        let served: Vec<(Transport, u16)> = served.collect();
        for endpoint in &slice.endpoints {
            let place = self.place(endpoint.node.as_ref());
            self.add_pod(endpoint.address, place, &served)?;
        }
        Ok(())
    }

    fn place(&self, node: Option<&Name>) -> Place {
        match node == Some(&self.node) {
            true => Place::Node,
            false => Place::OtherNode,
        }
    }

    /// Makes a pod run at a place and serve ports, among others that it serves. One with an address of
    /// the node is in the node's own network.
    fn add_pod(
        &mut self,
        ip: IpAddr,
        place: Place,
        served: &[(Transport, u16)],
    ) -> Result<(), WorldError> {
        if self.pods.get(&ip).is_some_and(|pod| pod.place != place) {
            self.pods.remove(&ip);
            self.sandbox.remove_pod(&ip.to_string())?;
        }
        let of_node = self.node_addresses.contains(&ip);
        if !self.pods.contains_key(&ip) {
            match of_node {
                true => self.started(ip, place),
                false => self.start(ip, place)?,
            }
        }
        let namespace = match of_node {
            true => Some(self.sandbox.node()),
            false => self.sandbox.pod(&ip.to_string()).map(|pod| pod.namespace()),
        };
        if let (Some(pod), Some(namespace)) = (self.pods.get_mut(&ip), namespace) {
            for (transport, port) in served {
                if let Entry::Vacant(free) = pod.servers.entry((*transport, *port)) {
                    let at = SocketAddr::new(ip, *port);
                    free.insert(serve(namespace, at, *transport)?);
                }
            }
        }
        Ok(())
    }

    fn start(&mut self, ip: IpAddr, place: Place) -> Result<(), WorldError> {
        let name = ip.to_string();
        let spec = match place {
            Place::Node => PodSpec::on_node(name, [ip]),
            Place::OtherNode => PodSpec::elsewhere(name, [ip]),
        };
        let link = self.sandbox.add_pod(&spec)?.router_link().to_owned();
        if place == Place::Node && ip.is_ipv4() {
            self.sandbox
                .node()
                .add_address(&link, MASQUERADED_TO_PODS)?;
        }
        self.started(ip, place);
        Ok(())
    }

    fn started(&mut self, ip: IpAddr, place: Place) {
        let servers = BTreeMap::new();
        self.pods.insert(ip, Running { place, servers });
    }

    /// Starts one client with several addresses, outside the cluster.
    ///
    /// # Errors
    /// [`WorldError::Sandbox`].
    pub fn add_clients(&mut self, name: &str, addresses: &[IpAddr]) -> Result<(), WorldError> {
        let spec = PodSpec::elsewhere(name, addresses.iter().copied());
        self.sandbox.add_pod(&spec)?;
        Ok(())
    }

    /// Where packets from an address start: on the node, in its pod or with its client. Who does
    /// not run yet is started, pods where their addresses belong and others outside the cluster.
    pub(super) fn sender(&mut self, source: IpAddr) -> Result<Sender, WorldError> {
        if self.sandbox.namespace_of(source).is_some() {
            return Ok(Sender::Owner(source));
        }
        if self.virtual_ips.contains(&source) {
            let node = self.sandbox.node();
            node.add_address(LOOPBACK, source.into())?;
            node.wait_ready(UPLINK, &[source])?;
            return Ok(Sender::Borrower(source));
        }
        let mut cidrs = self.pod_cidrs.iter();
        let known = cidrs.find(|(cidr, _)| cidr.contains(&source));
        // Clients are not in the namespace of the router: an answer from another node that the node
        // has to translate back would come home without it.
        self.start(source, known.map_or(Place::OtherNode, |(_, place)| *place))?;
        Ok(Sender::Owner(source))
    }

    /// The namespace of a sender.
    pub(super) fn namespace(&self, sender: Sender) -> &Namespace {
        let owner = match sender {
            Sender::Owner(ip) => self.sandbox.namespace_of(ip),
            Sender::Borrower(_) => None,
        };
        owner.unwrap_or_else(|| self.sandbox.node())
    }

    /// Takes back what a sender was lent.
    pub(super) fn dismiss(&self, sender: Sender) -> Result<(), WorldError> {
        match sender {
            Sender::Borrower(ip) => Ok(self.sandbox.node().delete_address(LOOPBACK, ip.into())?),
            Sender::Owner(_) => Ok(()),
        }
    }

    /// The namespace that packets of a source come from, for tests that connect by themselves; it
    /// is started like every sender.
    ///
    /// # Errors
    /// [`WorldError::Sandbox`].
    pub fn namespace_for(&mut self, source: IpAddr) -> Result<&Namespace, WorldError> {
        let sender = self.sender(source)?;
        Ok(self.namespace(sender))
    }
}

/// Answers on a port and says which.
pub(super) fn serve(
    namespace: &Namespace,
    at: SocketAddr,
    transport: Transport,
) -> Result<Server, sandbox::Error> {
    Server::start(namespace, &at.to_string(), &[(transport, at)])
}

/// Whether an address is one that the node uses for masquerading only.
pub(super) fn is_masqueraded(ip: IpAddr) -> bool {
    [MASQUERADED_TO_OTHERS, MASQUERADED_TO_PODS, MASQUERADED_V6]
        .iter()
        .any(|net| net.addr() == ip)
}

/// The router outside sends ICMPv6 errors from here: those from a link-local address are for the
/// next hop only.
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1);
/// The node's link to everything that is not on it.
const UPLINK: &str = "eth0";
const LOOPBACK: &str = "lo";

/// Masquerading takes the address of the outgoing link whose prefix holds the next hop: here the
/// gateway 198.18.0.1.
const MASQUERADED_TO_OTHERS: IpNet = net_v4([198, 18, 0, 2], 30);
/// The only address of links to pods.
const MASQUERADED_TO_PODS: IpNet = net_v4([198, 18, 0, 3], 32);
/// For a unique local destination such an address is the best source (RFC 6724, rule 6).
const MASQUERADED_V6: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1),
    128,
));

const fn net_v4(octets: [u8; 4], prefix: u8) -> IpNet {
    let [a, b, c, d] = octets;
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}
