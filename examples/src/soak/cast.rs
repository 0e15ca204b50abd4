//! The objects of a soak: many Services that only their rules know, and two with real servers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use svc_core::object::{
    Conditions, EndpointPort, EndpointSlice, Service, ServicePort, ServiceType, SliceEndpoint,
    TargetPort,
};
use svc_core::{Event, IpFamily, NamespacedName, Protocol, WatchEvent};

use crate::sandbox::Transport;

/// A Service whose endpoints answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Served {
    /// With a ClusterIP and node ports.
    Web,
    /// The same with session affinity.
    Sticky,
}

impl Served {
    pub(super) const ALL: [Self; 2] = [Self::Web, Self::Sticky];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Web => "web",
            Self::Sticky => "sticky",
        }
    }

    fn number(self) -> u16 {
        match self {
            Self::Web => 0,
            Self::Sticky => 1,
        }
    }

    pub(super) fn cluster_ip(self) -> IpAddr {
        let host = 10 + u8::try_from(self.number()).unwrap_or_default();
        Ipv4Addr::new(10, 96, 0, host).into()
    }

    pub(super) fn node_port(self, transport: Transport) -> u16 {
        30_000 + 100 * self.number() + port(transport)
    }

    /// Where the endpoint on a pod listens.
    pub(super) fn listens(self, pod: usize) -> Option<[(Transport, SocketAddr); 2]> {
        let (address, _) = PODS.get(pod)?;
        let at = |transport| SocketAddr::new((*address).into(), self.target(transport));
        Some(TRANSPORTS.map(|transport| (transport, at(transport))))
    }

    fn target(self, transport: Transport) -> u16 {
        8000 + 100 * self.number() + port(transport)
    }

    pub(super) fn service(self) -> Service {
        let mut service = Service::named(NamespacedName::new(NAMESPACE, self.name()));
        service.service_type = ServiceType::NodePort;
        service.cluster_ips = vec![self.cluster_ip()];
        service.ip_families = vec![IpFamily::V4];
        let ports = TRANSPORTS.map(|transport| ServicePort {
            target_port: TargetPort::Number(self.target(transport)),
            node_port: Some(self.node_port(transport)),
            ..ServicePort::new(transport.to_string(), transport.protocol(), port(transport))
        });
        service.ports = ports.into();
        service.client_ip_affinity_seconds = match self {
            Self::Web => None,
            Self::Sticky => Some(10_800),
        };
        service
    }

    /// All endpoints but those on some pods.
    pub(super) fn slice(self, without: &[usize]) -> EndpointSlice {
        let pods = PODS.iter().enumerate();
        let pods = pods.filter(|(pod, _)| !without.contains(pod));
        let endpoints = pods.map(|(_, (address, node))| (Ipv4Addr::from(*address), *node));
        let ports = TRANSPORTS.map(|transport| {
            let name = transport.to_string();
            (name, transport.protocol(), self.target(transport))
        });
        slice(self.name(), ports.into(), endpoints.collect())
    }
}

/// A Service that nobody connects to.
pub(super) fn silent_service(number: u32) -> Service {
    let mut service = Service::named(NamespacedName::new(NAMESPACE, silent_name(number)));
    service.cluster_ips = vec![Ipv4Addr::from(FIRST_CLUSTER_IP + number).into()];
    service.ip_families = vec![IpFamily::V4];
    service.ports = vec![ServicePort::new("t", Protocol::Tcp, 80)];
    service
}

/// Its endpoints: the last of them another one in odd rounds.
pub(super) fn silent_slice(number: u32, round: u32, endpoints: u32) -> EndpointSlice {
    let last = endpoints.saturating_sub(1);
    let endpoint = |index: u32| {
        let index = match index == last {
            true => SILENT_ENDPOINTS + 2 + round % 2,
            false => index,
        };
        let address = FIRST_ENDPOINT + number * 8 + index;
        (Ipv4Addr::from(address), ["n1", "n2"][(index % 2) as usize])
    };
    let ports = vec![("t".to_owned(), Protocol::Tcp, 80)];
    slice(
        &silent_name(number),
        ports,
        (0..endpoints).map(endpoint).collect(),
    )
}

fn silent_name(number: u32) -> String {
    format!("silent-{number}")
}

fn slice(
    service: &str,
    ports: Vec<(String, Protocol, u16)>,
    endpoints: Vec<(Ipv4Addr, &str)>,
) -> EndpointSlice {
    let port = |(name, protocol, port): (String, Protocol, u16)| EndpointPort {
        name: name.into(),
        protocol,
        port,
        app_protocol: None,
    };
    let endpoint = |(address, node): (Ipv4Addr, &str)| SliceEndpoint {
        node: Some(node.into()),
        ..SliceEndpoint::new(address.into(), Conditions::READY)
    };
    let name = NamespacedName::new(NAMESPACE, service);
    EndpointSlice {
        ports: ports.into_iter().map(port).collect(),
        endpoints: endpoints.into_iter().map(endpoint).collect(),
        ..EndpointSlice::of_service(&name, format!("{service}-1"), IpFamily::V4)
    }
}

pub(super) fn applied(service: Service) -> Event {
    Event::Service(WatchEvent::Apply(service))
}

pub(super) fn changed(slice: EndpointSlice) -> Event {
    Event::EndpointSlice(WatchEvent::Apply(slice))
}

/// What a cluster tells when a Service goes.
pub(super) fn gone(number: u32) -> [Event; 2] {
    let service = NamespacedName::new(NAMESPACE, silent_name(number));
    let slice = NamespacedName::new(NAMESPACE, format!("{}-1", silent_name(number)));
    [
        Event::Service(WatchEvent::Delete(service)),
        Event::EndpointSlice(WatchEvent::Delete(slice)),
    ]
}

/// The port of Services.
pub(super) fn port(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => 80,
        Transport::Udp => 53,
        Transport::Sctp => 60,
    }
}

/// Those that every kernel has.
pub(super) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];
/// Where the servers are: address and node.
pub(super) const PODS: [([u8; 4], &str); 5] = [
    ([10, 64, 1, 1], "n1"),
    ([10, 64, 1, 2], "n1"),
    ([10, 64, 2, 1], "n2"),
    ([10, 64, 1, 3], "n1"),
    ([10, 64, 2, 2], "n2"),
];
/// Endpoints of a silent Service.
pub(super) const SILENT_ENDPOINTS: u32 = 3;
const NAMESPACE: &str = "demo";
/// 10.96.1.0.
const FIRST_CLUSTER_IP: u32 = 0x0a60_0100;
/// 10.65.0.0.
const FIRST_ENDPOINT: u32 = 0x0a41_0000;
