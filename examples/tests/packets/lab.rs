//! A node with a backend, and objects to give it.
#![allow(
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a trial names what it expects and fails by panicking"
)]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use backend_iptables::Variant;
use examples::cluster::{Cluster, feed};
use examples::manifest::{Manifests, Source, read_with_stdin};
use examples::packets::{Backend, BackendError, Choice, World, iptables, nftables};
use examples::sandbox::{Layout, Outcome, Transport, probe};
use svc_core::config::{LocalDetection, ProxyConfig, ProxyMode};
use svc_core::object::{Conditions, EndpointPort, EndpointSlice, Node, SliceEndpoint};
use svc_core::{
    Event, Flow, IpFamily, Masquerade, NamespacedName, NodeConfig, Planner, Protocol, Target,
    Verdict, WatchEvent,
};

/// A backend for scenarios.
pub(crate) struct UnderTest {
    pub(crate) mode: ProxyMode,
    pub(crate) open: fn() -> Result<Box<dyn Backend>, BackendError>,
}

pub(crate) const NFTABLES: UnderTest = UnderTest {
    mode: ProxyMode::Nftables,
    open: || Ok(Box::new(nftables()?)),
};

pub(crate) const IPTABLES_LEGACY: UnderTest = UnderTest {
    mode: ProxyMode::Iptables,
    open: || Ok(Box::new(iptables(Variant::Legacy)?)),
};

pub(crate) const IPTABLES_NFT: UnderTest = UnderTest {
    mode: ProxyMode::Iptables,
    open: || Ok(Box::new(iptables(Variant::Nft)?)),
};

impl UnderTest {
    /// By what long scenarios are divided: a change of iptables costs several processes.
    pub(crate) fn shorter(&self) -> u16 {
        match self.mode {
            ProxyMode::Nftables => 1,
            ProxyMode::Iptables => 5,
            // It runs on an emulated processor.
            ProxyMode::Ipvs => 10,
        }
    }

    /// What becomes of packets to addresses of the service range that no Service has, and to ports
    /// that a ClusterIP does not have (B-032, B-033).
    pub(crate) fn unserved(&self) -> [&'static str; 2] {
        match self.mode {
            ProxyMode::Nftables => ["drop", "reject"],
            ProxyMode::Iptables | ProxyMode::Ipvs => ["pass", "pass"],
        }
    }
}

/// Upper bound for an answer that comes at once on an idle machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// Those that every kernel has.
pub(crate) const TRANSPORTS: [Transport; 2] = [Transport::Tcp, Transport::Udp];

pub(crate) struct Lab {
    backend: Box<dyn Backend>,
    pub(crate) planner: Planner,
    pub(crate) world: World,
    base: Manifests,
}

impl Lab {
    /// Node n1, other nodes, a local detector and service ranges; no Services.
    pub(crate) fn new(under_test: &UnderTest) -> Self {
        let base = parse(BASE);
        let node = Node {
            addresses: Layout::default().node_addresses,
            ..base.nodes[0].clone()
        };
        let world = World::new(&node).unwrap();
        let world = world.choosing(Choice::of(under_test.mode));
        let backend = world.sandbox().node().run(under_test.open).unwrap();
        let proxy = ProxyConfig {
            detect_local: LocalDetection::ClusterCidr(
                ["10.64.0.0/11", "fd10:64::/48"]
                    .map(|cidr| cidr.parse().unwrap())
                    .to_vec(),
            ),
            ..ProxyConfig::default_for(under_test.mode)
        };
        let mut lab = Self {
            backend: backend.unwrap(),
            planner: Planner::new(NodeConfig::new("n1", proxy)),
            world,
            base: Manifests {
                nodes: [vec![node], base.nodes[1..].to_vec()].concat(),
                ..base
            },
        };
        lab.apply("", &[]);
        lab
    }

    /// Replaces all Services and slices, and forgets connections.
    pub(crate) fn apply(&mut self, services: &str, slices: &[EndpointSlice]) {
        self.replace(services, slices);
        self.forget_connections();
    }

    /// Replaces all Services and slices while connections last.
    pub(crate) fn replace(&mut self, services: &str, slices: &[EndpointSlice]) {
        let manifests = Manifests {
            services: parse(services).services,
            endpoint_slices: slices.to_vec(),
            ..self.base.clone()
        };
        self.world.add(&manifests).unwrap();
        feed(&mut self.planner, &manifests, &Cluster::of(&manifests));
        self.sync();
    }

    /// Replaces one slice; its pods run already.
    pub(crate) fn change(&mut self, slice: EndpointSlice) {
        let event = Event::EndpointSlice(WatchEvent::Apply(slice));
        self.planner.handle(event);
        self.sync();
    }

    /// Makes sure that whoever connects makes a new connection, whatever port it takes.
    pub(crate) fn forget_connections(&self) {
        self.world.sandbox().node().forget_connections().unwrap();
    }

    fn sync(&mut self) {
        let (backend, planner) = (&mut self.backend, &mut self.planner);
        let node = self.world.sandbox().node();
        node.run(|| backend.sync(planner)).unwrap().unwrap();
    }

    /// Compares what becomes of packets with a verdict, and the verdict with the plan.
    pub(crate) fn check(&mut self, from: &str, to: SocketAddr, transport: Transport, expect: &str) {
        self.check_each(&[from], to, transport, expect);
    }

    /// The same for several sources.
    pub(crate) fn check_each(
        &mut self,
        sources: &[&str],
        to: SocketAddr,
        transport: Transport,
        expect: &str,
    ) {
        let protocol = transport.protocol();
        let flows = sources.iter().map(|from| Flow::new(ip(from), to, protocol));
        let flows: Vec<Flow> = flows.collect();
        let plan = self.planner.plan(IpFamily::of(to.ip()));
        for flow in &flows {
            assert_eq!(plan.route(flow).to_string(), expect, "the plan for {flow}");
        }
        let seen = self.world.observe_each(&flows, &verdict(expect)).unwrap();
        for (flow, seen) in flows.iter().zip(seen) {
            assert_eq!(seen.to_string(), expect, "packets of {flow}");
        }
    }

    /// Connects once and says which endpoint answered.
    pub(crate) fn reach(&mut self, from: IpAddr, to: SocketAddr, transport: Transport) -> Endpoint {
        match self.attempt(from, to, transport) {
            Outcome::Answered { pod, .. } => pod.parse().unwrap(),
            other => panic!("{from} -> {to}/{transport}: {other}"),
        }
    }

    /// Connects once.
    pub(crate) fn attempt(
        &mut self,
        from: IpAddr,
        to: SocketAddr,
        transport: Transport,
    ) -> Outcome {
        let namespace = self.world.namespace_for(from).unwrap();
        probe(namespace, Some(from), to, transport, PATIENCE).unwrap()
    }
}

/// Who answered.
pub(crate) type Endpoint = SocketAddr;

/// A slice of ready endpoints, each with its node, that serve TCP on 8080, UDP on 5353
/// and SCTP, where the kernel has it, on 6060.
pub(crate) fn slice(service: &str, endpoints: &[(&str, &str)]) -> EndpointSlice {
    let family = endpoints
        .first()
        .map_or(IpFamily::V4, |(address, _)| IpFamily::of(ip(address)));
    let port = |name: &str, protocol, port| EndpointPort {
        name: name.into(),
        protocol,
        port,
        app_protocol: None,
    };
    let endpoints = endpoints.iter().map(|(address, node)| SliceEndpoint {
        node: Some((*node).into()),
        ..SliceEndpoint::new(ip(address), Conditions::READY)
    });
    EndpointSlice {
        name: NamespacedName::new("demo", format!("{service}-{family:?}").to_lowercase()),
        service: service.into(),
        family,
        ports: [
            port("t", Protocol::Tcp, 8080),
            port("u", Protocol::Udp, 5353),
            port("s", Protocol::Sctp, 6060),
        ]
        .into(),
        endpoints: endpoints.collect(),
        headless: false,
        managed_by: None,
        labels: None,
        trigger_time: None,
    }
}

/// The port of endpoints.
pub(crate) fn target_port(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => 8080,
        Transport::Udp => 5353,
        Transport::Sctp => 6060,
    }
}

/// The port of Services.
pub(crate) fn port(transport: Transport) -> u16 {
    match transport {
        Transport::Tcp => 80,
        Transport::Udp => 53,
        Transport::Sctp => 60,
    }
}

/// `forward` to endpoints, each with `+masquerade` where it has to be, sorted.
pub(crate) fn forward(endpoints: &[&str], transport: Transport, suffix: &str) -> String {
    let target = |address: &&str| {
        let at = SocketAddr::new(ip(address), target_port(transport));
        format!(" {at}{suffix}")
    };
    let targets: String = endpoints.iter().map(target).collect();
    format!("forward{targets}")
}

pub(crate) const MASQUERADED: &str = "+masquerade";
pub(crate) const PLAIN: &str = "";

fn verdict(text: &str) -> Verdict {
    let target = |text: &str| {
        let (at, masquerade) = match text.strip_suffix(MASQUERADED) {
            Some(at) => (at, Masquerade::Always),
            None => (text, Masquerade::Never),
        };
        Target {
            endpoint: at.parse().unwrap(),
            masquerade,
        }
    };
    match text.split_once(' ') {
        Some(("forward", targets)) => Verdict::Forward(targets.split(' ').map(target).collect()),
        Some((word, _)) => panic!("{word}"),
        None => match text {
            "reject" => Verdict::Reject,
            "drop" => Verdict::Drop,
            "pass" => Verdict::Pass,
            word => panic!("{word}"),
        },
    }
}

pub(crate) fn parse(yaml: &str) -> Manifests {
    let manifests = read_with_stdin(&[Source::Stdin], &mut yaml.as_bytes());
    assert_eq!(manifests.problems, []);
    assert_eq!(manifests.diagnostics, []);
    manifests
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

const BASE: &str = r#"
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: ["10.64.1.0/24", "fd10:64:0:1::/64"]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: ["10.64.2.0/24", "fd10:64:0:2::/64"]}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: ["10.96.0.0/16", "fd10:96::/112"]}
status: {conditions: [{type: Ready, status: "True"}]}
"#;
