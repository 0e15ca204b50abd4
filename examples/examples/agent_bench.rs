//! What an agent costs with a cluster: `cargo run --release -p examples --features cluster --example
//! agent_bench -- PROGRAM [SERVICES [CHANGES]]`, where PROGRAM is a built `nftables-proxy`.
//!
//! An API server of this process serves the objects, the agent works in a network namespace of its
//! own; times are those that the agent tells of itself, from the end of the watch to the kernel.
#![allow(clippy::unwrap_used, reason = "a bench fails by panicking")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use examples::api_server::{ApiServer, Store, Transport};
use examples::sandbox::{Namespace, isolate};
use serde_json::{Value as Json, json};

fn main() {
    let mut args = env::args().skip(1);
    let program = args
        .next()
        .unwrap_or_else(|| "target/release/nftables-proxy".into());
    let mut number = |default: usize| args.next().map_or(default, |text| text.parse().unwrap());
    let (services, changes) = (number(10_000), number(1_000));
    isolate().unwrap();
    let node = Namespace::new("n1").unwrap();
    let (store, _asked) = Store::new();
    store.put("nodes", json!({"metadata": {"name": "n1"}, "status": {"addresses": [{"type": "InternalIP", "address": "198.18.0.10"}]}}));
    for n in 0..services {
        store.put("services", service(n));
        store.put("endpointslices", slice(n, 0));
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
        "{services} Services x 3: in the kernel {:.2?} after the start",
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
    for change in 0..changes {
        store.put(
            "endpointslices",
            slice(change % services, 1 + change / services),
        );
        thread::sleep(Duration::from_millis(3));
    }
    // Several may have been applied together.
    thread::sleep(Duration::from_secs(1));
    let after = metrics(&node);
    let runs = value(&after, written).unwrap() - first;
    println!("{changes} changes of an endpoint in {runs} commits, from event to acknowledgement:");
    for (name, part) in [("p50", 0.5), ("p99", 0.99)] {
        println!("  {name} at most {} s", quantile(&before, &after, part));
    }
    let ticks = cpu(&agent);
    thread::sleep(Duration::from_secs(30));
    println!("idle CPU: {} ticks of 10 ms in 30 s", cpu(&agent) - ticks);
    let _ = agent.kill();
    let _ = agent.wait();
    let _ = fs::remove_file(kubeconfig);
}

fn service(n: usize) -> Json {
    let ip = format!("10.100.{}.{}", n >> 8, n & 255);
    json!({
        "metadata": {"name": format!("s{n}"), "namespace": "demo"},
        "spec": {
            "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ports": [{"name": "t", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    })
}

fn slice(n: usize, round: usize) -> Json {
    let endpoint = |e: usize| {
        let ip = format!(
            "10.{}.{}.{}",
            200 + e + if e == 0 { 3 * (round % 2) } else { 0 },
            n >> 8,
            n & 255
        );
        json!({"addresses": [ip], "nodeName": format!("n{}", e + 1), "conditions": {"ready": true}})
    };
    json!({
        "metadata": {
            "name": format!("s{n}-1"), "namespace": "demo",
            "labels": {"kubernetes.io/service-name": format!("s{n}")},
        },
        "addressType": "IPv4",
        "ports": [{"name": "t", "protocol": "TCP", "port": 8080}],
        "endpoints": (0..3).map(endpoint).collect::<Vec<_>>(),
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
    let deadline = Instant::now() + Duration::from_secs(120);
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
