//! An agent: what serves the Services of a node for as long as it runs.
//!
//! ```text
//!  manifests ─┐                    ┌───────────── the loop, one thread ─────────────┐
//!  a cluster ─┼─ Feed ── Input ──► │ Planner ─► PlanDelta ─► FamilyLoop IPv4, IPv6 │
//!  the kernel ┤                    │            when: Pace        reconciler, kernel │
//!  signals ───┘                    └───┬──────────────┬────────────────┬────────────┘
//!                                      ▼              ▼                ▼
//!                              /healthz, /metrics,  health-check   conntrack
//!                              /plan, /explain      node ports     (a thread)
//! ```
//!
//! [`FamilyLoop`] and [`Pace`] have no clock, thread or channel: another controller can use them
//! with its own. The rest is for programs of their own: [`run()`] is all of `nftables-proxy`.

mod addresses;
mod backend;
mod clock;
mod events;
mod family;
mod flags;
mod flows;
mod health;
mod health_ports;
mod histogram;
mod input;
mod jitter;
mod log;
mod looping;
mod metrics;
mod once;
mod pace;
mod presence;
mod reconfigured;
mod rfc3339;
mod run;
mod server;
mod source;
mod status;
pub mod takeover;
mod unapplied;

pub use backend::{AuditStep, Audited, Backend, Families, Notices, Sentinel};
pub use clock::{Clock, StoppedClock, SystemClock};
pub use events::{Announcement, EventSink};
pub use family::{FamilyLoop, Run};
pub use flags::Flags;
pub use input::{Feed, Input, SourceLink, Stopped};
pub use jitter::Jitter;
pub use log::LogFormat;
pub use once::diff;
pub use pace::{Cause, End, Pace, Periods};
pub use run::{ProxyArgs, run, run_with};
pub use unapplied::Applied;
