//! What is run: each command prints figures, and can be run by hand.

/// A command.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source {
    pub(crate) name: &'static str,
    /// Words separated by single spaces; from the root of the repository, as root.
    pub(crate) command: &'static str,
    pub(crate) kind: Kind,
    pub(crate) runs: usize,
}

/// What a command prints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// One JSON object.
    Json,
    /// Text with numbers behind words.
    Text,
    /// What criterion prints.
    Criterion,
}

const fn source(name: &'static str, kind: Kind, runs: usize, command: &'static str) -> Source {
    Source {
        name,
        command,
        kind,
        runs,
    }
}

use Kind::{Criterion, Json, Text};

pub(crate) const SOURCES: &[Source] = &[
    source(
        "plan",
        Criterion,
        1,
        "cargo bench -q -p svc-core --bench plan",
    ),
    source(
        "memory",
        Text,
        1,
        "cargo bench -q -p svc-core --bench memory",
    ),
    source(
        "slices",
        Criterion,
        1,
        "cargo bench -q -p svc-core --bench endpoints",
    ),
    source(
        "dns",
        Criterion,
        1,
        "cargo bench -q -p svc-core --bench dns",
    ),
    source(
        "nftables-100",
        Json,
        5,
        "target/release/sync-bench --services 100 -o json",
    ),
    source(
        "nftables-1k",
        Json,
        5,
        "target/release/sync-bench --services 1000 -o json",
    ),
    source(
        "nftables-10k",
        Json,
        5,
        "target/release/sync-bench --services 10000 -o json",
    ),
    source(
        "nftables-100k",
        Json,
        3,
        "target/release/sync-bench --services 100000 -o json",
    ),
    source(
        "nftables-1M",
        Json,
        3,
        "target/release/sync-bench --services 100000 --endpoints 10 --runs 300 -o json",
    ),
    source(
        "nftables-1M-neighbours",
        Json,
        1,
        "target/release/sync-bench --services 100000 --endpoints 10 --runs 1 --neighbours -o json",
    ),
    source(
        "peer-form",
        Json,
        5,
        "target/release/examples/chain_per_endpoint legacy 10000 3",
    ),
    source(
        "legacy-100",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant legacy --services 100 --runs 15 -o json",
    ),
    source(
        "legacy-1k",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant legacy --services 1000 --runs 15 -o json",
    ),
    source(
        "legacy-10k",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant legacy --services 10000 --runs 15 -o json",
    ),
    source(
        "legacy-30k",
        Json,
        3,
        "target/release/sync-bench --backend iptables --variant legacy --services 30000 --runs 5 -o json",
    ),
    source(
        "nft-100",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant nft --services 100 --runs 15 -o json",
    ),
    source(
        "nft-1k",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant nft --services 1000 --runs 15 -o json",
    ),
    source(
        "nft-10k",
        Json,
        5,
        "target/release/sync-bench --backend iptables --variant nft --services 10000 --runs 15 -o json",
    ),
    source(
        "nft-30k",
        Json,
        3,
        "target/release/sync-bench --backend iptables --variant nft --services 30000 --runs 5 -o json",
    ),
    source(
        "ipvs-100",
        Json,
        1,
        "tools/vm -- target/release/sync-bench --backend ipvs --services 100 --runs 100 -o json",
    ),
    source(
        "ipvs-1k",
        Json,
        1,
        "tools/vm -- target/release/sync-bench --backend ipvs --services 1000 --runs 100 -o json",
    ),
    source(
        "connect-nftables-100",
        Json,
        5,
        "target/release/connect-bench --services 100 -o json",
    ),
    source(
        "connect-nftables-1k",
        Json,
        5,
        "target/release/connect-bench --services 1000 -o json",
    ),
    source(
        "connect-nftables-10k",
        Json,
        5,
        "target/release/connect-bench --services 10000 -o json",
    ),
    source(
        "connect-nftables-100k",
        Json,
        3,
        "target/release/connect-bench --services 100000 -o json",
    ),
    source(
        "connect-legacy-1k",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant legacy --services 1000 -o json",
    ),
    source(
        "connect-legacy-10k",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant legacy --services 10000 -o json",
    ),
    source(
        "connect-nft-1k",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant nft --services 1000 -o json",
    ),
    source(
        "connect-nft-10k",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant nft --services 10000 -o json",
    ),
    source(
        "connect-legacy-wide",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant legacy --services 10 --endpoints 1000 -o json",
    ),
    source(
        "connect-nft-wide",
        Json,
        5,
        "target/release/connect-bench --backend iptables --variant nft --services 10 --endpoints 1000 -o json",
    ),
    source("dns-server", Text, 3, "tools/dns-bench 1 2"),
    source(
        "agent-10k",
        Text,
        1,
        "target/release/examples/agent_bench target/release/nftables-proxy 10000 1000 3",
    ),
    source(
        "agent-1M",
        Text,
        1,
        "target/release/examples/agent_bench target/release/nftables-proxy 100000 500 10",
    ),
];

/// The command of a source.
pub(crate) fn command(name: &str) -> &'static str {
    let source = SOURCES.iter().find(|source| source.name == name);
    source.unwrap_or_else(|| panic!("no source {name}")).command
}
