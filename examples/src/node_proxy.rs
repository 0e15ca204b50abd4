//! A node's Services in the kernel, from manifests that may change: the same for every backend.

use std::error::Error;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use svc_core::config::ProxyMode;
use svc_core::{Action, Kernel, NodeConfig, Planner, Render};

use crate::cli::input::{Input, InputArgs};
use crate::cli::one_line;
use crate::cluster::{Cluster, feed};
use crate::host::{self, Watch};
use crate::manifest;
use crate::proxy::{Family, Report, update};

/// The flags that all proxies have.
#[derive(Clone, Debug, clap::Args)]
pub struct ProxyArgs {
    /// Where objects come from.
    #[command(flatten)]
    pub input: InputArgs,
    /// Sync once and exit when the kernel holds the plan
    #[arg(long, conflicts_with_all = ["dry_run", "cleanup"])]
    pub once: bool,
    /// Print what would be written, write nothing
    #[arg(long, conflicts_with = "cleanup")]
    pub dry_run: bool,
    /// Remove exactly what this backend owns
    #[arg(long)]
    pub cleanup: bool,
    /// Work in this network namespace
    #[arg(long, value_name = "PATH")]
    pub netns: Option<PathBuf>,
}

/// What a proxy needs of a backend.
pub trait Backend: Sized {
    /// Its renderer.
    type Render: Render;
    /// Its kernel.
    type Kernel: Kernel<Self::Render>;

    /// The mode that plans are made for.
    const MODE: ProxyMode;

    /// Opens both families in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the host lacks.
    fn open(&self, config: &NodeConfig) -> Result<Families<Self>, Box<dyn Error>>;

    /// Removes what is owned.
    ///
    /// # Errors
    /// What could not be removed.
    fn clean_up(
        &self,
        family: &mut Family<Self::Render, Self::Kernel>,
    ) -> Result<(), Box<dyn Error>>;

    /// Starts to look for changes that others make.
    ///
    /// # Errors
    /// What the kernel says.
    fn follow(&mut self, families: &mut Families<Self>) -> Result<(), Box<dyn Error>>;

    /// What becomes readable when others change something, if the kernel tells.
    fn news(&self) -> Option<BorrowedFd<'_>>;

    /// Whether others changed something since the last call.
    ///
    /// # Errors
    /// What the kernel says.
    fn others_changed(&mut self, families: &mut Families<Self>) -> Result<bool, Box<dyn Error>>;

    /// Checks a little of what the kernel holds, so that all of it is checked by and by; what
    /// differs is mended with the next changes.
    ///
    /// # Errors
    /// When the kernel cannot be read.
    fn audit(&mut self, _: &Planner, _: &mut Families<Self>) -> Result<(), Box<dyn Error>> {
        Ok(())
    }

    /// How often [`Backend::audit`] is called; `None`: never.
    const AUDIT_PERIOD: Option<Duration> = None;

    /// The ruleset of a family in words.
    fn title(&self, family: &Family<Self::Render, Self::Kernel>) -> String;

    /// How an object would be written.
    fn print(
        &self,
        key: &<Self::Render as Render>::Key,
        value: &<Self::Render as Render>::Value,
    ) -> String {
        format!("{key:?} {value:?}")
    }
}

/// The families of a backend.
pub type Families<B> = Vec<Family<<B as Backend>::Render, <B as Backend>::Kernel>>;

/// Runs a proxy.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run<B: Backend>(args: &ProxyArgs, mut backend: B) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    enter(args)?;
    let watch = match args.once || args.dry_run || args.cleanup {
        true => None,
        // Before the first read, so that no change is missed.
        false => Some(Watch::new(&args.input.manifests)?),
    };
    let mut input = load(&args.input, B::MODE)?;
    let mut families = backend.open(input.planner.config())?;
    if args.cleanup {
        for family in &mut families {
            backend.clean_up(family)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let code = input.report();
    if args.dry_run {
        dry_run(&backend, &mut input.planner, &mut families)?;
        return Ok(code);
    }
    backend.follow(&mut families)?;
    let reports = update(&mut input.planner, &mut families)?;
    report(&backend, &reports, &families);
    match watch {
        None => Ok(code),
        Some(watch) => serve(args, &mut backend, input, &mut families, &watch),
    }
}

/// Prints what a sync would change; the exit code of the input, and the number of differences.
///
/// # Errors
/// When the kernel cannot be read.
pub fn diff<B: Backend>(args: &ProxyArgs, backend: &B) -> Result<(ExitCode, usize), Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    enter(args)?;
    let mut input = load(&args.input, B::MODE)?;
    let mut families = backend.open(input.planner.config())?;
    let code = input.report();
    let differences = dry_run(backend, &mut input.planner, &mut families)?;
    Ok((code, differences))
}

fn enter(args: &ProxyArgs) -> Result<(), Box<dyn Error>> {
    let Some(path) = &args.netns else {
        return Ok(());
    };
    host::enter_network_namespace(path)
        .map_err(|error| format!("network namespace {}: {error}", path.display()).into())
}

/// Reads manifests; a node that they do not describe has the addresses of the host.
fn load(args: &InputArgs, mode: ProxyMode) -> Result<Input, Box<dyn Error>> {
    let mut input = args.load(Some(mode));
    let mut config = input.planner.config().clone();
    if input.planner.state().node(&config.name).is_none() {
        config.local_addresses = host::addresses()?;
    }
    // A fresh planner: what it has to say first is for the families.
    input.planner = Planner::new(config);
    feed(&mut input.planner, &input.manifests, &input.cluster);
    Ok(input)
}

/// Waits for changes of manifests, and for others that change the kernel, and answers them.
fn serve<B: Backend>(
    args: &ProxyArgs,
    backend: &mut B,
    mut input: Input,
    families: &mut Families<B>,
    watch: &Watch,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let period = input.planner.config().proxy.sync_period.as_millis();
    let period = PollTimeout::try_from(period).unwrap_or(PollTimeout::MAX);
    let period = match B::AUDIT_PERIOD {
        Some(audit) => period.min(PollTimeout::try_from(audit).unwrap_or(period)),
        None => period,
    };
    let mut audited = Instant::now();
    loop {
        wait(watch, backend.news(), period)?;
        if B::AUDIT_PERIOD.is_some_and(|period| audited.elapsed() >= period) {
            audited = Instant::now();
            if let Err(error) = backend.audit(&input.planner, families) {
                eprintln!("error: {}", one_line(&*error));
            }
        }
        if watch.take()? {
            reload(args, &mut input);
        }
        let checked = backend.others_changed(families)?;
        if checked {
            for family in &mut *families {
                eprintln!(
                    "warning: somebody else changed {}, checking it",
                    backend.title(family)
                );
                family.reconciler.verify();
            }
        }
        match update(&mut input.planner, families) {
            Ok(reports) => {
                if checked {
                    report_drift(backend, &reports, families);
                }
                report(backend, &reports, families);
            }
            Err(error) => eprintln!("error: {}", one_line(&*error)),
        }
    }
}

/// Waits for news, or for the end of the period, after which failed changes are tried again.
fn wait(
    watch: &Watch,
    news: Option<BorrowedFd<'_>>,
    period: PollTimeout,
) -> Result<(), Box<dyn Error>> {
    let mut ready = vec![PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
    ready.extend(news.map(|news| PollFd::new(news, PollFlags::POLLIN)));
    match poll(&mut ready, period) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Reads the manifests again. A file that is being written may be cut off: what cannot be read
/// leaves everything as it was, as half of a cluster is worse than an old one.
fn reload(args: &ProxyArgs, input: &mut Input) {
    let manifests = manifest::read(&args.input.sources());
    if !manifests.problems.is_empty() {
        for problem in &manifests.problems {
            eprintln!("error: {problem}");
        }
        eprintln!("error: manifests cannot be read, the state before is kept");
        return;
    }
    let cluster: Cluster = input.cluster.next(&manifests);
    feed(&mut input.planner, &manifests, &cluster);
    input.manifests = manifests;
    input.cluster = cluster;
    input.report();
}

fn dry_run<B: Backend>(
    backend: &B,
    planner: &mut Planner,
    families: &mut Families<B>,
) -> Result<usize, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let mut differences = 0;
    for delta in planner.delta() {
        for family in &mut *families {
            family.reconciler.change(&delta);
        }
    }
    for family in families {
        let held = family.kernel.read()?;
        family.reconciler.on_read(held);
        println!("# {}", backend.title(family));
        let Action::Commit(transaction) = family.reconciler.poll() else {
            continue;
        };
        for edit in transaction.edits() {
            differences += 1;
            for (sign, value) in [("-", &edit.before), ("+", &edit.after)] {
                if let Some(value) = value {
                    println!("{sign} {}", backend.print(&edit.key, value));
                }
            }
        }
    }
    Ok(differences)
}

/// Says what somebody else did.
fn report_drift<B: Backend>(
    backend: &B,
    reports: &[Report<<B::Render as Render>::Key>],
    families: &Families<B>,
) {
    for (report, family) in reports.iter().zip(families) {
        let drift = report.settled.drift.as_ref();
        let Some(drift) = drift.filter(|drift| !drift.is_empty()) else {
            continue;
        };
        let all = drift
            .missing
            .iter()
            .chain(&drift.changed)
            .chain(&drift.foreign);
        let (gone, changed, foreign) = (
            drift.missing.len(),
            drift.changed.len(),
            drift.foreign.len(),
        );
        eprintln!(
            "warning: {}: {gone} objects were gone, {changed} changed, {foreign} not ours, such as {:?}",
            backend.title(family),
            all.take(3).collect::<Vec<_>>()
        );
    }
}

fn report<B: Backend>(
    backend: &B,
    reports: &[Report<<B::Render as Render>::Key>],
    families: &Families<B>,
) {
    for (report, family) in reports.iter().zip(families) {
        let settled = &report.settled;
        if settled.commits > 0 {
            let (edits, took) = (settled.edits, report.took);
            eprintln!(
                "{}: {edits} objects written in {took:.1?}",
                backend.title(family)
            );
        }
        for (name, reason) in family.reconciler.quarantine() {
            eprintln!("error: Service {name}: the kernel refuses its objects: {reason}");
        }
    }
}
