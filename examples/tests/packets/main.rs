//! Backends with real packets; runs as root and as anyone: `cargo test -p examples --test packets`.
//!
//! The scenarios know no backend: one more is one more `UnderTest` and its trials.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

mod affinity;
mod connections;
mod flows;
mod frontends;
mod lab;
mod nftables;
mod soak;
mod stream;

use std::process::ExitCode;

use examples::sandbox::{Trial, run_trials};

use lab::{IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES};

fn main() -> ExitCode {
    let own = |name, run| Trial { name, run };
    let mut trials = vec![
        own("nftables_flow_cases", || flows::every_case(&NFTABLES)),
        own(
            "nftables_chains_see_only_first_packets",
            nftables::nat_chains_only,
        ),
        own(
            "nftables_slot_that_has_just_gone",
            nftables::slot_that_has_just_gone,
        ),
        own(
            "nftables_address_of_another_agent",
            nftables::address_of_another_agent,
        ),
        own("nftables_soak", soak::nftables),
        own("iptables_legacy_soak", soak::iptables_legacy),
        own("iptables_nft_soak", soak::iptables_nft),
    ];
    trials.extend(scenarios!("nftables", NFTABLES));
    trials.extend(scenarios!("iptables_legacy", IPTABLES_LEGACY));
    trials.extend(scenarios!("iptables_nft", IPTABLES_NFT));
    run_trials(&trials)
}

/// Every scenario for a backend.
macro_rules! scenarios {
    ($backend:literal, $under_test:expr) => {
        scenarios!($backend, $under_test,
            families_transports_front_ends: frontends::matrix,
            hairpin: frontends::hairpin,
            host_network: frontends::host_network,
            reject_without_endpoints: frontends::no_endpoints,
            unallocated_addresses_and_unknown_ports: frontends::unserved,
            source_ranges: frontends::source_ranges,
            local_policy_and_short_circuit: frontends::local_policy,
            affinity_through_every_front_end: affinity::pins,
            affinity_ends_with_its_timeout: affinity::timeout,
            connections_outlive_their_rules: connections::survive,
            removed_endpoint_gets_nothing_new: stream::removed_gets_nothing,
            no_connection_is_lost_to_changes: stream::nothing_is_lost,
        )
    };
    ($backend:literal, $under_test:expr, $($name:ident: $run:path,)*) => {
        [$(Trial {
            name: concat!($backend, "_", stringify!($name)),
            run: || $run(&$under_test),
        }),*]
    };
}
use scenarios;
