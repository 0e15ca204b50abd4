//! Several nodes of one cluster, each a network namespace with an agent of its own and pods; between
//! them a router, which the clients outside are at.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use std::{env, fs, process};

use examples::api_server::{ApiServer, Store, Transport as Wire};
use examples::sandbox::{
    ConnectLoop, Namespace, Outcome, Route, Server, Transport, connect_veth, probe,
};
use serde_json::{Value as Json, json};
use svc_core::IpNet;

use crate::rig::{Agent, Answer, NFTABLES, PATIENCE, get};

pub(crate) const CLIENT: &str = "203.0.113.7";
const ROUTER: &str = "198.18.0.1";
pub(crate) const NODES: [(&str, &str); 2] = [("n1", "198.18.0.10"), ("n2", "198.18.0.20")];
pub(crate) const CLUSTER_IP: &str = "10.96.0.10";
/// Long enough for an answer on a busy machine; nothing comes where none is expected.
pub(crate) const NO_ANSWER: Duration = Duration::from_millis(700);

/// Two nodes with agents, a router, an API server.
pub(crate) struct World {
    // First, so that agents end while their nodes are there.
    agents: Vec<Agent>,
    pub(crate) pods: Vec<Pod>,
    nodes: Vec<Namespace>,
    pub(crate) outside: Namespace,
    pub(crate) store: Arc<Store>,
    server: ApiServer,
    folder: PathBuf,
}

pub(crate) struct Pod {
    // First, so that its sockets are closed.
    pub(crate) server: Option<Server>,
    pub(crate) namespace: Namespace,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn host(text: &str) -> IpNet {
    IpNet::from(ip(text))
}

fn namespace(name: &str) -> Namespace {
    let namespace = Namespace::new(name).unwrap();
    namespace
        .set_sysctls(&[
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/default/rp_filter", "0"),
            ("net/ipv4/conf/all/send_redirects", "0"),
            ("net/ipv4/conf/default/send_redirects", "0"),
        ])
        .unwrap();
    namespace
}

impl World {
    pub(crate) fn new(name: &str, fill: impl FnOnce(&Store)) -> Self {
        let (store, _) = Store::new();
        for (node, address) in NODES {
            store.put("nodes", node_object(node, address));
        }
        fill(&store);
        let folder = env::temp_dir().join(format!("svc-nodes-{name}-{}", process::id()));
        fs::create_dir_all(&folder).unwrap();
        let server = ApiServer::start(&store, Wire::Plain).unwrap();
        fs::write(folder.join("kubeconfig"), server.kubeconfig()).unwrap();
        let outside = namespace("outside");
        outside.add_address("lo", host(CLIENT)).unwrap();
        let mut world = Self {
            agents: Vec::new(),
            pods: Vec::new(),
            nodes: Vec::new(),
            outside,
            store,
            server,
            folder,
        };
        for (number, (name, address)) in (1..).zip(NODES) {
            let node = world.connect_node(number, name, address);
            world.nodes.push(node);
        }
        for (node, (name, _)) in world.nodes.iter().zip(NODES) {
            let agent = world.start_agent(node, name);
            world.agents.push(agent);
        }
        world
    }

    fn connect_node(&self, number: u8, name: &str, address: &str) -> Namespace {
        let (outside, node) = (&self.outside, namespace(name));
        connect_veth((outside, name), (&node, "eth0")).unwrap();
        // The router has one address on all its links.
        outside.add_address(name, host(ROUTER)).unwrap();
        node.add_address("eth0", host(address)).unwrap();
        let out = Route::default_through(ip(ROUTER), "eth0").from_source(ip(address));
        node.add_route(&out).unwrap();
        outside
            .add_route(&Route::direct(host(address), name).from_source(ip(CLIENT)))
            .unwrap();
        let pods = format!("10.64.{number}.0/24").parse().unwrap();
        let to_pods = Route::through(pods, ip(address), name);
        outside.add_route(&to_pods).unwrap();
        node.wait_ready("eth0", &[ip(address)]).unwrap();
        // A port pair that comes again within a minute or two would still be the old connection.
        node.set_sysctls(&[
            ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
            ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        ])
        .unwrap();
        node
    }

    fn start_agent(&self, node: &Namespace, name: &str) -> Agent {
        let file = self.folder.join("kubeconfig");
        let objects = ["--kubeconfig", file.to_str().unwrap(), "--node", name];
        Agent::start_with(NFTABLES, node, &self.folder, &objects, &[])
    }

    /// Starts a pod; its name is the last part of its address, which tells the node.
    pub(crate) fn pod(&mut self, address: &str) -> usize {
        let part = |n| address.split('.').nth(n).unwrap();
        let number: usize = part(2).parse().unwrap();
        let (router, link) = (&self.nodes[number - 1], format!("pod{}", part(3)));
        let pod = namespace(address);
        connect_veth((router, &link), (&pod, "eth0")).unwrap();
        pod.add_address("eth0", host(address)).unwrap();
        router
            .add_route(&Route::direct(host(address), &*link))
            .unwrap();
        let gateway = ip(NODES[number - 1].1);
        pod.add_route(&Route::default_through(gateway, "eth0"))
            .unwrap();
        router.wait_ready(&link, &[]).unwrap();
        pod.wait_ready("eth0", &[ip(address)]).unwrap();
        let at = SocketAddr::new(ip(address), 8080);
        let server = Server::start(&pod, address, &[(Transport::Tcp, at)]).unwrap();
        self.pods.push(Pod {
            server: Some(server),
            namespace: pod,
        });
        self.pods.len() - 1
    }

    /// Waits for something, and for the agent of a node not to end before.
    pub(crate) fn until(&mut self, node: usize, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut agents = std::mem::take(&mut self.agents);
        agents[node].until(what, || holds(self).then_some(()));
        self.agents = agents;
    }

    /// Waits until what a node holds in its kernel satisfies a condition.
    pub(crate) fn until_held(&mut self, node: usize, what: &str, holds: impl Fn(&str) -> bool) {
        self.until(node, what, |world| holds(&held(&world.nodes[node])));
    }

    pub(crate) fn reach(&self, from: &Namespace, to: &str, patience: Duration) -> Outcome {
        let to = to.parse().unwrap();
        probe(from, None, to, Transport::Tcp, patience).unwrap()
    }

    /// The pod that answers a client outside, and the address that it sees.
    pub(crate) fn answered(&self, to: &str) -> (String, IpAddr) {
        let outcome = self.reach(&self.outside, to, PATIENCE);
        let Outcome::Answered {
            pod, seen_source, ..
        } = outcome
        else {
            panic!("{to}: {outcome}");
        };
        (pod, seen_source.ip())
    }

    pub(crate) fn stream(&self, from: &Namespace, to: &str) -> ConnectLoop {
        let to = to.parse().unwrap();
        ConnectLoop::start(from, None, to, Transport::Tcp, PATIENCE).unwrap()
    }

    /// What the health-check node port of a node says.
    pub(crate) fn health_check(&self, node: usize) -> Option<Answer> {
        let at = format!("{}:32100", NODES[node].1).parse().unwrap();
        self.outside.run(|| get(at, "/")).unwrap()
    }

    pub(crate) fn until_healthy(&mut self, node: usize, status: u16) {
        self.until(node, "health check", |world| {
            world
                .health_check(node)
                .is_some_and(|answer| answer.status == status)
        });
    }

    /// Waits until a pod answers a client outside.
    pub(crate) fn until_answered(&mut self, node: usize, to: &str, pod: &str) {
        self.until(node, to, |world| {
            let outcome = world.reach(&world.outside, to, NO_ANSWER);
            outcome.pod() == Some(pod)
        });
    }

    /// Waits until nobody answers, neither at a node port nor at the ClusterIP.
    pub(crate) fn until_gone(&mut self, client: usize) {
        for (node, (_, address)) in NODES.into_iter().enumerate() {
            self.until(node, "end of the node port", |world| {
                let to = format!("{address}:30080");
                let outcome = world.reach(&world.outside, &to, NO_ANSWER);
                outcome.pod().is_none()
            });
        }
        self.until(1, "end of the ClusterIP", |world| {
            let from = &world.pods[client].namespace;
            let outcome = world.reach(from, &format!("{CLUSTER_IP}:80"), NO_ANSWER);
            outcome.pod().is_none()
        });
    }

    /// Waits until a pod answers at all node ports and at the ClusterIP.
    pub(crate) fn until_served(&mut self, client: usize, pod: &str) {
        for (node, (_, address)) in NODES.into_iter().enumerate() {
            self.until_answered(node, &format!("{address}:30080"), pod);
        }
        self.until(1, "ClusterIP", |world| {
            let from = &world.pods[client].namespace;
            let outcome = world.reach(from, &format!("{CLUSTER_IP}:80"), NO_ANSWER);
            outcome.pod() == Some(pod)
        });
    }

    pub(crate) fn end(mut self) {
        self.agents.drain(..).for_each(|agent| drop(agent.stop()));
        drop(self.server);
        fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// What nft says of a node.
fn held(node: &Namespace) -> String {
    let list = || Command::new("nft").args(["list", "ruleset"]).output();
    let output = node.run(list).unwrap().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn node_object(name: &str, address: &str) -> Json {
    json!({
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    })
}

pub(crate) fn service(name: &str, ip: &str, node_port: u16, more: &Json) -> Json {
    let mut spec = json!({
        "type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
        "ports": [{
            "name": "t", "protocol": "TCP", "port": 80, "targetPort": 8080, "nodePort": node_port,
        }],
    });
    for (field, value) in more.as_object().unwrap() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": name, "namespace": "demo"}, "spec": spec})
}

pub(crate) fn slice(service: &str, ips: &[&str]) -> Json {
    let endpoint = |ip: &&str| {
        let node = format!("n{}", ip.split('.').nth(2).unwrap());
        json!({"addresses": [ip], "nodeName": node, "conditions": {"ready": true}})
    };
    json!({
        "metadata": {
            "name": format!("{service}-1"), "namespace": "demo",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "t", "protocol": "TCP", "port": 8080}],
        "endpoints": ips.iter().map(endpoint).collect::<Vec<_>>(),
    })
}
