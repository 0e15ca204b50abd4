//! What an agent costs with a cluster: `cargo run --release -p examples --features cluster --example
//! agent_bench -- PROGRAM [SERVICES [CHANGES [ENDPOINTS]]]`, where PROGRAM is a built `nftables-proxy`.
//!
//! An API server of this process serves the objects, the agent works in a network namespace of its
//! own. Each change waits for the kernel to have the one before, so that no two share a commit. Two
//! times are printed: the one that the agent tells of itself, from the event to the kernel's
//! acknowledgement, and the one from the write to the API server to the commit, seen from outside.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use backend_nftables::netlink::Socket;
use examples::api_server::{ApiServer, Store, Transport};
use examples::sandbox::{Namespace, isolate};
use serde_json::{Value as Json, json};

fn main() {
    let mut args = env::args().skip(1);
    let program = args
        .next()
        .unwrap_or_else(|| "target/release/nftables-proxy".into());
    let mut number = |default: usize| args.next().map_or(default, |text| text.parse().unwrap());
    let (services, changes, endpoints) = (number(10_000), number(1_000), number(3));
    isolate().unwrap();
    let node = Namespace::new("n1").unwrap();
    let (store, _asked) = Store::new();
    store.put("nodes", json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.10"}]}}));
    for n in 0..services {
        store.put("services", service(n));
        store.put("endpointslices", slice(n, 0, endpoints));
    }
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let kubeconfig = env::temp_dir().join(format!("agent-bench-{}", process::id()));
    fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    let start = Instant::now();
    let mut agent = Command::new(program)
        .args(["--kubeconfig", kubeconfig.to_str().unwrap(), "--node", "n1"])
        .args([
            "--netns",
            &format!("/proc/{}/task/{}/ns/net", process::id(), node.tid()),
        ])
        .args(["--nftables-min-sync-period=0s", "--healthz-bind-address="])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ports = "svc_proxy_service_ports{ip_family=\"IPv4\"}";
    wait(&node, ports, services as f64);
    println!(
        "{services} Services x {endpoints}: in the kernel {:.2?} after the start",
        start.elapsed()
    );
    thread::sleep(Duration::from_secs(3));
    println!(
        "RSS {} kB, most {} kB",
        memory(&agent, "VmRSS:"),
        memory(&agent, "VmHWM:")
    );
    let written = "svc_proxy_change_to_kernel_seconds_count{ip_family=\"IPv4\"}";
    let first = value(&metrics(&node), written).unwrap();
    let before = metrics(&node);
    let change = |n: usize| {
        let changed = slice(n % services, 1 + n / services, endpoints);
        store.put("endpointslices", changed);
    };
    let mut seen = node.run(|| one_by_one(changes, &change)).unwrap();
    seen.sort_unstable();
    let after = metrics(&node);
    let runs = value(&after, written).unwrap() - first;
    println!("{changes} changes of an endpoint in {runs} commits, from event to acknowledgement:");
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        println!("  {name} at most {} s", quantile(&before, &after, part));
    }
    println!("from the write to the API server to the commit:");
    for (name, part) in [("p50", 50), ("p99", 99)] {
        let at = (seen.len() * part / 100).min(seen.len().saturating_sub(1));
        println!("  {name} {:.2?}", seen.get(at).copied().unwrap_or_default());
    }
    let ticks = cpu(&agent);
    thread::sleep(Duration::from_secs(60));
    println!("idle CPU: {} ticks of 10 ms in 60 s", cpu(&agent) - ticks);
    let _ = agent.kill();
    let _ = agent.wait();
    let _ = fs::remove_file(kubeconfig);
}

/// Makes changes, each after the commit of the one before; how long each took.
fn one_by_one(changes: usize, change: &dyn Fn(usize)) -> Vec<Duration> {
    let mut socket = Socket::open().unwrap();
    let mut generation = socket.generation().unwrap();
    let mut seen = Vec::with_capacity(changes);
    for n in 0..changes {
        // So that the agent is asleep each time.
        thread::sleep(Duration::from_millis(2));
        let start = Instant::now();
        change(n);
        let before = generation;
        while generation == before {
            assert!(start.elapsed() < Duration::from_secs(60), "no commit");
            thread::sleep(Duration::from_micros(50));
            generation = socket.generation().unwrap();
        }
        seen.push(start.elapsed());
    }
    // The acknowledgement of the last one is on its way to the agent's books.
    thread::sleep(Duration::from_millis(500));
    seen
}

fn service(n: usize) -> Json {
    let ip = format!("10.{}.{}.{}", 96 + (n >> 16), n >> 8 & 255, n & 255);
    json!({
        "metadata": {"name": format!("s{n}"), "namespace": "demo"},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "t", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    })
}

fn slice(n: usize, round: usize, endpoints: usize) -> Json {
    let endpoint = |e: usize| {
        // The first one changes with each round.
        let block = 128 + 2 * if e == 0 { endpoints * (round % 2) } else { e };
        let ip = format!("10.{}.{}.{}", block + (n >> 16), n >> 8 & 255, n & 255);
        json!({"addresses": [ip], "nodeName": format!("n{}", e + 1), "conditions": {"ready": true}})
    };
    json!({
        "metadata": {
            "name": format!("s{n}-1"), "namespace": "demo",
            "labels": {"kubernetes.io/service-name": format!("s{n}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "t", "protocol": "TCP", "port": 8080}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>(),
    })
}

fn metrics(node: &Namespace) -> String {
    let get = || {
        let mut stream = TcpStream::connect("127.0.0.1:10249").ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    };
    node.run(get).unwrap().unwrap_or_default()
}

fn value(metrics: &str, name: &str) -> Option<f64> {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

fn wait(node: &Namespace, name: &str, wanted: f64) {
    let deadline = Instant::now() + Duration::from_secs(300);
    while value(&metrics(node), name) != Some(wanted) {
        assert!(Instant::now() < deadline, "{name} never is {wanted}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The upper bound of the bucket that a part of the observations between two readings is in.
fn quantile(before: &str, after: &str, part: f64) -> String {
    let prefix = "svc_proxy_change_to_kernel_seconds_bucket{ip_family=\"IPv4\",le=\"";
    let buckets = |metrics: &str| -> Vec<(String, f64)> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(prefix));
        let pair = |line: &str| {
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.to_owned(), count.trim().parse().ok()?))
        };
        lines.filter_map(pair).collect()
    };
    let (before, after) = (buckets(before), buckets(after));
    let counts = before
        .iter()
        .zip(&after)
        .map(|((_, a), (bound, b))| (bound, b - a));
    let counts: Vec<_> = counts.collect();
    let total = counts.last().map_or(0.0, |(_, total)| *total);
    let found = counts.iter().find(|(_, count)| *count >= total * part);
    found.map_or_else(String::new, |(bound, _)| (*bound).clone())
}

fn memory(agent: &Child, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default()
        .trim()
        .trim_end_matches(" kB")
        .to_owned()
}

fn cpu(agent: &Child) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", agent.id())).unwrap();
    let fields = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace();
    fields
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum()
}
