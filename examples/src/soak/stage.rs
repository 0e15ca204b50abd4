//! Where a soak happens: a node, pods with servers, and clients that never rest.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use super::cast::{PODS, Served, TRANSPORTS, port};
use super::churn::Order;
use super::report::ClientReport;
use crate::sandbox::{ConnectLoop, Layout, PodSpec, Sandbox, Server, Transport};

/// The servers that run.
#[derive(Debug)]
pub(super) struct Servers(BTreeMap<(Served, usize), Server>);

/// The clients.
#[derive(Debug)]
pub(super) struct Clients(Vec<Client>);

#[derive(Debug)]
struct Client {
    name: String,
    /// Pods that it has to reach for the changes to matter.
    reaches: usize,
    connects: ConnectLoop,
}

/// A node with pods, and no rules.
pub(super) fn build() -> Result<Sandbox, Box<dyn Error>> {
    let mut sandbox = Sandbox::build(&Layout::default())?;
    for (address, node) in PODS {
        let ip = IpAddr::from(address);
        let spec = match node {
            "n1" => PodSpec::on_node(ip.to_string(), [ip]),
            _ => PodSpec::elsewhere(ip.to_string(), [ip]),
        };
        sandbox.add_pod(&spec)?;
    }
    for (name, address) in CLIENTS_INSIDE {
        sandbox.add_pod(&PodSpec::on_node(name, [address]))?;
    }
    sandbox.add_pod(&PodSpec::elsewhere(OUTSIDE, [CLIENT_OUTSIDE]))?;
    // A port pair that comes again within a minute or two would still be the old connection.
    sandbox.node().set_sysctls(&[
        ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
        ("net/netfilter/nf_conntrack_tcp_timeout_time_wait", "1"),
        ("net/netfilter/nf_conntrack_udp_timeout", "1"),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", "1"),
    ])?;
    Ok(sandbox)
}

impl Servers {
    /// Starts all of them.
    pub(super) fn start(sandbox: &Sandbox) -> Result<Self, Box<dyn Error>> {
        let mut servers = Self(BTreeMap::new());
        for of in Served::ALL {
            for pod in 0..PODS.len() {
                servers.obey(sandbox, Order::Start(of, pod))?;
            }
        }
        Ok(servers)
    }

    /// Starts or stops one.
    pub(super) fn obey(&mut self, sandbox: &Sandbox, order: Order) -> Result<(), Box<dyn Error>> {
        match order {
            Order::Stop(of, pod) => drop(self.0.remove(&(of, pod))),
            Order::Start(of, pod) => {
                let listens = of.listens(pod).ok_or("there is no such pod")?;
                let [(_, first), _] = listens;
                let name = first.ip().to_string();
                let running = sandbox.pod(&name).ok_or("the pod is gone")?;
                let server = Server::start(running.namespace(), &name, &listens)?;
                self.0.insert((of, pod), server);
            }
        }
        Ok(())
    }
}

impl Clients {
    /// Through the ClusterIP and the node port of the one Service, and the ClusterIP of the one with
    /// affinity; TCP and UDP each.
    pub(super) fn start(sandbox: &Sandbox) -> Result<Self, Box<dyn Error>> {
        let node = Ipv4Addr::new(198, 18, 0, 10).into();
        let mut clients = Vec::new();
        for transport in TRANSPORTS {
            let [web, sticky] = Served::ALL;
            let cluster_ip = |of: Served| SocketAddr::new(of.cluster_ip(), port(transport));
            let node_port = SocketAddr::new(node, web.node_port(transport));
            let [first, second] = CLIENTS_INSIDE;
            let targets = [
                ("ClusterIP", PODS.len(), first, cluster_ip(web)),
                (
                    "node port",
                    PODS.len(),
                    (OUTSIDE, CLIENT_OUTSIDE),
                    node_port,
                ),
                // It stays where it is until that endpoint goes.
                ("affinity", 2, second, cluster_ip(sticky)),
            ];
            for (name, reaches, from, to) in targets {
                let connects = start(sandbox, from, to, transport)?;
                let name = format!("{name} {transport}");
                clients.push(Client {
                    name,
                    reaches,
                    connects,
                });
            }
        }
        Ok(Self(clients))
    }

    /// Stops them; what each has done.
    pub(super) fn stop(self) -> Vec<ClientReport> {
        let clients = self.0.into_iter();
        let report = |client: Client| ClientReport {
            name: client.name,
            reaches: client.reaches,
            counts: client.connects.stop(),
        };
        clients.map(report).collect()
    }
}

fn start(
    sandbox: &Sandbox,
    (pod, source): (&str, IpAddr),
    to: SocketAddr,
    transport: Transport,
) -> Result<ConnectLoop, Box<dyn Error>> {
    let pod = sandbox.pod(pod).ok_or("the client's pod is gone")?;
    let client = ConnectLoop::start(pod.namespace(), Some(source), to, transport, PATIENCE)?;
    Ok(client)
}

/// One each: who comes from one port to two Services needs two addresses.
const CLIENTS_INSIDE: [(&str, IpAddr); 2] = [
    ("inside-1", IpAddr::V4(Ipv4Addr::new(10, 64, 1, 100))),
    ("inside-2", IpAddr::V4(Ipv4Addr::new(10, 64, 1, 101))),
];
const OUTSIDE: &str = "outside-1";
const CLIENT_OUTSIDE: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 100));
/// Bound for an answer that comes at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(5);
