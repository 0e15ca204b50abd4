//! Small objects for the tests and laws of this module.
#![allow(clippy::unwrap_used)] // of what stands here in full

use super::*;
use alloc::format;

use crate::name::NamespacedName;
use crate::net::Protocol;
use crate::object::{Service, ServiceCidr, ServicePort, ServiceType, TargetPort};

pub(super) fn allocators(nets: &[&str], first: u16, last: u16) -> Allocators {
    let cidrs = [ServiceCidr {
        name: "kubernetes".into(),
        cidrs: nets.iter().map(|net| net.parse().unwrap()).collect(),
        ready: true,
        terminating: false,
    }];
    let (new, diagnostics) = Allocators::new(&cidrs, NodePortRange::new(first, last).unwrap());
    assert!(diagnostics.is_empty());
    new
}

pub(super) fn service(
    name: &str,
    service_type: ServiceType,
    ports: &[(u16, Protocol, u16)],
) -> Service {
    let mut service = Service::named(NamespacedName::new("ns", name));
    service.service_type = service_type;
    service.selector.insert("app".into(), name.into());
    service.ports = ports
        .iter()
        .map(|(port, protocol, node_port)| ServicePort {
            name: format!("{port}-{}", protocol.lower()).into(),
            protocol: *protocol,
            port: *port,
            target_port: TargetPort::Number(*port),
            node_port: (*node_port != 0).then_some(*node_port),
            app_protocol: None,
        })
        .collect();
    service
}
