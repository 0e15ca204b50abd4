//! `svcctl diff`: what a sync would change in the running kernel.

use std::error::Error;
use std::process::ExitCode;

use super::input::InputArgs;
use crate::agent::{self, ProxyArgs};
use crate::iptables_proxy::{Iptables, VariantArg};
use crate::ipvs_proxy::{Ipvs, Sysctls};
use crate::nftables_proxy::Nftables;

/// Compares the ruleset that a backend would install with the running kernel
///
/// Prints each object that differs, with - as it is and + as it should be. Exit code 2 if any does.
#[derive(Clone, Debug, clap::Args)]
pub struct DiffArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Whose objects are compared
    #[arg(long, value_enum)]
    backend: Backend,
    /// Look into this network namespace
    #[arg(long, value_name = "PATH")]
    netns: Option<std::path::PathBuf>,
    /// Name of the nf_tables table
    #[arg(long, value_name = "NAME", default_value = crate::backend::NFTABLES_TABLE)]
    table: String,
    /// Variant of iptables; without it, that which the host uses
    #[arg(long, value_enum)]
    variant: Option<VariantArg>,
}

/// Whose objects are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// nf_tables
    Nftables,
    /// iptables
    Iptables,
    /// IPVS and its companion table
    Ipvs,
}

/// Exit code when there are differences.
const DIFFERENT: u8 = 2;

/// Runs the command.
///
/// # Errors
/// When the kernel cannot be read.
pub fn run(args: &DiffArgs) -> Result<ExitCode, Box<dyn Error>> {
    let proxy = ProxyArgs {
        input: args.input.clone(),
        dry_run: true,
        netns: args.netns.clone(),
        ..ProxyArgs::default()
    };
    let (code, differences) = match args.backend {
        Backend::Nftables => agent::diff(&proxy, &mut Nftables::new(&args.table))?,
        Backend::Iptables => agent::diff(&proxy, &mut Iptables::new(args.variant))?,
        Backend::Ipvs => agent::diff(&proxy, &mut Ipvs::new(Sysctls::Keep))?,
    };
    Ok(match differences {
        0 => code,
        _ => ExitCode::from(DIFFERENT),
    })
}
