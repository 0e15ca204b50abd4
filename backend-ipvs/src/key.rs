//! Names of the kernel objects that this backend owns, and what they hold.

use std::net::{IpAddr, SocketAddr};

use svc_core::{IpFamily, Protocol};

use crate::companion;
use crate::scheduler::Scheduler;

/// Names a kernel object of one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An object of the companion table.
    Companion(companion::Key),
    /// The dummy link that holds the addresses.
    Link,
    /// An address on the link.
    Address(IpAddr),
    /// A virtual server.
    Server(ServerId),
    /// A destination of a virtual server.
    Destination(ServerId, SocketAddr),
}

/// What the kernel knows a virtual server by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerId {
    /// A packet mark, which tells the protocol too (see [`crate::Marks`]); it goes before any
    /// address.
    Marked(Protocol, u32),
    /// An address and port.
    At(Protocol, SocketAddr),
}

/// What a kernel object holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// An object of the companion table.
    Companion(companion::Value),
    /// The link exists and is up.
    Link,
    /// The address is there.
    Address,
    /// A virtual server.
    Server(Server),
    /// A destination.
    Destination(Destination),
}

/// A virtual server without its destinations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// How it chooses, by the kernel's name.
    pub scheduler: Box<str>,
    /// Flags for the scheduler: [`Server::FLAG_1`] and its neighbours.
    pub flags: u32,
    /// Whether a client stays with its destination, and for how many seconds.
    pub persistence: Option<Persistence>,
}

/// A client stays with its destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Seconds after the latest connection.
    pub seconds: u32,
    /// Bits of the client's address that count.
    pub prefix_len: u8,
}

/// What a destination is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Its share; with 0 it gets no new connection.
    pub weight: u32,
    /// How packets get there.
    pub method: Method,
}

/// How packets get to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// By translating their destination address.
    Masquerade,
    /// In another way, which only somebody else asks for; the kernel's number.
    Other(u32),
}

impl Server {
    /// First flag for the scheduler: of `sh` and `mh`, fall back to another destination.
    pub const FLAG_1: u32 = 0x8;
    /// Second flag for the scheduler: of `sh` and `mh`, the source port counts too.
    pub const FLAG_2: u32 = 0x10;
    /// Third flag for the scheduler.
    pub const FLAG_3: u32 = 0x20;

    /// A virtual server that forgets clients; `mh` counts the source port too (B-288).
    pub fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler: scheduler.name().into(),
            flags: match scheduler {
                Scheduler::Maglev => Self::FLAG_2,
                Scheduler::RoundRobin
                | Scheduler::WeightedRoundRobin
                | Scheduler::LeastConnection
                | Scheduler::WeightedLeastConnection
                | Scheduler::LocalityBasedLeastConnection
                | Scheduler::LocalityBasedLeastConnectionReplicated
                | Scheduler::DestinationHashing
                | Scheduler::SourceHashing
                | Scheduler::ShortestExpectedDelay
                | Scheduler::NeverQueue
                | Scheduler::WeightedFailover
                | Scheduler::WeightedOverflow => 0,
            },
            persistence: None,
        }
    }
}

impl Persistence {
    /// A client is one address.
    pub fn of_clients(seconds: u32, family: IpFamily) -> Self {
        let prefix_len = match family {
            IpFamily::V4 => 32,
            IpFamily::V6 => 128,
        };
        Self {
            seconds,
            prefix_len,
        }
    }
}

impl Destination {
    /// A destination with the weight that all have.
    pub const SERVING: Self = Self {
        weight: 1,
        method: Method::Masquerade,
    };
}

impl ServerId {
    /// The protocol of its packets.
    pub fn protocol(&self) -> Protocol {
        match self {
            Self::Marked(protocol, _) | Self::At(protocol, _) => *protocol,
        }
    }
}
