//! `connect-bench`: how long a TCP connection takes, with and without the rules of a backend.
//!
//! Client and server are one process on one core, in a network namespace where all endpoints are
//! local addresses, so that nothing but the rules and connection tracking is in between. The same
//! connections without any rule are made in a second namespace, with the rules of no Service in a
//! third, which shows what connection tracking alone costs, and through one DNAT rule in a fourth,
//! which is the least that translation costs; all in turns.

mod floor;

use std::error::Error;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;
use serde_json::{Value, json};
use svc_core::{IpNet, Ipv4Net, Kernel, Planner, Render};

use crate::cli::Output;
use crate::iptables_proxy::VariantArg;
use crate::proxy::{Family, update};
use crate::sandbox::{Namespace, Route, isolate};
use crate::sync_bench::{self, Size};

/// Measures TCP connections through made-up Services in network namespaces of its own
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// Whose rules are measured
    #[arg(long, value_enum, default_value_t)]
    backend: sync_bench::Backend,
    /// Number of Services, each with a ClusterIP and one port
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    services: u32,
    /// Endpoints of each Service
    #[arg(long, value_name = "E", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    endpoints: u32,
    /// Connections of each kind
    #[arg(long, value_name = "C", default_value_t = 5000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connects: u32,
    /// Variant of iptables
    #[arg(long, value_enum, default_value = "legacy")]
    variant: VariantArg,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Address of the client, in the range of pods.
const CLIENT: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 126, 0, 1), 9));
/// Where the ClusterIPs are.
const SERVICES: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 128, 0, 0), 9));
const NODE: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(198, 18, 0, 10), 32));
const POD: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
const PORT: u16 = 8080;
/// What the one rule translates.
const ONE_SERVICE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 128, 0, 1), 80);
/// Turns: each kind of connection is made in so many parts, one after the other.
const TURNS: u32 = 20;

/// Runs the command.
///
/// # Errors
/// When the kernel cannot do it.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    isolate()?;
    let mut core = CpuSet::new();
    core.set(0)?;
    // All threads of this process follow, so that no connection pays for another core that sleeps.
    sched_setaffinity(Pid::from_raw(0), &core)?;
    let (with, without) = (place("with rules")?, place("without rules")?);
    let empty = place("no services")?;
    let _held = [hold(args, &with, args.services)?, hold(args, &empty, 0)?];
    let service = |number: u32| sync_bench::cluster_ip(number);
    let pod = IpAddr::from(POD);
    let floor = place("one rule")?;
    floor.run(|| one_dnat(args).map_err(|error| error.to_string()))??;
    let kinds = [
        ("no_rules", &without, SocketAddr::new(pod, PORT)),
        ("no_services", &empty, SocketAddr::new(pod, PORT)),
        ("one_dnat", &floor, SocketAddr::V4(ONE_SERVICE)),
        ("first_service", &with, SocketAddr::new(service(0), 80)),
        (
            "middle_service",
            &with,
            SocketAddr::new(service(args.services / 2), 80),
        ),
        (
            "last_service",
            &with,
            SocketAddr::new(service(args.services - 1), 80),
        ),
        ("pod", &with, SocketAddr::new(pod, PORT)),
        ("node", &with, SocketAddr::new(NODE.addr(), PORT)),
    ];
    let result = result(args, &in_turns(args, &kinds)?);
    match args.output {
        Output::Json => println!("{result}"),
        Output::Text => print!("{}", to_text(&result)),
    }
    Ok(())
}

/// Where a kind of connection is made, and to what.
type Kind<'a> = (&'static str, &'a Namespace, SocketAddr);

/// A kind of connection and its times, sorted.
type Times = (&'static str, Vec<Duration>);

/// The times of each kind.
fn in_turns(args: &Args, kinds: &[Kind<'_>]) -> Result<Vec<Times>, Box<dyn Error>> {
    let empty = |(name, _, _): &Kind<'_>| (*name, Vec::new());
    let mut times: Vec<Times> = kinds.iter().map(empty).collect();
    for _ in 0..TURNS {
        for ((_, namespace, to), (_, times)) in kinds.iter().zip(&mut times) {
            times.extend(namespace.run(|| connects(*to, args.connects.div_ceil(TURNS)))??);
        }
    }
    times
        .iter_mut()
        .for_each(|(_, times)| times.sort_unstable());
    Ok(times)
}

/// Writes the rules of so many Services in a namespace, and returns what holds on to them.
fn hold(
    args: &Args,
    namespace: &Namespace,
    services: u32,
) -> Result<Box<dyn Send>, Box<dyn Error>> {
    let size = Size {
        services,
        endpoints: args.endpoints,
    };
    let mut planner = sync_bench::planner(args.backend.mode());
    sync_bench::load(&mut planner, size);
    Ok(namespace.run(|| install(args, &mut planner).map_err(|error| error.to_string()))??)
}

/// One rule in the mechanism of the backend; that of IPVS translates with nf_tables beside it.
fn one_dnat(args: &Args) -> Result<(), Box<dyn Error>> {
    let pod = SocketAddrV4::new(POD, PORT);
    match args.backend {
        sync_bench::Backend::Iptables => floor::iptables(args.variant, ONE_SERVICE, pod),
        sync_bench::Backend::Nftables | sync_bench::Backend::Ipvs => {
            floor::nftables(ONE_SERVICE, pod)
        }
    }
}

/// A namespace where every pod address is local, with a server on all of them.
fn place(name: &str) -> Result<Namespace, Box<dyn Error>> {
    let namespace = Namespace::new(name)?;
    namespace.set_link_up("lo")?;
    namespace.add_address("lo", CLIENT)?;
    namespace.add_address("lo", NODE)?;
    namespace.add_route(&Route::direct(SERVICES, "lo").from_source(CLIENT.addr()))?;
    let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)))??;
    // Whoever connected has been measured by then. It ends with the process.
    namespace.spawn(move || listener.incoming().for_each(drop))?;
    Ok(namespace)
}

/// Writes the rules, and returns what holds on to them.
fn install(args: &Args, planner: &mut Planner) -> Result<Box<dyn Send>, Box<dyn Error>> {
    Ok(match args.backend {
        sync_bench::Backend::Nftables => Box::new(settle(sync_bench::nftables()?, planner)?),
        sync_bench::Backend::Iptables => {
            Box::new(settle(sync_bench::iptables(args.variant)?, planner)?)
        }
        sync_bench::Backend::Ipvs => Box::new(settle(sync_bench::ipvs()?, planner)?),
    })
}

fn settle<R: Render, K: Kernel<R>>(
    family: Family<R, K>,
    planner: &mut Planner,
) -> Result<K, Box<dyn Error>>
where
    K::Error: 'static,
{
    let mut families = [family];
    update(planner, &mut families)?;
    let [family] = families;
    Ok(family.kernel)
}

fn connects(to: SocketAddr, count: u32) -> io::Result<Vec<Duration>> {
    (0..count).map(|_| one(to)).collect()
}

/// The time that `connect` takes; the connection ends by a reset, which leaves no port resting.
fn one(to: SocketAddr) -> io::Result<Duration> {
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    let at_once = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&socket, sockopt::Linger, &at_once)?;
    let start = Instant::now();
    connect(socket.as_raw_fd(), &SockaddrStorage::from(to))?;
    Ok(start.elapsed())
}

fn result(args: &Args, kinds: &[(&str, Vec<Duration>)]) -> Value {
    let micros = |sorted: &[Duration], percent: usize| {
        let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let round = |value: f64| (value * 100.0).round() / 100.0;
    let base = kinds.first().map_or(0.0, |(_, times)| micros(times, 50));
    let rows = kinds.iter().map(|(name, times)| {
        let row = json!({
            "p10": round(micros(times, 10)),
            "p50": round(micros(times, 50)),
            "p99": round(micros(times, 99)),
            "ratio": round(micros(times, 50) / base),
        });
        ((*name).to_owned(), row)
    });
    json!({
        "backend": args.backend.mode(),
        "variant": args.backend.variant(args.variant),
        "services": args.services,
        "endpoints": args.endpoints,
        "connect_us": rows.collect::<serde_json::Map<_, _>>(),
    })
}

fn to_text(result: &Value) -> String {
    let rows = result["connect_us"].as_object().into_iter().flatten();
    let title = format!(
        "{:<16}{:>8}{:>8}{:>8}{:>8}\n",
        "us", "p10", "p50", "p99", "ratio"
    );
    rows.fold(title, |text, (name, row)| {
        let of = |key: &str| row[key].as_f64().unwrap_or_default();
        let (p10, p50, p99, ratio) = (of("p10"), of("p50"), of("p99"), of("ratio"));
        text + &format!("{name:<16}{p10:>8.1}{p50:>8.1}{p99:>8.1}{ratio:>8.2}\n")
    })
}
