//! What goes wrong around an agent that runs.

use std::process::Command;
use std::time::Instant;

use svc_core::testing::Source;

use crate::rig::{Agent, CLUSTER_IP, NFTABLES, PATIENCE, Rig};
use examples::sandbox::{Outcome, Transport, probe};

fn reach(rig: &Rig) -> Outcome {
    let to = format!("{CLUSTER_IP}:80").parse().unwrap();
    probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap()
}

/// What a start would change, in the words of `--dry-run`; nothing if all is right.
fn differences(rig: &Rig) -> String {
    let tid = rig.sandbox.node().tid();
    let netns = format!("/proc/{}/task/{tid}/ns/net", std::process::id());
    let manifests = rig.folder.join("manifests");
    let output = Command::new(NFTABLES)
        .args(["--manifests", manifests.to_str().unwrap(), "--node", "n1"])
        .args(["--dry-run", "--netns", &netns])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Lines that a dry run prints of objects.
fn changes(text: &str) -> Vec<&str> {
    let lines = text.lines();
    lines
        .filter(|line| line.starts_with(['+', '-', '~']))
        .collect()
}

/// Somebody edits the table at random while endpoints come and go: once both rest, the kernel holds what it
/// should, and nothing else.
///
/// `FOREIGN_EDITS` makes it longer.
pub(crate) fn random_edits() {
    let edits = std::env::var("FOREIGN_EDITS").map_or(150, |edits| edits.parse().unwrap());
    let rig = Rig::new();
    assert!(
        !changes(&differences(&rig)).is_empty(),
        "nothing is there yet"
    );
    let mut agent = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut agent);
    let mut made = 0;
    for edit in 0..edits {
        let noise = u32::wrapping_mul(edit + 1, 2_654_435_761).to_le_bytes();
        let mut random = Source::new(&noise);
        made += u32::from(edit_at_random(&rig, &mut random));
        let all = ["10.64.1.1", "10.64.1.2"];
        rig.endpoints(&all[usize::from(random.chance(128))..]);
    }
    assert!(
        made > edits / 3,
        "only {made} of {edits} edits were possible"
    );
    rig.endpoints(&["10.64.1.2"]);
    let start = Instant::now();
    agent.until("rest", || {
        (reach(&rig).pod() == Some("web-1")).then_some(())
    });
    let repaired = agent.until("nothing to do", || {
        changes(&differences(&rig))
            .is_empty()
            .then(|| start.elapsed())
    });
    println!("{made} foreign edits of {edits}; all is right {repaired:.1?} after the last");
    let log = agent.stop();
    assert!(log.contains("repaired what somebody else changed"), "{log}");
}

/// One edit of somebody else; whether the kernel took it.
fn edit_at_random(rig: &Rig, random: &mut Source<'_>) -> bool {
    let listing = rig.tool("nft", &["-a", "list", "ruleset"], "");
    let names = |kind: &str| -> Vec<&str> {
        let lines = listing.lines().map(str::trim);
        let of_kind = lines.filter_map(|line| line.strip_prefix(kind)?.split(' ').nth(1));
        of_kind.collect()
    };
    let (chains, maps) = (names("chain"), names("map"));
    if chains.is_empty() || maps.is_empty() {
        return false;
    }
    let chain = chains[random.below(chains.len())];
    let map = maps[random.below(maps.len())];
    let edit = match random.below(7) {
        0 => format!("flush map ip svc-proxy {map}"),
        1 => format!("flush chain ip svc-proxy {chain}"),
        2 => format!("insert rule ip svc-proxy {chain} counter drop"),
        3 => format!("add rule ip svc-proxy {chain} counter accept"),
        4 => "delete table ip svc-proxy".into(),
        5 => "flush ruleset".into(),
        _ => "add chain ip svc-proxy of-somebody-else; add table ip svc-proxy { flags dormant; }"
            .into(),
    };
    let run = || Command::new("nft").arg(&edit).output().unwrap();
    let output = rig.sandbox.node().run(run).unwrap();
    output.status.success()
}

/// Two agents in one namespace by mistake, with the same table and the same objects: the other is named, and
/// they do not fight.
pub(crate) fn two_agents() {
    let rig = Rig::new();
    let mut agents: Vec<Agent> = (0..2).map(|_| rig.start(NFTABLES, &[])).collect();
    for agent in &mut agents {
        rig.await_synced(agent);
    }
    rig.endpoints(&["10.64.1.2"]);
    let pids: Vec<u32> = agents.iter().map(Agent::pid).collect();
    let logs: Vec<_> = agents.iter().map(|agent| agent.log.clone()).collect();
    // Whoever is slower to write the change hears of the other's commit.
    let is_named = |log: usize, other: usize| {
        let text = std::fs::read_to_string(&logs[log]).unwrap();
        text.contains(&format!("process {} (nftables-proxy) changed", pids[other]))
    };
    let second = &mut agents[1];
    second.until("name of the other", || {
        (is_named(0, 1) || is_named(1, 0)).then_some(())
    });
    second.until("rest", || {
        (reach(&rig).pod() == Some("web-1")).then_some(())
    });
    second.until("nothing to do", || {
        changes(&differences(&rig)).is_empty().then_some(())
    });
    // Each finds what the other wrote right: writes end.
    let written = "svc_proxy_objects_written_total{ip_family=\"IPv4\"}";
    let count = || -> Vec<Option<f64>> {
        let metrics = [&agents[0].metrics, &agents[1].metrics];
        metrics.map(|at| rig.metric(at, written)).into()
    };
    let before = count();
    for _ in 0..20 {
        assert!(changes(&differences(&rig)).is_empty());
    }
    assert_eq!(count(), before);
}

/// Nothing that is told can be written: the rules are, and follow the objects.
pub(crate) fn full_disk() {
    let rig = Rig::new();
    let mut agent = Agent::start_on_full_disk(NFTABLES, &rig);
    rig.await_synced(&mut agent);
    assert!(reach(&rig).pod().is_some());
    rig.endpoints(&["10.64.1.2"]);
    agent.until("a change", || {
        let all = (0..4).all(|_| reach(&rig).pod() == Some("web-1"));
        all.then_some(())
    });
    agent.stop();
}
