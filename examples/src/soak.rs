//! `soak`: changes without end under traffic without pause, and what that costs.
//!
//! A node in network namespaces serves made-up Services. So many times a second an endpoint is
//! replaced, added or removed, or a Service is, and each change goes through the loop of an agent
//! ([`FamilyLoop`](crate::agent::FamilyLoop)) into the kernel. Meanwhile clients make one connection
//! after the other through a ClusterIP, a node port and a Service with affinity whose endpoints are
//! among those that change. Some of their servers stop and start again: each drains first, as it
//! should, so a connection that fails is one that the rules sent where nobody should go any more.
//!
//! In the end all objects are what they were at first, and so must be the number of objects in the
//! kernel. The timeouts of connection tracking are a second, so that no port pair comes again while
//! the node remembers it; its entries are not counted.

mod cast;
mod churn;
mod drive;
mod meter;
mod report;
mod stage;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::{Kernel, NodeConfig, Render};

pub use report::{ClientReport, Report};

use crate::iptables_proxy::VariantArg;
use crate::packets::{self, BackendError, Reconciled};
use crate::sandbox::isolate;
use drive::Driver;
use stage::{Clients, Servers};

/// Changes Services without end while clients connect, in network namespaces of its own
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    /// How long, once everything is warm
    #[arg(long, value_name = "N", default_value_t = 600, value_parser = clap::value_parser!(u32).range(10..=604_800))]
    pub seconds: u32,
    /// Whose rules
    #[arg(long, value_enum, default_value_t)]
    pub backend: Backend,
    /// Number of Services
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(3..=20_000))]
    pub services: u32,
    /// Changes in each second
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub changes: u32,
    /// Least time between two syncs in milliseconds: 0 with nftables and 1000 with iptables
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(0..=60_000))]
    pub min_sync_period: Option<u32>,
    /// Variant of iptables
    #[arg(long, value_enum, default_value = "legacy")]
    pub variant: VariantArg,
}

/// Whose rules are put to the test.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// nf_tables over netlink
    #[default]
    Nftables,
    /// iptables-restore
    Iptables,
}

impl Backend {
    fn mode(self) -> ProxyMode {
        match self {
            Self::Nftables => ProxyMode::Nftables,
            Self::Iptables => ProxyMode::Iptables,
        }
    }
}

/// Runs the command.
///
/// # Errors
/// When there is no soak to be had here; what the soak found wrong is printed, and the exit code
/// tells.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    isolate()?;
    let report = soak(args)?;
    print!("{report}");
    let problems = report.problems();
    for problem in &problems {
        println!("WRONG: {problem}");
    }
    Ok(match problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// A soak in a process that is [isolated](isolate) already.
///
/// # Errors
/// When the namespaces cannot be made, or the kernel cannot be read at the start or the end.
pub fn soak(args: &Args) -> Result<Report, Box<dyn Error>> {
    let variant = args.variant.into();
    match args.backend {
        Backend::Nftables => soak_with(args, || Ok(packets::nftables()?)),
        Backend::Iptables => soak_with(args, move || Ok(packets::iptables(variant)?)),
    }
}

fn soak_with<R, K>(
    args: &Args,
    open: impl FnOnce() -> Result<Reconciled<R, K>, BackendError> + Send,
) -> Result<Report, Box<dyn Error>>
where
    R: Render,
    K: Kernel<R>,
    K::Error: 'static,
{
    let sandbox = stage::build()?;
    let mut servers = Servers::start(&sandbox)?;
    let work = || {
        // The other thread is told in words: errors need not be able to go from thread to thread.
        let work = || -> Result<Report, Box<dyn Error>> {
            let families = open().map_err(|error| error as Box<dyn Error>)?.families;
            let min = Duration::from_millis(min_sync_period(args).into());
            let mut driver = Driver::new(&sandbox, &mut servers, config(args), families, min);
            driver.load(args.services)?;
            let clients = Clients::start(&sandbox)?;
            driver.soak(args, clients)
        };
        work().map_err(|error| crate::cli::one_line(&*error))
    };
    Ok(sandbox.node().run(work)??)
}

fn min_sync_period(args: &Args) -> u32 {
    // Each run of iptables-restore costs about as much as a second's changes together.
    args.min_sync_period.unwrap_or(match args.backend {
        Backend::Nftables => 0,
        Backend::Iptables => 1000,
    })
}

fn config(args: &Args) -> NodeConfig {
    let pods = svc_core::Ipv4Net::new_assert(std::net::Ipv4Addr::new(10, 64, 0, 0), 11);
    let proxy = ProxyConfig {
        detect_local: LocalDetection::ClusterCidr(vec![pods.into()]),
        ..ProxyConfig::default_for(args.backend.mode())
    };
    NodeConfig::new(NODE, proxy)
}

/// The name of the node.
const NODE: &str = "n1";
