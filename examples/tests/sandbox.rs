//! The sandbox with real packets, as root or as anyone: `cargo test -p examples --test sandbox`.
#![allow(clippy::unwrap_used, reason = "a trial fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use examples::sandbox::{
    ConnectLoop, Error, Layout, Namespace, Outcome, PodSpec, Refusal, Route, Sandbox, Server,
    Session, Transport, Trial, isolate, probe, run_trials,
};
use nix::errno::Errno;

fn main() -> ExitCode {
    run_trials(&[
        Trial {
            name: "node_six_pods_and_clients_are_up_in_half_a_second",
            run: start_time,
        },
        Trial {
            name: "every_pod_reaches_every_pod",
            run: pod_to_pod,
        },
        Trial {
            name: "clients_and_node_reach_pods_from_each_address",
            run: sources,
        },
        Trial {
            name: "closed_port_is_refused",
            run: closed_port,
        },
        Trial {
            name: "silence_is_timed_out",
            run: silence,
        },
        Trial {
            name: "address_of_nobody_is_unreachable_at_once",
            run: stray,
        },
        Trial {
            name: "pod_is_replaced_under_another_address",
            run: replace,
        },
        Trial {
            name: "loop_counts_answers_by_pod_and_failures",
            run: loop_counts,
        },
        Trial {
            name: "session_lasts_until_its_pod_stops",
            run: session,
        },
        Trial {
            name: "many_connections_and_ports_share_a_server",
            run: many_ports,
        },
        Trial {
            name: "sysctls_belong_to_one_namespace",
            run: sysctls,
        },
        Trial {
            name: "errors_name_namespace_link_and_address",
            run: errors,
        },
        Trial {
            name: "namespace_goes_with_its_value",
            run: namespace_end,
        },
    ])
}

/// Upper bound for an answer that comes at once on an idle machine.
const PATIENCE: Duration = Duration::from_secs(5);

fn start_time() {
    let start = Instant::now();
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    let took = start.elapsed();
    println!(
        "node, outside and {} pods in {took:.1?}",
        sandbox.pods().count()
    );
    assert!(took < Duration::from_millis(500), "{took:?}");
}

fn pod_to_pod() {
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    for from in sandbox.pods() {
        for to in sandbox.pods() {
            for address in &to.spec().addresses {
                for (transport, port) in &to.spec().ports {
                    let to_socket = SocketAddr::new(*address, *port);
                    let outcome =
                        probe(from.namespace(), None, to_socket, *transport, PATIENCE).unwrap();
                    assert_eq!(outcome.pod(), Some(to.spec().name.as_str()), "{outcome}");
                    let seen = outcome.seen_source().unwrap().ip();
                    assert!(from.spec().addresses.contains(&seen), "{outcome}");
                }
            }
        }
    }
}

fn sources() {
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    let cases = [
        ("203.0.113.7", "10.64.1.1:80"),
        ("203.0.113.200", "10.64.1.1:80"),
        ("2600:5200::7", "[fd10:64:0:1::1]:80"),
        ("203.0.113.7", "10.64.2.1:80"),
        ("2600:5200::7", "[fd10:64:0:2::1]:80"),
        ("198.18.0.10", "10.64.1.1:80"),
        ("198.18.1.10", "10.64.2.1:80"),
        ("2001:db8:a::10", "[fd10:64:0:1::1]:80"),
        ("2001:db8:b::10", "[fd10:64:0:2::1]:80"),
        ("10.64.1.2", "10.64.1.1:80"),
        ("fd10:64:0:2::2", "[fd10:64:0:1::1]:80"),
    ];
    for (source, to) in cases {
        let from = sandbox.namespace_of(ip(source)).unwrap();
        for transport in [Transport::Tcp, Transport::Udp] {
            let outcome = probe(from, Some(ip(source)), at(to), transport, PATIENCE).unwrap();
            let seen = outcome.seen_source().map(|seen| seen.ip());
            assert_eq!(seen, Some(ip(source)), "to {to}/{transport}: {outcome}");
        }
    }
    assert!(sandbox.namespace_of(ip("10.64.3.3")).is_none());
    // Without a choice the first address of the family is the source.
    let chosen = |from, to| {
        probe(from, None, at(to), Transport::Tcp, PATIENCE)
            .unwrap()
            .seen_source()
            .unwrap()
            .ip()
    };
    assert_eq!(chosen(sandbox.outside(), "10.64.1.1:80"), ip("203.0.113.7"));
    assert_eq!(
        chosen(sandbox.outside(), "[fd10:64:0:1::1]:80"),
        ip("2600:5200::7")
    );
    assert_eq!(chosen(sandbox.node(), "10.64.2.1:80"), ip("198.18.0.10"));
    assert_eq!(
        chosen(sandbox.node(), "[fd10:64:0:2::1]:80"),
        ip("2001:db8:a::10")
    );
}

fn closed_port() {
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    for to in [
        "10.64.1.1:81",
        "[fd10:64:0:1::1]:81",
        "10.64.2.1:81",
        "198.18.0.10:81",
    ] {
        for (transport, refusal) in [
            (Transport::Tcp, Refusal::Reset),
            (Transport::Udp, Refusal::PortUnreachable),
        ] {
            let start = Instant::now();
            let outcome = probe(sandbox.outside(), None, at(to), transport, PATIENCE).unwrap();
            assert_eq!(outcome, Outcome::Refused(refusal), "{to}/{transport}");
            assert!(
                start.elapsed() < Duration::from_millis(900),
                "{to}/{transport}"
            );
        }
    }
}

fn silence() {
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    // A pod does not forward, so that it swallows what is routed through it.
    let pod = sandbox.pod("web-0").unwrap();
    for (hole, gateway, to) in [
        ("10.64.9.0/24", "10.64.1.1", "10.64.9.1:80"),
        ("fd10:64:0:9::/64", "fd10:64:0:1::1", "[fd10:64:0:9::1]:80"),
    ] {
        let route = Route::through(hole.parse().unwrap(), ip(gateway), pod.router_link());
        sandbox.node().add_route(&route).unwrap();
        for transport in [Transport::Tcp, Transport::Udp] {
            let limit = Duration::from_millis(300);
            let start = Instant::now();
            let outcome = probe(sandbox.outside(), None, at(to), transport, limit).unwrap();
            assert_eq!(outcome, Outcome::TimedOut, "{to}/{transport}");
            assert!(
                start.elapsed() >= limit,
                "{to}/{transport}: {:?}",
                start.elapsed()
            );
        }
    }
}

fn stray() {
    let sandbox = Sandbox::build(&six_pods()).unwrap();
    let pod = sandbox.pod("web-0").unwrap().namespace();
    let other = sandbox.pod("far-0").unwrap().namespace();
    for from in [sandbox.outside(), sandbox.node(), pod, other] {
        // More than the kernel's usual allowance of ICMP errors.
        for round in 0..10 {
            for to in [
                "10.96.0.50:80",
                "192.0.2.31:80",
                "10.64.3.3:80",
                "[fd10:96::50]:80",
            ] {
                for transport in [Transport::Tcp, Transport::Udp] {
                    let start = Instant::now();
                    let outcome = probe(from, None, at(to), transport, PATIENCE).unwrap();
                    let case = format!("{} to {to}/{transport}, round {round}", from.name());
                    assert_eq!(outcome, Outcome::Unreachable(Errno::ENETUNREACH), "{case}");
                    assert!(start.elapsed() < Duration::from_millis(900), "{case}");
                }
            }
        }
    }
}

fn replace() {
    let mut sandbox = Sandbox::build(&six_pods()).unwrap();
    let ask = |sandbox: &Sandbox, to: &str| {
        let from = sandbox.pod("web-1").unwrap().namespace();
        probe(from, None, at(to), Transport::Tcp, PATIENCE).unwrap()
    };
    assert_eq!(ask(&sandbox, "10.64.1.1:80").pod(), Some("web-0"));
    sandbox.remove_pod("web-0").unwrap();
    let gone = Outcome::Unreachable(Errno::ENETUNREACH);
    assert_eq!(ask(&sandbox, "10.64.1.1:80"), gone);
    assert_eq!(ask(&sandbox, "[fd10:64:0:1::1]:80"), gone);

    let start = Instant::now();
    let again = PodSpec::on_node("web-0", [ip("10.64.1.9"), ip("fd10:64:0:1::9")])
        .serving(Transport::Tcp, 80);
    sandbox.add_pod(&again).unwrap();
    println!("a pod more in {:.1?}", start.elapsed());
    assert_eq!(ask(&sandbox, "10.64.1.9:80").pod(), Some("web-0"));
    assert_eq!(ask(&sandbox, "[fd10:64:0:1::9]:80").pod(), Some("web-0"));

    // The address that is free again can be another pod's, here on another node.
    let reuse = PodSpec::elsewhere("other", [ip("10.64.1.1")]).serving(Transport::Tcp, 80);
    sandbox.add_pod(&reuse).unwrap();
    assert_eq!(ask(&sandbox, "10.64.1.1:80").pod(), Some("other"));
}

fn loop_counts() {
    let mut sandbox = Sandbox::build(&six_pods()).unwrap();
    for transport in [Transport::Tcp, Transport::Udp] {
        let to = at("10.64.1.1:80");
        let limit = Duration::from_millis(300);
        let running = ConnectLoop::start(sandbox.outside(), None, to, transport, limit).unwrap();
        until(|| running.counts().made >= 50);
        assert_eq!(running.counts().failed, 0, "{:?}", running.counts());
        sandbox.pod_mut("web-0").unwrap().stop_serving();
        until(|| running.counts().failed >= 50);
        sandbox.remove_pod("web-0").unwrap();
        let web = six_pods().pods.remove(0);
        let renamed = PodSpec {
            name: "web-9".into(),
            ..web.clone()
        };
        sandbox.add_pod(&renamed).unwrap();
        until(|| running.counts().by_pod.contains_key("web-9"));
        let counts = running.stop();
        assert_eq!(counts.by_pod.values().sum::<u64>(), counts.made);
        assert_eq!(counts.failures.values().sum::<u64>(), counts.failed);
        assert_eq!(counts.by_pod.keys().collect::<Vec<_>>(), ["web-0", "web-9"]);
        sandbox.remove_pod("web-9").unwrap();
        sandbox.add_pod(&web).unwrap();
    }
}

fn session() {
    let mut sandbox = Sandbox::build(&six_pods()).unwrap();
    for (transport, end) in [
        (Transport::Tcp, Outcome::Silent),
        (Transport::Udp, Outcome::Refused(Refusal::PortUnreachable)),
    ] {
        let open = |sandbox: &Sandbox, to| {
            Session::open(sandbox.outside(), None, at(to), transport, PATIENCE)
        };
        let mut kept = open(&sandbox, "10.64.1.1:80").unwrap();
        assert_eq!(
            (kept.pod(), kept.seen_source().ip()),
            ("web-0", ip("203.0.113.7"))
        );
        for _ in 0..3 {
            let outcome = kept.ask(PATIENCE).unwrap();
            assert_eq!(outcome.pod(), Some("web-0"), "{outcome}");
        }
        let refused = open(&sandbox, "10.64.1.1:81").unwrap_err();
        assert!(matches!(refused, Error::NoSession { .. }), "{refused}");
        sandbox.pod_mut("web-0").unwrap().stop_serving();
        assert_eq!(kept.ask(PATIENCE).unwrap(), end);
        sandbox.remove_pod("web-0").unwrap();
        sandbox.add_pod(&six_pods().pods[0]).unwrap();
    }
}

fn many_ports() {
    let namespace = Namespace::new("host").unwrap();
    let loopback = [ip("127.0.0.1"), ip("::1")];
    let ports: Vec<_> = (3000..3100)
        .flat_map(|port| loopback.map(|ip| SocketAddr::new(ip, port)))
        .flat_map(|address| [Transport::Tcp, Transport::Udp].map(|transport| (transport, address)))
        .collect();
    let server = Server::start(&namespace, "many", &ports).unwrap();
    assert_eq!(server.listening(), ports);
    let mut sessions: Vec<Session> = ports
        .iter()
        .map(|(transport, to)| Session::open(&namespace, None, *to, *transport, PATIENCE).unwrap())
        .collect();
    for session in &mut sessions {
        assert_eq!(session.ask(PATIENCE).unwrap().pod(), Some("many"));
    }
    server.stop();
    let outcome = probe(
        &namespace,
        None,
        at("127.0.0.1:3000"),
        Transport::Tcp,
        PATIENCE,
    )
    .unwrap();
    assert_eq!(outcome, Outcome::Refused(Refusal::Reset));
}

fn sysctls() {
    let (one, two) = (
        Namespace::new("one").unwrap(),
        Namespace::new("two").unwrap(),
    );
    let key = "net/ipv4/conf/all/route_localnet";
    one.set_sysctls(&[(key, "1")]).unwrap();
    assert_eq!(one.sysctl(key).unwrap(), "1");
    assert_eq!(two.sysctl(key).unwrap(), "0");
}

fn errors() {
    let namespace = Namespace::new("lone").unwrap();
    let of = |error: Error| error.to_string();
    assert_eq!(
        of(namespace
            .add_address("eth7", "10.0.0.1/8".parse().unwrap())
            .unwrap_err()),
        "cannot add address 10.0.0.1/8 to link eth7 in network namespace lone"
    );
    assert_eq!(
        of(namespace
            .set_sysctls(&[("net/ipv4/nothing", "1")])
            .unwrap_err()),
        "cannot write sysctl net/ipv4/nothing in network namespace lone"
    );
    let taken = [(Transport::Tcp, at("192.0.2.1:80"))];
    assert_eq!(
        of(Server::start(&namespace, "pod", &taken).unwrap_err()),
        "cannot listen on 192.0.2.1:80/tcp in network namespace lone"
    );
    assert_eq!(
        of(namespace.wait_ready("eth7", &[]).unwrap_err()),
        "cannot look up link eth7 in network namespace lone"
    );
    assert!(matches!(isolate(), Err(Error::ManyThreads { threads }) if threads > 1));
}

fn namespace_end() {
    let namespace = Namespace::new("brief").unwrap();
    let path = format!("/proc/{}/ns/net", namespace.tid());
    let inside = namespace
        .run(|| std::fs::read_link("/proc/thread-self/ns/net"))
        .unwrap();
    let inside = inside.unwrap();
    assert_eq!(std::fs::read_link(&path).unwrap(), inside);
    assert_ne!(std::fs::read_link("/proc/self/ns/net").unwrap(), inside);
    drop(namespace);
    until(|| std::fs::read_link(&path).is_err());
}

/// Four pods on the node and two on another, all dual-stack and serving TCP and UDP.
fn six_pods() -> Layout {
    let pod = |name: String, node: u16, host: u16| {
        let addresses = [
            ip(&format!("10.64.{node}.{host}")),
            ip(&format!("fd10:64:0:{node}::{host}")),
        ];
        let spec = match node {
            1 => PodSpec::on_node(name, addresses),
            _ => PodSpec::elsewhere(name, addresses),
        };
        spec.serving(Transport::Tcp, 80)
            .serving(Transport::Udp, 80)
            .serving(Transport::Udp, 53)
    };
    let near = (0..4).map(|index| pod(format!("web-{index}"), 1, index + 1));
    let far = (0..2).map(|index| pod(format!("far-{index}"), 2, index + 1));
    Layout {
        pods: near.chain(far).collect(),
        ..Layout::default()
    }
}

fn until(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not done in {PATIENCE:?}");
        thread::yield_now();
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}
