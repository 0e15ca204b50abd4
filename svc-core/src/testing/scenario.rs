//! A cluster in a few words a line.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::IpNet;

use crate::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, Protocol, parse_cidr, parse_ip};
use crate::node_plan::NodeConfig;
use crate::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, Hints, IngressIp, IpMode, Node,
    Service, ServiceCidr, ServicePort, ServiceType, SliceEndpoint, TargetPort, TrafficPolicy,
};
use crate::plan::Plan;
use crate::planner::Planner;
use crate::state::{ClusterState, Event, WatchEvent};

/// The objects of a cluster and the configuration of one of its nodes, read from text.
///
/// One object a line; `#` starts a comment. The first word is the kind:
///
/// ```text
/// config mode=nftables cluster-cidr=10.64.0.0/11   # of the planned node, n1
/// node n1 198.18.0.10 2001:db8:a::10 zone=za pods=10.64.1.0/24
/// cidr 10.96.0.0/16                                # a ServiceCIDR
/// service web type=NodePort ip=10.96.0.1 port=http:80/tcp@30080 etp=Local
/// slice web-1 web port=http:8080 10.64.1.1@n1 10.64.2.1@n2!terminating+za~n2
/// ```
///
/// - `config`: `node=`, `mode=`, `cluster-cidr=` (repeatable), `node-cidr`, `bridge=`, `prefix=`,
///   `masquerade-all`, `no-localhost`, `bind=`, `local=` (an address of the host), and
///   `node-ports=` a prefix (repeatable) or `primary`.
/// - `service [NAMESPACE/]NAME`: `type=`, `ip=`, `port=[NAME:]PORT[/PROTOCOL][@NODEPORT]`,
///   `external=`, `vip=`, `proxied=` (ipMode Proxy), `range=`, `itp=`, `etp=`, `affinity=`,
///   `health=`, `created=`, `families=IPv4,IPv6` (else those of the addresses), `headless`,
///   `other-proxy`.
/// - `slice [NAMESPACE/]NAME SERVICE`: `port=[NAME:]PORT[/PROTOCOL]`, `headless`, `family=` (else
///   that of the endpoints), and endpoints `IP[@NODE][!STATE][+ZONES][~NODES]` with the states
///   `unready`, `serving` (unready, but serving), `terminating` (serving), `dead` (terminating,
///   not serving).
///
/// ```
/// use svc_core::testing::{Scenario, parse_flow};
/// use svc_core::IpFamily;
///
/// let scenario: Scenario = "
///     service web ip=10.96.0.1 port=80
///     slice web-1 web port=8080 10.64.1.1@n1
/// ".parse()?;
/// let plan = scenario.plan(IpFamily::V4);
/// let flow = parse_flow("10.64.1.9 -> 10.96.0.1:80/tcp")?;
/// assert_eq!(plan.route(&flow).to_string(), "forward 10.64.1.1:8080");
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The planned node.
    pub config: NodeConfig,
    /// Its Nodes, in the order of the text.
    pub nodes: Vec<Node>,
    /// Its ServiceCIDRs.
    pub service_cidrs: Vec<ServiceCidr>,
    /// Its Services.
    pub services: Vec<Service>,
    /// Its EndpointSlices.
    pub slices: Vec<EndpointSlice>,
}

impl Scenario {
    /// A complete list of every kind.
    pub fn events(&self) -> Vec<Event> {
        fn list<T: Clone, K>(objects: &[T], event: fn(WatchEvent<T, K>) -> Event) -> Vec<Event> {
            let mut events = Vec::from([event(WatchEvent::Init)]);
            let objects = objects.iter().cloned();
            events.extend(objects.map(|object| event(WatchEvent::InitApply(object))));
            events.push(event(WatchEvent::InitDone));
            events
        }
        [
            list(&self.nodes, Event::Node),
            list(&self.service_cidrs, Event::ServiceCidr),
            list(&self.services, Event::Service),
            list(&self.slices, Event::EndpointSlice),
        ]
        .concat()
    }

    /// The objects, as a complete watch leaves them.
    pub fn state(&self) -> ClusterState {
        let mut state = ClusterState::new();
        for event in self.events() {
            state.apply(event);
        }
        state
    }

    /// The plan of a family.
    pub fn plan(&self, family: IpFamily) -> Plan {
        Plan::compute(&self.state(), &self.config, family)
    }

    /// A planner that has seen everything and was asked for no delta yet.
    pub fn planner(&self) -> Planner {
        let mut planner = Planner::new(self.config.clone());
        for event in self.events() {
            planner.handle(event);
        }
        planner
    }

    /// The events that turn this cluster into another, deletions last.
    pub fn changes_to(&self, other: &Self) -> Vec<Event> {
        let services = other.services.iter().cloned().map(WatchEvent::Apply);
        let mut events: Vec<Event> = services.map(Event::Service).collect();
        let slices = other.slices.iter().cloned().map(WatchEvent::Apply);
        events.extend(slices.map(Event::EndpointSlice));
        let nodes = other.nodes.iter().cloned().map(WatchEvent::Apply);
        events.extend(nodes.map(Event::Node));
        let cidrs = other.service_cidrs.iter().cloned().map(WatchEvent::Apply);
        events.extend(cidrs.map(Event::ServiceCidr));
        for old in &self.services {
            if other.services.iter().all(|new| new.name != old.name) {
                events.push(Event::Service(WatchEvent::Delete(old.name.clone())));
            }
        }
        for old in &self.slices {
            if other.slices.iter().all(|new| new.name != old.name) {
                events.push(Event::EndpointSlice(WatchEvent::Delete(old.name.clone())));
            }
        }
        for old in &self.nodes {
            if other.nodes.iter().all(|new| new.name != old.name) {
                events.push(Event::Node(WatchEvent::Delete(old.name.clone())));
            }
        }
        events
    }
}

impl FromStr for Scenario {
    type Err = String;

    /// # Errors
    ///
    /// The line and word that cannot be read.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut scenario = Self {
            config: NodeConfig::new("n1", ProxyConfig::default_for(ProxyMode::Nftables)),
            nodes: Vec::new(),
            service_cidrs: Vec::new(),
            services: Vec::new(),
            slices: Vec::new(),
        };
        for (number, line) in text.lines().enumerate() {
            let line = line.split_once('#').map_or(line, |(line, _)| line);
            let mut words = line.split_whitespace();
            let Some(kind) = words.next() else { continue };
            let words: Vec<&str> = words.collect();
            let read = match kind {
                "config" => read_config(&mut scenario.config, &words),
                "node" => read_node(&words).map(|node| scenario.nodes.push(node)),
                "cidr" => read_cidr(&words).map(|cidr| scenario.service_cidrs.push(cidr)),
                "service" => read_service(&words).map(|s| scenario.services.push(s)),
                "slice" => read_slice(&words).map(|slice| scenario.slices.push(slice)),
                other => Err(format!("no kind {other:?}")),
            };
            read.map_err(|error| format!("line {}: {error}", number + 1))?;
        }
        Ok(scenario)
    }
}

/// `key=value`, or a key alone.
fn pair(word: &str) -> (&str, &str) {
    word.split_once('=').unwrap_or((word, ""))
}

fn read<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("cannot read {text:?}"))
}

fn read_ip(text: &str) -> Result<IpAddr, String> {
    parse_ip(text).ok_or_else(|| format!("no address: {text:?}"))
}

fn read_net(text: &str) -> Result<IpNet, String> {
    parse_cidr(text).ok_or_else(|| format!("no prefix: {text:?}"))
}

fn read_name(words: &[&str], at: usize) -> Result<NamespacedName, String> {
    let word = words.get(at).ok_or("a name is missing")?;
    let (namespace, name) = word.split_once('/').unwrap_or(("", word));
    Ok(NamespacedName::new(namespace, name))
}

fn read_config(config: &mut NodeConfig, words: &[&str]) -> Result<(), String> {
    let (mut cluster_cidrs, mut node_ports) = (Vec::new(), Vec::new());
    for word in words {
        let proxy = &mut config.proxy;
        match pair(word) {
            ("node", name) => config.name = name.into(),
            ("mode", mode) => {
                let mut modes = ProxyMode::ALL.into_iter();
                let mode = modes.find(|known| known.name() == mode);
                proxy.mode = mode.ok_or_else(|| format!("no mode: {word}"))?;
            }
            ("cluster-cidr", net) => cluster_cidrs.push(read_net(net)?),
            ("node-cidr", _) => proxy.detect_local = LocalDetection::NodeCidr,
            ("bridge", name) => proxy.detect_local = LocalDetection::BridgeInterface(name.into()),
            ("prefix", name) => {
                proxy.detect_local = LocalDetection::InterfaceNamePrefix(name.into());
            }
            ("masquerade-all", _) => proxy.masquerade_all = true,
            ("no-localhost", _) => proxy.localhost_node_ports = false,
            ("bind", ip) => proxy.bind_address = read_ip(ip)?,
            ("local", ip) => config.local_addresses.push(read_ip(ip)?),
            ("node-ports", "primary") => proxy.node_port_addresses = NodePortAddresses::Primary,
            ("node-ports", net) => node_ports.push(read_net(net)?),
            _ => return Err(format!("no such word: {word}")),
        }
    }
    if !cluster_cidrs.is_empty() {
        config.proxy.detect_local = LocalDetection::ClusterCidr(cluster_cidrs);
    }
    if !node_ports.is_empty() {
        config.proxy.node_port_addresses = NodePortAddresses::Cidrs(node_ports);
    }
    Ok(())
}

fn read_node(words: &[&str]) -> Result<Node, String> {
    let mut node = Node::named(*words.first().ok_or("a name is missing")?);
    for word in words.iter().skip(1) {
        match pair(word) {
            ("zone", zone) => node.zone = Some(zone.into()),
            ("pods", net) => node.pod_cidrs.push(read_net(net)?),
            _ => node.addresses.push(read_ip(word)?),
        }
    }
    Ok(node)
}

fn read_cidr(words: &[&str]) -> Result<ServiceCidr, String> {
    let cidrs: Result<Vec<IpNet>, String> = words.iter().map(|word| read_net(word)).collect();
    Ok(ServiceCidr {
        name: words.join(",").as_str().into(),
        cidrs: cidrs?,
        ready: true,
        terminating: false,
    })
}

fn read_service(words: &[&str]) -> Result<Service, String> {
    let mut service = Service::named(read_name(words, 0)?);
    let mut families = None;
    for word in words.iter().skip(1) {
        match pair(word) {
            ("type", kind) => service.service_type = read_type(kind)?,
            ("ip", ip) => service.cluster_ips.push(read_ip(ip)?),
            ("port", port) => service.ports.push(read_service_port(port)?),
            ("external", ip) => service.external_ips.push(read_ip(ip)?),
            ("vip", ip) => service.ingress.push(read_ingress(ip, IpMode::Vip)?),
            ("proxied", ip) => service.ingress.push(read_ingress(ip, IpMode::Proxy)?),
            ("range", net) => service.load_balancer_source_ranges.push(read_net(net)?),
            ("itp", policy) => service.internal_traffic_policy = read_policy(policy)?,
            ("etp", policy) => service.external_traffic_policy = read_policy(policy)?,
            ("affinity", seconds) => service.client_ip_affinity_seconds = Some(read(seconds)?),
            ("health", port) => service.health_check_node_port = Some(read(port)?),
            ("created", at) => service.created = read(at)?,
            ("families", list) => {
                let list = list.split(',').filter(|word| !word.is_empty());
                families = Some(list.map(read_family).collect::<Result<Vec<_>, _>>()?);
            }
            ("headless", _) => service.headless = true,
            ("other-proxy", _) => service.service_proxy_name = true,
            _ => return Err(format!("no such word: {word}")),
        }
    }
    let ips = service.cluster_ips.iter();
    let own = || ips.map(|ip| IpFamily::of(*ip)).collect();
    service.ip_families = families.unwrap_or_else(own);
    Ok(service)
}

fn read_type(text: &str) -> Result<ServiceType, String> {
    match text {
        "ClusterIP" => Ok(ServiceType::ClusterIp),
        "NodePort" => Ok(ServiceType::NodePort),
        "LoadBalancer" => Ok(ServiceType::LoadBalancer),
        "ExternalName" => Ok(ServiceType::ExternalName),
        other => Err(format!("no type: {other:?}")),
    }
}

fn read_policy(text: &str) -> Result<TrafficPolicy, String> {
    match text {
        "Cluster" => Ok(TrafficPolicy::Cluster),
        "Local" => Ok(TrafficPolicy::Local),
        other => Err(format!("no policy: {other:?}")),
    }
}

fn read_family(text: &str) -> Result<IpFamily, String> {
    let mut families = IpFamily::ALL.into_iter();
    let found = families.find(|family| family.to_string() == text);
    found.ok_or_else(|| format!("no family: {text:?}"))
}

fn read_ingress(ip: &str, mode: IpMode) -> Result<IngressIp, String> {
    let ip = read_ip(ip)?;
    Ok(IngressIp { ip, mode })
}

/// `[NAME:]PORT[/PROTOCOL]`.
fn read_port(text: &str) -> Result<(Name, u16, Protocol), String> {
    let (name, rest) = text.split_once(':').unwrap_or(("", text));
    let (port, protocol) = rest.split_once('/').unwrap_or((rest, "tcp"));
    Ok((name.into(), read(port)?, read(protocol)?))
}

fn read_service_port(text: &str) -> Result<ServicePort, String> {
    let (text, node_port) = match text.split_once('@') {
        Some((text, port)) => (text, Some(read(port)?)),
        None => (text, None),
    };
    let (name, port, protocol) = read_port(text)?;
    Ok(ServicePort {
        name,
        protocol,
        port,
        target_port: TargetPort::Number(port),
        node_port,
        app_protocol: None,
    })
}

fn read_slice(words: &[&str]) -> Result<EndpointSlice, String> {
    let name = read_name(words, 0)?;
    let service = read_name(words, 1)?.name;
    let (mut ports, mut endpoints) = (Vec::new(), Vec::new());
    let (mut family, mut headless) = (None, false);
    for word in words.iter().skip(2) {
        match pair(word) {
            ("port", port) => {
                let (name, port, protocol) = read_port(port)?;
                ports.push(EndpointPort {
                    name,
                    protocol,
                    port,
                    app_protocol: None,
                });
            }
            ("family", text) => family = Some(read_family(text)?),
            ("headless", _) => headless = true,
            _ => endpoints.push(read_endpoint(word)?),
        }
    }
    let own = endpoints.first().map(|first| IpFamily::of(first.address));
    Ok(EndpointSlice {
        name,
        service,
        family: family.or(own).unwrap_or(IpFamily::V4),
        ports: ports.into(),
        endpoints: endpoints.into(),
        headless,
        managed_by: None,
        labels: None,
        trigger_time: None,
    })
}

fn read_endpoint(word: &str) -> Result<SliceEndpoint, String> {
    let end = word.find(['@', '!', '+', '~']).unwrap_or(word.len());
    let (ip, mut rest) = word.split_at(end);
    let mut endpoint = SliceEndpoint::new(read_ip(ip)?, Conditions::READY);
    let mut hints = Hints::default();
    while let Some(mark) = rest.chars().next() {
        let after = &rest[mark.len_utf8()..];
        let end = after.find(['@', '!', '+', '~']).unwrap_or(after.len());
        let (value, next) = after.split_at(end);
        let names = || value.split(',').map(Name::from).collect();
        match mark {
            '@' => endpoint.node = Some(value.into()),
            '+' => hints.zones = names(),
            '~' => hints.nodes = names(),
            _ => endpoint.conditions = read_state(value)?,
        }
        rest = next;
    }
    if hints != Hints::default() {
        endpoint.extra = Some(Arc::new(EndpointExtra {
            hints,
            ..EndpointExtra::default()
        }));
    }
    Ok(endpoint)
}

fn read_state(text: &str) -> Result<Conditions, String> {
    match text {
        "unready" => Ok(Conditions::NOT_READY),
        "serving" => Ok(Conditions {
            serving: true,
            ..Conditions::NOT_READY
        }),
        "terminating" => Ok(Conditions::SERVING_TERMINATING),
        "dead" => Ok(Conditions {
            terminating: true,
            ..Conditions::NOT_READY
        }),
        other => Err("no state: ".to_owned() + other),
    }
}
