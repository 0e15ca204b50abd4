//! `nftables-proxy`: a node's Services in nf_tables, from manifests.

use std::error::Error;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;

use backend_nftables::netlink::Events;
use backend_nftables::{Kernel, Renderer};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Planner, Reconciler};

use crate::cli::input::{Input, InputArgs};
use crate::cli::one_line;
use crate::cluster::feed;
use crate::host::{self, Watch};
use crate::proxy::{Family, Report, update};

/// Name of the table, unless told otherwise.
pub const TABLE: &str = "svc-proxy";

/// Serves the Services of a node through nf_tables
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    input: InputArgs,
    /// Sync once and exit when the kernel holds the plan
    #[arg(long, conflicts_with_all = ["dry_run", "cleanup"])]
    once: bool,
    /// Print what would be written, write nothing
    #[arg(long, conflicts_with = "cleanup")]
    dry_run: bool,
    /// Remove exactly what this backend owns
    #[arg(long)]
    cleanup: bool,
    /// Work in this network namespace
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// Name of the table, in the families ip and ip6
    #[arg(long, value_name = "NAME", default_value = TABLE)]
    table: String,
}

/// The two families of a proxy over nf_tables.
pub type Families = Vec<Family<Renderer, Kernel>>;

/// Opens the tables of both families in the network namespace of the calling thread.
///
/// # Errors
/// When the kernel has no nf_tables.
pub fn open(table: &str) -> std::io::Result<Families> {
    let family = |family| {
        Ok(Family {
            reconciler: Reconciler::new(Renderer::new(table, family), family),
            kernel: Kernel::open(table, family)?,
        })
    };
    IpFamily::ALL.into_iter().map(family).collect()
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    if let Some(path) = &args.netns {
        host::enter_network_namespace(path)
            .map_err(|error| format!("network namespace {}: {error}", path.display()))?;
    }
    if args.cleanup {
        for mut family in open(&args.table)? {
            family.kernel.cleanup()?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let watch = match args.once || args.dry_run {
        true => None,
        // Before the first read, so that no change is missed.
        false => Some(Watch::new(&args.input.manifests)?),
    };
    let mut input = load(&args.input)?;
    let code = input.report();
    let mut families = open(&args.table)?;
    if args.dry_run {
        dry_run(&mut input.planner, &mut families)?;
        return Ok(code);
    }
    let events = follow(&mut families)?;
    report(&update(&mut input.planner, &mut families)?, &families);
    let Some(watch) = watch else {
        return Ok(code);
    };
    serve(args, &mut input.planner, &mut families, &watch, events)
}

/// Reads manifests; a node that they do not describe has the addresses of the host.
fn load(args: &InputArgs) -> Result<Input, Box<dyn Error>> {
    let mut input = args.load(Some(ProxyMode::Nftables));
    let mut config = input.planner.config().clone();
    if input.planner.state().node(&config.name).is_none() {
        config.local_addresses = host::addresses()?;
    }
    // A fresh planner: what it has to say first is for the families.
    input.planner = Planner::new(config);
    feed(&mut input.planner, &input.manifests, &input.cluster);
    Ok(input)
}

/// Waits for changes of manifests and for others that change our tables, and answers them.
fn serve(
    args: &Args,
    planner: &mut Planner,
    families: &mut Families,
    watch: &Watch,
    mut events: Events,
) -> Result<ExitCode, Box<dyn Error>> {
    loop {
        let mut ready = [
            PollFd::new(watch.as_fd(), PollFlags::POLLIN),
            PollFd::new(events.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        if watch.take()? {
            let input = args.input.load(Some(ProxyMode::Nftables));
            input.report();
            feed(planner, &input.manifests, &input.cluster);
        }
        if others_changed(families, &mut events)? {
            eprintln!(
                "warning: somebody else changed table {}, checking it",
                args.table
            );
            for family in &mut *families {
                family.reconciler.verify();
            }
        }
        match update(planner, families) {
            Ok(reports) => report(&reports, families),
            Err(error) => eprintln!("error: {}", one_line(&*error)),
        }
    }
}

/// Subscribes to changes of the ruleset.
fn follow(families: &mut Families) -> Result<Events, Box<dyn Error>> {
    let first = families.first_mut().ok_or("no address family")?;
    Ok(first.kernel.socket().events()?)
}

/// Takes all news of the ruleset; whether somebody else changed our tables.
fn others_changed(families: &mut Families, events: &mut Events) -> Result<bool, Box<dyn Error>> {
    use backend_nftables::error::EventError;
    let own: Vec<u32> = families
        .iter_mut()
        .map(|f| f.kernel.socket().port())
        .collect();
    let tables: Vec<_> = families.iter().map(|f| f.kernel.table().clone()).collect();
    let mut changed = false;
    loop {
        match events.next_event() {
            Ok(None) => return Ok(changed),
            Ok(Some(event)) => {
                let ours = tables.iter().any(|table| event.concerns(table));
                // Port 0 is the kernel itself, which ends the pins of clients.
                changed |= ours && event.port != 0 && !own.contains(&event.port);
            }
            Err(EventError::Lost) => changed = true,
            Err(error) => return Err(error.into()),
        }
    }
}

fn dry_run(planner: &mut Planner, families: &mut Families) -> Result<(), Box<dyn Error>> {
    for delta in planner.delta() {
        for family in &mut *families {
            family.reconciler.change(&delta);
        }
    }
    for family in families {
        let held = svc_core::Kernel::read(&mut family.kernel)?;
        family.reconciler.on_read(held);
        if let svc_core::Action::Commit(transaction) = family.reconciler.poll() {
            for edit in transaction.edits() {
                match (&edit.before, &edit.after) {
                    (None, Some(after)) => println!("add {:?} {after:?}", edit.key),
                    (Some(_), Some(after)) => println!("change {:?} {after:?}", edit.key),
                    (_, None) => println!("remove {:?}", edit.key),
                }
            }
        }
    }
    Ok(())
}

fn report(reports: &[Report<backend_nftables::Key>], families: &Families) {
    for (report, family) in reports.iter().zip(families) {
        let settled = &report.settled;
        if settled.commits > 0 {
            eprintln!(
                "table {} {}: {} objects written in {:.1?}",
                family.kernel.table().family.name(),
                family.kernel.table().name,
                settled.edits,
                report.took
            );
        }
        for (name, reason) in family.reconciler.quarantine() {
            eprintln!("error: {name}: the kernel refuses its objects: {reason}");
        }
    }
}
