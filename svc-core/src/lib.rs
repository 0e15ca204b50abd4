//! Pure model of Kubernetes Services: objects in, forwarding plan of a node out.
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
