//! The server as a process: it reloads, forwards, bounds its clients, and fails clearly.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[path = "dns/rig.rs"]
mod rig;
#[path = "dns/wire.rs"]
mod wire;

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rig::{Folder, Server, command, data, external, read_answer, service};
use wire::{Message, query};

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
fn a_file_that_breaks_takes_no_name_away() {
    let folder = Folder::new("breaks");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    folder.write("b.yaml", &service("db", "10.96.0.8"));
    let server = Server::start(&folder.0, &[]);
    folder.write("b.yaml", "kind: [");
    server.until_said("names stay as they were");
    for (name, ip) in [("web", "10.96.0.7"), ("db", "10.96.0.8")] {
        let name = format!("{name}.shop.svc.cluster.local");
        assert_eq!(data(&server.udp(&name, 1)), [ip]);
    }
    folder.write("b.yaml", &service("new", "10.96.0.9"));
    let changed = Instant::now();
    while server.udp("db.shop.svc.cluster.local", 1).rcode != 3 {
        assert!(changed.elapsed() < Duration::from_secs(10));
    }
    assert_eq!(
        data(&server.udp("new.shop.svc.cluster.local", 1)),
        ["10.96.0.9"]
    );
}

/// As the first process of a container it would otherwise never hear of it.
#[test]
fn a_signal_ends_it_with_success() {
    let folder = Folder::new("signal");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut server = Server::start(&folder.0, &[]);
        kill(Pid::from_raw(server.id().cast_signed()), signal).unwrap();
        assert_eq!(server.ended().code(), Some(0), "{signal}");
    }
}

#[test]
fn an_answer_from_elsewhere_is_none() {
    let folder = Folder::new("forged");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let forger = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = resolver.local_addr().unwrap().to_string();
    let server = Server::start(&folder.0, &["--forward", &address]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 512];
            let (length, from) = resolver.recv_from(&mut buffer).unwrap();
            for (socket, rcode) in [(&forger, 5), (&resolver, 3)] {
                (buffer[2], buffer[3]) = (0x81, 0x80 | rcode);
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        assert_eq!(server.udp("www.example.com", 1).rcode, 3);
    });
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
    match more.read(&mut [0; 2]) {
        Ok(read) => assert_eq!(read, 0),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
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
    // Lengths that announce nothing, and more than follows.
    for start in [&[0, 0][..], &[0xff, 0xff, 1, 2, 3]] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(start).unwrap();
    }
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
    let udp = taken.local_addr().unwrap().to_string();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let tcp = taken.local_addr().unwrap().to_string();
    for (more, code) in [
        (["--listen", udp.as_str()], 1),
        (["--listen", tcp.as_str()], 1),
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
fn wildcard_addresses_of_both_families_answer_from_where_they_were_asked() {
    let folder = Folder::new("wildcard");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    // A port that was free for both protocols an instant ago.
    let free = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = udp.local_addr().unwrap();
        if std::net::TcpListener::bind(at).is_ok() {
            break at.port();
        }
    };
    let (v4, v6) = (format!("0.0.0.0:{free}"), format!("[::]:{free}"));
    let far = Folder::new("wildcard-far");
    far.write("a.yaml", &service("web", "10.96.0.9"));
    let resolver = Server::start(&far.0, &["--zone", "far"]);
    let forward = resolver.address.to_string();
    let more = ["--listen", &v4, "--listen", &v6, "--forward", &forward];
    let _server = Server::start(&folder.0, &more);
    for (own, asked) in [("127.0.0.1:0", "127.0.0.2"), ("[::1]:0", "[::1]")] {
        let socket = UdpSocket::bind(own).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        // A connected socket takes answers from this very address only.
        socket.connect(format!("{asked}:{free}")).unwrap();
        for (name, ip) in [
            ("web.shop.svc.cluster.local", "10.96.0.7"),
            ("web.shop.svc.far", "10.96.0.9"),
        ] {
            socket.send(&query(5, name, 1, None)).unwrap();
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).unwrap();
            let answer = Message::read(&buffer[..length]).unwrap();
            assert_eq!(data(&answer), [ip], "{name} at {asked}");
        }
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

/// What a flag is about, without it and with it: response code, answers in text with their TTL.
type Said<'a> = (u16, &'a [&'a str]);

#[test]
fn each_flag_changes_what_is_served() {
    let folder = Folder::new("flags");
    folder.write("a.yaml", &(service("web", "10.96.0.7") + PODS));
    let (absent, nothing): (Said<'_>, Said<'_>) = ((3, &[]), (0, &[]));
    let web: Said<'_> = (0, &["5 10.96.0.7"]);
    let pod: Said<'_> = (0, &["5 10.64.0.1"]);
    let pod_name = "10-64-0-1.shop.pod.cluster.local";
    let any_name = "10-64-0-9.shop.pod.cluster.local";
    let any: Said<'_> = (0, &["5 10.64.0.9"]);
    let web_name = "web.shop.svc.cluster.local";
    let reverse = "7.0.96.10.in-addr.arpa";
    let pointer: Said<'_> = (0, &["5 web.shop.svc.cluster.local."]);
    let verified = ["--pods", "verified", "--pod-alias"];
    let cases: [(&[&str], &str, u16, Said<'_>, Said<'_>); 15] = [
        (&["--ignore-empty-service"], web_name, 1, web, absent),
        (&["--namespace", "other"], web_name, 1, web, absent),
        (
            &["--namespace", "other", "--namespace", "shop"],
            web_name,
            1,
            web,
            web,
        ),
        (
            &["--server-ip", "192.0.2.53"],
            "ns.dns.cluster.local",
            1,
            nothing,
            (0, &["5 192.0.2.53"]),
        ),
        (
            &["--server-ip", "2001:db8::53"],
            "ns.dns.cluster.local",
            28,
            nothing,
            (0, &["5 2001:db8::53"]),
        ),
        (
            &["--reverse-zone", "10.96.0.0/16"],
            reverse,
            12,
            (5, &[]),
            pointer,
        ),
        (
            &["--reverse-zone", "10.97.0.0/16"],
            reverse,
            12,
            (5, &[]),
            (5, &[]),
        ),
        (&["--ttl", "30"], web_name, 1, web, (0, &["30 10.96.0.7"])),
        (
            &["--zone", "other.test"],
            "web.shop.svc.other.test",
            1,
            (5, &[]),
            web,
        ),
        (&["--pods", "insecure"], any_name, 1, absent, any),
        (&["--pods", "verified"], pod_name, 1, absent, pod),
        (&["--pods", "verified"], any_name, 1, absent, absent),
        (
            &verified,
            "10-64-0-1.one.shop.pod.cluster.local",
            1,
            absent,
            pod,
        ),
        (
            &["--port-alias"],
            "http.web.shop.svc.cluster.local",
            1,
            absent,
            web,
        ),
        (
            &["--endpoint-pod-names"],
            "one.pods.shop.svc.cluster.local",
            1,
            absent,
            pod,
        ),
    ];
    let plain = Server::start(&folder.0, &[]);
    for (flags, name, kind, without, with) in cases {
        let server = Server::start(&folder.0, flags);
        for (server, (rcode, answers)) in [(&plain, without), (&server, with)] {
            let message = server.udp(name, kind);
            let records = message.sections[0].iter();
            let got: Vec<String> = records
                .map(|(_, ttl, _, data)| format!("{ttl} {data}"))
                .collect();
            assert_eq!(
                (message.rcode, got),
                (rcode, answers.iter().map(ToString::to_string).collect()),
                "{flags:?} {name}"
            );
        }
    }
}

/// A Pod behind a headless Service.
const PODS: &str = "\
apiVersion: v1
kind: Service
metadata: {name: pods, namespace: shop}
spec: {clusterIP: None, clusterIPs: [None], ports: [{name: http, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: pods-1, namespace: shop, labels: {kubernetes.io/service-name: pods}}
addressType: IPv4
ports: [{name: http, port: 80}]
endpoints:
- {addresses: [10.64.0.1], conditions: {ready: true}, targetRef: {kind: Pod, namespace: shop, name: one}}
---
apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop}
status: {phase: Running, podIP: 10.64.0.1, podIPs: [{ip: 10.64.0.1}]}
---
";
