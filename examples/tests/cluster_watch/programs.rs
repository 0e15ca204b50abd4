//! The programs, pointed at a cluster.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use examples::api_server::{ApiServer, Store, Transport};
use serde_json::json;

use crate::rig::*;

#[path = "../dns/wire.rs"]
#[allow(dead_code)]
mod wire;

fn cluster() -> (Arc<Store>, ApiServer, TempFile) {
    let (store, _asked) = Store::new();
    store.put("services", service("web"));
    let mut headless = labelled("pods", "service.kubernetes.io/headless");
    headless["spec"] =
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]});
    store.put("services", headless);
    store.put("endpointslices", slice("web", "web-1", "10.64.1.1"));
    store.put("endpointslices", slice("pods", "pods-1", "10.64.1.2"));
    store.put("nodes", node("node-1"));
    store.put("namespaces", json!({"metadata": {"name": "shop"}}));
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    (store, server, file)
}

fn svcctl(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_svcctl"));
    command
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn svcctl_says_the_same_of_a_cluster_and_of_its_manifests() {
    let (_store, _server, file) = cluster();
    let mut headless = labelled("pods", "service.kubernetes.io/headless");
    headless["spec"] =
        json!({"clusterIP": "None", "clusterIPs": ["None"], "ports": [{"port": 80}]});
    let items = json!([
        service("web"),
        headless,
        slice("web", "web-1", "10.64.1.1"),
        slice("pods", "pods-1", "10.64.1.2"),
        node("node-1"),
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}},
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let manifests = TempFile::new(&list.to_string());
    let (kubeconfig, manifests) = (
        file.path.to_str().unwrap(),
        manifests.path.to_str().unwrap(),
    );
    for command in [
        &["plan", "-o", "json", "--node", "node-1"][..],
        &[
            "explain",
            "--node",
            "node-1",
            "--from",
            "10.64.1.9",
            "--to",
            "10.96.0.1:80/TCP",
            "-o",
            "json",
        ],
        &["dns", "web.shop.svc.cluster.local"],
        &["dns", "pods.shop.svc.cluster.local"],
        &["get", "services"],
        &["endpoints"],
        &["validate"],
    ] {
        let of_cluster = svcctl(&[command, &["--kubeconfig", kubeconfig]].concat());
        let of_manifests = svcctl(&[command, &["--manifests", manifests]].concat());
        let text = |output: &Output| String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text(&of_cluster), text(&of_manifests), "{command:?}");
        assert_eq!(
            of_cluster.status.code(),
            of_manifests.status.code(),
            "{command:?}"
        );
        assert!(!of_cluster.stdout.is_empty(), "{command:?}: {of_cluster:?}");
    }
}

/// Nor are made-up ranges of addresses asked of a server that has no ServiceCIDR objects.
#[test]
fn b396_a_stored_service_gets_no_second_family() {
    let (store, _asked) = Store::new();
    let mut web = service("web");
    web["spec"]["ipFamilyPolicy"] = "PreferDualStack".into();
    web["spec"]["ipFamilies"] = json!(["IPv4"]);
    web["spec"]["clusterIP"] = "172.20.0.9".into();
    web["spec"]["clusterIPs"] = json!(["172.20.0.9"]);
    store.put("services", web);
    store.refuse("servicecidrs", 404);
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let kubeconfig = ["--kubeconfig", file.path.to_str().unwrap()];
    let output = svcctl(&[&["describe", "service", "web"], &kubeconfig[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(" 172.20.0.9\n"), "{text}");
    assert!(!text.contains("172.20.0.9,"), "{text}");
    assert!(text.contains("<none>"), "no events: {text}");
    let output = svcctl(&[&["plan", "--node", "node-1"], &kubeconfig[..]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("172.20.0.9") && !text.contains("fd00:"),
        "{text}"
    );
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!told.contains("172.20.0.9"), "{told}");
}

#[test]
fn a_cluster_that_cannot_be_read_is_one_line_and_a_failure() {
    let (_store, server, file) = cluster();
    drop(server);
    let missing = Path::new("/nonexistent/config");
    for path in [&file.path, missing] {
        let output = svcctl(&["get", "services", "--kubeconfig", path.to_str().unwrap()]);
        let lines = String::from_utf8_lossy(&output.stderr).into_owned();
        let errors: Vec<_> = lines
            .lines()
            .filter(|line| line.starts_with("error: "))
            .collect();
        assert_eq!(errors.len(), 1, "{lines}");
        assert_eq!(output.status.code(), Some(1), "{lines}");
    }
}

struct DnsServer {
    child: Child,
    address: SocketAddr,
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DnsServer {
    fn start(configure: impl FnOnce(&mut Command)) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_dns-server"));
        command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
        configure(&mut command);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("serving on ")?.parse().ok())
            .unwrap();
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// Response code and data of the answers.
    fn ask(&self, name: &str) -> (u16, Vec<String>) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.send(&wire::query(42, name, 1, Some(1232))).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let message = wire::Message::read(&buffer[..length]).unwrap();
        let answers = message.sections[0]
            .iter()
            .map(|record| record.3.clone())
            .collect();
        (message.rcode, answers)
    }

    fn until(&self, name: &str, wanted: &(u16, Vec<String>)) {
        let end = Instant::now() + DEADLINE;
        loop {
            let answer = self.ask(name);
            if answer == *wanted {
                return;
            }
            assert!(Instant::now() < end, "{name}: {answer:?}");
        }
    }
}

#[test]
fn a_dns_server_follows_a_cluster() {
    let (store, server, file) = cluster();
    let dns = DnsServer::start(|command| {
        command.arg("--kubeconfig").arg(&file.path);
    });
    let found = |ip: &str| (0, vec![ip.to_owned()]);
    let absent = (3, Vec::new());
    dns.until("web.shop.svc.cluster.local", &found("10.96.0.1"));
    dns.until("pods.shop.svc.cluster.local", &found("10.64.1.2"));
    assert_eq!(dns.ask("late.shop.svc.cluster.local"), absent);
    store.put("services", service("late"));
    dns.until("late.shop.svc.cluster.local", &found("10.96.0.1"));
    store.put("endpointslices", slice("pods", "pods-1", "10.64.1.3"));
    dns.until("pods.shop.svc.cluster.local", &found("10.64.1.3"));
    store.delete("services", "shop", "web");
    dns.until("web.shop.svc.cluster.local", &absent);
    // Without the API server names are answered as before.
    drop(server);
    assert_eq!(dns.ask("late.shop.svc.cluster.local"), found("10.96.0.1"));
}

#[test]
fn a_dns_server_whose_cluster_cannot_be_reached_does_not_deny_names() {
    let (_store, server, file) = cluster();
    drop(server);
    // The port of a listener that is gone: nobody else takes it in this instant.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let pages = free.local_addr().unwrap();
    drop(free);
    // The environment names the cluster when no flag does.
    let dns = DnsServer::start(|command| {
        command.env("KUBECONFIG", &file.path);
        command.args(["--metrics-bind-address", &pages.to_string()]);
    });
    assert_eq!(dns.ask("web.shop.svc.cluster.local"), (2, Vec::new()));
    let status = |path: &str| {
        let mut stream = TcpStream::connect(pages).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().to_owned()
    };
    // Alive, but no clients are to be sent here.
    assert_eq!(
        (status("/healthz"), status("/ready")),
        ("200".into(), "503".into())
    );
}

#[test]
fn a_dns_server_keeps_to_its_namespaces_and_checks_pods_of_a_cluster() {
    let (store, _server, file) = cluster();
    let mut other = service("web");
    other["metadata"]["namespace"] = json!("other");
    store.put("services", other);
    for (namespace, ip) in [("shop", "10.64.1.1"), ("other", "10.64.2.1")] {
        store.put(
            "pods",
            json!({"metadata": {"name": "pod", "namespace": namespace},
                "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]}}),
        );
    }
    let dns = DnsServer::start(|command| {
        command.arg("--kubeconfig").arg(&file.path);
        command.args(["--namespace", "shop", "--pods", "verified"]);
    });
    let (found, absent) = (|ip: &str| (0, vec![ip.to_owned()]), (3, Vec::new()));
    dns.until("web.shop.svc.cluster.local", &found("10.96.0.1"));
    assert_eq!(dns.ask("web.other.svc.cluster.local"), absent);
    assert_eq!(
        dns.ask("10-64-1-1.shop.pod.cluster.local"),
        found("10.64.1.1")
    );
    assert_eq!(dns.ask("10-64-1-2.shop.pod.cluster.local"), absent);
    assert_eq!(dns.ask("10-64-2-1.other.pod.cluster.local"), absent);
}

#[test]
fn a_proxy_writes_nothing_when_services_or_slices_cannot_be_listed_b_237() {
    for refused in ["services", "endpointslices"] {
        let (store, _server, file) = cluster();
        store.refuse(refused, 403);
        dry_run_fails(&file, "403 Forbidden");
    }
    let (_store, server, file) = cluster();
    drop(server);
    dry_run_fails(&file, "Connection refused");
}

fn dry_run_fails(file: &TempFile, why: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nftables-proxy"));
    command
        .args(["--dry-run", "--node", "node-1", "--kubeconfig"])
        .arg(&file.path);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let lines = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(lines.contains(why), "{lines}");
    assert_eq!(output.status.code(), Some(1), "{lines}");
    assert!(output.stdout.is_empty(), "{output:?}");
}

#[test]
fn the_proxies_take_the_flags_of_the_deployment() {
    let text = include_str!("../../../deploy/daemonset.yaml");
    let set = text.split("\n---\n").last().unwrap();
    let set: serde_json::Value = serde_saphyr::from_str(set).unwrap();
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let given = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| a.as_str().unwrap());
    let arguments: Vec<&str> = std::iter::once("proxy").chain(given).collect();
    examples::nftables_proxy::Args::try_parse_from(&arguments).unwrap();
    examples::iptables_proxy::Args::try_parse_from(&arguments).unwrap();
    examples::ipvs_proxy::Args::try_parse_from(&arguments).unwrap();
}
