//! `sync-bench`: what a change costs, from the watch event to the kernel's acknowledgement.

use std::process::ExitCode;

use examples::{cli, sync_bench};

fn main() -> ExitCode {
    let args = match cli::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match sync_bench::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&*error),
    }
}
