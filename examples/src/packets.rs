//! Backends put to the test with real packets.
//!
//! A [`World`] is a node, pods and clients in network namespaces. A [`Backend`] writes its rules
//! into the node's; then connections are made, and [`World::observe`] says what became of them in
//! the words of a plan: a [`Verdict`](svc_core::Verdict) with the endpoints that answered and
//! whether each saw the client's own address. So what happened is compared with what a case or a
//! plan expects by `==`.

mod backend;
mod iptables;
mod observe;
mod run;
mod world;

pub use backend::{Backend, BackendError, Reconciled, nftables};
pub use iptables::iptables;
pub use observe::{Observed, attempts};
pub use run::{CaseResult, Open, Tally, run_cases};
pub use world::{Choice, World, WorldError};
