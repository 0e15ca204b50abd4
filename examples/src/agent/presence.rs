//! Two agents with the same rules in one network namespace, a mistake: who the other is.
//!
//! An agent holds a listening Unix socket by a name that says what it manages. Such names, of the
//! abstract namespace, belong to a network namespace as rules do, leave no file behind, and go with
//! their process, however it ends. Whoever finds the name taken asks the kernel who listens there.
//!
//! It is a warning and no lock: any local process can take the name, and must not keep a node from
//! being served that way; and in a rolling update both agents are there for a moment, rightly.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket, sockopt,
};
use svc_core::config::ProxyMode;
use tracing::{info, warn};

/// Whoever else manages what an agent does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rival {
    /// `None` if it is not visible from here, as from another container.
    pub(super) pid: Option<u32>,
    /// The name of its program, as far as it can be read.
    pub(super) process: Option<String>,
}

impl fmt::Display for Rival {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.process, self.pid) {
            (Some(process), Some(pid)) => write!(f, "another {process} (pid {pid})"),
            (_, Some(pid)) => write!(f, "another process (pid {pid})"),
            (_, None) => f.write_str("another process (its pid is not visible here)"),
        }
    }
}

/// What an agent manages in a network namespace, and under which name it says so.
#[derive(Clone, Debug)]
pub(super) struct Estate {
    /// In words: `chains SVC-*`.
    manages: String,
    name: Vec<u8>,
}

impl Estate {
    pub(super) fn new(mode: ProxyMode, manages: String) -> Self {
        let mut name = format!("svc-proxy/{}/{manages}", mode.name()).into_bytes();
        // Longer names of tables that begin alike count as one.
        name.truncate(NAME_LEN);
        Self { manages, name }
    }

    /// Who manages it now, if anybody does; for programs that do not stay.
    pub(super) fn rival(&self) -> Option<Rival> {
        match self.ask() {
            Ok((rival, _)) => Some(rival),
            Err(_) => None,
        }
    }

    /// One line for people.
    pub(super) fn warning(&self, rival: &Rival) -> String {
        format!("{rival} manages {} in this network namespace", self.manages)
    }

    /// Who listens at the name, with the connection to it.
    fn ask(&self) -> nix::Result<(Rival, UnixStream)> {
        // Connecting waits where nobody accepts and many ask.
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        connect(socket.as_raw_fd(), &UnixAddr::new_abstract(&self.name)?)?;
        let listener = getsockopt(&socket, sockopt::PeerCredentials)?;
        let pid = u32::try_from(listener.pid()).ok().filter(|pid| *pid > 0);
        let process = pid.and_then(|pid| fs::read_to_string(format!("/proc/{pid}/comm")).ok());
        let process = process.map(|name| name.trim_end().to_owned());
        Ok((Rival { pid, process }, socket.into()))
    }

    fn bind(&self) -> io::Result<UnixListener> {
        let listener = UnixListener::bind_addr(&SocketAddr::from_abstract_name(&self.name)?)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    }
}

/// Whether this agent is the one that the name stands for.
#[derive(Debug)]
pub(super) struct Presence {
    estate: Estate,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nobody else can have the name.
    Held(UnixListener),
    /// Somebody else has it; the connection, if there is one, lasts as long as it does.
    Taken(Rival, Option<UnixStream>),
    /// This system has no such names, or forbids them.
    Unknown,
}

impl Presence {
    /// Takes the name in the network namespace of the calling thread, or says who has it.
    pub(super) fn claim(estate: Estate) -> Self {
        let mut presence = Self {
            state: State::Unknown,
            estate,
        };
        presence.state = presence.attempt();
        match &presence.state {
            State::Taken(rival, _) => warn!("{}", presence.estate.warning(rival)),
            State::Held(_) | State::Unknown => {}
        }
        presence
    }

    /// Who has the name instead.
    pub(super) fn rival(&self) -> Option<&Rival> {
        match &self.state {
            State::Taken(rival, _) => Some(rival),
            State::Held(_) | State::Unknown => None,
        }
    }

    /// Tries again if somebody else has the name, in the network namespace of the first time.
    pub(super) fn claim_again(&mut self) {
        let State::Taken(rival, connection) = &mut self.state else {
            return;
        };
        // Connections that nobody accepts would add up.
        if connection.as_mut().is_some_and(is_open) {
            return;
        }
        let before = rival.clone();
        self.state = self.attempt();
        match &self.state {
            State::Taken(rival, _) if *rival != before => {
                warn!("{}", self.estate.warning(rival));
            }
            State::Held(_) => info!("{before} manages {} no more", self.estate.manages),
            State::Taken(..) | State::Unknown => {}
        }
    }

    /// Forgets those who asked and went, so that there is room for others.
    pub(super) fn forget_visitors(&mut self) {
        let State::Held(listener) = &self.state else {
            return;
        };
        for _ in 0..VISITORS {
            if listener.accept().is_err() {
                return;
            }
        }
    }

    fn attempt(&self) -> State {
        // Whoever has the name may go before it is asked, or not listen yet.
        for _ in 0..ATTEMPTS {
            match self.estate.bind() {
                Ok(listener) => return State::Held(listener),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    let manages = &self.estate.manages;
                    warn!(%error, "cannot tell whether another process manages {manages}");
                    return State::Unknown;
                }
            }
            match self.estate.ask() {
                Ok((rival, connection)) => return State::Taken(rival, Some(connection)),
                Err(Errno::ECONNREFUSED) => {}
                Err(_) => break,
            }
        }
        let unnamed = Rival {
            pid: None,
            process: None,
        };
        State::Taken(unnamed, None)
    }
}

/// Whether whoever is at the other end is still there.
fn is_open(connection: &mut UnixStream) -> bool {
    match connection.read(&mut [0]) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}

/// Most bytes of a name, by the size of an address of Unix sockets.
const NAME_LEN: usize = 107;
const ATTEMPTS: u32 = 3;
/// Visitors taken in at one time.
const VISITORS: usize = 64;
