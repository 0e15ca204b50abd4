//! The whole program against an API server that goes away and comes back; several nodes.

use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::{fs, process};

use examples::api_server::{ApiServer, Asked, Store, Transport as Wire};
use examples::cluster_watch::{Interest, Subject};
use examples::sandbox::{Namespace, Transport, probe};
use serde_json::{Value as Json, json};

use crate::rig::{Agent, CLUSTER_IP, IPTABLES, NFTABLES, PATIENCE, Rig};

fn node(name: &str) -> Json {
    json!({
        "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.10"}]},
    })
}

fn service(name: &str, ip: &str) -> Json {
    json!({
        "metadata": {"name": name, "namespace": "demo"},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "t", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    })
}

fn slice(ips: &[&str]) -> Json {
    let endpoint =
        |ip: &&str| json!({"addresses": [ip], "nodeName": "n1", "conditions": {"ready": true}});
    json!({
        "metadata": {
            "name": "web-1", "namespace": "demo",
            "labels": {"kubernetes.io/service-name": "web"},
        },
        "addressType": "IPv4",
        "ports": [{"name": "t", "protocol": "TCP", "port": 8080}],
        "endpoints": ips.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

struct Cluster {
    store: Arc<Store>,
    asked: Receiver<Asked>,
    server: ApiServer,
}

fn cluster() -> Cluster {
    let (store, asked) = Store::new();
    for name in ["n1", "n2"] {
        store.put("nodes", node(name));
    }
    store.put("services", service("web", CLUSTER_IP));
    store.put("endpointslices", slice(&["10.64.1.1"]));
    let server = ApiServer::start(&store, Wire::Plain).unwrap();
    Cluster {
        store,
        asked,
        server,
    }
}

fn start(rig: &Rig, cluster: &Cluster, at: &Namespace, name: &str) -> Agent {
    start_with(NFTABLES, rig, cluster, at, name, &[])
}

fn start_with(
    program: &str,
    rig: &Rig,
    cluster: &Cluster,
    at: &Namespace,
    name: &str,
    more: &[&str],
) -> Agent {
    let file = rig.folder.join("kubeconfig");
    fs::write(&file, cluster.server.kubeconfig()).unwrap();
    let objects = ["--kubeconfig", file.to_str().unwrap(), "--node", name];
    Agent::start_with(program, at, &rig.folder, &objects, more)
}

/// An address of an interface that the Node does not list serves node ports as soon as it is there, and as
/// long (B-120, B-123, B-124).
pub(crate) fn addresses_of_the_host() {
    for (program, ranges) in [
        (NFTABLES, "198.18.0.64/26"),
        (NFTABLES, "0.0.0.0/0"),
        (IPTABLES, "198.18.0.64/26"),
    ] {
        let rig = Rig::new();
        let cluster = cluster();
        let mut exposed = service("web", CLUSTER_IP);
        exposed["spec"]["type"] = json!("NodePort");
        exposed["spec"]["ports"][0]["nodePort"] = json!(30080);
        cluster.store.put("services", exposed);
        rig.tool("ip", &["addr", "add", "198.18.0.70/32", "dev", "lo"], "");
        let more = ["--nodeport-addresses", ranges];
        let node = rig.sandbox.node();
        let mut agent = start_with(program, &rig, &cluster, node, "n1", &more);
        rig.await_synced(&mut agent);
        assert!(answered(&rig, "198.18.0.70:30080").is_some());
        let is_listed = answered(&rig, "198.18.0.10:30080").is_some();
        assert_eq!(is_listed, ranges == "0.0.0.0/0", "{program} {ranges}");
        let late = ["198.18.0.77/32", "dev", "lo"];
        rig.tool("ip", &[&["addr", "add"][..], &late].concat(), "");
        agent.until("new address", || answered(&rig, "198.18.0.77:30080"));
        let metrics = agent.metrics.clone();
        let planned = || {
            let plan = rig.get(&metrics, "/plan?family=IPv4")?.body;
            Some(plan.contains("198.18.0.77"))
        };
        agent.until("plan with it", || planned()?.then_some(()));
        rig.tool("ip", &[&["addr", "del"][..], &late].concat(), "");
        agent.until("plan without it", || (!planned()?).then_some(()));
        assert!(answered(&rig, "198.18.0.70:30080").is_some());
        agent.stop();
    }
}

fn reached(rig: &Rig, ip: &str) -> Option<String> {
    answered(rig, &format!("{ip}:80"))
}

fn answered(rig: &Rig, to: &str) -> Option<String> {
    let to = to.parse().unwrap();
    let outcome = probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap();
    outcome.pod().map(str::to_owned)
}

/// Forwarding goes on while the API server is gone, and everything is caught up afterwards.
pub(crate) fn api_server_goes_and_comes() {
    let rig = Rig::new();
    let cluster = cluster();
    let mut agent = start(&rig, &cluster, rig.sandbox.node(), "n1");
    rig.await_synced(&mut agent);
    assert_eq!(reached(&rig, CLUSTER_IP).as_deref(), Some("web-0"));
    cluster.store.put("endpointslices", slice(&["10.64.1.2"]));
    agent.until("change", || {
        (reached(&rig, CLUSTER_IP)? == "web-1").then_some(())
    });
    // Gone, and changed behind its back.
    let address = cluster.server.address();
    let Cluster { store, server, .. } = cluster;
    drop(server);
    rig.await_metric(
        &mut agent,
        "svc_proxy_source_up{kind=\"EndpointSlice\"}",
        |up| up == 0.0,
    );
    assert_eq!(reached(&rig, CLUSTER_IP).as_deref(), Some("web-1"));
    assert_eq!(rig.get(&agent.health(), "/healthz").unwrap().status, 200);
    store.put("endpointslices", slice(&["10.64.1.1"]));
    store.forget_history();
    let server = ApiServer::start_at(address, &store, Wire::Plain).unwrap();
    agent.until("catching up", || {
        (reached(&rig, CLUSTER_IP)? == "web-0").then_some(())
    });
    agent.stop();
    drop(server);
}

/// `--once` in another network namespace than that of the API server, with what the role of
/// `deploy/daemonset.yaml` allows: everything else is refused.
pub(crate) fn once() {
    let rig = Rig::new();
    let cluster = cluster();
    for subject in Subject::everything() {
        cluster.store.refuse(subject.resource.plural(), 403);
    }
    let node = "n1".into();
    for subject in (Interest::Proxy { node }).subjects() {
        cluster.store.allow(subject.resource.plural());
    }
    let file = rig.folder.join("kubeconfig");
    fs::write(&file, cluster.server.kubeconfig()).unwrap();
    let tid = rig.sandbox.node().tid();
    let netns = format!("/proc/{}/task/{tid}/ns/net", process::id());
    let run = |mode: &str| {
        let mut command = Command::new(NFTABLES);
        command.args(["--kubeconfig", file.to_str().unwrap(), "--node", "n1"]);
        command.args(["--netns", &netns, mode]).output().unwrap()
    };
    let dry = run("--dry-run");
    let printed = String::from_utf8(dry.stdout.clone()).unwrap();
    assert!(
        dry.status.success() && printed.contains("10.64.1.1"),
        "{dry:?}"
    );
    assert_eq!(reached(&rig, CLUSTER_IP), None);
    let done = run("--once");
    assert!(done.status.success(), "{done:?}");
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        !said.contains("error") && said.contains("objects written"),
        "{said}"
    );
    assert_eq!(reached(&rig, CLUSTER_IP).as_deref(), Some("web-0"));
    // The environment names a cluster as well as the flag.
    let mut command = Command::new(NFTABLES);
    command.args(["--node", "n1", "--netns", &netns, "--dry-run"]);
    let same = command.env("KUBECONFIG", &file).output().unwrap();
    let printed = String::from_utf8(same.stdout.clone()).unwrap();
    let titles_only = printed.lines().all(|line| line.starts_with("# "));
    assert!(
        same.status.success() && titles_only && !printed.is_empty(),
        "{same:?}"
    );
    // Without the Services nothing is touched (B-237).
    cluster.store.refuse("services", 403);
    let failed = run("--once");
    let said = String::from_utf8(failed.stderr).unwrap();
    assert!(
        !failed.status.success() && said.contains("/api/v1/services: 403"),
        "{said}"
    );
    assert_eq!(reached(&rig, CLUSTER_IP).as_deref(), Some("web-0"));
}

/// Two Services want one address: the loser is named in an Event, and the winner works.
pub(crate) fn conflict_becomes_an_event() {
    let rig = Rig::new();
    let cluster = cluster();
    cluster.store.put("services", service("zweb", CLUSTER_IP));
    let mut agent = start(&rig, &cluster, rig.sandbox.node(), "n1");
    rig.await_synced(&mut agent);
    assert!(reached(&rig, CLUSTER_IP).is_some());
    let posted = agent.until("event", || {
        let asked = cluster.asked.try_recv().ok()?;
        (asked.method == "POST").then_some(asked)
    });
    assert!(
        posted.path.contains("/namespaces/demo/events"),
        "{posted:?}"
    );
    assert!(
        posted.body.contains("zweb") && posted.body.contains("Claimed"),
        "{posted:?}"
    );
    agent.stop();
}

/// Several nodes, each with an agent, follow the same cluster.
pub(crate) fn two_nodes() {
    let rigs = [Rig::new(), Rig::new()];
    let cluster = cluster();
    let mut agents: Vec<Agent> = rigs
        .iter()
        .zip(["n1", "n2"])
        .map(|(rig, name)| start(rig, &cluster, rig.sandbox.node(), name))
        .collect();
    for (rig, agent) in rigs.iter().zip(&mut agents) {
        rig.await_synced(agent);
        assert_eq!(reached(rig, CLUSTER_IP).as_deref(), Some("web-0"));
    }
    // B-430: deleted and made again.
    cluster.store.delete("services", "demo", "web");
    for (rig, agent) in rigs.iter().zip(&mut agents) {
        agent.until("end of the Service", || {
            reached(rig, CLUSTER_IP).is_none().then_some(())
        });
    }
    cluster.store.put("services", service("web", "10.96.0.77"));
    for (rig, agent) in rigs.iter().zip(&mut agents) {
        agent.until("new Service", || reached(rig, "10.96.0.77"));
    }
    agents.into_iter().for_each(|agent| drop(agent.stop()));
}
