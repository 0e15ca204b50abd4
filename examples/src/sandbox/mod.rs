//! A node, its pods and outside clients as Linux network namespaces, with real servers and clients.
//!
//! ```text
//!   pod web-0 ── eth0 ─ veth0 ┐                               ┌ outside ───────────────┐
//!   pod web-1 ── eth0 ─ veth1 ┤ node n1 ── eth0 ────────── n1 ┤ 203.0.113.7, … on lo   │
//!                             └ (the proxy under test)        ├ fab2 ── eth0 pod of n2 │
//!                                                             └ nowhere ── eth0 …      ┘
//! ```
//!
//! Everything runs in the calling process: no root, no external program, no file left behind.
//! A process without privileges calls [`isolate`] first, while it has one thread; root may make
//! namespaces at once.
//!
//! A packet that reaches `outside` from the node and is addressed to nobody there is answered with
//! *network unreachable*. A client can so tell a packet the proxy left alone
//! ([`Outcome::Unreachable`]) from one it dropped ([`Outcome::TimedOut`]).
//!
//! ```no_run
//! use std::time::Duration;
//! use examples::sandbox::{Layout, PodSpec, Sandbox, Transport, isolate, probe};
//!
//! isolate()?;
//! let mut sandbox = Sandbox::build(&Layout::default())?;
//! let web = PodSpec::on_node("web-0", ["10.64.1.1".parse()?]).serving(Transport::Tcp, 80);
//! sandbox.add_pod(&web)?;
//! let to = "10.64.1.1:80".parse()?;
//! let outcome = probe(sandbox.outside(), None, to, Transport::Tcp, Duration::from_secs(1))?;
//! println!("{outcome}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod client;
mod connect;
mod conntrack;
mod error;
mod isolate;
mod layout;
mod link;
mod namespace;
mod netlink;
mod nowhere;
mod rtnl;
mod server;
mod stream;
mod topology;
mod trial;

pub use client::{Outcome, Refusal, Transport, probe};
pub use error::{Error, Obstacle};
pub use isolate::{Isolation, isolate};
pub use layout::{Layout, Place, PodSpec};
pub use link::{Route, Rule, RuleAction, connect_veth};
pub use namespace::Namespace;
pub(crate) use rtnl::Rtnl;
pub use server::Server;
pub use stream::{ConnectLoop, Counts, Session};
pub use topology::{Pod, Sandbox};
pub use trial::{Trial, run_trials};
