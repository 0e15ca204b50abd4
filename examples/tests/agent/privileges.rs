//! The agents with the least privileges.

use std::process::Stdio;

use crate::rig::{Agent, CLUSTER_IP, IPTABLES, NFTABLES, NODE_IP, PATIENCE, Rig};
use crate::starts::reduced;
use examples::sandbox::{Transport, probe};

/// Whether packets reach pods through the ClusterIP and the node port.
fn serves(rig: &Rig) -> bool {
    [format!("{CLUSTER_IP}:80"), format!("{NODE_IP}:30080")]
        .iter()
        .all(|to| {
            let to = to.parse().unwrap();
            let outside = rig.sandbox.outside();
            let outcome = probe(outside, None, to, Transport::Tcp, PATIENCE).unwrap();
            outcome.pod().is_some()
        })
}

/// What a process that is reduced so may do, in the words of the kernel.
fn effective(caps: &str) -> String {
    let mut command = reduced(caps);
    command.args(["grep", "^CapEff:", "/proc/self/status"]);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    String::from_utf8(output.stdout)
        .unwrap()
        .replace(['\t', '\n'], "")
}

fn run(program: &str, args: &[&str], caps: &str) -> (Rig, Agent) {
    let rig = Rig::new();
    assert!(!serves(&rig), "nobody serves yet");
    let mut agent = Agent::start_reduced(program, &rig, caps, args);
    rig.await_synced(&mut agent);
    assert!(serves(&rig), "{}", agent.log());
    rig.endpoints(&["10.64.1.2"]);
    let to = format!("{CLUSTER_IP}:80").parse().unwrap();
    agent.until("a change of endpoints", || {
        let seen = (0..4).map(|_| {
            let outside = rig.sandbox.outside();
            probe(outside, None, to, Transport::Tcp, PATIENCE).unwrap()
        });
        let all_there = seen
            .into_iter()
            .all(|outcome| outcome.pod() == Some("web-1"));
        all_there.then_some(())
    });
    (rig, agent)
}

/// `CAP_NET_ADMIN` alone is enough, for the rules, for what the kernel tells of the changes of others,
/// and for connection tracking.
pub(crate) fn nftables() {
    assert_eq!(effective(NET_ADMIN), "CapEff:0000000000001000");
    let (rig, mut agent) = run(NFTABLES, &[], NET_ADMIN);
    rig.tool("nft", &["flush", "ruleset"], "");
    agent.until("repair", || serves(&rig).then_some(()));
    let log = agent.stop();
    assert!(log.contains("repaired what somebody else changed"), "{log}");
    assert!(!log.contains("UDP flows to lost endpoints stay"), "{log}");
}

pub(crate) fn iptables_nft() {
    let (_rig, agent) = run(IPTABLES, &["--variant", "nft"], NET_ADMIN);
    agent.stop();
}

/// iptables-legacy speaks through a raw socket.
pub(crate) fn iptables_legacy() {
    let (_rig, agent) = run(IPTABLES, &["--variant", "legacy"], "+net_admin,+net_raw");
    agent.stop();
    let rig = Rig::new();
    let mut refused = Agent::start_reduced(IPTABLES, &rig, NET_ADMIN, &["--variant", "legacy"]);
    let log = refused.ended();
    assert!(log.contains("unable to initialize table"), "{log}");
}

const NET_ADMIN: &str = "+net_admin";
