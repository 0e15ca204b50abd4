//! Library of the example binaries.

pub mod manifest;
pub mod sandbox;
