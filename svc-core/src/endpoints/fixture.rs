//! Small objects for the tests of this module, and slices as text.

use alloc::format;
#[cfg(test)]
use alloc::string::String;
#[cfg(test)]
use core::fmt::Write;

use crate::name::NamespacedName;
use crate::net::{IpFamily, Protocol};
use crate::object::{
    ContainerKind, ContainerPort, Node, Pod, PodPhase, Service, ServicePort, TargetPort,
};

pub(super) fn service(name: &str) -> Service {
    let mut service = Service::named(NamespacedName::new("ns", name));
    service.selector.insert("app".into(), name.into());
    service.ip_families = [IpFamily::V4].into();
    service.cluster_ips = [[10, 96, 0, 1].into()].into();
    service.ports = [port("", 80, TargetPort::Number(8080))].into();
    service
}

pub(super) fn port(name: &str, port: u16, target_port: TargetPort) -> ServicePort {
    ServicePort {
        name: name.into(),
        protocol: Protocol::Tcp,
        port,
        target_port,
        node_port: None,
        app_protocol: None,
    }
}

/// Ready Pod number `i` of Service `app`, with an address of either family, on node `n<i % 3>`.
pub(super) fn pod(app: &str, i: u16) -> Pod {
    let [high, low] = i.to_be_bytes();
    Pod {
        name: NamespacedName::new("ns", format!("{app}-{i:05}")),
        labels: [("app".into(), app.into())].into(),
        ips: [
            [10, 64, high, low].into(),
            [0xfd00, 0, 0, 0, 0, 0, 0, i].into(),
        ]
        .into(),
        phase: PodPhase::Running,
        ready: true,
        ready_changed: None,
        terminating: false,
        node: Some(format!("n{}", i % 3).into()),
        hostname: None,
        subdomain: None,
        host_network: false,
        ports: [container_port("http", 8080)].into(),
    }
}

pub(super) fn container_port(name: &str, port: u16) -> ContainerPort {
    ContainerPort {
        name: name.into(),
        port,
        protocol: Protocol::Tcp,
        container: ContainerKind::Regular,
    }
}

/// Nodes `n0` to `n2`, of zones `z0` to `z2`, with a CPU each.
pub(super) fn nodes() -> [Node; 3] {
    [0, 1, 2].map(|i| {
        let mut node = Node::named(format!("n{i}"));
        node.zone = Some(format!("z{i}").into());
        node.allocatable_cpu_milli = Some(1000);
        node
    })
}

/// A line per slice, a line per endpoint.
#[cfg(test)]
pub(super) fn text<'a>(
    slices: impl IntoIterator<Item = &'a crate::object::EndpointSlice>,
) -> String {
    let mut text = String::new();
    for slice in slices {
        let ports = slice
            .ports
            .iter()
            .map(|port| format!(" {}:{}/{}", port.name, port.port, port.protocol))
            .collect::<String>();
        writeln!(text, "{} {}{ports}", slice.name.name, slice.family).unwrap();
        for endpoint in &slice.endpoints {
            let extra = endpoint.extra.as_deref().cloned().unwrap_or_default();
            let conditions = endpoint.conditions;
            write!(
                text,
                "  {} {}",
                endpoint.address,
                extra.pod.as_deref().unwrap_or("?")
            )
            .unwrap();
            for (word, holds) in [
                ("ready", conditions.ready),
                ("serving", conditions.serving),
                ("terminating", conditions.terminating),
            ] {
                if holds {
                    write!(text, " {word}").unwrap();
                }
            }
            for (word, value) in [
                ("node", &endpoint.node),
                ("zone", &extra.zone),
                ("hostname", &extra.hostname),
            ] {
                if let Some(value) = value {
                    write!(text, " {word}={value}").unwrap();
                }
            }
            for zone in &extra.hints.zones {
                write!(text, " for-zone={zone}").unwrap();
            }
            for node in &extra.hints.nodes {
                write!(text, " for-node={node}").unwrap();
            }
            text.push('\n');
        }
    }
    text
}
