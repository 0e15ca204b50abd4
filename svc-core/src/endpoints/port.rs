//! Ports of a Service as one Pod offers them.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::object::{EndpointPort, Pod, Service, ServicePort, TargetPort};

/// Ports of a slice; pods with equal ports share slices (B-412).
pub(super) type Ports = Arc<[EndpointPort]>;

/// The ports of a Service, resolved on a Pod when a target port is a name.
#[derive(Clone, Debug)]
pub(super) enum ServicePorts {
    /// Every Pod has the same ones.
    Fixed(Ports),
    /// Some depend on the Pod.
    PerPod,
}

impl ServicePorts {
    pub(super) fn of(service: &Service) -> Self {
        if service
            .ports
            .iter()
            .all(|port| matches!(port.target_port, TargetPort::Number(_)))
        {
            Self::Fixed(
                service
                    .ports
                    .iter()
                    .filter_map(|port| endpoint_port(port, None))
                    .collect(),
            )
        } else {
            Self::PerPod
        }
    }

    /// The ports that a Pod offers; a name that it lacks is left out (B-411).
    pub(super) fn on(&self, service: &Service, pod: &Pod) -> Ports {
        match self {
            Self::Fixed(ports) => ports.clone(),
            Self::PerPod => service
                .ports
                .iter()
                .filter_map(|port| endpoint_port(port, Some(pod)))
                .collect(),
        }
    }
}

/// The same ports whatever the order they are listed in.
pub(super) fn same_ports(a: &[EndpointPort], b: &[EndpointPort]) -> bool {
    if a == b {
        return true;
    }
    if a.len() != b.len() || a.len() < 2 {
        return false;
    }
    let sorted = |ports: &[EndpointPort]| {
        let mut ports: Vec<EndpointPort> = ports.to_vec();
        ports.sort_unstable();
        ports
    };
    sorted(a) == sorted(b)
}

/// Name, protocol and appProtocol are those of the Service port (B-413).
fn endpoint_port(port: &ServicePort, pod: Option<&Pod>) -> Option<EndpointPort> {
    let number = match &port.target_port {
        TargetPort::Number(number) => *number,
        TargetPort::Name(name) => {
            pod?.ports
                .iter()
                .find(|offered| offered.name == *name && offered.protocol == port.protocol)?
                .port
        }
    };
    Some(EndpointPort {
        name: port.name.clone(),
        protocol: port.protocol,
        port: number,
        app_protocol: port.app_protocol.clone(),
    })
}
