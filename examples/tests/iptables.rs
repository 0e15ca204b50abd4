//! iptables of both variants with real packets; runs as root and as anyone:
//! `cargo test -p examples --test iptables`.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use backend_iptables::Variant;
use examples::flow_cases;
use examples::packets::{CaseResult, iptables, run_cases};
use examples::sandbox::{Trial, run_trials};
use svc_core::config::ProxyMode;

fn main() -> ExitCode {
    run_trials(&[
        Trial {
            name: "flow_cases_iptables_legacy",
            run: || flow_cases(Variant::Legacy),
        },
        Trial {
            name: "flow_cases_iptables_nft",
            run: || flow_cases(Variant::Nft),
        },
    ])
}

fn flow_cases(variant: Variant) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&fs::read(path).unwrap()).unwrap();
    let start = Instant::now();
    let open = || Ok(iptables(variant)?);
    let tally = run_cases(&cases, ProxyMode::Iptables, open, &mut |case, result| {
        if let CaseResult::Failed(why) = result {
            println!("{} {} ({}): {why}", case.id, case.title, case.flow);
        }
    });
    let tally = tally.unwrap();
    println!("{tally} in {:.1?}", start.elapsed());
    assert_eq!(tally.failed, 0);
    assert!(tally.passed > 150, "{tally}");
}
