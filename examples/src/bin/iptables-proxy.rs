//! `iptables-proxy`: a node's Services in iptables.

use std::process::ExitCode;

use examples::{cli, iptables_proxy};

fn main() -> ExitCode {
    let args = match cli::parse_proxy() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match iptables_proxy::run(&args) {
        Ok(code) => code,
        Err(error) => cli::fail(&*error),
    }
}
