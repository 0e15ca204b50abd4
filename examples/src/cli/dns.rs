//! `svcctl dns`: what the zone answers.

use std::error::Error;
use std::process::ExitCode;

use svc_core::dns::RecordType;

use super::Output;
use crate::dns::answer::{answer_text, cli_answer, cli_search, zone_and_remarks};
use crate::dns::args::ZoneArgs;
use crate::manifest;

/// Prints what the zone answers to a question
#[derive(Clone, Debug, clap::Args)]
#[command(mut_arg("manifests", |manifests| manifests.required_unless_present("kubeconfig")))]
pub struct DnsArgs {
    #[command(flatten)]
    zone: ZoneArgs,
    /// Name to ask for
    name: String,
    /// Record type
    #[arg(default_value = "A")]
    kind: RecordType,
    /// Ask as a pod of this namespace would, through its search list
    #[arg(long, value_name = "NS")]
    from_namespace: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Runs the command.
///
/// # Errors
/// When a text is no name, or the options make no zone.
pub fn run(args: &DnsArgs) -> Result<ExitCode, Box<dyn Error>> {
    let manifests = manifest::read(&args.zone.sources());
    for problem in &manifests.problems {
        eprintln!("error: {problem}");
    }
    let (zone, remarks) = zone_and_remarks(&manifests, args.zone.options())?;
    for remark in remarks {
        eprintln!("{remark}");
    }
    let answer = match &args.from_namespace {
        Some(namespace) => cli_search(&zone, namespace, &args.name, args.kind)?,
        None => cli_answer(&zone, &args.name, args.kind)?,
    };
    match args.output {
        Output::Json => println!("{answer}"),
        Output::Text => print!("{}", answer_text(&answer)),
    }
    Ok(match manifests.problems.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
