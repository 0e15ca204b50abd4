//! Library of the example binaries.

pub mod cli;
pub mod cluster;
pub mod demo;
pub mod dns;
pub mod host;
pub mod manifest;
pub mod nftables_proxy;
pub mod proxy;
pub mod sandbox;
