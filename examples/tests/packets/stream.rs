//! Changes of endpoints under a steady stream of new connections.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use examples::sandbox::{ConnectLoop, Counts, Transport};
use svc_core::config::ProxyMode;
use svc_core::object::EndpointSlice;

use crate::lab::{Lab, PATIENCE, TRANSPORTS, UnderTest, at, ip, port, slice, target_port};

/// Once the kernel acknowledged that an endpoint is gone, no new connection reaches it.
pub(crate) fn removed_gets_nothing(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    lab.apply(WEB, &[endpoints(None)]);
    // A UDP client that takes the same port again soon is the same connection, so each client
    // comes once.
    let address = |n: u8| IpAddr::from(Ipv4Addr::new(203, 0, 113, n));
    let clients: Vec<IpAddr> = (10..110).map(address).collect();
    lab.world.add_clients("clients", &clients).unwrap();
    let rounds = clients.len() / usize::from(under_test.shorter());
    for (round, client) in clients.iter().enumerate().take(rounds) {
        let removed = round % ENDPOINTS.len();
        lab.change(endpoints(Some(removed)));
        for transport in TRANSPORTS {
            let gone = at(ENDPOINTS[removed].0, target_port(transport));
            for _ in 0..5 {
                let reached = lab.reach(*client, at("10.96.0.10", port(transport)), transport);
                assert_ne!(reached, gone, "{client} after change {round}");
            }
        }
        lab.change(endpoints(None));
    }
}

/// Endpoints go and come while clients connect all the time: every connection is answered.
///
/// `PACKETS_CONNECTS` of each transport and `PACKETS_CHANGES` make it shorter or longer.
pub(crate) fn nothing_is_lost(under_test: &UnderTest) {
    let connects = number("PACKETS_CONNECTS", 20_000 / u64::from(under_test.shorter()));
    let changes = number("PACKETS_CHANGES", 200 / u64::from(under_test.shorter()));
    let mut lab = Lab::new(under_test);
    lab.apply(WEB, &[endpoints(None)]);
    let node = lab.world.sandbox().node();
    // A port pair that comes again within a minute or two would still be the old connection.
    node.set_sysctls(&[
        ("net/netfilter/nf_conntrack_tcp_timeout_close", "1"),
        ("net/netfilter/nf_conntrack_udp_timeout", "1"),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", "1"),
    ])
    .unwrap();
    let start = Instant::now();
    let mut loops = TRANSPORTS.map(|transport| start_loops(&mut lab, transport));
    let mut slowest = Duration::ZERO;
    for change in 0..changes {
        let endpoint = usize::try_from(change / 2).unwrap() % ENDPOINTS.len();
        let removed = (change % 2 == 0).then_some(endpoint);
        let before = Instant::now();
        lab.change(endpoints(removed));
        slowest = slowest.max(before.elapsed());
        let gone = removed.map(|removed| at(ENDPOINTS[removed].0, target_port(Transport::Tcp)));
        stream_on(&mut loops, connects / changes, gone);
    }
    let took = start.elapsed();
    for (transport, loops) in TRANSPORTS.into_iter().zip(loops) {
        let counts: Vec<Counts> = loops.into_iter().map(ConnectLoop::stop).collect();
        let made: u64 = counts.iter().map(|counts| counts.made).sum();
        println!(
            "{made} {transport} connects, {changes} changes (slowest {slowest:.1?}), {took:.1?}"
        );
        for counts in counts {
            assert!(
                counts.failed <= forgiven(under_test, transport),
                "{counts:?}"
            );
        }
        assert!(made >= connects, "{made} of {connects}");
    }
}

/// Failures of a client that are not the backend's: IPVS drops a datagram whose endpoint it deletes
/// just as it sends it there, and the next one of a port pair that is known and has no endpoint.
fn forgiven(under_test: &UnderTest, transport: Transport) -> u64 {
    match (under_test.mode, transport) {
        (ProxyMode::Ipvs, Transport::Udp) => 1,
        (ProxyMode::Ipvs | ProxyMode::Nftables | ProxyMode::Iptables, _) => 0,
    }
}

/// Waits for so many more connects of each transport, and that none reaches who is gone.
fn stream_on(loops: &mut [Vec<ConnectLoop>; 2], more: u64, gone: Option<SocketAddr>) {
    // Those under way when the endpoint went may still reach it: each loop makes one at a time.
    wait(loops, 2);
    let tcp = |loops: &[Vec<ConnectLoop>; 2]| -> u64 {
        let name = gone.map(|gone| gone.to_string()).unwrap_or_default();
        let of = |one: &ConnectLoop| one.counts().by_pod.get(&name).copied().unwrap_or(0);
        loops[0].iter().map(of).sum()
    };
    let reached = tcp(loops);
    wait(loops, more.div_ceil(LOOPS).saturating_sub(2));
    assert_eq!(tcp(loops), reached, "{gone:?} is gone");
}

/// Waits until every loop has made so many more attempts.
fn wait(loops: &[Vec<ConnectLoop>; 2], more: u64) {
    let attempts = |one: &ConnectLoop| {
        let counts = one.counts();
        counts.made + counts.failed
    };
    let all: Vec<(&ConnectLoop, u64)> = loops
        .iter()
        .flatten()
        .map(|one| (one, attempts(one) + more))
        .collect();
    let deadline = Instant::now() + PATIENCE * 6;
    for (one, goal) in all {
        while attempts(one) < goal {
            assert!(Instant::now() < deadline, "no progress: {:?}", one.counts());
            thread::sleep(Duration::from_micros(500));
        }
    }
}

/// Half of them pods that use the ClusterIP, half clients that use a node port.
fn start_loops(lab: &mut Lab, transport: Transport) -> Vec<ConnectLoop> {
    let host = 100 + port(transport);
    let loops = (0..LOOPS).map(|n| {
        let (from, to) = match n % 2 {
            0 => (format!("10.64.1.{host}"), at("10.96.0.10", port(transport))),
            _ => (
                format!("203.0.113.{host}"),
                at("198.18.0.10", 30_000 + port(transport)),
            ),
        };
        let from = match ip(&from) {
            IpAddr::V4(v4) => IpAddr::from(Ipv4Addr::from_bits(
                v4.to_bits() + u32::try_from(n).unwrap(),
            )),
            IpAddr::V6(v6) => v6.into(),
        };
        let namespace = lab.world.namespace_for(from).unwrap();
        ConnectLoop::start(namespace, Some(from), to, transport, PATIENCE).unwrap()
    });
    loops.collect()
}

/// All endpoints but one.
fn endpoints(without: Option<usize>) -> EndpointSlice {
    let chosen = ENDPOINTS
        .iter()
        .enumerate()
        .filter(|(index, _)| Some(*index) != without);
    let chosen: Vec<_> = chosen.map(|(_, endpoint)| *endpoint).collect();
    slice("web", &chosen)
}

fn number(variable: &str, default: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => default,
    }
}

/// Clients of each transport.
const LOOPS: u64 = 4;
const ENDPOINTS: [(&str, &str); 5] = [
    ("10.64.1.1", "n1"),
    ("10.64.1.2", "n1"),
    ("10.64.1.3", "n1"),
    ("10.64.2.1", "n2"),
    ("10.64.2.2", "n2"),
];
const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: ["10.96.0.10"]
  ipFamilies: [IPv4]
  ports:
  - {name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: u, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}
"#;
