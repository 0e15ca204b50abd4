//! Pure model of Kubernetes Services: objects in, forwarding plan of a node out.
#![no_std]

extern crate alloc;

mod diagnostic;
pub mod endpoints;
mod name;
mod net;
pub mod object;

pub use diagnostic::{Diagnostic, DiagnosticReason, ObjectKind, Severity};
pub use ipnet::{IpNet, Ipv4Net, Ipv6Net};
pub use name::{DEFAULT_NAMESPACE, Name, NamespacedName, ServicePortName};
pub use net::{IpFamily, Protocol, UnknownProtocol, parse_cidr, parse_ip, unspecified};
