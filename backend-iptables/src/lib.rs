//! Applies the forwarding plan of `svc-core` through iptables, legacy or nft, for hosts that have
//! nothing better.
//!
//! ```text
//!  PREROUTING, OUTPUT ─► SVC-SERVICES ─┬─ -d <ClusterIPs> ─► SVC-CLUSTER ─► tree ─► DNAT, or …c, …l
//!                                      ├─ -d <others> ────► SVC-XIPS, tree ─► …F ─► …X ─► …c, …l
//!                                      └─ to this host ───► SVC-NODEPORTS, tree ─► …X ─► …c, …l
//!  INPUT, FORWARD, OUTPUT ─► what nat marked is refused or dropped
//!  POSTROUTING ─► what nat marked, and an endpoint's way to itself, is masqueraded
//! ```
//!
//! The pure half says a plan as objects ([`Renderer`]), objects as chains ([`Program`]) and tells
//! what chains do with a packet ([`Program::evaluate`]), so that a ruleset can be held to
//! [`svc_core::Plan::route`] without a kernel; [`capabilities`] has the few differences. The
//! effectful half, [`Kernel`], runs the tools of iptables and does nothing else.
//!
//! # Cost
//!
//! A packet is compared with tens of rules, not with one per Service: front ends stand in trees
//! over address, protocol and port. A Service whose only front end is a ClusterIP has a rule in
//! the tree for each of its endpoints, if these are few; any other has one chain for each list of
//! endpoints. An endpoint has no chain, and nothing outside table nat depends on a Service.
//!
//! A change rewrites the chains whose text differs, in one commit. What that costs is up to the
//! variant. iptables-nft sends just these chains. **iptables-legacy cannot do that**: its kernel
//! interface knows only whole tables, so every change, however small, reads all rules of table
//! nat, writes all of them back and has the kernel check each one. At 10,000 Services with three
//! endpoints each that is a tenth of a second of CPU for one endpoint as for a hundred. Batch
//! changes accordingly: with iptables-legacy, let a second pass between commits; with
//! iptables-nft, a tenth.
//!
//! # Example
//!
//! ```
//! use backend_iptables::{Config, Host, Program, Renderer};
//! use svc_core::{Flow, IpFamily, NodePlan, Plan, Pretend, Protocol, Reconciler, Verdict};
//!
//! let config = Config::new(IpFamily::V4);
//! let plan = Plan::empty(IpFamily::V4, std::sync::Arc::new(NodePlan::bare("n1")));
//!
//! let mut reconciler = Reconciler::new(Renderer::new(config), IpFamily::V4);
//! let mut delta = plan.diff(&plan);
//! delta.node = Some(plan.node.clone());
//! reconciler.change(&delta);
//!
//! // A kernel in memory; `Kernel::open` gives the real one.
//! let mut kernel = Pretend(Default::default());
//! reconciler.settle(&mut kernel, 4)?;
//!
//! let program = Program::of(&config, &kernel.0);
//! let flow = Flow::new([10, 1, 0, 1].into(), ([10, 96, 0, 1], 443).into(), Protocol::Tcp);
//! assert_eq!(program.evaluate(&Host::of(&plan), &flow), Verdict::Pass);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod balance;
pub mod capabilities;
mod config;
mod error;
mod evaluate;
#[cfg(feature = "testing")]
pub mod fake;
mod host;
mod kernel;
mod key;
mod listing;
pub mod name;
mod program;
mod read;
mod render;
pub mod rule;
mod skeleton;
mod transaction;
mod tree;

pub use config::{
    AffinityBy, Config, Features, HairpinBy, InvalidPackets, MOST_RECENT, Marks, SameBit,
};
pub use error::Error;
pub use evaluate::Outcome;
pub use host::{Detected, Variant, detect};
pub use kernel::{Kernel, Options};
pub use key::{Entry, Goal, Hook, Jump, Key, Table, Tree, Value};
pub use listing::Listing;
pub use program::{Host, Program};
pub use render::Renderer;
pub use transaction::{Blocks, Input};
