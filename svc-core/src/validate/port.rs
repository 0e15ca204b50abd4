//! Ports of a Service (B-340 to B-345).

use alloc::collections::BTreeSet;
use alloc::format;

use super::check::Check;
use super::text::{dns_label, port_name, port_number, qualified_name};
use super::view::{PortView, View};
use crate::wire::IntOrString;

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn check_ports(check: &mut Check, view: &View<'_>) {
    let mut names = BTreeSet::new();
    for (i, port) in view.ports.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        check_name(check, port, view.ports.len() > 1, &mut names, &path);
        check_port(check, port, &path);
    }
}

/// Node ports where there may be none, and numbers that stand twice (B-344, B-345).
pub(super) fn check_port_sets(check: &mut Check, view: &View<'_>) {
    if view.service_type == "ClusterIP" {
        for (i, port) in view.ports.iter().enumerate() {
            if port.node_port != 0 {
                let detail = "not of type ClusterIP";
                check.forbidden(format_args!("spec.ports[{i}].nodePort"), detail);
            }
        }
    }
    if ["NodePort", "LoadBalancer"].contains(&view.service_type) {
        for (i, port) in view.ports.iter().enumerate() {
            // 0 asks for any; no allocator gives out what is no port number.
            if let Some(wrong) = port_number(port.node_port).filter(|_| port.node_port != 0) {
                let path = format_args!("spec.ports[{i}].nodePort");
                check.invalid(path, port.node_port, wrong);
            }
        }
    }
    let mut node_ports = BTreeSet::new();
    for (i, port) in view.ports.iter().enumerate() {
        if port.node_port != 0 && !node_ports.insert((port.protocol, port.node_port)) {
            check.duplicate(format_args!("spec.ports[{i}].nodePort"), port.node_port);
        }
    }
    let mut ports = BTreeSet::new();
    for (i, port) in view.ports.iter().enumerate() {
        if !ports.insert((port.protocol, port.port)) {
            let value = format!("{}/{}", port.port, port.protocol);
            check.duplicate(format_args!("spec.ports[{i}]"), value.as_str());
        }
    }
}

fn check_name<'a>(
    check: &mut Check,
    port: &PortView<'a>,
    several: bool,
    names: &mut BTreeSet<&'a str>,
    path: &str,
) {
    let path = format_args!("{path}.name");
    if port.name.is_empty() {
        if several {
            check.required(path, "a name, as there are several ports");
        }
        return;
    }
    if let Some(wrong) = dns_label(port.name) {
        check.invalid(path, port.name, wrong);
    }
    if !names.insert(port.name) {
        check.duplicate(path, port.name);
    }
}

fn check_port(check: &mut Check, port: &PortView<'_>, path: &str) {
    if let Some(wrong) = port_number(port.port) {
        check.invalid(format_args!("{path}.port"), port.port, wrong);
    }
    if port.protocol.is_empty() {
        check.required(format_args!("{path}.protocol"), "a protocol");
    } else if !PROTOCOLS.contains(&port.protocol) {
        check.not_supported(format_args!("{path}.protocol"), port.protocol, &PROTOCOLS);
    }
    let target = format_args!("{path}.targetPort");
    match port.target_port {
        Some(IntOrString::Text(name)) => {
            if let Some(wrong) = port_name(name) {
                check.invalid(target, name.as_str(), wrong);
            }
        }
        Some(IntOrString::Int(number)) => {
            if let Some(wrong) = port_number(*number) {
                check.invalid(target, *number, wrong);
            }
        }
        // Not defaulted, and then it is the number 0.
        None => check.invalid(target, 0, "between 1 and 65535"),
    }
    if let Some(app_protocol) = port.app_protocol
        && let Some(wrong) = qualified_name(app_protocol)
    {
        check.invalid(format_args!("{path}.appProtocol"), app_protocol, wrong);
    }
}
