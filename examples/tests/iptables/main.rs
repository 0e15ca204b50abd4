//! iptables of both variants with real packets; runs as root and as anyone:
//! `cargo test -p examples --test iptables`.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a trial fails by panicking"
)]

mod host;

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
    let own = |name, run| Trial { name, run };
    run_trials(&[
        own("missing_programs_are_named", host::no_programs),
        own("old_programs_are_named", host::old_programs),
        own("a_missing_match_is_named", host::no_match_that_all_need),
        own("lost_affinity_is_named", host::no_way_to_remember_clients),
        own(
            "nothing_is_left_to_do_after_a_sync",
            host::nothing_is_left_to_do,
        ),
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
