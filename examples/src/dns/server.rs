//! `dns-server`: sockets, threads, and the manifests that they serve.

use std::error::Error;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::ops::ControlFlow;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use arc_swap::ArcSwap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use svc_core::dns::Zone;

use super::args::ZoneArgs;
use super::bind;
use super::cluster::{Following, follow};
use super::forward::{Chain, Forwarder};
use super::metrics::{Metrics, add};
use super::respond::{Order, Outside, Policy};
use super::source::ZoneSource;
use super::{tcp, udp};
use crate::host::Watch;
use crate::http::{self, Answer, Page, reading};
use crate::manifest::{self, Manifests};
use crate::signal;

/// Serves the names of a cluster over DNS
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    zone: ZoneArgs,
    /// Address to serve on, UDP and TCP; repeatable
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:5353")]
    listen: Vec<SocketAddr>,
    /// Resolver for all other names
    #[arg(long, value_name = "IP[:PORT]", value_parser = resolver)]
    forward: Option<SocketAddr>,
    /// Threads that answer UDP on each address; one for each processor when unset
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u16).range(1..=256))]
    workers: Option<u16>,
    /// Addresses of answers in a fixed order
    #[arg(long)]
    fixed_order: bool,
    /// Address for /metrics, /healthz and /ready
    #[arg(long, value_name = "IP:PORT")]
    metrics_bind_address: Option<SocketAddr>,
}

fn resolver(text: &str) -> Result<SocketAddr, &'static str> {
    let address = text
        .parse()
        .or_else(|_| Ok((text.parse::<std::net::IpAddr>()?, 53).into()));
    address.map_err(|_: std::net::AddrParseError| "not an address, or address and port")
}

/// What all threads of a server read.
pub(super) struct Shared {
    /// The zone as it is now; swapped as a whole, so nobody waits for anybody.
    pub(super) zone: ArcSwap<Zone>,
    pub(super) policy: Policy,
    pub(super) forwarder: Option<Arc<Forwarder>>,
    pub(super) metrics: Arc<Metrics>,
}

impl Shared {
    /// The answer of the resolver to a query that came over TCP; empty without a resolver.
    pub(super) fn forward_over_tcp(&self, query: &[u8], chain: Chain) -> Vec<u8> {
        let forwarder = self.forwarder.as_ref();
        forwarder.map_or_else(Vec::new, |forwarder| forwarder.ask(query, chain))
    }
}

/// Why a thread of the server ended.
type Failure = (String, io::Result<()>);

/// Runs the command until it fails, or until SIGTERM or SIGINT.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let (failed, failures) = channel();
    let stopped = failed.clone();
    // Before every other thread.
    signal::follow(move |signal| {
        let _ = stopped.send((signal.to_owned(), Ok(())));
        ControlFlow::Break(())
    })?;
    let mut source = ZoneSource::new(args.zone.options())?;
    let changes = changes(&args.zone)?;
    match changes {
        Changes::Files(_) | Changes::Never => {
            take(&read(&args.zone), &mut source);
        }
        Changes::Cluster(_) => {}
    }
    let workers = match args.workers {
        Some(workers) => usize::from(workers),
        None => thread::available_parallelism().map_or(1, usize::from),
    };
    let shared = shared(args, source.zone().clone(), workers * args.listen.len())?;
    if let Some(address) = args.metrics_bind_address {
        serve_http(address, &shared, &failed)?;
    }
    for (at, address) in args.listen.iter().enumerate() {
        listen(*address, workers, at * workers, &shared, &failed)?;
    }
    let changing = shared.clone();
    match changes {
        Changes::Never => {}
        Changes::Files(watch) => {
            let zone_args = args.zone.clone();
            spawn("dns-reload", "manifests".into(), &failed, move || {
                reload(&zone_args, &mut source, &watch, &changing)
            })?;
        }
        Changes::Cluster(following) => {
            spawn("dns-follow", "cluster".into(), &failed, move || {
                following.run(&mut source, &changing)
            })?;
        }
    }
    wait(&failures)
}

/// Where changes come from.
enum Changes {
    Files(Watch),
    Cluster(Following),
    /// Standard input can be read once only.
    Never,
}

/// Looks for changes, before the first read, so that none is missed.
fn changes(args: &ZoneArgs) -> Result<Changes, Box<dyn Error>> {
    let from_stdin = args.manifests.iter().any(|path| path.as_os_str() == "-");
    Ok(match (args.access(), from_stdin) {
        (Some(access), _) => Changes::Cluster(follow(access, args)?),
        (None, false) => Changes::Files(Watch::new(&args.manifests)?),
        (None, true) => Changes::Never,
    })
}

fn wait(failures: &Receiver<Failure>) -> Result<ExitCode, Box<dyn Error>> {
    // A sender lives in this very function's caller, so this ends only with a message.
    let (what, result) = failures.recv()?;
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => Err(format!("{what}: {error}").into()),
    }
}

fn shared(args: &Args, zone: Zone, workers: usize) -> Result<Arc<Shared>, Box<dyn Error>> {
    let policy = Policy {
        order: match args.fixed_order {
            true => Order::Fixed,
            false => Order::Rotated,
        },
        outside: match args.forward {
            Some(_) => Outside::Forward,
            None => Outside::Refuse,
        },
        ..Policy::default()
    };
    let metrics = Arc::new(Metrics::new(workers));
    let forwarder = match args.forward {
        Some(address) => Some(Forwarder::start(address, policy, metrics.clone())?),
        None => None,
    };
    Ok(Arc::new(Shared {
        zone: ArcSwap::from_pointee(zone),
        policy,
        forwarder,
        metrics,
    }))
}

/// Binds an address for both transports, then starts its threads.
fn listen(
    address: SocketAddr,
    workers: usize,
    first: usize,
    shared: &Arc<Shared>,
    failed: &Sender<Failure>,
) -> Result<(), Box<dyn Error>> {
    let bound = bind::both(address, workers).map_err(|error| format!("{address}: {error}"))?;
    let (address, sockets, listener) = bound;
    for (at, socket) in sockets.into_iter().enumerate() {
        let worker = udp::Worker {
            socket: Arc::new(socket),
            shared: shared.clone(),
            counters: shared.metrics.udp(first + at),
        };
        spawn("dns-udp", format!("{address} UDP"), failed, move || {
            worker.run()
        })?;
    }
    let shared = shared.clone();
    let counters = shared.metrics.tcp();
    spawn("dns-accept", format!("{address} TCP"), failed, move || {
        tcp::serve(&listener, &shared, &counters)
    })?;
    eprintln!("serving on {address}");
    Ok(())
}

fn serve_http(
    address: SocketAddr,
    shared: &Arc<Shared>,
    failed: &Sender<Failure>,
) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
    let shared = shared.clone();
    let answer: Answer = Arc::new(move |request| {
        reading(request, |path| match path {
            "/metrics" => {
                let services = shared.zone.load().service_count();
                let gauge = format!("# TYPE svc_dns_services gauge\nsvc_dns_services {services}\n");
                Page::text(200, shared.metrics.text() + &gauge)
            }
            "/healthz" => Page::text(200, "ok\n"),
            "/ready" if shared.zone.load().is_complete() => Page::text(200, "ok\n"),
            "/ready" => Page::text(503, "not complete\n"),
            _ => Page::text(404, ""),
        })
    });
    spawn("dns-http", format!("{address} HTTP"), failed, move || {
        http::serve(&listener, &answer)
    })
}

fn spawn(
    name: &str,
    what: String,
    failed: &Sender<Failure>,
    run: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> Result<(), Box<dyn Error>> {
    let failed = failed.clone();
    let body = move || {
        let result = run();
        // Nobody listens any more when the process ends anyway.
        let _ = failed.send((what, result));
    };
    thread::Builder::new().name(name.into()).spawn(body)?;
    Ok(())
}

/// Publishes the zone anew after each change of the manifests.
fn reload(
    args: &ZoneArgs,
    source: &mut ZoneSource,
    watch: &Watch,
    shared: &Shared,
) -> io::Result<()> {
    loop {
        let mut ready = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !watch.take()? {
            continue;
        }
        let manifests = read(args);
        // A file that is being written may be cut off, and its names do not cease to exist by that. Only at the start
        // the half is used.
        if !manifests.problems.is_empty() {
            eprintln!("note: names stay as they were before");
            continue;
        }
        if take(&manifests, source) {
            shared.zone.store(Arc::new(source.zone().clone()));
            add(&shared.metrics.reloads, 1);
        }
    }
}

/// Reads the manifests and reports what cannot be read.
fn read(args: &ZoneArgs) -> Manifests {
    let manifests = manifest::read(&args.sources());
    for problem in &manifests.problems {
        eprintln!("error: {problem}");
    }
    manifests
}

/// Makes the names of manifests the zone, and reports what is wrong with them. Whether a record changed.
fn take(manifests: &Manifests, source: &mut ZoneSource) -> bool {
    let changed = source.take(manifests);
    for remark in source.remarks(manifests) {
        eprintln!("{remark}");
    }
    changed
}
