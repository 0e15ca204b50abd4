//! Library of the example binaries.

/// Compiles what the README shows.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;

pub mod agent;
pub mod api_server;
pub mod backend;
pub mod cli;
pub mod cluster;
pub mod cluster_watch;
pub mod connect_bench;
pub mod demo;
pub mod dns;
pub mod flow_cases;
pub mod host;
pub mod http;
pub mod iptables_proxy;
pub mod ipvs_proxy;
pub mod manifest;
mod neighbours;
pub mod nftables_proxy;
pub mod packets;
pub mod proxy;
pub mod sandbox;
mod signal;
pub mod soak;
pub mod sync_bench;
pub mod vm;
