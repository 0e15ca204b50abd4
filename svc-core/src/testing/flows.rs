//! Flows: written as text, and aimed at a plan.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;

use super::generate::{CLUSTER_IPS, ENDPOINT_IPS, EXTERNAL_IPS};
use super::source::Source;
use crate::name::Name;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::LocalDetector;
use crate::plan::{FrontendAddress, Plan, SourceRanges};
use crate::route::Flow;

/// Reads `SOURCE -> IP:PORT/PROTOCOL [via INTERFACE]`, as [`Flow`] prints itself.
///
/// # Errors
///
/// What cannot be read.
pub fn parse_flow(text: &str) -> Result<Flow, String> {
    let bad = || format!("no flow: {text:?}");
    let (source, rest) = text.trim().split_once(" -> ").ok_or_else(bad)?;
    let (to, interface) = match rest.split_once(" via ") {
        Some((to, interface)) => (to, Some(Name::from(interface))),
        None => (rest, None),
    };
    let (destination, protocol) = to.rsplit_once('/').ok_or_else(bad)?;
    Ok(Flow {
        source: source.trim().parse().map_err(|_| bad())?,
        destination: destination.parse().map_err(|_| bad())?,
        protocol: protocol.parse().map_err(|_| bad())?,
        interface,
    })
}

/// Sources and destinations that a plan says something about, or that it narrowly misses.
#[derive(Clone, Debug)]
pub struct Aims {
    sources: Vec<IpAddr>,
    destinations: Vec<SocketAddr>,
    interfaces: Vec<Option<Name>>,
}

impl Source<'_> {
    fn byte_pair(&mut self) -> usize {
        usize::from(self.byte()) * 256 + usize::from(self.byte())
    }
}

impl Aims {
    /// One of the flows.
    pub fn flow(&self, source: &mut Source<'_>) -> Flow {
        let from = source.byte_pair() % self.sources.len();
        let to = source.byte_pair() % self.destinations.len();
        Flow {
            source: self.sources[from],
            destination: self.destinations[to],
            protocol: source.pick(&Protocol::ALL),
            interface: source.pick(&self.interfaces),
        }
    }

    /// Every flow between them, with every protocol: about ten thousand for a small plan.
    pub fn every_flow(&self) -> impl Iterator<Item = Flow> {
        self.sources.iter().flat_map(move |source| {
            self.destinations.iter().flat_map(move |destination| {
                Protocol::ALL.into_iter().flat_map(move |protocol| {
                    let interfaces = self.interfaces.iter().cloned();
                    interfaces.map(move |interface| Flow {
                        source: *source,
                        destination: *destination,
                        protocol,
                        interface,
                    })
                })
            })
        })
    }

    /// The aims of a plan; there are always some.
    pub fn of(plan: &Plan) -> Self {
        let family = plan.family;
        let mut sources = BTreeSet::new();
        let mut sockets = BTreeSet::new();
        let mut node_ports = BTreeSet::new();
        for service_port in plan.service_ports.values() {
            for endpoint in service_port.reachable() {
                sources.insert(endpoint.ip);
                sockets.insert(endpoint.socket());
            }
            for frontend in &service_port.frontends {
                match frontend.at {
                    FrontendAddress::Ip(at) => {
                        sockets.insert(at);
                        sockets.insert(SocketAddr::new(at.ip(), at.port() ^ 1));
                        sources.insert(at.ip());
                    }
                    FrontendAddress::NodePort(port) => {
                        node_ports.insert(port);
                    }
                }
                if let SourceRanges::Only(ranges) = &frontend.sources {
                    ranges.iter().for_each(|range| edges(range, &mut sources));
                }
            }
        }
        let mut locals: BTreeSet<IpAddr> = plan.node.addresses.iter().copied().collect();
        locals.extend(loopback(family));
        sources.extend(&locals);
        sources.extend(fixed(family));
        if let LocalDetector::Cidr(net) = &plan.node.local_detector {
            edges(net, &mut sources);
        }
        node_ports.extend([80, 30080]);
        for port in node_ports {
            for ip in locals.iter().copied().chain(fixed(family)) {
                sockets.insert(SocketAddr::new(ip, port));
            }
        }
        let mut inside = BTreeSet::new();
        for net in &plan.node.service_cidrs {
            edges(net, &mut inside);
        }
        sockets.extend(inside.into_iter().map(|ip| SocketAddr::new(ip, 80)));
        for text in CLUSTER_IPS.iter().chain(&EXTERNAL_IPS).chain(&ENDPOINT_IPS) {
            let ip = text.parse::<IpAddr>().ok();
            sockets.extend(ip.map(|ip| SocketAddr::new(ip, 80)));
        }
        let own = |ip: &IpAddr| IpFamily::of(*ip) == family;
        Self {
            sources: sources.into_iter().filter(own).collect(),
            destinations: sockets.into_iter().filter(|at| own(&at.ip())).collect(),
            interfaces: interfaces(&plan.node.local_detector),
        }
    }
}

/// Input interfaces that the detector may tell apart.
fn interfaces(detector: &LocalDetector) -> Vec<Option<Name>> {
    match detector {
        LocalDetector::None | LocalDetector::Cidr(_) => Vec::from([None]),
        LocalDetector::Bridge(name) | LocalDetector::InterfacePrefix(name) => Vec::from([
            None,
            Some(name.clone()),
            Some(format!("{name}1").as_str().into()),
            Some("eth0".into()),
        ]),
    }
}

/// The first and last address of a prefix, and those just outside.
fn edges(net: &IpNet, into: &mut BTreeSet<IpAddr>) {
    let (first, last) = (net.network(), net.broadcast());
    into.extend([first, last]);
    into.extend(step(first, -1));
    into.extend(step(last, 1));
}

fn step(ip: IpAddr, by: i8) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => {
            let bits = ip.to_bits().checked_add_signed(by.into())?;
            Some(Ipv4Addr::from_bits(bits).into())
        }
        IpAddr::V6(ip) => {
            let bits = ip.to_bits().checked_add_signed(by.into())?;
            Some(Ipv6Addr::from_bits(bits).into())
        }
    }
}

fn loopback(family: IpFamily) -> Vec<IpAddr> {
    match family {
        IpFamily::V4 => Vec::from([[127, 0, 0, 1], [127, 1, 2, 3]].map(IpAddr::from)),
        IpFamily::V6 => Vec::from([Ipv6Addr::LOCALHOST.into()]),
    }
}

/// A pod of this node, a pod of another, somebody outside, another node.
fn fixed(family: IpFamily) -> [IpAddr; 4] {
    match family {
        IpFamily::V4 => [
            [10, 64, 1, 200],
            [10, 64, 2, 200],
            [203, 0, 113, 7],
            [198, 18, 0, 12],
        ]
        .map(IpAddr::from),
        IpFamily::V6 => [
            [0xfd10, 0x64, 0, 1, 0, 0, 0, 0x200],
            [0xfd10, 0x64, 0, 2, 0, 0, 0, 0x200],
            [0x2600, 0x5200, 0, 0, 0, 0, 0, 7],
            [0x2001, 0xdb8, 0xa, 0, 0, 0, 0, 0x12],
        ]
        .map(IpAddr::from),
    }
}
