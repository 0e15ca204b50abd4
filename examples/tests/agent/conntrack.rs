//! UDP flows and the endpoints they were sent to (B-178 to B-190).

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use examples::sandbox::{Session, Transport};

use crate::rig::{CLUSTER_IP, IPTABLES, NFTABLES, NODE_IP, PATIENCE, Rig};

fn session(rig: &Rig) -> Session {
    let to = format!("{CLUSTER_IP}:53").parse().unwrap();
    Session::open(rig.sandbox.outside(), None, to, Transport::Udp, PATIENCE).unwrap()
}

/// The address of the pod that a session goes to.
fn address(session: &Session) -> &'static str {
    match session.pod() {
        "web-0" => "10.64.1.1",
        "web-1" => "10.64.1.2",
        other => panic!("no pod {other}"),
    }
}

/// One second after the commit the flow of a client that never stops goes to the other endpoint.
pub(crate) fn lost_endpoint() {
    for program in [NFTABLES, IPTABLES] {
        let rig = Rig::new();
        let mut agent = rig.start(program, &[]);
        rig.await_synced(&mut agent);
        let mut session = session(&rig);
        let lost = address(&session);
        let before = session.pod().to_owned();
        for _ in 0..5 {
            assert_eq!(session.ask(PATIENCE).unwrap().pod(), Some(&*before));
        }
        let all = ["10.64.1.1", "10.64.1.2"];
        let left: Vec<&str> = all.into_iter().filter(|ip| *ip != lost).collect();
        let commits = "svc_proxy_change_to_kernel_seconds_count{ip_family=\"IPv4\"}";
        let count = rig.metric(&agent.metrics, commits).unwrap();
        rig.endpoints(&left);
        let metrics = agent.metrics.clone();
        agent.until("commit", || {
            rig.metric(&metrics, commits).filter(|now| *now > count)
        });
        let committed = Instant::now();
        loop {
            // The pod still runs, so an answer of the lost one is the old flow. An answer that is
            // under way when its entry goes is lost, so the client asks again soon.
            let outcome = session.ask(Duration::from_millis(100)).unwrap();
            if outcome.pod().is_some_and(|pod| pod != before) {
                break;
            }
            let waited = committed.elapsed();
            assert!(
                waited < Duration::from_secs(1),
                "{outcome:?}: {}",
                agent.log()
            );
        }
        let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
        rig.await_metric(&mut agent, deleted, |count| count >= 1.0);
        // TCP is never touched, and the node itself keeps what it has.
        agent.stop();
    }
}

const PASSES: &str =
    "kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family=\"IPv4\"}";

/// A restart with unchanged inputs deletes nothing, and the flow goes on.
pub(crate) fn restart() {
    let rig = Rig::new();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    let mut session = session(&rig);
    let pod = session.pod().to_owned();
    agent.stop();
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    // Both passes of the start are over.
    rig.await_metric(&mut agent, PASSES, |count| count >= 2.0);
    let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
    assert_eq!(rig.metric(&agent.metrics, deleted), Some(0.0));
    assert_eq!(session.ask(PATIENCE).unwrap().pod(), Some(&*pod));
    agent.stop();
}

/// A flow that began while somebody else had removed the rules has an entry that leads nowhere, and each
/// packet of it keeps that alive: it is forgotten after the repair.
pub(crate) fn foreign_removal() {
    let rig = Rig::new();
    // Connections are tracked as long as any rule asks for it.
    let tracking = "table ip other { chain c { type filter hook prerouting priority 0; ct state new counter; }; }";
    rig.tool("nft", &[tracking], "");
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    // Those of the start would find it, too.
    rig.await_metric(&mut agent, PASSES, |count| count >= 2.0);
    let socket = rig
        .sandbox
        .outside()
        .run(|| UdpSocket::bind("203.0.113.7:0").unwrap());
    let socket = socket.unwrap();
    let short = Duration::from_millis(100);
    socket.set_read_timeout(Some(short)).unwrap();
    let ask = || {
        socket.send_to(b"hello", (NODE_IP, 30053)).unwrap();
        socket.recv(&mut [0; 512]).ok()
    };
    agent.signal(Signal::SIGSTOP);
    rig.tool("nft", &["delete", "table", "ip", "svc-proxy"], "");
    assert_eq!(ask(), None);
    agent.signal(Signal::SIGCONT);
    agent.until("an answer", ask);
    let deleted = "kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family=\"IPv4\"}";
    assert_eq!(rig.metric(&agent.metrics, deleted), Some(1.0));
    agent.stop();
}
