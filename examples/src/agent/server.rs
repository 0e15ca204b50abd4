//! The pages of an agent: health on one address, everything on another.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use svc_core::{Flow, IpFamily, parse_ip};
use tracing::{error, info};

use super::health;
use super::health_ports::{Accepts, listener};
use super::input::{Feed, Input};
use super::metrics;
use super::status::Shared;
use crate::cli::explain::Destination;
use crate::http::{self, Answer, Page, Request, reading};

/// Time between two attempts to listen (B-204, B-221).
pub(super) const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// How long the loop may take to explain: it may be waiting for a lock of somebody else.
const EXPLAIN: Duration = Duration::from_secs(5);

/// Where to listen; `None` leaves a server out (B-210).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    /// `/healthz` and `/livez`.
    pub(super) health: Option<SocketAddr>,
    /// The same, `/metrics`, `/proxyMode`, `/plan` and `/explain`.
    pub(super) metrics: Option<SocketAddr>,
}

/// Starts both servers. An address that cannot be had is named and tried again for as long as the
/// process lives; everything else works.
///
/// # Errors
/// When no thread can be started.
pub(super) fn start(addresses: Addresses, shared: &Shared, feed: &Feed) -> io::Result<()> {
    let of_health = shared.clone();
    let health: Answer = Arc::new(move |request| {
        reading(request, |path| match path {
            "/healthz" => health::healthz(&of_health),
            "/livez" => health::livez(&of_health),
            _ => Page::text(404, "404 page not found\n"),
        })
    });
    let pages = Pages {
        shared: shared.clone(),
        feed: Mutex::new(feed.clone()),
        digests: Mutex::default(),
    };
    let all: Answer = Arc::new(move |request| reading(request, |path| pages.page(path, request)));
    for (name, address, answer) in [
        ("health", addresses.health, health),
        ("metrics", addresses.metrics, all),
    ] {
        let Some(address) = address else { continue };
        let shared = shared.clone();
        thread::Builder::new()
            .name(format!("{name}-server"))
            .spawn(move || serve(name, address, &answer, &shared))?;
    }
    Ok(())
}

fn serve(name: &str, address: SocketAddr, answer: &Answer, shared: &Shared) {
    let title = format!("{name} {address}");
    loop {
        let opened = listen_at(address)
            .map_err(io::Error::from)
            .and_then(|listener| {
                listener.set_nonblocking(false)?;
                Ok(listener)
            });
        let failed = match opened {
            Ok(listener) => {
                if shared.lock().deaf.remove(&title).is_some() {
                    info!(%address, "the {name} server listens now");
                }
                http::serve(&listener, answer).err()
            }
            Err(error) => Some(error),
        };
        if let Some(cause) = failed {
            let before = shared.lock().deaf.insert(title.clone(), cause.to_string());
            if before.is_none() {
                error!(%address, error = %cause, "the {name} server cannot listen, trying again");
            }
        }
        thread::sleep(LISTEN_AGAIN);
    }
}

/// An unspecified address of either family is every address of both, as it is for kube-proxy: probes come over either.
fn listen_at(at: SocketAddr) -> Result<TcpListener, Errno> {
    if !at.ip().is_unspecified() {
        return listener(at, Accepts::Own);
    }
    match listener((Ipv6Addr::UNSPECIFIED, at.port()).into(), Accepts::Both) {
        Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => {
            listener((Ipv4Addr::UNSPECIFIED, at.port()).into(), Accepts::Own)
        }
        other => other,
    }
}

struct Pages {
    shared: Shared,
    feed: Mutex<Feed>,
    /// Digests of plans, by generation.
    digests: Mutex<BTreeMap<IpFamily, (u64, u64)>>,
}

impl Pages {
    fn page(&self, path: &str, request: &Request) -> Page {
        match path {
            "/metrics" => {
                let digests = self.digests();
                let now = self.shared.now();
                Page::text(200, metrics::text(&self.shared.lock(), now, &digests))
            }
            "/healthz" => health::healthz(&self.shared),
            "/livez" => health::livez(&self.shared),
            "/proxyMode" => Page::text(200, self.shared.lock().mode.name()),
            "/plan" => self.plan(request.value("family")),
            "/explain" => self.explain(request),
            _ => Page::text(404, "404 page not found\n"),
        }
    }

    /// Computed without the lock, and only when a plan changed.
    fn digests(&self) -> Vec<(IpFamily, u64)> {
        let mut held = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        for family in IpFamily::ALL {
            let known = held.get(&family).map(|(generation, _)| *generation);
            let changed = {
                let status = self.shared.lock();
                let status = status.families.get(&family);
                let fresh = status.filter(|status| known != Some(status.generation));
                fresh.map(|status| (status.generation, status.plan.clone()))
            };
            if let Some((generation, plan)) = changed {
                held.insert(family, (generation, metrics::digest(&plan)));
            }
        }
        held.iter()
            .map(|(family, (_, digest))| (*family, *digest))
            .collect()
    }

    /// The applied plans of both families, or of one.
    fn plan(&self, family: Option<&str>) -> Page {
        let plans: Vec<_> = {
            let status = self.shared.lock();
            let named = status.families.iter();
            let chosen = named.filter(|(f, _)| family.is_none_or(|name| name == f.to_string()));
            chosen.map(|(_, status)| status.plan.clone()).collect()
        };
        match serde_json::to_string(&plans) {
            Ok(body) => Page::json(200, body),
            Err(error) => Page::text(503, error.to_string()),
        }
    }

    fn explain(&self, request: &Request) -> Page {
        let flow = match flow(request) {
            Ok(flow) => flow,
            Err(message) => return Page::text(400, message),
        };
        let (answer, answered) = channel();
        let asked = {
            let feed = self.feed.lock().unwrap_or_else(PoisonError::into_inner);
            feed.send(Input::Explain(flow, answer))
        };
        match asked.is_ok().then(|| answered.recv_timeout(EXPLAIN)) {
            Some(Ok(body)) => Page::json(200, body),
            Some(Err(_)) | None => Page::text(503, "the loop is busy\n"),
        }
    }
}

/// `from=IP&to=IP:PORT/PROTO`, and `interface=NAME` where pods are told by interface.
fn flow(request: &Request) -> Result<Flow, String> {
    let from = request.value("from").unwrap_or_default();
    let source = parse_ip(from).ok_or("from must be an IP address\n")?;
    let to = request.value("to").unwrap_or_default();
    let usage = "to must be IP:PORT/PROTO or [IPv6]:PORT/PROTO\n";
    let Ok(Destination::Address(destination, protocol)) = to.parse() else {
        return Err(usage.into());
    };
    Ok(Flow {
        source,
        destination,
        protocol,
        interface: request.value("interface").map(Into::into),
    })
}
