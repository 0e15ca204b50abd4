//! Objects, configurations and histories with frequent collisions.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use super::source::Source;
use crate::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol};
use crate::node_plan::NodeConfig;
use crate::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Hints, IngressIp, IpMode, Node,
    Service, ServiceCidr, ServicePort, ServiceType, SliceEndpoint, TargetPort, TrafficPolicy,
};
use crate::state::{ClusterState, Event, WatchEvent};

/// What happens to a [`crate::Planner`], in order.
#[derive(Clone, Debug)]
pub struct History {
    /// The configuration at the start.
    pub config: NodeConfig,
    /// What follows.
    pub steps: Vec<Step>,
}

/// One step of a [`History`].
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // Built in tests only.
pub enum Step {
    /// An event arrives.
    Event(Event),
    /// The plans are brought up to date.
    Delta,
    /// The configuration changes.
    Configure(NodeConfig),
}

impl History {
    /// The objects after all steps.
    pub fn state(&self) -> ClusterState {
        let mut state = ClusterState::new();
        for step in &self.steps {
            if let Step::Event(event) = step {
                state.apply(event.clone());
            }
        }
        state
    }

    /// The configuration after all steps.
    pub fn last_config(&self) -> NodeConfig {
        let configs = self.steps.iter().rev().find_map(|step| match step {
            Step::Configure(config) => Some(config),
            Step::Event(_) | Step::Delta => None,
        });
        configs.unwrap_or(&self.config).clone()
    }
}

const NAMES: [&str; 7] = ["web", "db", "a", "web-1", "cache", "", "b/web:http"];
const PORT_NAMES: [&str; 5] = ["", "http", "dns", "http2", "a b\"c"];
const NODES: [&str; 4] = ["n1", "n2", "n3", ""];
const ZONES: [&str; 3] = ["za", "zb", ""];
const PORTS: [u16; 6] = [80, 53, 443, 30080, 1, 65535];
const NODE_PORTS: [u16; 4] = [30080, 30053, 80, 65535];
const TARGET_PORTS: [u16; 4] = [8080, 80, 53, 65535];

pub(super) const CLUSTER_IPS: [&str; 6] = [
    "10.96.0.1",
    "fd10:96::1",
    "10.96.0.2",
    "fd10:96::2",
    "10.96.0.3",
    "192.0.2.1",
];
pub(super) const EXTERNAL_IPS: [&str; 10] = [
    "192.0.2.1",
    "2001:db8:f::1",
    "192.0.2.2",
    "2001:db8:f::2",
    "198.18.0.10",
    "2001:db8:a::10",
    "10.96.0.2",
    "10.64.1.1",
    "198.18.1.10",
    "fd10:96::2",
];
/// Addresses that no API server accepts in most places.
const STRANGE_IPS: [&str; 5] = ["127.0.0.1", "::1", "0.0.0.0", "169.254.0.1", "ff02::1"];
pub(super) const ENDPOINT_IPS: [&str; 9] = [
    "10.64.1.1",
    "fd10:64:0:1::1",
    "10.64.2.1",
    "fd10:64:0:2::1",
    "10.64.1.2",
    "10.64.1.10",
    "198.18.0.10",
    "2001:db8:a::10",
    "10.96.0.1",
];
const NODE_IPS: [&str; 5] = [
    "198.18.0.10",
    "2001:db8:a::10",
    "198.18.1.10",
    "2001:db8:b::10",
    "192.0.2.2",
];
const RANGES: [&str; 9] = [
    "203.0.113.0/25",
    "2001:db8:c::/64",
    "198.18.0.0/24",
    "2001:db8:a::/64",
    "10.64.0.0/16",
    "203.0.113.7/32",
    "203.0.113.0/24",
    "0.0.0.0/0",
    "::/0",
];
const SERVICE_CIDRS: [&str; 5] = [
    "10.96.0.0/24",
    "fd10:96::/112",
    "10.96.0.0/16",
    "10.97.0.0/16",
    "fd10:97::/112",
];

fn text(source: &mut Source<'_>, list: &[&str]) -> Name {
    match source.chance(1) {
        // Longer than every limit of the API, and not ASCII.
        true => Name::from(String::from("é\u{0}\n").repeat(100).as_str()),
        false => source.pick(list).into(),
    }
}

/// An address of a list, rarely a strange one.
fn ip(source: &mut Source<'_>, list: &[&str]) -> IpAddr {
    let text = match source.chance(2) {
        true => source.pick(&STRANGE_IPS),
        false => source.pick(list),
    };
    text.parse().unwrap_or(IpAddr::from([0; 4]))
}

fn net(source: &mut Source<'_>, list: &[&str]) -> IpNet {
    source.pick(list).parse().unwrap_or_default()
}

fn protocol(source: &mut Source<'_>) -> Protocol {
    source.pick(&Protocol::ALL)
}

fn policy(source: &mut Source<'_>) -> TrafficPolicy {
    source.pick(&[TrafficPolicy::Cluster, TrafficPolicy::Local])
}

fn namespaced(source: &mut Source<'_>) -> NamespacedName {
    let namespace = source.pick(&["default", "default", "a", "a/b"]);
    NamespacedName::new(namespace, text(source, &NAMES))
}

/// A Service.
pub fn service(source: &mut Source<'_>) -> Service {
    let mut service = Service::named(namespaced(source));
    service.service_type = source.pick(&[
        ServiceType::ClusterIp,
        ServiceType::NodePort,
        ServiceType::LoadBalancer,
        ServiceType::LoadBalancer,
        ServiceType::NodePort,
        ServiceType::ExternalName,
    ]);
    service.cluster_ips = (0..1 + source.below(2))
        .map(|_| ip(source, &CLUSTER_IPS))
        .collect();
    service.ip_families = service
        .cluster_ips
        .iter()
        .map(|ip| IpFamily::of(*ip))
        .collect();
    service.ports = (0..=source.below(3))
        .map(|_| service_port(source))
        .collect();
    service.internal_traffic_policy = policy(source);
    service.external_traffic_policy = policy(source);
    service.external_ips = source.several(2, |source| ip(source, &EXTERNAL_IPS));
    service.ingress = source.several(2, |source| IngressIp {
        ip: ip(source, &EXTERNAL_IPS),
        mode: source.pick(&[IpMode::Vip, IpMode::Vip, IpMode::Proxy]),
    });
    service.load_balancer_source_ranges = source.several(2, |source| net(source, &RANGES));
    service.client_ip_affinity_seconds =
        source.pick(&[None, Some(10800), Some(1), Some(u32::MAX), Some(0)]);
    service.health_check_node_port = source.pick(&[Some(30900), None, Some(30080)]);
    service.created = source.pick(&[0, 1, 2, i64::MIN]);
    oddities(source, &mut service);
    service
}

fn oddities(source: &mut Source<'_>, service: &mut Service) {
    if source.chance(5) {
        service.headless = true;
    }
    if source.chance(5) {
        service.service_proxy_name = true;
    }
    if source.chance(5) {
        service.ip_families.reverse();
    }
    if source.chance(5) {
        service.ip_families.clear();
    }
    if source.chance(3) {
        service.cluster_ips.clear();
    }
    if source.chance(5) {
        service.ports.clear();
    }
    // What planning does not read.
    service.publish_not_ready_addresses = source.chance(20);
}

fn service_port(source: &mut Source<'_>) -> ServicePort {
    ServicePort {
        name: text(source, &PORT_NAMES),
        protocol: protocol(source),
        port: source.pick(&PORTS),
        target_port: TargetPort::Number(source.pick(&TARGET_PORTS)),
        node_port: match source.chance(50) {
            true => Some(source.pick(&NODE_PORTS)),
            false => None,
        },
        app_protocol: None,
    }
}

/// An EndpointSlice, most likely of a Service that [`service`] may make.
pub fn endpoint_slice(source: &mut Source<'_>) -> EndpointSlice {
    let service = namespaced(source);
    let name = source.pick(&["s1", "s2", "s3"]);
    let name = match source.chance(30) {
        true => Name::from(name),
        false => Name::from(alloc::format!("{}-{name}", service.name).as_str()),
    };
    let ports = source.several(3, |source| EndpointPort {
        name: text(source, &PORT_NAMES),
        protocol: protocol(source),
        port: source.pick(&TARGET_PORTS),
        app_protocol: None,
    });
    let family = source.pick(&IpFamily::ALL);
    let endpoints = endpoints(source, family);
    EndpointSlice {
        name: NamespacedName {
            namespace: service.namespace,
            name,
        },
        service: service.name,
        family,
        ports: ports.into(),
        endpoints: endpoints.into(),
        headless: source.chance(3),
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

fn endpoints(source: &mut Source<'_>, family: IpFamily) -> Vec<SliceEndpoint> {
    let mut endpoints = source.several(5, |source| slice_endpoint(source, family));
    endpoints.retain(|endpoint| IpFamily::of(endpoint.address) == family);
    endpoints
}

fn slice_endpoint(source: &mut Source<'_>, family: IpFamily) -> SliceEndpoint {
    let own = ENDPOINT_IPS
        .into_iter()
        .filter(|ip| ip.contains(':') == (family == IpFamily::V6));
    let address = ip(source, &own.collect::<Vec<_>>());
    let conditions = match source.chance(60) {
        true => Conditions::READY,
        false => Conditions {
            ready: source.chance(30),
            serving: source.chance(50),
            terminating: source.chance(50),
        },
    };
    let extra = source.chance(50).then(|| EndpointExtra {
        hints: Hints {
            zones: source
                .several(2, |source| Name::from(source.pick(&ZONES)))
                .into(),
            nodes: source
                .several(2, |source| Name::from(source.pick(&NODES)))
                .into(),
        },
        pod: source.chance(50).then(|| Name::from("pod")),
        ..EndpointExtra::default()
    });
    SliceEndpoint {
        address,
        conditions,
        node: source.chance(80).then(|| Name::from(source.pick(&NODES))),
        extra: extra.map(Arc::new),
    }
}

/// A Node, often the planned one.
pub fn node(source: &mut Source<'_>) -> Node {
    let mut node = Node::named(source.pick(&["n1", "n1", "n2"]));
    node.addresses = source.several(4, |source| ip(source, &NODE_IPS));
    node.pod_cidrs = source.several(2, |source| {
        net(
            source,
            &["10.64.1.0/24", "fd10:64:0:1::/64", "10.64.2.0/24"],
        )
    });
    node.zone = source.pick(&[None, Some("za"), Some("zb")]).map(Name::from);
    node
}

/// A ServiceCIDR.
pub fn service_cidr(source: &mut Source<'_>) -> ServiceCidr {
    ServiceCidr {
        name: source.pick(&["kubernetes", "more"]).into(),
        cidrs: source.several(2, |source| net(source, &SERVICE_CIDRS)),
        ready: true,
        terminating: false,
    }
}

/// A configuration of node `n1`, of any mode.
pub fn config(source: &mut Source<'_>) -> NodeConfig {
    let mode = source.pick(&[ProxyMode::Nftables, ProxyMode::Iptables, ProxyMode::Ipvs]);
    let mut proxy = ProxyConfig::default_for(mode);
    let cluster = |texts: &[&str]| {
        let nets = texts.iter().filter_map(|text| text.parse().ok());
        LocalDetection::ClusterCidr(nets.collect())
    };
    proxy.detect_local = match source.below(8) {
        0 | 1 => cluster(&["10.64.0.0/11", "fd10:64::/48"]),
        2 => cluster(&["10.64.1.0/24"]),
        3 => LocalDetection::NodeCidr,
        4 => LocalDetection::BridgeInterface("cbr0".into()),
        5 => LocalDetection::InterfaceNamePrefix("veth".into()),
        _ => LocalDetection::None,
    };
    proxy.node_port_addresses = match source.below(6) {
        0 | 1 => NodePortAddresses::Default,
        2 => NodePortAddresses::Primary,
        _ => NodePortAddresses::Cidrs(source.several(2, |source| {
            net(
                source,
                &[
                    "198.18.0.0/24",
                    "2001:db8:a::/64",
                    "127.0.0.0/8",
                    "0.0.0.0/0",
                    "192.0.2.0/24",
                ],
            )
        })),
    };
    proxy.masquerade_all = source.chance(15);
    proxy.localhost_node_ports = !source.chance(40);
    if source.chance(10) {
        proxy.bind_address = ip(source, &NODE_IPS);
    }
    let name = if source.chance(3) { "" } else { "n1" };
    let mut config = NodeConfig::new(name, proxy);
    config.local_addresses = source.several(2, |source| ip(source, &NODE_IPS));
    if source.chance(5) {
        let allowed = ["192.0.2.0/24", "2001:db8:f::/64", "10.96.0.0/16"];
        config.external_addresses = Some(source.several(2, |source| net(source, &allowed)));
    }
    config
}

/// A history: the first lists in some order, then changes, until the bytes run out.
pub fn history(source: &mut Source<'_>) -> History {
    let config = config(source);
    let mut steps = Vec::new();
    let mut known = Known::default();
    let lists: &mut [fn(&mut Source<'_>, &mut Known) -> Vec<Event>] =
        &mut [list_nodes, list_services, list_slices];
    let turn = source.below(lists.len());
    lists.rotate_left(turn);
    for list in lists {
        steps.extend(list(source, &mut known).into_iter().map(Step::Event));
        if source.chance(20) {
            steps.push(Step::Delta);
        }
    }
    while !source.is_empty() {
        step(source, &mut known, &mut steps);
    }
    steps.push(Step::Delta);
    History { config, steps }
}

/// Objects that exist, so that changes find something to change.
#[derive(Default)]
struct Known {
    services: Vec<Service>,
    slices: Vec<EndpointSlice>,
}

fn step(source: &mut Source<'_>, known: &mut Known, steps: &mut Vec<Step>) {
    let event = |event| Step::Event(event);
    match source.below(24) {
        0..=6 => steps.push(event(Event::EndpointSlice(apply_slice(source, known)))),
        7..=12 => steps.push(event(Event::Service(apply_service(source, known)))),
        13..=17 => steps.push(Step::Delta),
        18 => steps.push(event(Event::Service(delete_service(source, known)))),
        19 => steps.push(event(Event::EndpointSlice(delete_slice(source, known)))),
        20 => steps.push(event(Event::Node(match source.chance(20) {
            true => WatchEvent::Delete("n1".into()),
            false => WatchEvent::Apply(node(source)),
        }))),
        21 => steps.push(event(Event::ServiceCidr(match source.chance(30) {
            true => WatchEvent::Delete("kubernetes".into()),
            false => WatchEvent::Apply(service_cidr(source)),
        }))),
        22 => {
            let events = match source.below(3) {
                0 => list_services(source, known),
                1 => list_slices(source, known),
                _ => list_nodes(source, known),
            };
            steps.extend(events.into_iter().map(event));
        }
        _ => steps.push(Step::Configure(config(source))),
    }
}

fn apply_service(
    source: &mut Source<'_>,
    known: &mut Known,
) -> WatchEvent<Service, NamespacedName> {
    let mut fresh = service(source);
    if !known.services.is_empty() && source.chance(40) {
        let old = source.pick(&known.services);
        fresh = Service {
            name: old.name.clone(),
            ..match source.below(3) {
                0 => old,
                1 => Service {
                    ports: fresh.ports,
                    ..old
                },
                _ => fresh,
            }
        };
    }
    known.services.retain(|old| old.name != fresh.name);
    known.services.push(fresh.clone());
    WatchEvent::Apply(fresh)
}

fn apply_slice(
    source: &mut Source<'_>,
    known: &mut Known,
) -> WatchEvent<EndpointSlice, NamespacedName> {
    let mut fresh = slice_of_service(source, known);
    if !known.slices.is_empty() && source.chance(40) {
        let old = source.pick(&known.slices);
        fresh = EndpointSlice {
            name: old.name.clone(),
            ..match source.below(3) {
                0 => old,
                1 => EndpointSlice {
                    endpoints: fresh.endpoints,
                    family: fresh.family,
                    ..old
                },
                // The label names another Service.
                _ => fresh,
            }
        };
    }
    known.slices.retain(|old| old.name != fresh.name);
    known.slices.push(fresh.clone());
    WatchEvent::Apply(fresh)
}

/// A slice whose ports are mostly those of a Service that exists.
fn slice_of_service(source: &mut Source<'_>, known: &Known) -> EndpointSlice {
    let mut slice = endpoint_slice(source);
    if known.services.is_empty() || source.chance(10) {
        return slice;
    }
    let service = source.pick(&known.services);
    slice.name.namespace.clone_from(&service.name.namespace);
    slice.service.clone_from(&service.name.name);
    if !service.ip_families.is_empty() {
        slice.family = source.pick(&service.ip_families);
        slice.endpoints = endpoints(source, slice.family).into();
    }
    let ports: Vec<EndpointPort> = service
        .ports
        .iter()
        .map(|port| EndpointPort {
            name: port.name.clone(),
            protocol: port.protocol,
            port: source.pick(&TARGET_PORTS),
            app_protocol: None,
        })
        .collect();
    if !source.chance(10) {
        slice.ports = Box::from(ports);
    }
    slice
}

fn delete_service(
    source: &mut Source<'_>,
    known: &mut Known,
) -> WatchEvent<Service, NamespacedName> {
    let name = match known.services.is_empty() || source.chance(10) {
        true => namespaced(source),
        false => source.pick(&known.services).name,
    };
    known.services.retain(|old| old.name != name);
    WatchEvent::Delete(name)
}

fn delete_slice(
    source: &mut Source<'_>,
    known: &mut Known,
) -> WatchEvent<EndpointSlice, NamespacedName> {
    let name = match known.slices.is_empty() || source.chance(10) {
        true => namespaced(source),
        false => source.pick(&known.slices).name,
    };
    known.slices.retain(|old| old.name != name);
    WatchEvent::Delete(name)
}

fn list_services(source: &mut Source<'_>, known: &mut Known) -> Vec<Event> {
    known.services.retain(|_| !source.chance(20));
    let mut listed = known.services.clone();
    for _ in 0..source.below(4) {
        if let WatchEvent::Apply(service) = apply_service(source, known) {
            listed.retain(|old| old.name != service.name);
            listed.push(service);
        }
    }
    list(source, listed)
        .into_iter()
        .map(Event::Service)
        .collect()
}

fn list_slices(source: &mut Source<'_>, known: &mut Known) -> Vec<Event> {
    known.slices.retain(|_| !source.chance(20));
    let mut listed = known.slices.clone();
    for _ in 0..source.below(5) {
        if let WatchEvent::Apply(slice) = apply_slice(source, known) {
            listed.retain(|old| old.name != slice.name);
            listed.push(slice);
        }
    }
    list(source, listed)
        .into_iter()
        .map(Event::EndpointSlice)
        .collect()
}

fn list_nodes(source: &mut Source<'_>, _: &mut Known) -> Vec<Event> {
    let mut nodes = source.several(2, node);
    nodes.sort_by(|a, b| a.name.cmp(&b.name));
    nodes.dedup_by(|a, b| a.name == b.name);
    let cidrs = source.several(1, service_cidr);
    let nodes = list(source, nodes).into_iter().map(Event::Node);
    nodes
        .chain(list(source, cidrs).into_iter().map(Event::ServiceCidr))
        .collect()
}

fn list<T, K>(source: &mut Source<'_>, objects: Vec<T>) -> Vec<WatchEvent<T, K>> {
    let mut events = Vec::from([WatchEvent::Init]);
    events.extend(objects.into_iter().map(WatchEvent::InitApply));
    // A list that breaks off and starts again.
    if !source.chance(5) {
        events.push(WatchEvent::InitDone);
    }
    events
}
