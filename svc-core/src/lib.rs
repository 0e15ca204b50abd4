//! Pure model of Kubernetes Services: objects in, forwarding plan of a node out.
//!
//! ```text
//!  WatchEvent<Service, EndpointSlice, Node, ServiceCIDR>
//!        │
//!        ▼
//!  ClusterState ──► Planner ──► Plan ───────► route(Flow) ──► Verdict
//!  objects by key   claims,      │  what       explain ─────► the same, with every reason
//!                   selection    │  happens    lint ────────► nothing, or a fault of ours
//!                                │  where      health, conntrack::StaleFlows
//!                                ▼
//!                            PlanDelta ──► Reconciler ──poll()──► Read │ Commit(Transaction)
//!                            one Service   Render: the plan in the        done by a backend,
//!                            changed       words of one kernel subsystem  reported back
//! ```
//!
//! Nothing here does I/O, reads a clock or starts a thread: the crate needs no `std`. What it is
//! told is a value, what it answers is a value, and equal inputs give equal answers.
//!
//! From two objects to a verdict:
//!
//! ```
//! use svc_core::config::{ProxyConfig, ProxyMode};
//! use svc_core::object::*;
//! use svc_core::*;
//!
//! let mut web = Service::named(NamespacedName::new("shop", "web"));
//! web.cluster_ips.push([10, 96, 0, 1].into());
//! web.ports.push(ServicePort::new("http", Protocol::Tcp, 80));
//! let mut slice = EndpointSlice::of_service(&web.name, "web-x7k2p", IpFamily::V4);
//! slice.ports = [EndpointPort::new("http", Protocol::Tcp, 8080)].into();
//! slice.endpoints = [SliceEndpoint::new([10, 64, 1, 1].into(), Conditions::READY)].into();
//!
//! let mut state = ClusterState::new();
//! state.apply(Event::Service(WatchEvent::Apply(web)));
//! state.apply(Event::EndpointSlice(WatchEvent::Apply(slice)));
//! let node = NodeConfig::new("node-1", ProxyConfig::default_for(ProxyMode::Nftables));
//! let plan = Plan::compute(&state, &node, IpFamily::V4);
//!
//! let flow = Flow::new([10, 64, 2, 7].into(), ([10, 96, 0, 1], 80).into(), Protocol::Tcp);
//! assert_eq!(plan.route(&flow).to_string(), "forward 10.64.1.1:8080");
//! ```
//!
//! Where to go on: a [`Planner`] keeps plans up to date event by event, a [`Reconciler`] makes a
//! kernel match them, [`explain()`] says why, [`config`] is what a node is told about itself.
//! With the feature `serde`, `wire` reads manifests and watches; with the feature `kube`, `kube`
//! turns the watches of that crate into events; with the feature `testing`,
//! `testing` has generators and laws. Rules are cited by number, such as B-066; the list is
//! `docs/behaviours.md` in the repository.
#![no_std]

extern crate alloc;

pub mod allocate;
mod claims;
pub mod config;
pub mod conntrack;
mod delta;
mod diagnostic;
pub mod dns;
pub mod endpoints;
mod explain;
pub mod health;
mod kernel;
#[cfg(feature = "kube")]
pub mod kube;
mod lint;
pub mod load_balancer;
mod name;
mod net;
mod node_plan;
pub mod object;
mod plan;
mod planner;
mod reconciler;
mod route;
mod ruleset;
pub mod select;
mod service_plan;
mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
#[cfg(feature = "serde")]
pub mod validate;
#[cfg(feature = "serde")]
pub mod wire;

pub use delta::{Change, PlanDelta};
pub use diagnostic::{Diagnostic, DiagnosticReason, ObjectKind, Severity};
pub use explain::{
    ExplainedEndpoint, Explanation, LeftOut, MasqueradeReason, explain, explain_verdict,
};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use kernel::{CommitFailure, Kernel, Pretend, Settled, Unsettled};
pub use name::{DEFAULT_NAMESPACE, Name, NamespacedName, ServicePortName};
pub use net::{IpFamily, Protocol, UnknownProtocol, parse_cidr, parse_ip, unspecified};
pub use node_plan::{
    ClusterIpMasquerade, EmptySourceRanges, LocalDetector, NodeConfig, NodePlan, NodePorts,
    RefusedAt, Unserved,
};
pub use plan::{
    ClientIpAffinity, Endpoint, Frontend, FrontendAddress, FrontendKind, Hairpin, HealthCheck,
    Locality, Masquerade, Origin, PerOrigin, Plan, Route, Scope, ServicePortPlan, SourceRanges,
    address_text,
};
pub use planner::Planner;
pub use reconciler::{Action, Drift, Failure, Reconciler};
pub use route::{Answering, Decision, Flow, Reason, Target, Verdict};
pub use ruleset::{Base, Edit, EditGroup, Fragment, Render, Ruleset, Transaction, render};
pub use state::{Changes, ClusterState, Event, NodeChange, ServiceId, WatchEvent};
