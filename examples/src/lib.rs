//! Library of the example binaries.

pub mod backend;
pub mod cli;
pub mod cluster;
pub mod demo;
pub mod dns;
pub mod flow_cases;
pub mod host;
pub mod iptables_proxy;
pub mod ipvs_proxy;
pub mod manifest;
mod neighbours;
pub mod nftables_proxy;
pub mod node_proxy;
pub mod packets;
pub mod proxy;
pub mod sandbox;
pub mod sync_bench;
pub mod vm;
