//! `soak`: changes without end under traffic without pause, and what that costs.

use std::process::ExitCode;

use examples::{cli, soak};

fn main() -> ExitCode {
    let args = match cli::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match soak::run(&args) {
        Ok(code) => code,
        Err(error) => cli::fail(&*error),
    }
}
