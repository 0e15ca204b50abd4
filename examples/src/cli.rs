//! What the command lines have in common.

mod balancer;
pub mod describe;
pub mod diff;
pub mod dns;
pub mod endpoints;
pub mod explain;
pub mod expose;
pub mod flows;
pub mod get;
pub mod input;
#[cfg(feature = "nft-json")]
pub mod nft_json;
pub mod objects;
pub mod plan;
pub mod table;
mod unproxied;
pub mod validate;
pub mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgAction, Command, Parser, value_parser};

/// Exit code of wrong usage, as `sysexits.h` has it.
pub const USAGE: u8 = 64;

/// Output for people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Text,
    /// For programs; stable.
    Json,
}

/// Reads the command line; a wrong one ends with [`USAGE`], `--help` with 0.
///
/// # Errors
/// With the exit code, after the message has been printed.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    read(T::command())
}

/// The same for a proxy, which needs no manifests to clean up or to watch a cluster.
///
/// # Errors
/// With the exit code, after the message has been printed.
pub fn parse_proxy<T: Parser>() -> Result<T, ExitCode> {
    read(T::command().mut_arg("manifests", |manifests| {
        // Anew, as a requirement cannot be taken back.
        let fresh = Arg::new("manifests")
            .long("manifests")
            .value_name("PATH")
            .action(ArgAction::Append)
            .value_parser(value_parser!(PathBuf))
            .help(manifests.get_help().cloned().unwrap_or_default());
        match cfg!(feature = "cluster") {
            // A pod finds its cluster without a flag.
            true => fresh,
            false => fresh.required_unless_present_any(["cleanup", "kubeconfig"]),
        }
    }))
}

/// The same for a server, which finds the cluster that it runs in without a flag.
///
/// # Errors
/// With the exit code, after the message has been printed.
pub fn parse_server<T: Parser>() -> Result<T, ExitCode> {
    let command = T::command();
    read(match cfg!(feature = "cluster") {
        true => command,
        false => command.mut_arg("manifests", |manifests| manifests.required(true)),
    })
}

fn read<T: Parser>(command: Command) -> Result<T, ExitCode> {
    let matches = command.try_get_matches();
    let args = matches.and_then(|matches| T::from_arg_matches(&matches));
    args.map_err(|error| {
        // A closed pipe is no reason for another exit code.
        let _ = error.print();
        match error.use_stderr() {
            true => ExitCode::from(USAGE),
            false => ExitCode::SUCCESS,
        }
    })
}

/// Prints an error in one line and fails.
pub fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("error: {}", one_line(error));
    ExitCode::FAILURE
}

/// An error and its causes in one line; a cause that repeats the end of its effect is left out.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.ends_with(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line.replace('\n', " ")
}
