//! From a command line to a loop that runs.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use svc_core::wire::PodNames;
use svc_core::{IpFamily, Kernel, NodeConfig, Planner};
use tracing::{error, info, warn};

use super::addresses::{AddressNews, OwnAddresses};
use super::backend::{Backend, Families, Notices, Sentinel};
use super::clock::SystemClock;
use super::events::{Announcement, Announcer, EventSink};
use super::family::FamilyLoop;
use super::flags::{Flags, Settings};
use super::flows::FlowKeeper;
use super::health_ports::HealthPorts;
use super::input::{Feed, Input, SourceLink, Stopped, feed};
use super::jitter::Jitter;
use super::log::{self, LogFormat};
use super::looping::{Agent, Audits, Ended, Parts};
use super::pace::Periods;
use super::presence::{Estate, Presence};
use super::reconfigured::ConfigFile;
use super::status::{Shared, Status};
use super::{backend, once, server, source};
use crate::cli::input::InputArgs;
use crate::cli::one_line;
use crate::cluster_watch::{
    self, Access, ClusterWatch, Importance, Interest, Link, Notice, Poster, Posting, Tuning,
};
use crate::host;
use crate::signal;

/// The flags that all proxies have.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ProxyArgs {
    /// Where objects come from.
    #[command(flatten)]
    pub input: InputArgs,
    /// The flags of kube-proxy.
    #[command(flatten)]
    pub flags: Flags,
    /// Sync once and exit when the kernel holds the plan
    #[arg(long, conflicts_with_all = ["dry_run", "cleanup"])]
    pub once: bool,
    /// Print what would be written, write nothing
    #[arg(long, conflicts_with = "cleanup")]
    pub dry_run: bool,
    /// Remove exactly what this backend owns
    #[arg(long)]
    pub cleanup: bool,
    /// Remove the rules of other proxies once ours are found right
    #[arg(long)]
    pub take_over: bool,
    /// Work in this network namespace
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
    /// Format of what is told on standard error
    #[arg(long, value_enum, default_value_t, alias = "logging-format")]
    pub log_format: LogFormat,
    /// How much is told: 4 for each sync, 6 for each input
    #[arg(short = 'v', long = "v", value_name = "LEVEL", default_value_t = 2)]
    pub verbosity: u8,
}

/// Runs a proxy.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run<B: Backend>(args: &ProxyArgs, backend: B) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    run_with(args, backend, None)
}

/// Runs a proxy that hands what its users should know to a sink.
///
/// # Errors
/// See [`run`].
pub fn run_with<B: Backend>(
    args: &ProxyArgs,
    mut backend: B,
    sink: Option<Box<dyn EventSink>>,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    log::start(args.log_format, args.verbosity);
    if args.flags.is_init_only() {
        info!("--init-only: nothing takes more privileges than serving does");
        return Ok(ExitCode::SUCCESS);
    }
    let config = watch_config(args);
    let mut settings = Settings::of(&args.input, &args.flags, B::MODE);
    settings
        .warnings
        .iter()
        .for_each(|warning| warn!("{warning}"));
    settings
        .errors
        .iter()
        .for_each(|problem| error!("{problem}"));
    if args.cleanup {
        enter(args)?;
        return once::clean_up(&backend, &settings);
    }
    if args.once || args.dry_run {
        return in_passing(args, &mut backend, &settings);
    }
    let (feed, told) = feed();
    // Before every other thread.
    follow_signals(feed.clone())?;
    if let Some(config) = config {
        config.follow(feed.clone())?;
    }
    // In the first network namespace: a cluster is reached from there.
    let source = objects(args, &settings.node, &feed)?;
    let sink = sink.or_else(|| source.sink(&settings.node));
    enter(args)?;
    // Before the kernel is touched: what goes wrong there may be the other's doing.
    let presence = Presence::claim(Estate::new(B::MODE, backend.manages()));
    let adapted = backend.adapt(&mut settings.node);
    adapted.iter().for_each(|change| warn!("{change}"));
    let (mut families, left_out) = backend::open(&backend, &settings.node)?;
    left_out.iter().for_each(|why| warn!("{why}"));
    backend.prepare(&mut families, &settings.node)?;
    let company = Company { presence, sink };
    serve(args, backend, families, settings, (feed, told), company)
}

/// Syncs once, or shows what would be written.
fn in_passing<B: Backend>(
    args: &ProxyArgs,
    backend: &mut B,
    settings: &Settings,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let code = match args.dry_run {
        true => once::show(args, backend, settings)?.0,
        false => once::sync(args, backend, settings)?,
    };
    Ok(match settings.errors.is_empty() {
        true => code,
        false => ExitCode::FAILURE,
    })
}

/// Watches the configuration file, if there is one and the program is to run on.
fn watch_config(args: &ProxyArgs) -> Option<ConfigFile> {
    if args.once || args.dry_run || args.cleanup {
        return None;
    }
    let path = args.input.config.as_ref()?;
    let watched = ConfigFile::watch(path);
    let failed =
        |error: &std::io::Error| warn!(%error, "changes of the configuration will not be noticed");
    watched.inspect_err(failed).ok()
}

fn follow_signals(feed: Feed) -> std::io::Result<()> {
    signal::follow(move |signal| match feed.send(Input::Stop(signal)) {
        Ok(()) => ControlFlow::Continue(()),
        Err(Stopped) => ControlFlow::Break(()),
    })
}

/// Who else is there: another agent by mistake, and who is told what users should know.
struct Company {
    presence: Presence,
    sink: Option<Box<dyn EventSink>>,
}

fn serve<B: Backend>(
    args: &ProxyArgs,
    mut backend: B,
    mut families: Families<B>,
    settings: Settings,
    (feed, told): (Feed, std::sync::mpsc::Receiver<super::input::Told>),
    Company { presence, sink }: Company,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    announce(&backend, &families, &settings.node);
    let clock = SystemClock::start();
    let opened = families.iter().map(|one| one.reconciler.family());
    let status = Status::new(B::MODE, settings.node.proxy.sync_period, opened);
    let shared = Shared::new(status, clock);
    server::start(settings.addresses, &shared, &feed)?;
    let health_ports = HealthPorts::start(shared.clone())?;
    let no_flows = |cause: &std::io::Error| {
        error!(error = %cause, "no connection tracking: UDP flows to lost endpoints stay");
    };
    let flows = FlowKeeper::start(shared.clone()).inspect_err(no_flows).ok();
    watch_addresses(AddressNews::open()?, feed.clone())?;
    let (asked, audits, periods) = follow(&mut backend, &mut families, &settings.node, &feed)?;
    let looped = |family| FamilyLoop::new(family, periods, Jitter::random());
    let parts = Parts {
        backend,
        families: families.into_iter().map(looped).collect(),
        planner: Planner::new(settings.node),
        clock,
        shared,
        health_ports,
        flows,
        announcer: Announcer::new(sink),
        asked,
        audits,
        presence,
        take_over: args.take_over,
        own_addresses: own_addresses(args),
    };
    let mut agent = Agent::new(parts);
    Ok(match agent.run(&told) {
        Ended::Asked(_) => ExitCode::SUCCESS,
        // Supervisors that start again only what failed are to do it too.
        Ended::Reconfigured => ExitCode::FAILURE,
    })
}

/// Tells that an agent starts, and what is odd about the host.
fn announce<B: Backend>(backend: &B, families: &Families<B>, node: &NodeConfig) {
    info!(node = &*node.name, mode = B::MODE.name(), "starting");
    for family in families {
        for remark in backend.remarks(family) {
            warn!(family = %family.reconciler.family(), "{remark}");
        }
    }
}

/// Looks for changes by others from now on: how often to ask for them, whether to audit, and the
/// periods of the loops.
fn follow<B: Backend>(
    backend: &mut B,
    families: &mut Families<B>,
    node: &NodeConfig,
    feed: &Feed,
) -> Result<(Option<Duration>, Audits, Periods), Box<dyn Error>> {
    let proxy = &node.proxy;
    let (asked, audits, check, check_share) = match backend.follow(families, node)? {
        Notices::Told(sentinel) => {
            watch_kernel(sentinel, feed.clone())?;
            (None, Audits::None, FULL_CHECK, RARELY)
        }
        Notices::Audited(sentinel) => {
            watch_kernel(sentinel, feed.clone())?;
            (None, Audits::Made, FULL_CHECK_BESIDE_AUDITS, RARELY)
        }
        Notices::Asked(period) => (Some(period), Audits::None, FULL_CHECK, RARELY),
        // Nothing else notices what others do.
        Notices::Compared(period) => (None, Audits::None, period, OFTEN),
    };
    let periods = Periods {
        min: proxy.min_sync_period,
        check,
        check_share,
        retry_first: RETRY_FIRST.min(proxy.sync_period),
        retry_most: proxy.sync_period,
    };
    Ok((asked, audits, periods))
}

/// Where objects come from; a watch of a cluster ends when this is dropped.
#[derive(Debug)]
struct Objects {
    watch: Option<ClusterWatch>,
}

impl Objects {
    /// What posts Events to the cluster that objects come from.
    fn sink(&self, node: &NodeConfig) -> Option<Box<dyn EventSink>> {
        let poster = self.watch.as_ref()?.poster();
        Some(Box::new(ToCluster {
            poster,
            reporter: node.name.to_string(),
        }))
    }
}

/// Posts announcements as Events of Kubernetes.
struct ToCluster {
    poster: Poster,
    reporter: String,
}

impl EventSink for ToCluster {
    fn post(&mut self, announcement: &Announcement) {
        self.poster.post(Posting {
            kind: announcement.kind,
            object: announcement.object.clone(),
            importance: Importance::Warning,
            reason: announcement.reason.clone(),
            message: announcement.message.clone(),
            reporter: self.reporter.clone(),
        });
    }
}

/// The cluster of the flag, or else of the configuration.
pub(super) fn access(args: &ProxyArgs, node: &NodeConfig) -> Access {
    let of_file = node.proxy.kubeconfig.as_deref().map(PathBuf::from);
    Access {
        kubeconfig: args.input.kubeconfig.clone().or(of_file),
    }
}

/// Starts the source of objects: manifests, or else a cluster.
fn objects(args: &ProxyArgs, node: &NodeConfig, feed: &Feed) -> Result<Objects, Box<dyn Error>> {
    if !args.input.manifests.is_empty() {
        source::start(&args.input, feed.clone())?;
        return Ok(Objects { watch: None });
    }
    let options = cluster_watch::Options {
        access: access(args, node),
        interest: Interest::Proxy {
            node: node.name.clone(),
        },
        pod_names: PodNames::Drop,
        tuning: Tuning::default(),
    };
    let feed = feed.clone();
    let told = move |notice| match input_of(notice).map(|input| feed.send(input)) {
        Some(Err(Stopped)) => ControlFlow::Break(()),
        Some(Ok(())) | None => ControlFlow::Continue(()),
    };
    let watch = cluster_watch::start(options, told)?;
    Ok(Objects { watch: Some(watch) })
}

/// What a watch says, in the words of the loop; nothing if it is for others.
fn input_of(notice: Notice) -> Option<Input> {
    Some(match notice {
        Notice::Event(event) => Input::Event(event),
        Notice::Complete => Input::Complete,
        Notice::Remarks {
            kind,
            object,
            diagnostics,
        } => Input::Remarks {
            kind,
            object,
            diagnostics,
        },
        Notice::Link { kind, link } => Input::Link {
            kind,
            link: match link {
                Link::Up => SourceLink::Up,
                Link::Down { error, .. } => SourceLink::Down(error),
                Link::Absent { error } => SourceLink::Absent(error),
            },
        },
        Notice::Triggered(at) => Input::Triggered(at),
        Notice::Pod(_) | Notice::Namespace(_) => return None,
    })
}

/// Manifests say with a Node which addresses it has; the Node of a cluster need not have all.
pub(super) fn own_addresses(args: &ProxyArgs) -> OwnAddresses {
    match args.input.manifests.is_empty() {
        true => OwnAddresses::OfHost,
        false => OwnAddresses::OfNode,
    }
}

/// A thread that waits for addresses to come and go.
fn watch_addresses(news: AddressNews, feed: Feed) -> std::io::Result<()> {
    let watch = move || {
        loop {
            if let Err(cause) = news.wait() {
                error!(error = %cause, "new addresses of the host are no longer noticed");
                return;
            }
            if feed.send(Input::Addresses).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("addresses".into())
        .spawn(watch)?;
    Ok(())
}

/// A thread that waits for what the kernel tells.
fn watch_kernel(mut sentinel: Sentinel, feed: Feed) -> std::io::Result<()> {
    let watch = move || {
        loop {
            let disturbed = match sentinel() {
                Ok(family) => family,
                Err(cause) => {
                    let cause = one_line(&*cause);
                    error!(
                        error = cause,
                        "changes by others are no longer noticed at once"
                    );
                    return;
                }
            };
            if feed.send(Input::Disturbed(disturbed)).is_err() {
                return;
            }
        }
    };
    thread::Builder::new()
        .name("kernel-events".into())
        .spawn(watch)?;
    Ok(())
}

pub(super) fn enter(args: &ProxyArgs) -> Result<(), Box<dyn Error>> {
    let Some(path) = &args.netns else {
        return Ok(());
    };
    host::enter_network_namespace(path)
        .map_err(|error| format!("network namespace {}: {error}", path.display()).into())
}

/// The families in the order in which they are synced.
pub(super) const FAMILIES: [IpFamily; 2] = IpFamily::ALL;
/// Most time between two comparisons where changes by others are noticed in other ways (B-241).
const FULL_CHECK: Duration = Duration::from_secs(3600);
/// Comparisons take a thousandth of the time where others are noticed without them.
const RARELY: u32 = 1000;
/// And a tenth where not.
const OFTEN: u32 = 10;
/// The same where audits find what is missing or wrong within minutes: what is left for it are
/// objects that nothing asked for and that the kernel did not tell of.
const FULL_CHECK_BESIDE_AUDITS: Duration = Duration::from_secs(24 * 3600);
/// Wait after a first failure.
const RETRY_FIRST: Duration = Duration::from_millis(250);
