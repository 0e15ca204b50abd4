//! The rules of an EndpointSlice (B-371).

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use super::address::{check_not_special, strict_ip};
use super::check::Check;
use super::error::FieldError;
use super::port::PROTOCOLS;
use super::text::{dns_label, dns_subdomain, label_value, qualified_name};
use crate::wire::{Endpoint, EndpointPort, EndpointSlice, Field, Hint};

const MAX_ENDPOINTS: usize = 1000;
const MAX_ADDRESSES: usize = 100;
const MAX_PORTS: usize = 20_000;
const MAX_HINTS: usize = 8;
const ADDRESS_TYPES: [&str; 3] = ["FQDN", "IPv4", "IPv6"];

/// Every error of a new EndpointSlice.
pub fn endpoint_slice(slice: &EndpointSlice) -> Vec<FieldError> {
    let mut check = Check::default();
    if let Some(metadata) = check.value(&slice.metadata, "metadata") {
        let name = check.text(&metadata.name, "metadata.name");
        let prefix = check.text(&metadata.generate_name, "metadata.generateName");
        if name.is_empty() && prefix.is_empty() {
            check.required("metadata.name", "a name, or generateName");
        } else if let Some(wrong) = dns_subdomain(name).filter(|_| !name.is_empty()) {
            check.invalid("metadata.name", name, wrong);
        }
    } else {
        check.required("metadata.name", "a name, or generateName");
    }
    let address_type = check.text(&slice.address_type, "addressType");
    if address_type.is_empty() {
        check.required("addressType", "a type of address");
    } else if !ADDRESS_TYPES.contains(&address_type) {
        check.not_supported("addressType", address_type, &ADDRESS_TYPES);
    }
    check_endpoints(&mut check, slice, address_type);
    check_ports(&mut check, slice);
    check.errors
}

/// Every error of an updated EndpointSlice: as of a new one, and the type of address stays.
pub fn endpoint_slice_update(before: &EndpointSlice, after: &EndpointSlice) -> Vec<FieldError> {
    let mut errors = endpoint_slice(after);
    if before.address_type != after.address_type {
        let mut check = Check::default();
        check.invalid("addressType", after.address_type.text(), "may not change");
        errors.extend(check.errors);
    }
    errors
}

fn check_endpoints(check: &mut Check, slice: &EndpointSlice, address_type: &str) {
    let endpoints = list(check, &slice.endpoints, "endpoints");
    if endpoints.len() > MAX_ENDPOINTS {
        return check.too_many("endpoints", endpoints.len(), MAX_ENDPOINTS);
    }
    for (i, endpoint) in endpoints.iter().enumerate() {
        let path = format!("endpoints[{i}]");
        if let Some(endpoint) = check.value(endpoint, &path) {
            check_endpoint(check, endpoint, address_type, &path);
        }
    }
}

fn check_endpoint(check: &mut Check, endpoint: &Endpoint, address_type: &str, path: &str) {
    let addresses_path = format!("{path}.addresses");
    let addresses = check.texts(&endpoint.addresses, &addresses_path);
    if addresses.is_empty() {
        check.required(&addresses_path, "at least one address");
    } else if addresses.len() > MAX_ADDRESSES {
        check.too_many(&addresses_path, addresses.len(), MAX_ADDRESSES);
    }
    for (i, address) in addresses.iter().enumerate() {
        check_address(
            check,
            address,
            address_type,
            &format!("{addresses_path}[{i}]"),
        );
    }
    let node = check.text(&endpoint.node_name, format_args!("{path}.nodeName"));
    if let Some(wrong) = dns_subdomain(node).filter(|_| endpoint.node_name != Field::Unset) {
        check.invalid(format_args!("{path}.nodeName"), node, wrong);
    }
    let hostname = check.text(&endpoint.hostname, format_args!("{path}.hostname"));
    if let Some(wrong) = dns_label(hostname).filter(|_| endpoint.hostname != Field::Unset) {
        check.invalid(format_args!("{path}.hostname"), hostname, wrong);
    }
    let hints_path = format!("{path}.hints");
    if let Some(hints) = check.value(&endpoint.hints, &hints_path) {
        // Zones are values of node labels, nodes are names.
        check_hints(
            check,
            &hints.for_zones,
            &format!("{hints_path}.forZones"),
            label_value,
        );
        check_hints(
            check,
            &hints.for_nodes,
            &format!("{hints_path}.forNodes"),
            dns_subdomain,
        );
    }
}

fn check_address(check: &mut Check, address: &str, address_type: &str, path: &str) {
    use alloc::string::ToString;
    let ip = strict_ip(address);
    let canonical = ip.is_some_and(|ip| ip.to_string() == address);
    let wrong = match address_type {
        "IPv4" if ip.is_some_and(|ip| ip.is_ipv4()) => {
            return check_not_special(check, path, address);
        }
        "IPv6" if ip.is_some_and(|ip| ip.is_ipv6()) && canonical => {
            return check_not_special(check, path, address);
        }
        "IPv4" => "must be an IPv4 address",
        "IPv6" => "must be an IPv6 address in its shortest form",
        "FQDN" => match fully_qualified(address) {
            Some(wrong) => wrong,
            None => return,
        },
        _ => return,
    };
    check.invalid(path, address, wrong);
}

/// A DNS name of at least two parts, a dot at the end allowed.
fn fully_qualified(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix('.').unwrap_or(name);
    match dns_subdomain(name) {
        None if !name.contains('.') => Some("a DNS name of at least two parts"),
        wrong => wrong,
    }
}

fn check_hints(
    check: &mut Check,
    field: &Field<Vec<Field<Hint>>>,
    path: &str,
    rule: fn(&str) -> Option<&'static str>,
) {
    let hints = list(check, field, path);
    if hints.len() > MAX_HINTS {
        return check.too_many(path, hints.len(), MAX_HINTS);
    }
    let mut seen = BTreeSet::new();
    for (i, hint) in hints.iter().enumerate() {
        let path = format!("{path}[{i}].name");
        let name = hint
            .value()
            .map_or("", |hint| check.text(&hint.name, &path));
        if name.is_empty() {
            check.required(&path, "a name");
        } else if let Some(wrong) = rule(name) {
            check.invalid(&path, name, wrong);
        }
        if !seen.insert(name) {
            check.duplicate(&path, name);
        }
    }
}

fn check_ports(check: &mut Check, slice: &EndpointSlice) {
    let ports = list(check, &slice.ports, "ports");
    if ports.len() > MAX_PORTS {
        return check.too_many("ports", ports.len(), MAX_PORTS);
    }
    let mut names = BTreeSet::new();
    for (i, port) in ports.iter().enumerate() {
        let path = format!("ports[{i}]");
        let Some(port) = check.value(port, &path) else {
            continue;
        };
        let name = check.text(&port.name, format_args!("{path}.name"));
        if let Some(wrong) = dns_label(name).filter(|_| !name.is_empty()) {
            check.invalid(format_args!("{path}.name"), name, wrong);
        }
        if !names.insert(name) {
            check.duplicate(format_args!("{path}.name"), name);
        }
        check_port(check, port, &path);
    }
}

fn check_port(check: &mut Check, port: &EndpointPort, path: &str) {
    let protocol = check.text(&port.protocol, format_args!("{path}.protocol"));
    if protocol.is_empty() {
        check.required(format_args!("{path}.protocol"), "a protocol");
    } else if !PROTOCOLS.contains(&protocol) {
        check.not_supported(format_args!("{path}.protocol"), protocol, &PROTOCOLS);
    }
    let app_protocol = check.text(&port.app_protocol, format_args!("{path}.appProtocol"));
    if let Some(wrong) = qualified_name(app_protocol).filter(|_| port.app_protocol != Field::Unset)
    {
        check.invalid(format_args!("{path}.appProtocol"), app_protocol, wrong);
    }
    check.value(&port.port, format_args!("{path}.port"));
}

fn list<'f, T: crate::wire::Shape>(
    check: &mut Check,
    field: &'f Field<Vec<Field<T>>>,
    path: &str,
) -> &'f [Field<T>] {
    check.value(field, path).map_or(&[], Vec::as_slice)
}
