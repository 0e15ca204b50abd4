//! A node with its pods and the world around it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use svc_core::{IpFamily, IpNet};

use super::layout::{Layout, Place, PodSpec};
use super::link::{Route, Rule, RuleAction, connect_veth};
use super::nowhere::Nowhere;
use super::{Error, Namespace, Server, Transport};

/// A running pod.
#[derive(Debug)]
pub struct Pod {
    spec: PodSpec,
    // Before the namespace, so that its sockets are closed first.
    server: Option<Server>,
    namespace: Namespace,
    router_link: String,
}

impl Pod {
    /// What it was started from.
    pub fn spec(&self) -> &PodSpec {
        &self.spec
    }

    /// Its namespace; its link is `eth0`.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The other end of its link, in the namespace of the node or, for a pod elsewhere, outside.
    pub fn router_link(&self) -> &str {
        &self.router_link
    }

    /// Closes its ports and connections; the pod stays reachable and refuses.
    pub fn stop_serving(&mut self) {
        self.server = None;
    }
}

/// A node, its pods and outside clients.
#[derive(Debug)]
pub struct Sandbox {
    pods: BTreeMap<String, Pod>,
    node: Namespace,
    nowhere: Nowhere,
    outside: Namespace,
    layout: Layout,
    links: u32,
}

impl Sandbox {
    /// Builds the namespaces and starts the servers of the pods.
    ///
    /// # Errors
    ///
    /// Any of [`Error`]; what was built until then is gone again.
    pub fn build(layout: &Layout) -> Result<Self, Error> {
        let node = Namespace::new(&layout.node)?;
        configure(&node, NODE_SYSCTLS)?;
        let outside = Namespace::new("outside")?;
        configure(&outside, OUTSIDE_SYSCTLS)?;
        let nowhere = Namespace::new("nowhere")?;
        configure(&nowhere, &[])?;
        let mut sandbox = Self {
            pods: BTreeMap::new(),
            node,
            nowhere: Nowhere::start(nowhere)?,
            outside,
            layout: layout.clone(),
            links: 0,
        };
        sandbox.connect_outside()?;
        for pod in &layout.pods {
            sandbox.add_pod(pod)?;
        }
        Ok(sandbox)
    }

    /// The node under test: here belong the rules of the proxy. Its uplink is `eth0`.
    pub fn node(&self) -> &Namespace {
        &self.node
    }

    /// The outside clients and the router between the nodes.
    pub fn outside(&self) -> &Namespace {
        &self.outside
    }

    /// The namespace that has an address: of the node (which has the loopback addresses too), of
    /// the outside clients, or of a pod.
    pub fn namespace_of(&self, address: IpAddr) -> Option<&Namespace> {
        if address.is_loopback() || self.layout.node_addresses.contains(&address) {
            Some(&self.node)
        } else if self.layout.clients.contains(&address) {
            Some(&self.outside)
        } else {
            self.pods()
                .find(|pod| pod.spec.addresses.contains(&address))
                .map(Pod::namespace)
        }
    }

    /// A running pod.
    pub fn pod(&self, name: &str) -> Option<&Pod> {
        self.pods.get(name)
    }

    /// A running pod, to change it.
    pub fn pod_mut(&mut self, name: &str) -> Option<&mut Pod> {
        self.pods.get_mut(name)
    }

    /// All running pods by name.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values()
    }

    /// Starts a pod and returns once it is reachable and serves.
    ///
    /// # Errors
    ///
    /// [`Error::PodExists`], or another when the pod could not be built; it is gone again then.
    pub fn add_pod(&mut self, spec: &PodSpec) -> Result<&Pod, Error> {
        if self.pods.contains_key(&spec.name) {
            return Err(Error::PodExists {
                pod: spec.name.clone(),
            });
        }
        let namespace = Namespace::new(&spec.name)?;
        configure(&namespace, &[])?;
        let router_link = match spec.place {
            Place::Node => format!("veth{}", self.links),
            Place::OtherNode => format!("fab{}", self.links),
        };
        self.links += 1;
        let listening: Vec<(Transport, SocketAddr)> = spec
            .addresses
            .iter()
            .flat_map(|ip| {
                spec.ports
                    .iter()
                    .map(|(transport, port)| (*transport, SocketAddr::new(*ip, *port)))
            })
            .collect();
        self.connect_pod(spec, &namespace, &router_link)?;
        let server = if listening.is_empty() {
            None
        } else {
            Some(Server::start(&namespace, &spec.name, &listening)?)
        };
        let pod = Pod {
            spec: spec.clone(),
            server,
            namespace,
            router_link,
        };
        Ok(self.pods.entry(spec.name.clone()).or_insert(pod))
    }

    /// Stops a pod: its connections are closed, then its link and its namespace go.
    ///
    /// # Errors
    ///
    /// [`Error::NoPod`], or [`Error::Rtnetlink`] when its link could not be deleted.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), Error> {
        let mut pod = self.pods.remove(name).ok_or_else(|| Error::NoPod {
            pod: name.to_owned(),
        })?;
        pod.stop_serving();
        // At once, not whenever the kernel gets round to cleaning the namespace up.
        self.router(pod.spec.place).delete_link(&pod.router_link)
    }

    fn router(&self, place: Place) -> &Namespace {
        match place {
            Place::Node => &self.node,
            Place::OtherNode => &self.outside,
        }
    }

    fn connect_outside(&self) -> Result<(), Error> {
        let (node, outside, layout) = (&self.node, &self.outside, &self.layout);
        let to_node = layout.node.as_str();
        connect_veth((node, UPLINK), (outside, to_node))?;
        outside.add_address(to_node, IpNet::from(IpAddr::from(layout.gateway)))?;
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) = layout
            .node_addresses
            .iter()
            .partition(|address| address.is_ipv4());
        // Masquerading takes the oldest IPv4 and the youngest IPv6 address of a link.
        for address in v4.into_iter().chain(v6.into_iter().rev()) {
            node.add_address(UPLINK, IpNet::from(address))?;
        }
        for address in &layout.clients {
            outside.add_address("lo", IpNet::from(*address))?;
        }
        for family in IpFamily::ALL {
            let Some(primary) = first_of(family, &layout.node_addresses) else {
                continue;
            };
            let (gateway, node_gateway) = match family {
                IpFamily::V4 => (IpAddr::from(layout.gateway), primary),
                IpFamily::V6 => add_link_locals((outside, to_node), node)?,
            };
            node.add_route(&Route::default_through(gateway, UPLINK).from_source(primary))?;
            let to_all = Route::default_through(node_gateway, to_node);
            outside.add_route(&match first_of(family, &layout.clients) {
                Some(client) => to_all.from_source(client),
                None => to_all,
            })?;
            self.answer_strays(family)?;
        }
        node.wait_ready(UPLINK, &layout.node_addresses)?;
        outside.wait_ready(to_node, &layout.clients)
    }

    /// Packets from the node go to pods of other nodes and to clients, never back to the node:
    /// one for anybody else is one that the node did not want.
    fn answer_strays(&self, family: IpFamily) -> Result<(), Error> {
        let from_link = self.layout.node.clone();
        let fabric = Rule {
            family,
            from_link,
            priority: 100,
            action: RuleAction::Lookup(FABRIC_TABLE),
        };
        self.outside.add_rule(&fabric)?;
        match family {
            IpFamily::V4 => self.connect_nowhere(),
            IpFamily::V6 => self.outside.add_rule(&Rule {
                priority: 101,
                action: RuleAction::Unreachable,
                ..fabric
            }),
        }
    }

    fn connect_nowhere(&self) -> Result<(), Error> {
        let (outside, nowhere) = (&self.outside, self.nowhere.namespace());
        connect_veth((outside, NOWHERE), (nowhere, UPLINK))?;
        nowhere.add_address(UPLINK, IpNet::from(NOWHERE_ADDRESS))?;
        let gateway = self.layout.gateway.into();
        nowhere.add_route(&Route::default_through(gateway, UPLINK))?;
        let strays = Route::default_through(NOWHERE_ADDRESS, NOWHERE);
        outside.add_route(&strays.in_table(FABRIC_TABLE))?;
        outside.wait_ready(NOWHERE, &[])?;
        nowhere.wait_ready(UPLINK, &[NOWHERE_ADDRESS])
    }

    fn connect_pod(&self, spec: &PodSpec, pod: &Namespace, link: &str) -> Result<(), Error> {
        let router = self.router(spec.place);
        connect_veth((router, link), (pod, UPLINK))?;
        for address in &spec.addresses {
            pod.add_address(UPLINK, IpNet::from(*address))?;
            let route = Route::direct(IpNet::from(*address), link);
            router.add_route(&match spec.place {
                Place::Node => route,
                Place::OtherNode => route.in_table(FABRIC_TABLE),
            })?;
        }
        if first_of(IpFamily::V4, &spec.addresses).is_some() {
            let gateway = self.gateway_of(spec.place);
            pod.add_route(&Route::default_through(gateway, UPLINK))?;
        }
        if first_of(IpFamily::V6, &spec.addresses).is_some() {
            let (gateway, _) = add_link_locals((router, link), pod)?;
            pod.add_route(&Route::default_through(gateway, UPLINK))?;
        }
        router.wait_ready(link, &[])?;
        pod.wait_ready(UPLINK, &spec.addresses)
    }

    /// The IPv4 address that a pod asks for on its link. The router answers for all its addresses
    /// on all links, so the links need none of their own.
    fn gateway_of(&self, place: Place) -> IpAddr {
        match place {
            Place::Node => first_of(IpFamily::V4, &self.layout.node_addresses)
                .unwrap_or(self.layout.gateway.into()),
            Place::OtherNode => self.layout.gateway.into(),
        }
    }
}

fn first_of(family: IpFamily, addresses: &[IpAddr]) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|address| IpFamily::of(*address) == family)
}

/// Gives both ends of a link an address that the other can use as its IPv6 gateway, and returns
/// the router's and the host's.
///
/// Gateways are link-local because the kernel answers a neighbour solicitation only for addresses
/// of the link it came through, and the link to a pod has no other.
fn add_link_locals(
    (router, link): (&Namespace, &str),
    host: &Namespace,
) -> Result<(IpAddr, IpAddr), Error> {
    let (of_router, of_host) = (link_local(1), link_local(2));
    router.add_address(link, of_router)?;
    host.add_address(UPLINK, of_host)?;
    router.wait_ready(link, &[of_router.addr()])?;
    host.wait_ready(UPLINK, &[of_host.addr()])?;
    Ok((of_router.addr(), of_host.addr()))
}

/// `fe80::INTERFACE/64`.
fn link_local(interface: u16) -> IpNet {
    let address = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, interface);
    IpNet::new_assert(address.into(), 64)
}

fn configure(namespace: &Namespace, own: &[(&str, &str)]) -> Result<(), Error> {
    let ipv6 = Path::new("/proc/sys/net/ipv6").exists();
    let values: Vec<(&str, &str)> = own
        .iter()
        .chain(SYSCTLS)
        .copied()
        .filter(|(key, _)| ipv6 || !key.starts_with("net/ipv6"))
        .collect();
    namespace.set_sysctls(&values)
}

/// The link to the router in the namespace of a pod and of the node.
const UPLINK: &str = "eth0";
/// The link outside over which strays leave.
const NOWHERE: &str = "nowhere";
/// The address for ICMP errors of routers that have none of their own (RFC 7600).
const NOWHERE_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 0, 8));
/// Routes to pods of other nodes, only for packets from the node.
const FABRIC_TABLE: u8 = 100;

/// For every namespace, whatever it inherited from the host.
const SYSCTLS: &[(&str, &str)] = &[
    // Replies may leave through another link than requests came through.
    ("net/ipv4/conf/all/rp_filter", "0"),
    ("net/ipv4/conf/default/rp_filter", "0"),
    // A pod that reaches itself through a Service is no reason to teach it a shorter way.
    ("net/ipv4/conf/all/send_redirects", "0"),
    ("net/ipv4/conf/default/send_redirects", "0"),
    // Many probes are refused one after another.
    ("net/ipv4/icmp_ratemask", "0"),
    ("net/ipv6/icmp/ratelimit", "0"),
    // None but type 255, which nobody sends; otherwise fifty at once are the limit for all clients.
    ("net/ipv6/icmp/ratemask", "255"),
    ("net/ipv6/conf/all/disable_ipv6", "0"),
    ("net/ipv6/conf/default/disable_ipv6", "0"),
    // Addresses are unique here, and usable at once.
    ("net/ipv6/conf/all/accept_dad", "0"),
    ("net/ipv6/conf/default/accept_dad", "0"),
    // Link-local addresses are given, not generated.
    ("net/ipv6/conf/default/addr_gen_mode", "1"),
];

/// Forwarding comes first: it resets other parameters.
const NODE_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
];

const OUTSIDE_SYSCTLS: &[(&str, &str)] = &[
    ("net/ipv4/ip_forward", "1"),
    ("net/ipv6/conf/all/forwarding", "1"),
    // A packet of a client on its way from the node to another node's pod comes back through here.
    ("net/ipv4/conf/all/accept_local", "1"),
];
