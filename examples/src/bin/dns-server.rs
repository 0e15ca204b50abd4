//! `dns-server`: the names of a cluster over DNS.

use std::process::ExitCode;

use examples::cli;
use examples::dns::server;

fn main() -> ExitCode {
    let args = match cli::parse_server() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match server::run(&args) {
        Ok(code) => code,
        Err(error) => cli::fail(&*error),
    }
}
