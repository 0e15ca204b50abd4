//! `ipvs-proxy`: a node's Services in IPVS.

use std::process::ExitCode;

use examples::{cli, ipvs_proxy};

fn main() -> ExitCode {
    let args = match cli::parse_proxy() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match ipvs_proxy::run(&args) {
        Ok(code) => code,
        Err(error) => cli::fail(&*error),
    }
}
