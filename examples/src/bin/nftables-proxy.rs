//! `nftables-proxy`: a node's Services in nf_tables.

use std::process::ExitCode;

use examples::{cli, nftables_proxy};

fn main() -> ExitCode {
    let args = match cli::parse_proxy() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match nftables_proxy::run(&args) {
        Ok(code) => code,
        Err(error) => cli::fail(&*error),
    }
}
