//! What an agent serves and what it says of itself.

use std::net::TcpListener;
use std::process::Command;
use std::{fs, process};

use examples::sandbox::{Outcome, Transport, probe};
use nix::fcntl::{Flock, FlockArg};

use crate::rig::{Agent, CLUSTER_IP, IPTABLES, NFTABLES, NODE_IP, PATIENCE, Rig};

fn reach(rig: &Rig, to: &str) -> Outcome {
    let to = to.parse().unwrap();
    probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap()
}

pub(crate) fn reports() {
    let rig = Rig::new();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    for to in [format!("{CLUSTER_IP}:80"), format!("{NODE_IP}:30080")] {
        assert!(reach(&rig, &to).pod().is_some(), "{to}: {}", agent.log());
    }
    // B-209 to B-219.
    let health = agent.health();
    for path in ["/healthz", "/livez"] {
        let answer = rig.get(&health, path).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.head.contains("Content-Type: application/json"));
        assert!(answer.head.contains("X-Content-Type-Options: nosniff"));
        let body = answer.json();
        assert_eq!(body["healthy"], true);
        assert_eq!(body["status"]["IPv4"]["healthy"], true);
        assert_eq!(body.get("nodeEligible").is_some(), path == "/healthz");
    }
    assert_eq!(rig.get(&health, "/metrics").unwrap().status, 404);
    let all = agent.metrics.clone();
    assert_eq!(rig.get(&all, "/proxyMode").unwrap().body, "nftables");
    let plans = rig.get(&all, "/plan?family=IPv4").unwrap().json();
    let ports = plans[0]["servicePorts"].as_array().unwrap();
    assert_eq!(ports.len(), 3, "{plans}");
    let explained = rig
        .get(&all, "/explain?from=203.0.113.7&to=10.96.0.10:80/tcp")
        .unwrap();
    let explained = explained.json();
    assert_eq!(explained["verdict"], "forward");
    assert_eq!(explained["service"], "demo/web:t");
    assert_eq!(explained["endpoints"].as_array().unwrap().len(), 2);
    assert_eq!(rig.get(&all, "/explain?from=x").unwrap().status, 400);
    let metrics = rig.get(&all, "/metrics").unwrap().body;
    for name in [
        "kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family=\"IPv4\"}",
        "kubeproxy_sync_proxy_rules_nftables_sync_failures_total{ip_family=\"IPv4\"} 0",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family=\"IPv6\"}",
        "kubeproxy_proxy_healthz_total{code=\"200\"} 1",
        "svc_proxy_oldest_unapplied_change_seconds{ip_family=\"IPv4\"} 0",
        "svc_proxy_plan_info{ip_family=\"IPv4\",digest=",
        "svc_proxy_repaired_objects_total{ip_family=\"IPv4\",cause=\"disturbance\"} 0",
    ] {
        assert!(metrics.contains(name), "no {name} in {metrics}");
    }
    assert!(agent.stop().contains("the rules stay"));
}

/// B-191 to B-206: the answers are those of the applied plan.
pub(crate) fn health_check_ports() {
    let rig = Rig::new();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    let at = format!("{NODE_IP}:32100");
    let full = agent.until("health-check port", || {
        rig.get(&at, "/any").filter(|a| a.status == 200)
    });
    assert!(
        full.head.contains("X-Load-Balancing-Endpoint-Weight: 2"),
        "{full:?}"
    );
    let body = full.json();
    assert_eq!(body["service"]["namespace"], "demo");
    assert_eq!(body["service"]["name"], "lb");
    assert_eq!(body["localEndpoints"], 2);
    assert_eq!(body["serviceProxyHealthy"], true);
    rig.endpoints(&[]);
    let empty = agent.until("unhealthy", || {
        rig.get(&at, "/").filter(|a| a.status == 503)
    });
    assert!(
        empty.head.contains("X-Load-Balancing-Endpoint-Weight: 0"),
        "{empty:?}"
    );
    assert_eq!(empty.json()["localEndpoints"], 0);
    agent.stop();
}

/// `0.0.0.0` and `[::]` are every address of both families, as probes of a cluster come over either.
pub(crate) fn health_over_both_families() {
    let rig = Rig::new();
    for everywhere in ["0.0.0.0:10999", "[::]:10999"] {
        let mut agent = rig.start(NFTABLES, &["--healthz-bind-address", everywhere]);
        rig.await_synced(&mut agent);
        for at in ["127.0.0.1:10999", "[::1]:10999"] {
            agent.until(at, || rig.get(at, "/livez").filter(|a| a.status == 200));
        }
        agent.stop();
    }
}

/// An address that somebody else has is named; everything else works, and it is taken when free.
pub(crate) fn port_in_use() {
    let rig = Rig::new();
    let held = rig.sandbox.node().run(|| {
        let health_check = TcpListener::bind((NODE_IP, 32100)).unwrap();
        (TcpListener::bind("127.0.0.1:10999").unwrap(), health_check)
    });
    let (server, health_check) = held.unwrap();
    let mut agent = rig.start(NFTABLES, &["--healthz-bind-address", "127.0.0.1:10999"]);
    rig.await_synced(&mut agent);
    agent.until_logged("the health server cannot listen, trying again");
    agent.until_logged("FailedToStartServiceHealthcheck");
    let closed = "svc_proxy_closed_listener{listener=\"health 127.0.0.1:10999\"}";
    assert_eq!(rig.metric(&agent.metrics, closed), Some(1.0));
    assert!(reach(&rig, &format!("{CLUSTER_IP}:80")).pod().is_some());
    drop((server, health_check));
    agent.until("health server", || rig.get("127.0.0.1:10999", "/healthz"));
    // Tried again though nothing changes (B-204).
    let at = format!("{NODE_IP}:32100");
    agent.until("health-check port", || rig.get(&at, "/"));
    agent.stop();
}

/// Somebody empties the ruleset: it is back at once, and counted.
pub(crate) fn foreign_flush() {
    let rig = Rig::new();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    rig.tool("nft", &["flush", "ruleset"], "");
    let repaired = "svc_proxy_repaired_objects_total{ip_family=\"IPv4\",cause=\"disturbance\"}";
    rig.await_metric(&mut agent, repaired, |count| count > 10.0);
    assert!(reach(&rig, &format!("{CLUSTER_IP}:80")).pod().is_some());
    let log = agent.stop();
    assert!(log.contains("repaired what somebody else changed"), "{log}");
}

/// The rules outlive the agent; the next one finds them right; `--cleanup` removes them.
pub(crate) fn restart() {
    let rig = Rig::new();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    agent.stop();
    assert!(reach(&rig, &format!("{CLUSTER_IP}:80")).pod().is_some());
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    let written = "svc_proxy_objects_written_total{ip_family=\"IPv4\"}";
    assert_eq!(rig.metric(&agent.metrics, written), Some(0.0));
    agent.stop();
    clean_up(NFTABLES, &rig);
    assert_eq!(rig.tool("nft", &["list", "tables"], ""), "");
}

/// The sysctl that node ports on 127.0.0.1 need goes with the rules, if it came with them (B-126).
pub(crate) fn route_localnet() {
    const KEY: &str = "net/ipv4/conf/all/route_localnet";
    for before in ["0", "1"] {
        let rig = Rig::new();
        let node = rig.sandbox.node();
        node.set_sysctls(&[(KEY, before)]).unwrap();
        let mut agent = rig.start(IPTABLES, &[]);
        rig.await_synced(&mut agent);
        assert_eq!(node.sysctl(KEY).unwrap(), "1");
        assert!(is_loopback_guarded(&rig), "CVE-2020-8558");
        agent.stop();
        // A restart forgets nothing and writes nothing.
        let mut agent = rig.start(IPTABLES, &[]);
        rig.await_synced(&mut agent);
        let written = "svc_proxy_objects_written_total{ip_family=\"IPv4\"}";
        assert_eq!(rig.metric(&agent.metrics, written), Some(0.0));
        agent.stop();
        clean_up(IPTABLES, &rig);
        assert_eq!(node.sysctl(KEY).unwrap(), before);
        for save in ["iptables-nft-save", "iptables-legacy-save"] {
            let left = rig.tool(save, &[], "");
            assert!(!left.contains("SVC-"), "{left}");
        }
    }
}

/// Without node ports on 127.0.0.1 neither the sysctl nor its guard is there.
pub(crate) fn no_route_localnet() {
    let rig = Rig::new();
    let mut agent = rig.start(IPTABLES, &["--iptables-localhost-nodeports=false"]);
    rig.await_synced(&mut agent);
    let sysctl = rig
        .sandbox
        .node()
        .sysctl("net/ipv4/conf/all/route_localnet");
    assert_eq!(sysctl.unwrap(), "0");
    assert!(!is_loopback_guarded(&rig));
    agent.stop();
}

/// Whether packets to loopback addresses from elsewhere are dropped.
fn is_loopback_guarded(rig: &Rig) -> bool {
    let save = |program| rig.tool(program, &["-t", "filter"], "");
    let saved = ["iptables-nft-save", "iptables-legacy-save"]
        .map(save)
        .concat();
    let guards = |line: &str| {
        line.contains("! -s 127.0.0.0/8 -d 127.0.0.0/8 ") && line.ends_with(" -j DROP")
    };
    saved.lines().any(guards)
}

fn clean_up(program: &str, rig: &Rig) {
    let tid = rig.sandbox.node().tid();
    let netns = format!("/proc/{}/task/{tid}/ns/net", std::process::id());
    let mut command = Command::new(program);
    command.args(["--cleanup", "--netns", &netns]);
    command.env("XTABLES_LOCKFILE", rig.folder.join("xtables.lock"));
    let cleaned = command.output().unwrap();
    assert!(cleaned.status.success(), "{cleaned:?}");
}

/// As kube-proxy does (B-333): whoever supervises it starts it again.
pub(crate) fn reconfigured() {
    let rig = Rig::new();
    let file = rig.folder.join("config.conf");
    let text = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    fs::write(&file, text).unwrap();
    let mut agent = rig.start(NFTABLES, &["--config", file.to_str().unwrap()]);
    rig.await_synced(&mut agent);
    let changed = format!("{text}clusterCIDR: 10.64.0.0/11\n");
    fs::write(rig.folder.join("next"), changed).unwrap();
    fs::rename(rig.folder.join("next"), &file).unwrap();
    let log = agent.ended();
    assert!(log.contains("configuration changed"), "{log}");
    assert!(reach(&rig, &format!("{CLUSTER_IP}:80")).pod().is_some());
}

/// Two nodes on one machine, each with an agent of its own.
pub(crate) fn two_instances() {
    let rigs = [Rig::new(), Rig::new()];
    let mut agents: Vec<Agent> = rigs.iter().map(|rig| rig.start(NFTABLES, &[])).collect();
    for (rig, agent) in rigs.iter().zip(&mut agents) {
        rig.await_synced(agent);
    }
    rigs[1].endpoints(&[]);
    let ports = "svc_proxy_change_to_kernel_seconds_count{ip_family=\"IPv4\"}";
    rigs[1].await_metric(&mut agents[1], ports, |count| count > 1.0);
    assert!(reach(&rigs[0], &format!("{CLUSTER_IP}:80")).pod().is_some());
    let refused = reach(&rigs[1], &format!("{CLUSTER_IP}:80"));
    assert!(refused.pod().is_none(), "{refused:?}");
    agents.into_iter().for_each(|agent| drop(agent.stop()));
}

/// Somebody holds the lock of iptables for longer than the agent waits: it names who does, tries
/// again by itself, and loses nothing.
pub(crate) fn lock_held() {
    let rig = Rig::new();
    let mut agent = rig.start(IPTABLES, &["--variant", "legacy"]);
    rig.await_synced(&mut agent);
    let rules = || rig.tool("iptables-legacy-save", &["-t", "nat"], "");
    assert!(rules().contains("10.64.1.1:8080"), "{}", agent.log());
    let lock = fs::File::create(rig.folder.join("xtables.lock")).unwrap();
    let held = Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
    let held = held.unwrap();
    rig.endpoints(&["10.64.1.2"]);
    agent.until_logged(&format!("process {} (", process::id()));
    assert!(rules().contains("10.64.1.1:8080"));
    drop(held);
    agent.until("change after the lock is free", || {
        let rules = rules();
        (rules.contains("10.64.1.2:8080") && !rules.contains("10.64.1.1:8080")).then_some(())
    });
    agent.stop();
}
