//! Generators and laws that the tests of all crates share, and `fuzz` too (feature `testing`).
//!
//! - [`Scenario`] reads a cluster from a few words a line, for tests that name one rule.
//! - [`Source`] turns bytes into choices; every generator here draws from one, so that the same
//!   generator serves a property test ([`histories`] and friends) and a fuzz target (the bytes
//!   that the fuzzer mutates). Domains are small on purpose: collisions have to be frequent.
//! - [`laws`] are functions that say what is broken, if anything is.
//! - [`FakeKernel`] is what a [`crate::Reconciler`] is tried against, with faults.
//!
//! Nothing here is meant for production code: mistakes in a scenario are reported as text.

mod fake_kernel;
mod flows;
mod generate;
pub mod laws;
mod scenario;
mod source;
mod strategy;
mod toy;

pub use fake_kernel::{FakeKernel, Fault};
pub use flows::{Aims, parse_flow};
pub use generate::{History, Step, config, endpoint_slice, history, node, service, service_cidr};
pub use scenario::Scenario;
pub use source::Source;
pub use strategy::{bytes, histories, plans};
pub use toy::{Toy, ToyKey};
