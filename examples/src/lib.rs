//! Library of the example binaries.

pub mod cli;
pub mod cluster;
pub mod manifest;
pub mod sandbox;
