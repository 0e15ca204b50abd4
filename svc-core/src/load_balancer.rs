//! What stands outside of the cluster and sends traffic in: providers of load balancers.
//!
//! ```text
//! Service of type LoadBalancer ──► Request ──► Provider ──► Answer: ingress addresses, remarks
//!                                              ├ AddressPools   ranges of addresses
//!                                              └ Report         only says what it would ask for
//! ```
//!
//! A [`Provider`] is told of every Service, whatever its type, and of every Service that is gone; it
//! picks those that are its. [`provide`] does that for a set of Services and fills in their ingress
//! addresses, as the status of a Service has them.

mod address_pools;
mod nodes;
mod pool;
mod report;
mod request;
#[cfg(test)]
mod tests;

pub use address_pools::AddressPools;
pub use nodes::{NodeHealth, NodeTarget, nodes};
pub use pool::{AutoAssign, BuggyAddresses, ParsePoolRangeError, Pool, PoolRange};
pub use report::Report;
pub use request::{Frontend, HealthCheck, Request};

use alloc::vec::Vec;

use crate::diagnostic::Diagnostic;
use crate::name::NamespacedName;
use crate::object::{IngressIp, Service};

/// Turns Services of type LoadBalancer into ingress addresses.
pub trait Provider {
    /// Takes note of the addresses that a Service has by its status, after a restart.
    ///
    /// All Services go in here before the first [`Provider::ensure`], so that none is given what
    /// another one has.
    fn resume(&mut self, service: &Service);

    /// Looks at a Service that is new or changed.
    ///
    /// Asking twice for the same Service gives the same answer.
    fn ensure(&mut self, service: &Service) -> Answer;

    /// Forgets a Service that is gone.
    fn release(&mut self, service: &NamespacedName);
}

/// What a [`Provider`] says to a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The Service is of another type or of another class: its status is not the provider's.
    NotMine,
    /// `status.loadBalancer.ingress`; empty while there is nothing to give, with the reason.
    Ingress(Vec<IngressIp>, Vec<Diagnostic>),
}

/// Asks a provider for the ingress addresses of all Services.
///
/// Addresses that Services have already stay theirs, so that a restart does not move one; the others
/// are given to older before younger ones. A Service that is not the provider's keeps what it has.
pub fn provide(provider: &mut dyn Provider, services: &mut [Service]) -> Vec<Diagnostic> {
    let mut order: Vec<usize> = (0..services.len()).collect();
    order.sort_by_cached_key(|i| (services[*i].created, services[*i].name.clone()));
    for i in &order {
        provider.resume(&services[*i]);
    }
    let mut diagnostics = Vec::new();
    for i in order {
        match provider.ensure(&services[i]) {
            Answer::NotMine => {}
            Answer::Ingress(ingress, found) => {
                services[i].ingress = ingress;
                diagnostics.extend(found);
            }
        }
    }
    diagnostics
}
