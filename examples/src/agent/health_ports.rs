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
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
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
    /// What the listeners were made from.
    plans: BTreeMap<IpFamily, Plan>,
}

type Open = BTreeMap<(IpFamily, NamespacedName, SocketAddr), Arc<TcpListener>>;

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
        let mut shown = Plan::empty(plan.family, plan.node.clone());
        shown.health_checks.clone_from(&plan.health_checks);
        let changes = listener_changes(before, &shown);
        let deaf = self.change(plan.family, changes);
        for one in &deaf {
            // Not there, so that the next plan opens it.
            shown.health_checks.remove(&one.service);
        }
        self.plans.insert(plan.family, shown);
        deaf
    }

    fn change(&mut self, family: IpFamily, changes: Vec<ListenerChange>) -> Vec<Deaf> {
        let mut deaf = Vec::new();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            match change {
                ListenerChange::Close(service) => {
                    open.retain(|(of, name, _), _| *of != family || *name != service);
                }
                ListenerChange::Open(service, sockets) => {
                    for at in sockets {
                        let key = (family, service.clone(), at);
                        // One of several that was opened while another could not be.
                        if open.contains_key(&key) {
                            continue;
                        }
                        match listener(at) {
                            Ok(listener) => {
                                open.insert(key, Arc::new(listener));
                            }
                            Err(error) => deaf.push(Deaf {
                                service: service.clone(),
                                at,
                                error,
                            }),
                        }
                    }
                }
            }
        }
        drop(open);
        // Full means that a wake-up waits already.
        let _ = self.waker.write(&[0]);
        deaf
    }
}

/// A listener at an address of one family only: the other has one of its own (B-208).
pub(super) fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let family = match at {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if at.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
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
            all.map(|((family, name, _), listener)| (*family, name.clone(), listener.clone()))
                .collect()
        };
        let mut fds = vec![PollFd::new(woken.as_fd(), PollFlags::POLLIN)];
        let sockets = listeners.iter();
        fds.extend(sockets.map(|(_, _, l)| PollFd::new(l.as_fd(), PollFlags::POLLIN)));
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
        let mut drained = [0; 64];
        if let Ok(0) = (&*woken).read(&mut drained) {
            // The loop has ended.
            return;
        }
        for (family, name, listener) in listeners {
            while let Ok((stream, _)) = listener.accept() {
                let (shared, name) = (shared.clone(), name.clone());
                let answer: Answer = Arc::new(move |_| health::service(&shared, family, &name));
                http::take(stream, &answer, &busy);
            }
        }
    }
}
