//! `svcctl`: what a node does with the traffic of Kubernetes Services, and why.

use std::process::ExitCode;

use examples::cli::{self, diff, dns, explain, flows, plan};
use examples::demo;

/// What a node does with the traffic of Kubernetes Services, and why
#[derive(Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Explain(explain::ExplainArgs),
    Plan(plan::PlanArgs),
    Diff(diff::DiffArgs),
    Dns(dns::DnsArgs),
    Demo(demo::DemoArgs),
    Flows(flows::FlowsArgs),
}

fn main() -> ExitCode {
    let args: Args = match cli::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Explain(args) => explain::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Dns(args) => dns::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Flows(args) => flows::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Diff(args) => diff::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Demo(args) => demo::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
    }
}
