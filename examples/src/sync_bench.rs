//! `sync-bench`: what a change costs, from the watch event to the kernel's acknowledgement.

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use backend_ipvs::{Presence, System};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Service, ServiceCidr, ServicePort, SliceEndpoint,
    TargetPort,
};
use svc_core::{
    Event, IpFamily, Kernel, NamespacedName, NodeConfig, Plan, PlanDelta, Planner, Protocol,
    Reconciler, Render, WatchEvent,
};

use crate::cli::Output;
use crate::iptables_proxy::VariantArg;
use crate::neighbours::Neighbours;
use crate::proxy::{Family, update};

/// Measures syncs of made-up Services in a network namespace of its own
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// What is measured
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Number of Services, each with a ClusterIP and one port
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    services: u32,
    /// Endpoints of each Service
    #[arg(long, value_name = "E", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    endpoints: u32,
    /// Which changes are measured
    #[arg(long, value_enum, default_value_t)]
    change: Change,
    /// Changes of each kind
    #[arg(long, value_name = "R", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,
    /// Variant of iptables
    #[arg(long, value_enum, default_value = "legacy")]
    variant: VariantArg,
    /// Also measure how long others wait for the kernel during the first load: small nf_tables
    /// transactions in this network namespace, and in another
    #[arg(long)]
    neighbours: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What is measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// nf_tables over netlink
    #[default]
    Nftables,
    /// iptables-restore
    Iptables,
    /// Virtual servers over generic netlink, and the companion table
    Ipvs,
}

impl Backend {
    pub(crate) fn mode(self) -> ProxyMode {
        match self {
            Self::Nftables => ProxyMode::Nftables,
            Self::Iptables => ProxyMode::Iptables,
            Self::Ipvs => ProxyMode::Ipvs,
        }
    }

    /// The variant, for a backend that has any.
    pub(crate) fn variant(self, variant: VariantArg) -> Option<&'static str> {
        match self {
            Self::Iptables => Some(backend_iptables::Variant::from(variant).name()),
            Self::Nftables | Self::Ipvs => None,
        }
    }
}

/// Which changes are measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Change {
    /// One endpoint of a Service replaced
    Endpoint,
    /// One Service added, then removed
    Service,
    /// Both
    #[default]
    All,
}

/// Runs the command.
///
/// # Errors
/// When the kernel cannot do it.
pub fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    enter()?;
    let result = match args.backend {
        Backend::Nftables => measure(args, args.backend.mode(), nftables)?,
        Backend::Iptables => measure(args, args.backend.mode(), || iptables(args.variant))?,
        Backend::Ipvs => {
            first_address()?;
            measure(args, args.backend.mode(), ipvs)?
        }
    };
    match args.output {
        Output::Json => println!("{result}"),
        Output::Text => print!("{}", to_text(&result)),
    }
    Ok(())
}

/// Enters a network namespace of its own; without root in a user namespace of its own.
fn enter() -> Result<(), Box<dyn Error>> {
    let flags = match nix::unistd::geteuid().is_root() {
        true => CloneFlags::CLONE_NEWNET,
        false => CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUSER,
    };
    unshare(flags).map_err(|errno| format!("cannot make a network namespace: {errno}").into())
}

const TABLE: &str = "sync-bench";

pub(crate) fn nftables()
-> Result<Family<backend_nftables::Renderer, backend_nftables::Kernel>, Box<dyn Error>> {
    let renderer = backend_nftables::Renderer::new(TABLE, IpFamily::V4);
    Ok(Family {
        reconciler: Reconciler::new(renderer, IpFamily::V4),
        kernel: backend_nftables::Kernel::open(TABLE, IpFamily::V4)?,
    })
}

/// The lock of the host belongs to the rules of the host.
pub(crate) fn lock_file() -> PathBuf {
    std::env::temp_dir().join(format!("sync-bench-{}.lock", std::process::id()))
}

pub(crate) fn iptables(
    variant: VariantArg,
) -> Result<Family<backend_iptables::Renderer, backend_iptables::Kernel>, Box<dyn Error>> {
    let kernel = backend_iptables::Kernel::open(backend_iptables::Options {
        variant: Some(variant.into()),
        lock_file: Some(lock_file()),
        ..backend_iptables::Options::new(IpFamily::V4)
    })?;
    let renderer = backend_iptables::Renderer::new(*kernel.config());
    let reconciler = Reconciler::new(renderer, IpFamily::V4);
    Ok(Family { reconciler, kernel })
}

/// Gives the namespace its first address, before which IPVS takes no destination. The first sync
/// removes it.
fn first_address() -> Result<(), Box<dyn Error>> {
    let settings = backend_ipvs::Settings::default();
    let mut kernel = backend_ipvs::Kernel::open(&settings, IpFamily::V4)?;
    kernel.system().make_link()?;
    let first = [(IpAddr::from([198, 18, 0, 10]), Presence::Present)];
    kernel.system().change_addresses(&first)?;
    Ok(())
}

pub(crate) fn ipvs() -> Result<Family<backend_ipvs::Renderer, backend_ipvs::Kernel>, Box<dyn Error>>
{
    let settings = backend_ipvs::Settings::default();
    Ok(Family {
        kernel: backend_ipvs::Kernel::open(&settings, IpFamily::V4)?,
        reconciler: Reconciler::new(
            backend_ipvs::Renderer::new(settings, IpFamily::V4),
            IpFamily::V4,
        ),
    })
}

fn measure<R: Render, K: Kernel<R>>(
    args: &Args,
    mode: ProxyMode,
    open: impl Fn() -> Result<Family<R, K>, Box<dyn Error>>,
) -> Result<Value, Box<dyn Error>>
where
    K::Error: 'static,
{
    let mut planner = planner(mode);
    let size = Size {
        services: args.services,
        endpoints: args.endpoints,
    };
    load(&mut planner, size);
    let first = first_sync(args, &mut planner, &open)?;
    let mut families = vec![first.family];

    let noop = many(args.runs, |_| update(&mut planner, &mut families).map(drop))?;
    let cpu = cpu_time()?;
    let endpoint = match args.change {
        Change::Endpoint | Change::All => endpoint_changes(args, &mut planner, &mut families)?,
        Change::Service => Vec::new(),
    };
    let endpoint_cpu = (cpu_time()? - cpu) / args.runs;
    let (added, removed) = match args.change {
        Change::Service | Change::All => service_changes(args, &mut planner, &mut families)?,
        Change::Endpoint => (Vec::new(), Vec::new()),
    };
    let cpu = cpu_time()?;
    let (objects, readback, restart, rewritten) = read_back(&planner, &mut families, open()?)?;
    let read_back_cpu = cpu_time()? - cpu;
    Ok(json!({
        "backend": mode,
        "variant": args.backend.variant(args.variant),
        "services": args.services,
        "endpoints": args.endpoints,
        "plan_full_ms": millis(first.plan),
        "full_sync_ms": millis(first.sync),
        "full_sync_cpu_ms": millis(first.cpu),
        "noop_sync_us": percentile(&noop, 50).map(micros),
        "endpoint_change_us": spread(&endpoint),
        "endpoint_change_cpu_us": micros(endpoint_cpu),
        "service_add_us": spread(&added),
        "service_remove_us": spread(&removed),
        "readback_ms": millis(readback),
        "restart_ms": millis(restart),
        "restart_writes": rewritten,
        "readback_and_restart_cpu_ms": millis(read_back_cpu),
        "neighbours_wait_us": first.waits,
        "peak_rss_kib": first.peak,
        "kernel_memory_kib": first.kernel_memory,
        "kernel_objects": objects,
    }))
}

/// The first plan and the first write of everything.
struct First<R: Render, K> {
    family: Family<R, K>,
    plan: Duration,
    /// The plan included.
    sync: Duration,
    cpu: Duration,
    /// How long others waited for the kernel meanwhile.
    waits: Option<Value>,
    /// Most memory that the work itself needs, in KiB; measuring needs more.
    peak: i64,
    /// How much more memory the kernel of the machine has for itself after it, in KiB.
    kernel_memory: Option<i64>,
}

fn first_sync<R: Render, K: Kernel<R>>(
    args: &Args,
    planner: &mut Planner,
    open: impl Fn() -> Result<Family<R, K>, Box<dyn Error>>,
) -> Result<First<R, K>, Box<dyn Error>>
where
    K::Error: 'static,
{
    // The first plans of a process touch cold memory, as they do in a proxy that starts.
    let (start, cpu) = (Instant::now(), cpu_time()?);
    let deltas = planner.delta();
    let (plan, plan_cpu) = (start.elapsed(), cpu_time()? - cpu);
    let mut family = open()?;
    let changes = deltas.iter();
    changes.for_each(|delta| family.reconciler.change(delta));

    let before = kernel_memory();
    let neighbours = args.neighbours.then(Neighbours::new);
    let (start, cpu) = (Instant::now(), cpu_time()?);
    family.settle()?;
    Ok(First {
        sync: start.elapsed() + plan,
        cpu: cpu_time()? - cpu + plan_cpu,
        waits: neighbours.map(Neighbours::waits),
        peak: getrusage(UsageWho::RUSAGE_SELF)?.max_rss(),
        kernel_memory: kernel_memory().zip(before).map(|(now, then)| now - then),
        plan,
        family,
    })
}

/// What the kernel has allocated for itself, in KiB, whoever caused it; `None` if it does not tell.
fn kernel_memory() -> Option<i64> {
    let told = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = |name: &str| -> Option<i64> {
        let line = told.lines().find_map(|line| line.strip_prefix(name))?;
        line.trim().strip_suffix(" kB")?.parse().ok()
    };
    // Elements, what they are found by, and tables of hashes that are too large for the first.
    Some(kib("Slab:")? + kib("Percpu:")? + kib("VmallocUsed:")?)
}

pub(crate) fn planner(mode: ProxyMode) -> Planner {
    let mut proxy = ProxyConfig::default_for(mode);
    let pods = "10.0.0.0/9".parse().into_iter().collect();
    proxy.detect_local = LocalDetection::ClusterCidr(pods);
    let mut config = NodeConfig::new("node", proxy);
    config.local_addresses = vec![IpAddr::from([198, 18, 0, 10])];
    Planner::new(config)
}

/// How much is made up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
}

pub(crate) fn load(planner: &mut Planner, size: Size) {
    planner.handle(Event::ServiceCidr(WatchEvent::Apply(ServiceCidr {
        name: "kubernetes".into(),
        cidrs: "10.128.0.0/9".parse().into_iter().collect(),
        ready: true,
        terminating: false,
    })));
    planner.handle(Event::Service(WatchEvent::Init));
    planner.handle(Event::EndpointSlice(WatchEvent::Init));
    for number in 0..size.services {
        planner.handle(Event::Service(WatchEvent::InitApply(service(number))));
        let slice = slice(number, size.endpoints);
        planner.handle(Event::EndpointSlice(WatchEvent::InitApply(slice)));
    }
    planner.handle(Event::Service(WatchEvent::InitDone));
    planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
}

fn endpoint_changes<R: Render, K: Kernel<R>>(
    args: &Args,
    planner: &mut Planner,
    families: &mut [Family<R, K>],
) -> Result<Vec<Duration>, Box<dyn Error>>
where
    K::Error: 'static,
{
    many(args.runs, |run| {
        // A stride that shares no factor with most numbers of Services visits them all.
        let number = u32::try_from(u64::from(run) * 7919 % u64::from(args.services))?;
        let mut slice = slice(number, args.endpoints);
        if let Some(endpoint) = slice.endpoints.first_mut() {
            endpoint.address = IpAddr::from(Ipv4Addr::from(0x0b00_0000 + run));
        }
        let event = Event::EndpointSlice(WatchEvent::Apply(slice));
        timed(|| {
            planner.handle(event);
            update(planner, families).map(drop)
        })
    })
}

fn service_changes<R: Render, K: Kernel<R>>(
    args: &Args,
    planner: &mut Planner,
    families: &mut [Family<R, K>],
) -> Result<(Vec<Duration>, Vec<Duration>), Box<dyn Error>>
where
    K::Error: 'static,
{
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for run in 0..args.runs {
        let number = args.services + run % 1000;
        let (service, slice) = (service(number), slice(number, args.endpoints));
        let (name, slice_name) = (service.name.clone(), slice.name.clone());
        added.push(timed(|| {
            planner.handle(Event::Service(WatchEvent::Apply(service)));
            planner.handle(Event::EndpointSlice(WatchEvent::Apply(slice)));
            update(planner, families).map(drop)
        })?);
        removed.push(timed(|| {
            planner.handle(Event::Service(WatchEvent::Delete(name)));
            planner.handle(Event::EndpointSlice(WatchEvent::Delete(slice_name)));
            update(planner, families).map(drop)
        })?);
    }
    added.sort_unstable();
    removed.sort_unstable();
    Ok((added, removed))
}

/// Objects in the kernel, the time to read them, the time of a restart over them, and the number
/// of objects that it wrote.
fn read_back<R: Render, K: Kernel<R>>(
    planner: &Planner,
    families: &mut [Family<R, K>],
    mut fresh: Family<R, K>,
) -> Result<(usize, Duration, Duration, usize), Box<dyn Error>>
where
    K::Error: 'static,
{
    let first = families.first_mut().ok_or("no family")?;
    let start = Instant::now();
    let objects = first.kernel.read()?.len();
    let readback = start.elapsed();

    let start = Instant::now();
    let plan = planner.plan(IpFamily::V4);
    fresh.reconciler.change(&PlanDelta {
        node: Some(plan.node.clone()),
        ..Plan::empty(IpFamily::V4, plan.node.clone()).diff(&plan)
    });
    let written = fresh.settle()?.settled.edits;
    Ok((objects, readback, start.elapsed(), written))
}

fn service(number: u32) -> Service {
    let mut service = Service::named(name(number));
    service.cluster_ips = vec![cluster_ip(number)];
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort {
        name: "http".into(),
        protocol: Protocol::Tcp,
        port: 80,
        target_port: TargetPort::Number(8080),
        node_port: None,
        app_protocol: None,
    }];
    service
}

pub(crate) fn cluster_ip(number: u32) -> IpAddr {
    IpAddr::from(Ipv4Addr::from(0x0a80_0001 + number))
}

fn slice(number: u32, endpoints: u32) -> EndpointSlice {
    let service = name(number);
    let address = |index| Ipv4Addr::from(0x0a00_0001 + (number * endpoints + index) % 0x7f_fff0);
    let endpoint = |index| {
        let mut endpoint = SliceEndpoint::new(address(index).into(), Conditions::READY);
        // Three nodes: every third endpoint is local.
        endpoint.node = Some(["node", "other-1", "other-2"][index as usize % 3].into());
        endpoint
    };
    EndpointSlice {
        name: NamespacedName::new(service.namespace.clone(), format!("{}-a", service.name)),
        service: service.name,
        family: IpFamily::V4,
        ports: Box::new([EndpointPort {
            name: "http".into(),
            protocol: Protocol::Tcp,
            port: 8080,
            app_protocol: None,
        }]),
        endpoints: (0..endpoints).map(endpoint).collect(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn name(number: u32) -> NamespacedName {
    NamespacedName::new(
        format!("namespace-{}", number % 100),
        format!("service-{number}"),
    )
}

fn timed(work: impl FnOnce() -> Result<(), Box<dyn Error>>) -> Result<Duration, Box<dyn Error>> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// Times of so many runs, sorted.
fn many<T>(
    runs: u32,
    mut work: impl FnMut(u32) -> Result<T, Box<dyn Error>>,
) -> Result<Vec<Duration>, Box<dyn Error>>
where
    T: IntoTime,
{
    let mut times = Vec::with_capacity(runs as usize);
    for run in 0..runs {
        let start = Instant::now();
        let done = work(run)?;
        times.push(done.time(start));
    }
    times.sort_unstable();
    Ok(times)
}

/// What a run took: what it says itself, or all of it.
trait IntoTime {
    fn time(self, start: Instant) -> Duration;
}

impl IntoTime for () {
    fn time(self, start: Instant) -> Duration {
        start.elapsed()
    }
}

impl IntoTime for Duration {
    fn time(self, _: Instant) -> Duration {
        self
    }
}

/// CPU time of this process and of the programs that it ran.
fn cpu_time() -> Result<Duration, Box<dyn Error>> {
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let mut sum = 0;
    for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
        let usage = getrusage(who)?;
        sum += micros(usage.user_time()) + micros(usage.system_time());
    }
    Ok(Duration::from_micros(u64::try_from(sum)?))
}

fn spread(times: &[Duration]) -> Option<Value> {
    let (p50, p99) = (percentile(times, 50)?, percentile(times, 99)?);
    Some(json!({ "p50": micros(p50), "p99": micros(p99) }))
}

fn percentile(sorted: &[Duration], percent: usize) -> Option<Duration> {
    let index = (sorted.len() * percent / 100).min(sorted.len().checked_sub(1)?);
    sorted.get(index).copied()
}

fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e8).round() / 1e2
}

fn to_text(result: &Value) -> String {
    let lines = result.as_object().into_iter().flatten();
    lines
        .map(|(key, value)| format!("{key:<20} {value}\n"))
        .collect()
}
