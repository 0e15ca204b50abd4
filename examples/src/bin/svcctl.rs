//! `svcctl`: what a node does with the traffic of Kubernetes Services, and why.

use std::process::ExitCode;

use examples::cli::{
    self, describe, diff, dns, endpoints, explain, expose, flows, get, plan, validate,
};
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
    Validate(validate::ValidateArgs),
    Endpoints(endpoints::EndpointsArgs),
    Expose(expose::ExposeArgs),
    Describe(describe::DescribeArgs),
    Get(get::GetArgs),
}

fn main() -> ExitCode {
    let args: Args = match cli::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Explain(args) => explain::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Endpoints(args) => endpoints::run(&args).unwrap_or_else(|error| cli::fail(&error)),
        Command::Expose(args) => expose::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Get(args) => get::run(&args),
        Command::Describe(args) => describe::run(&args).unwrap_or_else(|error| cli::fail(&error)),
        Command::Dns(args) => dns::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Flows(args) => flows::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Diff(args) => diff::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
        Command::Demo(args) => demo::run(&args).unwrap_or_else(|error| cli::fail(&*error)),
    }
}
