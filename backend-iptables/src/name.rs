//! Names of chains, at most 28 bytes each.
//!
//! A name says where the chain belongs, in fixed-width hexadecimal, so that the chains of a
//! Service and the node of the tree that refers to them are neighbours in byte order: the
//! iptables-nft tools keep their chains in a sorted list that they walk for every line.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use svc_core::{FrontendAddress, FrontendKind, IpFamily, Protocol, ServicePortPlan};

use crate::key::Tree;

/// What the name of each chain of ours starts with.
pub const PREFIX: &str = "SVC-";

/// The name of a chain: 1 to 28 printable ASCII characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainName {
    // Before the length, so that the order is that of the text.
    text: [u8; Self::MAX],
    length: u8,
}

impl ChainName {
    /// The most bytes that a name may have in the kernel.
    pub const MAX: usize = 28;

    /// A name, unless the kernel could not hold it.
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && text.len() <= Self::MAX;
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self::cut(text))
    }

    /// A name of at most 28 bytes; what is beyond is cut off.
    const fn cut(text: &str) -> Self {
        let from = text.as_bytes();
        let mut name = Self {
            text: [0; Self::MAX],
            length: 0,
        };
        while (name.length as usize) < from.len() && (name.length as usize) < Self::MAX {
            name.text[name.length as usize] = from[name.length as usize];
            name.length += 1;
        }
        name
    }

    /// As `cut`, and without a copy of the text: a first load makes tens of thousands of names.
    fn written(text: fmt::Arguments<'_>) -> Self {
        let mut name = Self::cut("");
        // It takes any text.
        let _ = fmt::write(&mut Room(&mut name), text);
        name
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        let bytes = self.text.get(..usize::from(self.length)).unwrap_or(&[]);
        str::from_utf8(bytes).unwrap_or_default()
    }

    /// Of a chain that chooses an endpoint: the one that does so among the cluster list.
    pub(crate) fn cluster_chain(&self) -> Option<Self> {
        // Place, protocol and port have one of these lengths, see `Anchor::chain`.
        let text = self.as_str();
        let length = [12, 19, 25]
            .into_iter()
            .find(|length| matches!(text.len().checked_sub(*length), Some(1..=3)))?;
        let stem = text.get(..length)?;
        Self::new(&format!("{stem}c"))
    }

    /// Whether this is a set of [`Anchor::pin`] in a family: sets of both are in one list.
    pub(crate) fn is_pin(&self, family: IpFamily) -> bool {
        let text = self.as_str().strip_prefix(PREFIX).unwrap_or_default();
        let rest = text.split_once('-').map(|(_, rest)| rest);
        rest.is_some_and(|rest| rest.starts_with(pin_letter(family)))
    }

    /// Whether the chain is one of ours.
    pub fn is_ours(&self) -> bool {
        self.as_str().starts_with(PREFIX)
    }
}

/// Appends to a name what still fits.
struct Room<'a>(&'a mut ChainName);

impl fmt::Write for Room<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let free = self.0.text.iter_mut().skip(usize::from(self.0.length));
        for (place, byte) in free.zip(text.bytes()) {
            *place = byte;
            self.0.length += 1;
        }
        Ok(())
    }
}

impl fmt::Display for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for ChainName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! fixed {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub const $name: ChainName = ChainName::cut($text);)*
    };
}

fixed! {
    /// nat: everything starts here.
    SERVICES = "SVC-SERVICES";
    /// filter: an empty chain that says that it was us who set `route_localnet`.
    LOCALNET = "SVC-LOCALNET";
    /// nat: packets inside the ranges of ClusterIPs.
    CLUSTER = "SVC-CLUSTER";
    /// nat: root of the tree of ClusterIPs.
    CLUSTER_IPS = "SVC-CIPS";
    /// nat: root of the tree of load-balancer and external addresses.
    EXTERNAL_IPS = "SVC-XIPS";
    /// nat: packets to a local address that no other front end took.
    NODE_PORTS = "SVC-NODEPORTS";
    /// nat: root of the tree of node ports.
    PORTS = "SVC-PORTS";
    /// nat: root of the tree of node ports that refuse where they are not served (B-129).
    BESIDE = "SVC-BESIDE";
    /// nat: root of the tree of endpoints that may reach themselves, if the kernel lacks bpf.
    HAIRPIN = "SVC-HAIRPIN";
    /// nat: masquerading.
    POSTROUTING = "SVC-POSTROUTING";
    /// nat: takes off the mark and masquerades.
    MASQUERADE = "SVC-MASQUERADE";
    /// nat: masquerades a connection of an endpoint to itself.
    HAIRPINNED = "SVC--HAIRPIN";
    /// nat: marks what is refused. Sorts before all others, as many rules refer to it.
    REJECT = "SVC--REJECT";
    /// nat: marks what is dropped.
    DROP = "SVC--DROP";
    /// filter: refuses and drops what nat marked, on its way in.
    INPUT = "SVC-INPUT";
    /// filter: lets health checks in (B-207).
    HEALTH_CHECKS = "SVC-HEALTH";
    /// filter: refuses and drops what nat marked, on its way through.
    FORWARD = "SVC-FORWARD";
    /// filter: refuses and drops what nat marked, on its way out.
    OUTPUT = "SVC-OUTPUT";
    /// A chain that no hook reaches, to find out what the kernel has.
    PROBE = "SVC-PROBE";
    /// Where a goto of that chain leads.
    PROBE_TARGET = "SVC-PROBED";
}

/// The roots of the trees, in the order of [`Tree::ALL`].
pub(crate) fn root(tree: Tree) -> ChainName {
    match tree {
        Tree::Cluster => CLUSTER_IPS,
        Tree::External => EXTERNAL_IPS,
        Tree::NodePort => PORTS,
        Tree::Beside => BESIDE,
        Tree::Hairpin => HAIRPIN,
    }
}

/// What the chains of a service port are named by: a front end that no other service port has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Anchor {
    ip: Option<IpAddr>,
    kind: FrontendKind,
    protocol: Protocol,
    port: u16,
}

/// What a chain of a service port is for. In descending byte order each comes before those that
/// refer to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChainKind {
    /// Lets only some sources pass.
    Sources,
    /// Decides by the origin of the packet.
    Routes,
    /// Chooses an endpoint of the cluster.
    Cluster,
    /// Chooses an endpoint of the node.
    Local,
}

impl Anchor {
    /// The ClusterIP, or else the first front end.
    pub fn of(protocol: Protocol, plan: &ServicePortPlan) -> Option<Self> {
        let mut frontends = plan.frontends.iter();
        let frontend = frontends
            .clone()
            .find(|frontend| frontend.kind == FrontendKind::ClusterIp)
            .or_else(|| frontends.next())?;
        let (ip, port) = match frontend.at {
            FrontendAddress::Ip(socket) => (Some(socket.ip()), socket.port()),
            FrontendAddress::NodePort(port) => (None, port),
        };
        Some(Self {
            ip,
            kind: frontend.kind,
            protocol,
            port,
        })
    }

    /// The chain of a kind; `index` tells several of a kind apart.
    pub fn chain(&self, kind: ChainKind, index: Option<u8>) -> ChainName {
        let kind = match kind {
            ChainKind::Sources => 'F',
            ChainKind::Routes => 'X',
            ChainKind::Cluster => 'c',
            ChainKind::Local => 'l',
        };
        let protocol = letter(self.protocol);
        let place = self.place();
        let port = self.port;
        match index {
            None => ChainName::written(format_args!("{place}{protocol}{port:05}{kind}")),
            Some(index) => {
                ChainName::written(format_args!("{place}{protocol}{port:05}{kind}{index:02x}"))
            }
        }
    }

    /// The chain of a kind that leads to those whose index, in hexadecimal, starts with a digit.
    pub(crate) fn outer_chain(&self, kind: ChainKind, digit: u8) -> ChainName {
        let chain = self.chain(kind, None);
        ChainName::written(format_args!("{chain}{digit:x}"))
    }

    /// The chain, the list of clients and the set that belong to one endpoint.
    pub fn pin(&self, endpoint: SocketAddr) -> ChainName {
        let mut hash = Hash::new();
        hash.ip(self.ip);
        hash.bytes(&[self.protocol.number()]);
        hash.bytes(&self.port.to_be_bytes());
        hash.ip(Some(endpoint.ip()));
        hash.bytes(&endpoint.port().to_be_bytes());
        let place = match self.ip {
            Some(IpAddr::V4(v4)) => format!("{:08x}", v4.to_bits()),
            Some(IpAddr::V6(v6)) => format!("{:08x}", low(v6.to_bits())),
            None => "n".into(),
        };
        let family = pin_letter(IpFamily::of(endpoint.ip()));
        ChainName::cut(&format!("{PREFIX}{place}-{family}{:014x}", hash.bits(56)))
    }

    /// 13 bytes in IPv4; 19 in IPv6, where 28 have to do: ClusterIPs come from few ranges, so a
    /// short hash tells these apart, and any other address is hashed whole.
    fn place(&self) -> ChainName {
        match self.ip {
            None => ChainName::written(format_args!("{PREFIX}n-")),
            Some(IpAddr::V4(v4)) => {
                ChainName::written(format_args!("{PREFIX}{:08x}-", v4.to_bits()))
            }
            Some(IpAddr::V6(v6)) => match self.kind {
                FrontendKind::ClusterIp => {
                    let bits = v6.to_bits();
                    let (low, upper) = (low(bits), upper_hash(bits));
                    ChainName::written(format_args!("{PREFIX}{low:08x}-{upper:06x}"))
                }
                FrontendKind::LoadBalancerIp
                | FrontendKind::ExternalIp
                | FrontendKind::NodePort => {
                    let mut hash = Hash::new();
                    hash.ip(self.ip);
                    ChainName::written(format_args!("{PREFIX}{:014x}-", hash.bits(56)))
                }
            },
        }
    }
}

/// Where the node of a tree is: the address with what is below the prefix cleared, and as many
/// of protocol and port as belong to the prefix.
pub(crate) struct NodePlace {
    pub(crate) tree: Tree,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) bits: u32,
    pub(crate) tail: Option<(Protocol, u16)>,
}

impl NodePlace {
    /// The name of the node.
    pub(crate) fn chain(&self) -> ChainName {
        let tree = tree_letter(self.tree);
        let bits = self.bits;
        let tail = self.tail.map_or_else(String::new, |(protocol, port)| {
            format!("{}{port:04x}", letter(protocol))
        });
        let text = match self.ip {
            None => format!("{PREFIX}p{bits:02}{tree}{tail}"),
            Some(IpAddr::V4(v4)) => {
                format!("{PREFIX}{:08x}-{bits:02}{tree}{tail}", v4.to_bits())
            }
            Some(IpAddr::V6(v6)) if self.tree == Tree::Cluster && bits > 96 => {
                let ip = v6.to_bits();
                let (low, upper) = (low(ip), upper_hash(ip));
                format!("{PREFIX}{low:08x}--{bits:02x}{upper:06x}{tree}{tail}")
            }
            Some(IpAddr::V6(_)) => {
                let mut hash = Hash::new();
                hash.ip(self.ip);
                format!("{PREFIX}{:014x}--{bits:02x}{tree}{tail}", hash.bits(56))
            }
        };
        ChainName::cut(&text)
    }
}

/// What a chain of ours is, by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// One that always exists.
    Fixed,
    /// The root or an inner node of a tree.
    Node(Tree),
    /// One of a service port.
    Service,
    /// Nothing that this program makes.
    Unknown,
}

/// Tells what a chain of ours is.
pub(crate) fn classify(name: ChainName) -> Class {
    const FIXED: [ChainName; 11] = [
        CLUSTER,
        NODE_PORTS,
        POSTROUTING,
        MASQUERADE,
        HAIRPINNED,
        REJECT,
        DROP,
        INPUT,
        HEALTH_CHECKS,
        FORWARD,
        OUTPUT,
    ];
    if FIXED.contains(&name) {
        return Class::Fixed;
    }
    if let Some(tree) = Tree::ALL.into_iter().find(|tree| root(*tree) == name) {
        return Class::Node(tree);
    }
    let text = name.as_str().strip_prefix(PREFIX).unwrap_or_default();
    classify_rest(text).unwrap_or(Class::Unknown)
}

fn classify_rest(text: &str) -> Option<Class> {
    let node = |letter: Option<&u8>| {
        let of = |tree: &Tree| letter == Some(&(tree_letter(*tree) as u8));
        Tree::ALL.into_iter().find(of).map(Class::Node)
    };
    if let Some(rest) = text.strip_prefix('p') {
        return node(rest.as_bytes().get(2));
    }
    if text.starts_with("n-") {
        return Some(Class::Service);
    }
    let (place, rest) = text.split_once('-')?;
    let hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !hex(place) || !matches!(place.len(), 8 | 14) {
        return None;
    }
    if let Some(rest) = rest.strip_prefix('-') {
        let at = if place.len() == 8 { 8 } else { 2 };
        return node(rest.as_bytes().get(at));
    }
    let bytes = rest.as_bytes();
    let v4_node = place.len() == 8
        && bytes.iter().take(2).all(u8::is_ascii_digit)
        && matches!(bytes.len(), 3 | 8);
    match v4_node {
        true => node(bytes.get(2)),
        false => Some(Class::Service),
    }
}

fn letter(protocol: Protocol) -> char {
    match protocol {
        Protocol::Tcp => 't',
        Protocol::Udp => 'u',
        Protocol::Sctp => 's',
    }
}

fn pin_letter(family: IpFamily) -> char {
    match family {
        IpFamily::V4 => 'z',
        IpFamily::V6 => 'y',
    }
}

fn tree_letter(tree: Tree) -> char {
    match tree {
        Tree::Cluster => 'c',
        Tree::External => 'x',
        Tree::NodePort => 'n',
        Tree::Beside => 'b',
        Tree::Hairpin => 'h',
    }
}

fn low(bits: u128) -> u32 {
    (bits & u128::from(u32::MAX)) as u32
}

fn upper_hash(bits: u128) -> u64 {
    let mut hash = Hash::new();
    hash.bytes(&(bits >> 32).to_be_bytes());
    hash.bits(24)
}

/// FNV-1a with a final mix: names must be the same in every run, whatever the standard library.
struct Hash(u64);

impl Hash {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn ip(&mut self, ip: Option<IpAddr>) {
        match ip {
            None => self.bytes(&[0]),
            Some(IpAddr::V4(v4)) => self.bytes(&v4.octets()),
            Some(IpAddr::V6(v6)) => self.bytes(&v6.octets()),
        }
    }

    fn bits(&self, count: u32) -> u64 {
        let mut mixed = self.0 ^ (self.0 >> 32);
        mixed = mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^= mixed >> 29;
        mixed >> (64 - count.min(64))
    }
}

/// Which group of `count` an endpoint belongs to: its place does not shift when others come.
pub(crate) fn group_of(endpoint: SocketAddr, count: u64) -> u64 {
    let mut hash = Hash::new();
    hash.ip(Some(endpoint.ip()));
    hash.bytes(&endpoint.port().to_be_bytes());
    hash.bits(32) % count.max(1)
}

#[cfg(test)]
mod tests;
