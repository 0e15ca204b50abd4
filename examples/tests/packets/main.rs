//! Backends with real packets; runs as root and as anyone: `cargo test -p examples --test packets`.
//!
//! The scenarios know no backend: one more is one more `UnderTest` and its trials.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a trial fails by panicking"
)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a trial names what it expects, and everything else is wrong"
)]

mod affinity;
mod connections;
mod flows;
mod frontends;
mod lab;
mod nftables;
mod stream;

use std::process::ExitCode;

use examples::sandbox::{Trial, run_trials};

use lab::NFTABLES;

fn main() -> ExitCode {
    let trial = |name, run| Trial { name, run };
    run_trials(&[
        trial("nftables_flow_cases", || flows::every_case(&NFTABLES)),
        trial("nftables_families_transports_front_ends", || {
            frontends::matrix(&NFTABLES);
        }),
        trial("nftables_hairpin", || frontends::hairpin(&NFTABLES)),
        trial("nftables_reject_without_endpoints", || {
            frontends::no_endpoints(&NFTABLES);
        }),
        trial("nftables_unallocated_addresses_and_unknown_ports", || {
            frontends::unserved(&NFTABLES);
        }),
        trial("nftables_source_ranges", || {
            frontends::source_ranges(&NFTABLES);
        }),
        trial("nftables_local_policy_and_short_circuit", || {
            frontends::local_policy(&NFTABLES);
        }),
        trial("nftables_affinity_through_every_front_end", || {
            affinity::pins(&NFTABLES);
        }),
        trial("nftables_affinity_ends_with_its_timeout", || {
            affinity::timeout(&NFTABLES);
        }),
        trial("nftables_connections_outlive_their_rules", || {
            connections::survive(&NFTABLES);
        }),
        trial(
            "nftables_chains_see_only_first_packets",
            nftables::nat_chains_only,
        ),
        trial(
            "nftables_slot_that_has_just_gone",
            nftables::slot_that_has_just_gone,
        ),
        trial("nftables_removed_endpoint_gets_nothing_new", || {
            stream::removed_gets_nothing(&NFTABLES);
        }),
        trial("nftables_no_connection_is_lost_to_changes", || {
            stream::nothing_is_lost(&NFTABLES);
        }),
    ])
}
