//! What a sandbox is built from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Transport;

/// What to build.
///
/// The default is a dual-stack node of documentation addresses without pods.
#[derive(Debug, Clone)]
pub struct Layout {
    /// Name of the node, at most 15 characters, for the link that leads to it is named so too.
    pub node: String,
    /// Addresses of the node; the first of each family is its primary one.
    pub node_addresses: Vec<IpAddr>,
    /// IPv4 address of the router outside, on the way to everything that is not on the node.
    pub gateway: Ipv4Addr,
    /// Addresses of the outside clients, all in one namespace; the first of each family is the
    /// source of packets that choose none.
    pub clients: Vec<IpAddr>,
    /// Pods to start with.
    pub pods: Vec<PodSpec>,
}

impl Default for Layout {
    fn default() -> Self {
        let v6 = |a, b, c, h| IpAddr::from(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, h));
        Self {
            node: "n1".into(),
            node_addresses: vec![
                Ipv4Addr::new(198, 18, 0, 10).into(),
                Ipv4Addr::new(198, 18, 1, 10).into(),
                Ipv4Addr::new(198, 18, 9, 11).into(),
                v6(0x2001, 0xdb8, 0xa, 0x10),
                v6(0x2001, 0xdb8, 0xb, 0x10),
            ],
            gateway: Ipv4Addr::new(198, 18, 0, 1),
            clients: vec![
                Ipv4Addr::new(203, 0, 113, 7).into(),
                Ipv4Addr::new(203, 0, 113, 200).into(),
                v6(0x2600, 0x5200, 0, 7),
            ],
            pods: Vec::new(),
        }
    }
}

/// Where a pod runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the node under test.
    Node,
    /// On another node: behind the router outside, so that the node under test reaches it through
    /// its own uplink.
    OtherNode,
}

/// A pod to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodSpec {
    /// Its name, which its servers answer with.
    pub name: String,
    /// Where it runs.
    pub place: Place,
    /// Its addresses, of one or both families.
    pub addresses: Vec<IpAddr>,
    /// What it serves, on each of its addresses.
    pub ports: Vec<(Transport, u16)>,
}

impl PodSpec {
    /// A pod on the node under test that serves nothing yet.
    pub fn on_node(name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            name: name.into(),
            place: Place::Node,
            addresses: addresses.into_iter().collect(),
            ports: Vec::new(),
        }
    }

    /// A pod on another node that serves nothing yet.
    pub fn elsewhere(name: impl Into<String>, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        Self {
            place: Place::OtherNode,
            ..Self::on_node(name, addresses)
        }
    }

    /// Adds a port that the pod serves.
    #[must_use]
    pub fn serving(mut self, transport: Transport, port: u16) -> Self {
        self.ports.push((transport, port));
        self
    }
}
