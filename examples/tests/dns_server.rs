//! The server as a process: it reloads, forwards, bounds its clients, and fails clearly.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[path = "dns/wire.rs"]
mod wire;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wire::{Message, query};

/// A running server; it ends with the test.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(manifests: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dns-server"));
    command.arg("--manifests").arg(manifests).args(more);
    command.stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

impl Server {
    fn start(manifests: &Path, more: &[&str]) -> Self {
        let mut command = command(manifests, more);
        let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("serving on ")?.parse().ok())
            .unwrap();
        // Whatever it says later is read, so that it never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    fn udp(&self, name: &str, kind: u16) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        socket.send(&query(42, name, kind, Some(1232))).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let message = Message::read(&buffer[..length]).unwrap();
        assert_eq!(message.id, 42);
        message
    }

    fn tcp(&self, name: &str, kind: u16) -> Message {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // In small pieces, as a network may deliver them.
        let packet = query(43, name, kind, None);
        let framed = [
            &u16::try_from(packet.len()).unwrap().to_be_bytes()[..],
            &packet,
        ]
        .concat();
        for piece in framed.chunks(5) {
            stream.write_all(piece).unwrap();
        }
        read_answer(&mut stream)
    }
}

fn read_answer(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::read(&answer).unwrap()
}

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dns-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces a file at once, as editors and kubelets do.
    fn write(&self, name: &str, text: &str) {
        let fresh = self.0.join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{name: http, port: 80}}]}}\n---\n"
    )
}

fn external(name: &str, target: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{type: ExternalName, externalName: {target}}}\n---\n"
    )
}

fn data(message: &Message) -> Vec<String> {
    message.sections[0]
        .iter()
        .map(|record| record.3.clone())
        .collect()
}

#[test]
fn a_change_of_the_manifests_is_visible_within_a_second() {
    let folder = Folder::new("reload");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    let server = Server::start(&folder.0, &[]);
    assert_eq!(
        data(&server.udp("web.shop.svc.cluster.local", 1)),
        ["10.96.0.7"]
    );
    assert_eq!(
        data(&server.tcp("web.shop.svc.cluster.local", 1)),
        ["10.96.0.7"]
    );
    folder.write("a.yaml", &service("new", "10.96.0.8"));
    let changed = Instant::now();
    // Asking again and again is how a client sees it; the server answers at once each time.
    while server.udp("new.shop.svc.cluster.local", 1).rcode != 0 {
        assert!(
            changed.elapsed() < Duration::from_secs(10),
            "not within ten seconds"
        );
    }
    assert!(
        changed.elapsed() < Duration::from_secs(1),
        "{:?}",
        changed.elapsed()
    );
    assert_eq!(server.udp("web.shop.svc.cluster.local", 1).rcode, 3);
}

#[test]
fn a_broken_file_leaves_the_others_served() {
    let folder = Folder::new("broken");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    folder.write("b.yaml", "kind: [");
    let server = Server::start(&folder.0, &[]);
    assert_eq!(
        data(&server.udp("web.shop.svc.cluster.local", 1)),
        ["10.96.0.7"]
    );
}

#[test]
fn other_names_are_forwarded_and_chains_completed() {
    let (near, far) = (Folder::new("near"), Folder::new("far"));
    far.write(
        "a.yaml",
        &(service("web", "10.96.0.9") + &external("loop", "web.shop.svc.far")),
    );
    near.write(
        "a.yaml",
        &(service("web", "10.96.0.7")
            + &external("out", "loop.shop.svc.far")
            + &external("gone", "no.shop.svc.far")),
    );
    let resolver = Server::start(&far.0, &["--zone", "far"]);
    let server = Server::start(&near.0, &["--forward", &resolver.address.to_string()]);
    for ask in [Server::udp, Server::tcp] {
        let ask = |name, kind| ask(&server, name, kind);
        assert_eq!(data(&ask("web.shop.svc.cluster.local", 1)), ["10.96.0.7"]);
        assert_eq!(data(&ask("web.shop.svc.far", 1)), ["10.96.0.9"]);
        let chain = ask("out.shop.svc.cluster.local", 1);
        assert_eq!(
            data(&chain),
            ["loop.shop.svc.far.", "web.shop.svc.far.", "10.96.0.9"]
        );
        assert_ne!(chain.flags & 0x0080, 0, "RA");
        let gone = ask("gone.shop.svc.cluster.local", 1);
        assert_eq!((gone.rcode, gone.sections[1].len()), (3, 1));
    }
}

#[test]
fn a_resolver_that_is_silent_costs_its_own_names_only() {
    let folder = Folder::new("silent");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    // Bound and never read.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let server = Server::start(&folder.0, &["--forward", &address]);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    for id in 0..64 {
        let packet = query(id, "www.example.com", 1, None);
        socket.send_to(&packet, server.address).unwrap();
    }
    assert_eq!(
        data(&server.udp("web.shop.svc.cluster.local", 1)),
        ["10.96.0.7"]
    );
    assert_eq!(
        server.udp("www.example.com", 1).rcode,
        2,
        "SERVFAIL in the end"
    );
}

#[test]
fn several_queries_on_one_connection_are_answered_in_turn() {
    let folder = Folder::new("pipeline");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    let server = Server::start(&folder.0, &[]);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let mut sent = Vec::new();
    for id in 0..50 {
        let packet = query(id, "web.shop.svc.cluster.local", 1, None);
        sent.extend(u16::try_from(packet.len()).unwrap().to_be_bytes());
        sent.extend(packet);
    }
    stream.write_all(&sent).unwrap();
    for id in 0..50 {
        assert_eq!(read_answer(&mut stream).id, id);
    }
}

#[test]
fn connections_are_bounded_and_garbage_is_survived() {
    let folder = Folder::new("flood");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    let server = Server::start(&folder.0, &[]);
    let idle: Vec<_> = (0..64)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    // One client has no more places: its next connection is closed.
    let mut more = TcpStream::connect(server.address).unwrap();
    more.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(more.read(&mut [0; 2]).unwrap_or(0), 0);
    drop(idle);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut state = 1u32;
    for length in 0..600 {
        let garbage: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        socket.send_to(&garbage, server.address).unwrap();
    }
    socket.send_to(&vec![0; 60_000], server.address).unwrap();
    assert_eq!(
        data(&server.udp("web.shop.svc.cluster.local", 1)),
        ["10.96.0.7"]
    );
}

#[test]
fn a_port_in_use_and_a_zone_that_is_no_name_are_told_in_one_line() {
    let folder = Folder::new("errors");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (more, code) in [
        (["--listen", address.as_str()], 1),
        (["--zone", "a..b"], 64),
        (["--ttl", "3601"], 1),
    ] {
        let output = command(&folder.0, &more).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.starts_with("error: "), "{said}");
    }
}

#[test]
fn metrics_and_probes_are_served() {
    let folder = Folder::new("metrics");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    // The port of a listener that is gone: nobody else takes it in this instant.
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let server = Server::start(&folder.0, &["--metrics-bind-address", &port.to_string()]);
    let get = |path: &str| {
        let mut stream = TcpStream::connect(port).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    };
    server.udp("web.shop.svc.cluster.local", 1);
    assert!(get("/ready").starts_with("HTTP/1.1 200"));
    assert!(get("/nothing").starts_with("HTTP/1.1 404"));
    let metrics = get("/metrics");
    let line = "svc_dns_queries_total{transport=\"udp\",type=\"A\",rcode=\"NOERROR\"} 1";
    assert!(metrics.contains(line), "{metrics}");
    assert!(
        metrics.contains("svc_dns_query_duration_seconds_count 1"),
        "{metrics}"
    );
}
