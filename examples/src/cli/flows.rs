//! `svcctl flows`: packet-flow cases with real packets.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use backend_iptables::Variant;
use svc_core::config::ProxyMode;

use crate::flow_cases;
use crate::packets::{CaseResult, Open, iptables, nftables, run_cases};
use crate::sandbox::isolate;

/// Sends the packets of flow cases through a backend's rules, in network namespaces
#[derive(Clone, Debug, clap::Args)]
pub struct FlowsArgs {
    /// File of cases
    #[arg(value_name = "CASES.json")]
    cases: PathBuf,
    /// Backend to test
    #[arg(long, value_enum, default_value_t)]
    backend: Tested,
    /// Run only this case; repeatable
    #[arg(long, value_name = "ID")]
    only: Vec<String>,
    /// Print a line for each case that passes, too
    #[arg(short, long)]
    verbose: bool,
}

/// A backend that can be tested so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Tested {
    /// `nf_tables` over netlink
    #[default]
    Nftables,
    /// `iptables-restore` of the variant over nf_tables
    IptablesNft,
    /// `iptables-restore` of the legacy variant
    IptablesLegacy,
}

/// Runs the command. The process must have one thread only.
///
/// # Errors
/// When the cases cannot be read or the namespaces not be made.
pub fn run(args: &FlowsArgs) -> Result<ExitCode, Box<dyn Error>> {
    let path = args.cases.display();
    let bytes = std::fs::read(&args.cases).map_err(|error| format!("{path}: {error}"))?;
    let mut cases = flow_cases::read(&bytes).map_err(|error| format!("{path}: {error}"))?;
    if let Some(id) = args
        .only
        .iter()
        .find(|id| cases.iter().all(|c| c.id != **id))
    {
        return Err(format!("{path}: there is no case {id}").into());
    }
    cases.retain(|case| args.only.is_empty() || args.only.contains(&case.id));
    isolate()?;
    let (mode, open): (ProxyMode, Open) = match args.backend {
        Tested::Nftables => (ProxyMode::Nftables, &|| Ok(Box::new(nftables()?))),
        Tested::IptablesNft => (ProxyMode::Iptables, &|| {
            Ok(Box::new(iptables(Variant::Nft)?))
        }),
        Tested::IptablesLegacy => (ProxyMode::Iptables, &|| {
            Ok(Box::new(iptables(Variant::Legacy)?))
        }),
    };
    let start = Instant::now();
    let tally = run_cases(&cases, mode, open, &mut |case, result| match result {
        CaseResult::Failed(why) => {
            println!("{} {} ({}): {why}", case.id, case.title, case.flow);
        }
        CaseResult::Passed if args.verbose => {
            println!("{} {} ({}): passed", case.id, case.title, case.flow);
        }
        CaseResult::Passed | CaseResult::NotConcerned | CaseResult::CannotSend(_) => {}
    })?;
    println!("{tally}");
    println!("with real packets in {:.1?}", start.elapsed());
    Ok(match tally.failed {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}
