//! Services that have no part in a plan, and what stands in their place.

use std::fmt::Write;

use serde_json::{Value, json};
use svc_core::ClusterState;
use svc_core::object::{Service, ServiceType};

/// Services that are names only, by namespace and name.
fn services(state: &ClusterState) -> impl Iterator<Item = &Service> {
    let names_only =
        |service: &&Service| service.headless || service.service_type == ServiceType::ExternalName;
    let mut services: Vec<&Service> = state
        .services()
        .into_iter()
        .map(|service| &**service)
        .filter(names_only)
        .collect();
    services.sort_by(|a, b| a.name.cmp(&b.name));
    services.into_iter()
}

/// One line for each, for people.
pub(super) fn to_text(state: &ClusterState) -> String {
    let mut text = String::new();
    for service in services(state) {
        // Writing to a string cannot fail.
        let _ = match &service.external_name {
            Some(target) => writeln!(text, "{}: not proxied, CNAME {target}", service.name),
            None => writeln!(text, "{}: not proxied, headless", service.name),
        };
    }
    text
}

/// One object for each.
pub(super) fn to_json(state: &ClusterState) -> Value {
    let one = |service: &Service| {
        let kind = match service.external_name {
            Some(_) => "ExternalName",
            None => "Headless",
        };
        json!({"service": service.name.to_string(), "kind": kind, "cname": service.external_name})
    };
    services(state).map(one).collect()
}
