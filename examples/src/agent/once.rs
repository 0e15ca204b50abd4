//! What a proxy does once: sync, show, remove.

use std::error::Error;
use std::process::ExitCode;

use svc_core::config::ProxyMode;
use svc_core::{Action, Kernel, NodeConfig, Planner, Render};

use super::addresses::OwnAddresses;
use super::backend::{self, Backend, Families};
use super::flags::Settings;
use super::presence::Estate;
use super::run::{ProxyArgs, access, enter, own_addresses};
use crate::cli::input::Input;
use crate::cluster::feed;
use crate::host;
use crate::proxy::{Report, update};

/// Removes everything that a backend owns; what cannot be removed of one family does not keep the
/// other (B-270).
pub(super) fn clean_up<B: Backend>(
    backend: &B,
    settings: &Settings,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    if let Some(warning) = warning(backend) {
        eprintln!("warning: {warning}; what is removed here comes back");
    }
    let mut families = open_families(backend, &settings.node)?;
    let results: Vec<_> = families.iter_mut().map(|f| backend.clean_up(f)).collect();
    results.into_iter().collect::<Result<(), _>>()?;
    Ok(ExitCode::SUCCESS)
}

/// Syncs once.
pub(super) fn sync<B: Backend>(
    args: &ProxyArgs,
    backend: &mut B,
    settings: &Settings,
) -> Result<ExitCode, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let input = read(args, settings, B::MODE)?;
    enter(args)?;
    if let Some(warning) = warning(backend) {
        eprintln!("warning: {warning}");
    }
    let (mut input, mut families) = open(input, args, backend, settings)?;
    backend.prepare(&mut families, &settings.node)?;
    plan(backend, &mut input.planner, &mut families)?;
    // Only now the planner knows what is odd.
    let code = input.report();
    let reports = update(&mut input.planner, &mut families)?;
    let refused = report(backend, &reports, &families);
    applied(backend, &input.planner, &mut families)?;
    Ok(match refused {
        0 => code,
        _ => ExitCode::FAILURE,
    })
}

/// Plans, and tells the kernels before they are read: what a sync before this one let in would be taken
/// for somebody else's doing.
fn plan<B: Backend>(
    backend: &mut B,
    planner: &mut Planner,
    families: &mut Families<B>,
) -> Result<(), Box<dyn Error>> {
    for delta in planner.delta() {
        for family in &mut *families {
            family.reconciler.change(&delta);
        }
    }
    applied(backend, planner, families)
}

/// Does what depends on the plans beside the rulesets.
fn applied<B: Backend>(
    backend: &mut B,
    planner: &Planner,
    families: &mut Families<B>,
) -> Result<(), Box<dyn Error>> {
    families.iter_mut().try_for_each(|family| {
        let plan = planner.plan(family.reconciler.family());
        backend.applied(&mut family.kernel, &plan)
    })
}

/// That an agent is there, if one is.
fn warning<B: Backend>(backend: &B) -> Option<String> {
    let estate = Estate::new(B::MODE, backend.manages());
    Some(estate.warning(&estate.rival()?))
}

/// Prints what a sync would change; the exit code of the input, and the number of differences.
pub(super) fn show<B: Backend>(
    args: &ProxyArgs,
    backend: &mut B,
    settings: &Settings,
) -> Result<(ExitCode, usize), Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let input = read(args, settings, B::MODE)?;
    enter(args)?;
    let (mut input, mut families) = open(input, args, backend, settings)?;
    plan(backend, &mut input.planner, &mut families)?;
    let code = input.report();
    let differences = dry_run(backend, &mut families)?;
    Ok((code, differences))
}

/// Prints what a sync would change; the exit code of the input, and the number of differences.
///
/// # Errors
/// When the kernel cannot be read.
pub fn diff<B: Backend>(
    args: &ProxyArgs,
    backend: &mut B,
) -> Result<(ExitCode, usize), Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let settings = Settings::of(&args.input, &args.flags, B::MODE);
    show(args, backend, &settings)
}

/// Reads all objects, in the first network namespace: a cluster is reached from there.
fn read(args: &ProxyArgs, settings: &Settings, mode: ProxyMode) -> Result<Input, Box<dyn Error>> {
    if args.input.sources().is_empty() && !cfg!(feature = "cluster") {
        // Nothing would be served, and all rules removed.
        return Err("no objects: give --manifests or --kubeconfig".into());
    }
    let access = access(args, &settings.node);
    let input = args.input.load_for_proxy(&settings.node.name, mode, access);
    if args.input.manifests.is_empty()
        && let Some(problem) = input.manifests.unknown_services()
    {
        return Err(problem.to_string().into());
    }
    Ok(input)
}

/// Opens the kernel; a node that no object describes has the addresses of the host, as that of a cluster.
fn open<B: Backend>(
    mut input: Input,
    args: &ProxyArgs,
    backend: &B,
    settings: &Settings,
) -> Result<(Input, Families<B>), Box<dyn Error>> {
    let mut config = settings.node.clone();
    let of_host = own_addresses(args) == OwnAddresses::OfHost;
    if of_host || input.planner.state().node(&config.name).is_none() {
        config.local_addresses = host::addresses()?;
    }
    for change in backend.adapt(&mut config) {
        eprintln!("warning: {change}");
    }
    let families = open_families(backend, &config)?;
    for family in &families {
        for remark in backend.remarks(family) {
            eprintln!("warning: {}: {remark}", family.reconciler.family());
        }
    }
    // A fresh planner: what it has to say first is for the families.
    input.planner = Planner::new(config);
    feed(&mut input.planner, &input.manifests, &input.cluster);
    Ok((input, families))
}

fn open_families<B: Backend>(
    backend: &B,
    config: &NodeConfig,
) -> Result<Families<B>, Box<dyn Error>> {
    let (families, left_out) = backend::open(backend, config)?;
    for why in left_out {
        eprintln!("warning: {why}");
    }
    Ok(families)
}

fn dry_run<B: Backend>(backend: &B, families: &mut Families<B>) -> Result<usize, Box<dyn Error>>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    let mut differences = 0;
    for family in families {
        let held = family.kernel.read()?;
        family.reconciler.on_read(held);
        println!("# {}", backend.title(family));
        let address_family = family.reconciler.family();
        let Action::Commit(transaction) = family.reconciler.poll() else {
            continue;
        };
        for edit in transaction.edits() {
            differences += 1;
            for (sign, value) in [("-", &edit.before), ("+", &edit.after)] {
                if let Some(value) = value {
                    println!("{sign} {}", backend.print(address_family, &edit.key, value));
                }
            }
        }
    }
    Ok(differences)
}

/// Prints what was done; how many service ports the kernel refuses.
fn report<B: Backend>(
    backend: &B,
    reports: &[Report<<B::Render as Render>::Key>],
    families: &Families<B>,
) -> usize {
    let mut refused = 0;
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
            refused += 1;
            eprintln!("error: Service {name}: the kernel refuses its objects: {reason}");
        }
    }
    refused
}
