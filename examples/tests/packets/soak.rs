//! A thousand Services that change a hundred times a second, and no connection fails.

use std::env;

use clap::Parser;
use examples::soak::{Args, soak};

/// `SOAK_SECONDS` makes it shorter or longer.
pub(crate) fn nftables() {
    run(&["--backend", "nftables", "--seconds", &seconds(60)]);
}

/// Half as long: as many changes a second, one sync for all of them.
pub(crate) fn iptables_legacy() {
    iptables("legacy");
}

pub(crate) fn iptables_nft() {
    iptables("nft");
}

fn iptables(variant: &str) {
    let args = ["--backend", "iptables", "--variant", variant];
    run(&[&args[..], &["--seconds", &seconds(30)]].concat());
}

fn seconds(default: u32) -> String {
    env::var("SOAK_SECONDS").unwrap_or_else(|_| default.to_string())
}

fn run(args: &[&str]) {
    let args = [&["soak"], args].concat();
    let report = soak(&Args::try_parse_from(args).unwrap()).unwrap();
    print!("{report}");
    assert_eq!(report.problems(), Vec::<String>::new());
}
