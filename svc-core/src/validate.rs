//! Defaulting and validation of Services and EndpointSlices, as the API server does them.
//!
//! ```text
//! wire::Service ──► create / update ──► what the API server would store, and warnings
//!                        │         └──► or every error of the object, with its field
//!                        ├ linked fields (clusterIP and clusterIPs), values taken over, fields dropped
//!                        ├ defaults
//!                        └ rules
//! ```
//!
//! The input is the form of the wire, so that numbers out of range and misspelt words are still
//! there. Rules are those of Kubernetes 1.36 with its default feature gates, cited as B-334 to B-371;
//! the words are our own. Fields are named as in manifests also where the API server misnames them
//! (`spec.LoadBalancerSourceRanges`).
//!
//! ```
//! use svc_core::{validate, wire};
//!
//! let mut spec = wire::ServiceSpec::default();
//! spec.service_type = "NodeBalancer".to_string().into();
//! let mut service = wire::Service::default();
//! service.metadata = wire::Metadata { name: "web".to_string().into(), ..Default::default() }.into();
//! service.spec = spec.into();
//! let errors = validate::create(&mut service).unwrap_err();
//! assert_eq!(errors[0].to_string(), "spec.ports: required: at least one port");
//! assert!(errors[1].to_string().starts_with("spec.type: not supported: \"NodeBalancer\": "));
//! ```

mod address;
mod check;
mod cluster_ip;
mod defaults;
mod endpoint_slice;
mod error;
mod metadata;
mod policy;
mod port;
mod prepare;
mod service;
mod status;
mod text;
mod update;
mod view;
mod warning;

#[cfg(test)]
mod fixture;
#[cfg(test)]
mod policy_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod update_tests;

pub use defaults::default_service;
pub use endpoint_slice::{endpoint_slice, endpoint_slice_update};
pub use error::FieldError;
pub use prepare::{link_cluster_ips, prepare_update};
pub use service::{Allocation, service};
pub use status::service_status;
pub use update::service_update;
pub use warning::service_warnings;

use alloc::vec::Vec;

use crate::wire;

/// What the API server does to a new Service before it allocates anything: fields are linked and
/// defaulted, then validated.
///
/// Returns the warnings that a client would see.
///
/// # Errors
/// Every error of the object. The object is defaulted nevertheless.
pub fn create(service: &mut wire::Service) -> Result<Vec<FieldError>, Vec<FieldError>> {
    default_service(service);
    link_cluster_ips(None, service);
    let errors = self::service(service, Allocation::Pending);
    match errors.is_empty() {
        true => Ok(service_warnings(service)),
        false => Err(errors),
    }
}

/// What the API server does to an update of a stored Service before it allocates anything.
///
/// Fields are defaulted and linked; what the new type has no use for is dropped, and what the update
/// leaves out is taken over (B-367 to B-369). Then the result is validated against `before`.
///
/// # Errors
/// Every error of the object.
pub fn update(
    before: &wire::Service,
    after: &mut wire::Service,
) -> Result<Vec<FieldError>, Vec<FieldError>> {
    default_service(after);
    prepare_update(before, after);
    let errors = service_update(before, after, Allocation::Pending);
    match errors.is_empty() {
        true => Ok(service_warnings(after)),
        false => Err(errors),
    }
}
