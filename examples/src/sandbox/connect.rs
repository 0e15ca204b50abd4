//! A client socket with deadlines that learns of every ICMP error.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "few of the many error numbers matter here"
)]

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockaddrStorage, bind, connect, getsockopt, recv,
    recvmsg, send, setsockopt, sockopt,
};

use super::client::new_socket;
use super::{Error, Outcome, Refusal, Transport};

/// Whom to reach, and from which address.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) source: Option<IpAddr>,
    /// 0: the kernel chooses. Counts only together with a source address.
    pub(super) source_port: u16,
    pub(super) to: SocketAddr,
    pub(super) transport: Transport,
}

/// How a TCP connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closing {
    /// With FIN, as clients do; the port pair rests for a minute.
    Orderly,
    /// With RST, so that a client may connect thousands of times a second.
    Abrupt,
}

/// Why an attempt gave no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// The network said so.
    Outcome(Outcome),
    /// The socket could not be used.
    Socket { operation: String, errno: Errno },
}

impl Failure {
    /// The outcome, or the error that names the namespace.
    pub(super) fn into_outcome(self, namespace: &str) -> Result<Outcome, Error> {
        match self {
            Self::Outcome(outcome) => Ok(outcome),
            Self::Socket { operation, errno } => Err(Error::Socket {
                operation,
                namespace: namespace.to_owned(),
                source: errno,
            }),
        }
    }
}

/// What a server of a sandbox says of itself and its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) pod: String,
    pub(super) seen_source: SocketAddr,
}

/// A connected socket.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    to: SocketAddr,
    transport: Transport,
    unread: Vec<u8>,
}

impl Connection {
    /// Connects in the namespace of the calling thread.
    pub(super) fn open(
        target: &Target,
        deadline: Instant,
        closing: Closing,
    ) -> Result<Self, Failure> {
        let to = target.to;
        let socket = client_socket(target, closing)
            .map_err(|errno| failed(format!("make a socket for {to}"), errno))?;
        if let Some(source) = target.source {
            bind(
                socket.as_raw_fd(),
                &SockaddrStorage::from(SocketAddr::new(source, target.source_port)),
            )
            .map_err(|errno| failed(format!("bind to {source} for {to}"), errno))?;
        }
        let connected = connect(socket.as_raw_fd(), &SockaddrStorage::from(to));
        let connection = Self {
            socket,
            to,
            transport: target.transport,
            unread: Vec::new(),
        };
        match connected {
            Ok(()) => Ok(connection),
            Err(Errno::EINPROGRESS) => {
                if !connection.wait(PollFlags::POLLOUT, deadline)? {
                    return Err(Failure::Outcome(Outcome::TimedOut));
                }
                Ok(connection)
            }
            Err(errno) => Err(connection.refused_locally(errno)),
        }
    }

    pub(super) fn transport(&self) -> Transport {
        self.transport
    }

    /// Says something where the server does not begin.
    pub(super) fn begin(&self) -> Result<(), Failure> {
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp | Transport::Sctp => self.send(b"?\n"),
        }
    }

    /// Sends a few bytes; a full send buffer counts as silence of the peer.
    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        match send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_NOSIGNAL) {
            Ok(_) => Ok(()),
            Err(Errno::EAGAIN | Errno::EPIPE | Errno::ECONNRESET) => {
                Err(Failure::Outcome(Outcome::Silent))
            }
            Err(errno) => Err(self.refused_locally(errno)),
        }
    }

    /// Reads the line with which servers answer.
    pub(super) fn answer(&mut self, deadline: Instant) -> Result<Answer, Failure> {
        let line = self.line(deadline)?;
        let parsed = line.rsplit_once(' ').and_then(|(pod, seen_source)| {
            Some(Answer {
                pod: pod.to_owned(),
                seen_source: seen_source.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| {
            failed(
                format!("understand the answer of {}", self.to),
                Errno::EBADMSG,
            )
        })
    }

    /// Reads up to a line end, which is taken off.
    pub(super) fn line(&mut self, deadline: Instant) -> Result<String, Failure> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).take(end).collect();
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            if !self.wait(PollFlags::POLLIN, deadline)? {
                return Err(Failure::Outcome(match self.transport {
                    Transport::Tcp | Transport::Sctp => Outcome::Silent,
                    Transport::Udp => Outcome::TimedOut,
                }));
            }
            let mut bytes = [0; 2048];
            match recv(self.socket.as_raw_fd(), &mut bytes, MsgFlags::empty()) {
                Ok(0) | Err(Errno::ECONNRESET) => return Err(Failure::Outcome(Outcome::Silent)),
                Ok(count) => self.unread.extend(bytes.iter().take(count)),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(self.refused_locally(errno)),
            }
        }
    }

    /// Waits for an event; `false` when the deadline came first.
    fn wait(&self, event: PollFlags, deadline: Instant) -> Result<bool, Failure> {
        loop {
            let mut fds = [PollFd::new(self.socket.as_fd(), event)];
            match poll(&mut fds, until(deadline)) {
                Ok(0) => return Ok(false),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(format!("wait for {}", self.to), errno)),
            }
            let [fd] = fds;
            let happened = fd.revents().unwrap_or(PollFlags::empty());
            if happened.contains(PollFlags::POLLERR)
                && let Some(outcome) = self.pending_error()
            {
                return Err(Failure::Outcome(outcome?));
            }
            if happened.intersects(event | PollFlags::POLLHUP) {
                return Ok(true);
            }
        }
    }

    /// Takes the error that the socket holds.
    fn pending_error(&self) -> Option<Result<Outcome, Failure>> {
        // The queue comes first. The kernel handles the ICMP answer to a SYN while `connect` still
        // owns the socket, and then records it only here; the error itself would follow a second
        // later, on the next SYN.
        if let Some(outcome) = self.icmp_error() {
            return Some(Ok(outcome));
        }
        match getsockopt(&self.socket, sockopt::SocketError) {
            Ok(0) => None,
            Ok(errno) => Some(Ok(match Errno::from_raw(errno) {
                Errno::ECONNREFUSED => Outcome::Refused(self.refusal()),
                Errno::ECONNRESET | Errno::EPIPE => Outcome::Silent,
                Errno::ETIMEDOUT => Outcome::TimedOut,
                other => Outcome::Unreachable(other),
            })),
            Err(errno) => Some(Err(failed(
                format!("ask for the error of {}", self.to),
                errno,
            ))),
        }
    }

    /// What the oldest ICMP error that the socket keeps means.
    fn icmp_error(&self) -> Option<Outcome> {
        icmp_error(self.socket.as_raw_fd()).map(|errno| match errno {
            Errno::ECONNREFUSED => Outcome::Refused(Refusal::PortUnreachable),
            other => Outcome::Unreachable(other),
        })
    }

    /// Who refuses when there is no ICMP error to read.
    fn refusal(&self) -> Refusal {
        match self.transport {
            Transport::Tcp => Refusal::Reset,
            Transport::Udp | Transport::Sctp => Refusal::PortUnreachable,
        }
    }

    /// What an error of a system call means.
    fn refused_locally(&self, errno: Errno) -> Failure {
        // A reject rule of this namespace fails the call like a drop, but leaves its ICMP error.
        if let Some(outcome) = self.icmp_error() {
            return Failure::Outcome(outcome);
        }
        match errno {
            Errno::ECONNREFUSED => Failure::Outcome(Outcome::Refused(self.refusal())),
            Errno::EPERM | Errno::EACCES => Failure::Outcome(Outcome::Blocked),
            Errno::ETIMEDOUT => Failure::Outcome(Outcome::TimedOut),
            Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EINVAL => {
                Failure::Outcome(Outcome::Unreachable(errno))
            }
            other => failed(format!("use the socket for {}", self.to), other),
        }
    }
}

fn client_socket(target: &Target, closing: Closing) -> nix::Result<OwnedFd> {
    let family = match target.to {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = new_socket(target.transport, family)?;
    match target.to {
        SocketAddr::V4(_) => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?,
        SocketAddr::V6(_) => setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?,
    }
    if target.source.is_some() {
        setsockopt(&socket, sockopt::IpFreebind, &true)?;
    }
    if closing == Closing::Abrupt {
        setsockopt(
            &socket,
            sockopt::Linger,
            &libc::linger {
                l_onoff: 1,
                l_linger: 0,
            },
        )?;
    }
    Ok(socket)
}

/// Takes the oldest ICMP error from the error queue.
fn icmp_error(socket: RawFd) -> Option<Errno> {
    let mut quoted = [0; 512];
    let mut data = [IoSliceMut::new(&mut quoted)];
    let mut control = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<SockaddrStorage>(socket, &mut data, Some(&mut control), flags).ok()?;
    message.cmsgs().ok()?.find_map(|control| {
        #[expect(
            clippy::wildcard_enum_match_arm,
            reason = "of some thirty kinds two matter here"
        )]
        match control {
            ControlMessageOwned::Ipv4RecvErr(error, _)
            | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                i32::try_from(error.ee_errno).ok().map(Errno::from_raw)
            }
            _ => None,
        }
    })
}

/// The time left, rounded up so that waiting does not spin in the last millisecond.
fn until(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = if left.is_zero() {
        left
    } else {
        left + Duration::from_millis(1)
    };
    PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
}

fn failed(operation: String, errno: Errno) -> Failure {
    Failure::Socket { operation, errno }
}
