//! `connect-bench`: how long a TCP connection takes, with and without the rules of a backend.

use std::process::ExitCode;

use examples::{cli, connect_bench};

fn main() -> ExitCode {
    let args = match cli::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match connect_bench::run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => cli::fail(&*error),
    }
}
