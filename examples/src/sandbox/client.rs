//! One question to a server, and what came of it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};
use svc_core::Protocol;

use super::connect::{Closing, Connection, Failure, Target};
use super::{Error, Namespace};

/// A transport that the servers and clients of a sandbox speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP, which many kernels do not have: see [`Transport::is_available`].
    Sctp,
}

impl Transport {
    /// The transport for a protocol of a Service; `None` where the kernel has no sockets for it.
    pub fn of(protocol: Protocol) -> Option<Self> {
        let transport = match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
        };
        transport.is_available().then_some(transport)
    }

    /// Whether the kernel has sockets for it.
    pub fn is_available(self) -> bool {
        match self {
            Self::Tcp | Self::Udp => true,
            Self::Sctp => new_socket(self, AddressFamily::Inet).is_ok(),
        }
    }

    /// The protocol of a Service.
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Tcp => Protocol::Tcp,
            Self::Udp => Protocol::Udp,
            Self::Sctp => Protocol::Sctp,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// What came of an attempt to reach a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A server of a sandbox answered.
    Answered {
        /// The name it was started with.
        pod: String,
        /// The client's address as the server saw it: not the client's own after masquerading.
        seen_source: SocketAddr,
        /// From the first packet to the answer.
        took: Duration,
    },
    /// Somebody said that nothing listens there.
    Refused(Refusal),
    /// The sending namespace itself dropped the packet in an output hook (`EPERM`); only UDP tells,
    /// TCP hides it and times out.
    Blocked,
    /// The connection came about, but was closed or stayed silent until the deadline.
    Silent,
    /// Nothing came back before the deadline.
    TimedOut,
    /// A router, or the sending namespace, knows no way there.
    Unreachable(Errno),
}

/// How an attempt was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// By a TCP reset: the packet arrived at a host where nothing listens.
    Reset,
    /// By ICMP port unreachable: a reject rule, or for UDP also a host where nothing listens. SCTP
    /// tells no ICMP error from a reset, and counts here.
    PortUnreachable,
}

impl Outcome {
    /// The pod that answered.
    pub fn pod(&self) -> Option<&str> {
        match self {
            Self::Answered { pod, .. } => Some(pod),
            Self::Refused(_)
            | Self::Blocked
            | Self::Silent
            | Self::TimedOut
            | Self::Unreachable(_) => None,
        }
    }

    /// The client's address as the pod that answered saw it.
    pub fn seen_source(&self) -> Option<SocketAddr> {
        match self {
            Self::Answered { seen_source, .. } => Some(*seen_source),
            Self::Refused(_)
            | Self::Blocked
            | Self::Silent
            | Self::TimedOut
            | Self::Unreachable(_) => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered {
                pod,
                seen_source,
                took,
            } => {
                write!(
                    f,
                    "answered by {pod}, which saw {seen_source}, in {took:.1?}"
                )
            }
            Self::Refused(Refusal::Reset) => f.write_str("refused by a reset"),
            Self::Refused(Refusal::PortUnreachable) => {
                f.write_str("refused by ICMP port unreachable")
            }
            Self::Blocked => f.write_str("blocked on the way out"),
            Self::Silent => f.write_str("connected, but no answer"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Unreachable(errno) => write!(f, "unreachable ({})", errno.desc()),
        }
    }
}

/// Asks the server at `to` once, from inside a namespace.
///
/// `source` may be any address, also one that the namespace does not have (yet); without it the
/// kernel chooses. TCP connects and reads a line, SCTP sends one first; UDP sends one datagram and reads one.
///
/// # Errors
///
/// [`Error::Socket`] when the attempt could not be made at all, and the errors of
/// [`Namespace::run`]. Everything a network can answer is an [`Outcome`].
pub fn probe(
    from: &Namespace,
    source: Option<IpAddr>,
    to: SocketAddr,
    transport: Transport,
    timeout: Duration,
) -> Result<Outcome, Error> {
    let target = Target {
        source,
        source_port: 0,
        to,
        transport,
    };
    from.run(|| ask(&target, timeout, Closing::Orderly))?
        .or_else(|failure| failure.into_outcome(from.name()))
}

/// Asks in the namespace of the calling thread.
pub(super) fn ask(
    target: &Target,
    timeout: Duration,
    closing: Closing,
) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let deadline = start + timeout;
    let mut connection = Connection::open(target, deadline, closing)?;
    connection.begin()?;
    let answer = connection.answer(deadline)?;
    Ok(Outcome::Answered {
        pod: answer.pod,
        seen_source: answer.seen_source,
        took: start.elapsed(),
    })
}

/// A socket of a transport that does not wait.
pub(super) fn new_socket(transport: Transport, family: AddressFamily) -> nix::Result<OwnedFd> {
    let (kind, protocol) = match transport {
        Transport::Tcp => (SockType::Stream, None),
        Transport::Udp => (SockType::Datagram, None),
        Transport::Sctp => (SockType::Stream, Some(SockProtocol::Sctp)),
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    socket(family, kind, flags, protocol)
}
