//! Library of the example binaries.

pub mod sandbox;
