//! The listeners of Services' health checks: one thread for all of them.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, SockaddrStorage, bind, listen,
    setsockopt, shutdown, socket, sockopt,
};
use svc_core::health::{ListenerChange, listener_changes};
use svc_core::{IpFamily, NamespacedName, Plan};

use super::health;
use super::status::Shared;
use crate::http::{self, Answer};

/// The listeners of both families.
#[derive(Debug)]
pub(super) struct HealthPorts {
    open: Arc<Mutex<Open>>,
    waker: UnixStream,
    /// What is served, of families of which everything could be opened.
    plans: BTreeMap<IpFamily, Plan>,
}

type Open = BTreeMap<SocketAddr, Listening>;

/// A listener, and whom it answers for.
#[derive(Debug)]
struct Listening {
    service: NamespacedName,
    listener: Arc<TcpListener>,
}

/// A listener that could not be opened; others are not affected (B-204).
#[derive(Debug)]
pub(super) struct Deaf {
    pub(super) service: NamespacedName,
    pub(super) at: SocketAddr,
    pub(super) error: io::Error,
}

impl HealthPorts {
    /// Starts the thread that answers, in the network namespace of the calling thread.
    pub(super) fn start(shared: Shared) -> io::Result<Self> {
        let (waker, woken) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let open = Arc::new(Mutex::new(Open::new()));
        let listeners = open.clone();
        thread::Builder::new()
            .name("health-ports".into())
            .spawn(move || serve(&listeners, &woken, &shared))?;
        Ok(Self {
            open,
            waker,
            plans: BTreeMap::new(),
        })
    }

    /// Opens and closes what an applied plan asks for (B-201 to B-206), and tries again what could
    /// not be opened before. Only health checks and the node of the plan are looked at.
    pub(super) fn apply(&mut self, plan: &Plan) -> Vec<Deaf> {
        let before = self.plans.get(&plan.family);
        if before.is_some_and(|b| b.node == plan.node && b.health_checks == plan.health_checks) {
            return Vec::new();
        }
        let mut deaf = Vec::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let owners = open.iter();
        let owners = owners.map(|(at, listening)| (*at, listening.service.clone()));
        for change in listener_changes(&owners.collect(), plan) {
            deaf.extend(make(&mut open, change));
        }
        drop(open);
        // Full means that a wake-up waits already.
        let _ = self.waker.write(&[0]);
        if deaf.is_empty() {
            let mut shown = Plan::empty(plan.family, plan.node.clone());
            shown.health_checks.clone_from(&plan.health_checks);
            self.plans.insert(plan.family, shown);
        } else {
            self.plans.remove(&plan.family);
        }
        deaf
    }
}

fn make(open: &mut Open, change: ListenerChange) -> Option<Deaf> {
    match change {
        ListenerChange::Close(at) => {
            let gone = open.remove(&at)?;
            // The thread that answers has the socket as well, for as long as it waits: without this
            // nobody else could have the address before it wakes.
            let _ = shutdown(gone.listener.as_raw_fd(), Shutdown::Both);
        }
        ListenerChange::HandOver(at, service) => open.get_mut(&at)?.service = service,
        ListenerChange::Open(at, service) => match listener(at, Accepts::Own) {
            Ok(listener) => {
                let listener = Arc::new(listener);
                open.insert(at, Listening { service, listener });
            }
            Err(errno) => {
                let error = errno.into();
                return Some(Deaf { service, at, error });
            }
        },
    }
    None
}

/// The families of clients that a listener at an address of IPv6 accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// Its own: the other has a listener of its own (B-208).
    Own,
    /// Both.
    Both,
}

/// A listener that does not block.
pub(super) fn listener(at: SocketAddr, accepts: Accepts) -> Result<TcpListener, Errno> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &(accepts == Accepts::Own))?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(TcpListener::from(socket))
}

fn serve(open: &Mutex<Open>, woken: &UnixStream, shared: &Shared) {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        let listeners: Vec<_> = {
            let open = open.lock().unwrap_or_else(PoisonError::into_inner);
            let all = open.iter();
            all.map(|(at, listening)| (*at, listening.listener.clone()))
                .collect()
        };
        let mut fds = vec![PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
        let sockets = listeners.iter();
        fds.extend(sockets.map(|(_, l)| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let mut drained = [0; 64];
        if let Ok(0) = (&*woken).read(&mut drained) {
            // The loop has ended.
            return;
        }
        for (at, listener) in listeners {
            let family = IpFamily::of(at.ip());
            while let Ok((stream, _)) = listener.accept() {
                // Not before, as it may have been handed over meanwhile.
                let open = open.lock().unwrap_or_else(PoisonError::into_inner);
                let Some(name) = open.get(&at).map(|listening| listening.service.clone()) else {
                    break;
                };
                drop(open);
                let shared = shared.clone();
                let answer: Answer = Arc::new(move |_| health::service(&shared, family, &name));
                http::take(stream, &answer, &busy);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use svc_core::config::ProxyMode;
    use svc_core::{HealthCheck, NodePlan};

    use super::*;
    use crate::agent::clock::SystemClock;
    use crate::agent::status::Status;

    fn ports() -> HealthPorts {
        let families = svc_core::IpFamily::ALL.into_iter();
        let status = Status::new(ProxyMode::Nftables, Duration::from_secs(30), families);
        HealthPorts::start(Shared::new(status, SystemClock::start())).unwrap()
    }

    /// The plan of a node that serves node ports at these addresses of loopback.
    fn plan(addresses: &str, services: &[(&str, u16)]) -> Plan {
        let mut node = NodePlan::bare("n1");
        let addresses = addresses.split(' ').map(|ip| ip.parse().unwrap());
        node.node_ports.addresses = addresses.collect();
        let mut plan = Plan::empty(IpFamily::V4, node.into());
        plan.health_checks = services
            .iter()
            .map(|(name, port)| {
                let check = HealthCheck {
                    port: *port,
                    local_endpoints: 1,
                };
                (NamespacedName::new("default", *name), check)
            })
            .collect();
        plan
    }

    /// A port that nobody has.
    fn free() -> u16 {
        let found = TcpListener::bind("127.0.0.2:0").unwrap();
        found.local_addr().unwrap().port()
    }

    fn socket_at(ports: &HealthPorts, at: &str, port: u16) -> Option<(i32, String)> {
        let at = SocketAddr::new(at.parse().unwrap(), port);
        let open = ports.open.lock().unwrap();
        let listening = open.get(&at)?;
        let service = listening.service.to_string();
        Some((listening.listener.as_raw_fd(), service))
    }

    /// What a client gets.
    fn get(at: &str, port: u16) -> io::Result<String> {
        let mut stream = std::net::TcpStream::connect((at, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    #[test]
    fn b202_a_port_passes_from_one_service_to_another_without_a_gap() {
        let (mut ports, port) = (ports(), free());
        assert!(ports.apply(&plan("127.0.0.2", &[("a", port)])).is_empty());
        let before = socket_at(&ports, "127.0.0.2", port).unwrap();
        assert!(get("127.0.0.2", port).is_ok());
        let deaf = ports.apply(&plan("127.0.0.2", &[("b", port)]));
        assert!(deaf.is_empty(), "{deaf:?}");
        let after = socket_at(&ports, "127.0.0.2", port).unwrap();
        assert_eq!((after.0, &*after.1), (before.0, "default/b"));
        assert!(get("127.0.0.2", port).is_ok());
    }

    #[test]
    fn b202_an_address_that_stays_keeps_its_socket_when_another_comes() {
        let (mut ports, port) = (ports(), free());
        ports.apply(&plan("127.0.0.2", &[("a", port)]));
        let before = socket_at(&ports, "127.0.0.2", port);
        let deaf = ports.apply(&plan("127.0.0.2 127.0.0.3", &[("a", port)]));
        assert!(deaf.is_empty(), "{deaf:?}");
        assert_eq!(socket_at(&ports, "127.0.0.2", port), before);
        assert!(get("127.0.0.3", port).is_ok());
    }

    #[test]
    fn b201_a_port_that_is_closed_is_free_at_once() {
        let mut ports = ports();
        for _ in 0..50 {
            let port = free();
            ports.apply(&plan("127.0.0.2", &[("a", port)]));
            // The thread waits at that socket now.
            assert!(get("127.0.0.2", port).is_ok());
            ports.apply(&plan("127.0.0.2", &[]));
            let at = SocketAddr::new([127, 0, 0, 2].into(), port);
            listener(at, Accepts::Own).unwrap();
        }
    }

    #[test]
    fn b204_what_opened_beside_what_did_not_is_closed_with_its_service() {
        let (mut ports, port) = (ports(), free());
        let taken = TcpListener::bind(("127.0.0.3", port)).unwrap();
        let both = plan("127.0.0.2 127.0.0.3", &[("a", port)]);
        let deaf = ports.apply(&both);
        assert_eq!(deaf.len(), 1);
        assert_eq!(deaf[0].at, taken.local_addr().unwrap());
        assert!(get("127.0.0.2", port).is_ok());
        // Tried again with what it was.
        assert_eq!(ports.apply(&both).len(), 1);
        ports.apply(&plan("127.0.0.2 127.0.0.3", &[]));
        assert!(ports.open.lock().unwrap().is_empty());
        assert!(get("127.0.0.2", port).is_err());
        drop(taken);
        assert!(ports.apply(&both).is_empty());
        assert!(get("127.0.0.3", port).is_ok());
    }
}
