//! Two agents with the same rules in one network namespace.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::{self, Command};

use crate::rig::{IPTABLES, NFTABLES, Rig};

const IPVS: &str = env!("CARGO_BIN_EXE_ipvs-proxy");
const FOUND: &str = "svc_proxy_other_agent{";

/// The second of two names the first; when the first ends, the second is told, and is the one whom a
/// third names.
pub(crate) fn iptables() {
    let rig = Rig::new();
    let period = ["--iptables-sync-period=1s"];
    let mut first = rig.start(IPTABLES, &period);
    rig.await_synced(&mut first);
    let mut second = rig.start(IPTABLES, &period);
    rig.await_synced(&mut second);
    let of_first = format!(
        "another iptables-proxy (pid {}) manages chains SVC-*",
        first.pid()
    );
    second.until_logged(&format!("{of_first} in this network namespace"));
    let labels = format!(
        "{FOUND}process=\"iptables-proxy\",pid=\"{}\"}}",
        first.pid()
    );
    rig.await_metric(&mut second, &labels, |value| value == 1.0);
    let of_both = [&first, &second].map(|agent| rig.get(&agent.metrics, "/metrics").unwrap().body);
    assert_eq!(of_both.map(|text| text.contains(FOUND)), [false, true]);
    // Both serve, so both are healthy.
    assert_eq!(rig.get(&second.health(), "/healthz").unwrap().status, 200);

    let log = first.stop();
    assert!(!log.contains("another "), "{log}");
    second.until_logged(&format!("{of_first} no more"));
    let metrics = second.metrics.clone();
    second.until("no other agent", || {
        let text = rig.get(&metrics, "/metrics")?.body;
        (!text.contains(FOUND)).then_some(())
    });
    let of_second = format!("another iptables-proxy (pid {})", second.pid());
    let mut third = rig.start(IPTABLES, &period);
    third.until_logged(&of_second);
    third.stop();
    let log = second.stop();
    assert_eq!(
        log.matches(&of_first).count(),
        2,
        "told once, and once of its end: {log}"
    );
}

/// Programs that do not stay name the agent beside which they change something.
pub(crate) fn iptables_in_passing() {
    let rig = Rig::new();
    let mut agent = rig.start(IPTABLES, &[]);
    rig.await_synced(&mut agent);
    let warning = format!(
        "warning: another iptables-proxy (pid {}) manages chains SVC-* in",
        agent.pid()
    );
    let once = run(&rig, IPTABLES, &["--once", "--node", "n1"]);
    assert!(once.starts_with(&warning), "{once}");
    assert_eq!(run(&rig, IPTABLES, &["--dry-run", "--node", "n1"]), "");
    let cleaned = run(&rig, IPTABLES, &["--cleanup"]);
    assert!(cleaned.starts_with(&warning), "{cleaned}");
    assert!(
        cleaned.contains("what is removed here comes back"),
        "{cleaned}"
    );
    agent.stop();
    assert_eq!(run(&rig, IPTABLES, &["--cleanup"]), "");
}

/// Names a rival with the same table only, and after a killed one nobody: nothing is left behind.
pub(crate) fn nftables() {
    let rig = Rig::new();
    let mut first = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut first);
    let mut beside = rig.start(NFTABLES, &["--table", "beside"]);
    rig.await_synced(&mut beside);
    let mut same = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut same);
    let warning = format!(
        "another nftables-proxy (pid {}) manages table svc-proxy",
        first.pid()
    );
    same.until_logged(&warning);
    same.stop();
    let log = beside.stop();
    assert!(!log.contains("another "), "{log}");
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    let mut next = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut next);
    let log = next.stop();
    assert!(!log.contains("another "), "{log}");
}

/// A name that nobody ever answers at, and that many asked for: whoever asks goes on all the same.
pub(crate) fn silent_listener() {
    let rig = Rig::new();
    let name = SocketAddr::from_abstract_name("svc-proxy/nftables/table svc-proxy").unwrap();
    let held = rig
        .sandbox
        .node()
        .run(|| UnixListener::bind_addr(&name).unwrap());
    let held = held.unwrap();
    let args = ["--nftables-sync-period=1s"];
    let mut agent = rig.start(NFTABLES, &args);
    rig.await_synced(&mut agent);
    let me = format!(
        "(pid {}) manages table svc-proxy in this network namespace",
        process::id()
    );
    agent.until_logged(&me);
    drop(held);
    agent.until_logged("manages table svc-proxy no more");
    agent.stop();
}

/// Before it looks for IPVS, which not every kernel has.
pub(crate) fn ipvs() {
    let rig = Rig::new();
    let name = "svc-proxy/ipvs/the virtual servers of table svc-ipvs";
    let name = SocketAddr::from_abstract_name(name).unwrap();
    let held = rig
        .sandbox
        .node()
        .run(|| UnixListener::bind_addr(&name).unwrap());
    let args = ["--once", "--node", "n1"];
    let said = output(&rig, IPVS, &args).1;
    let expected = format!(
        "(pid {}) manages the virtual servers of table svc-ipvs",
        process::id()
    );
    assert!(said.contains(&expected), "{said}");
    drop(held);
    let said = output(&rig, IPVS, &args).1;
    assert!(!said.contains("another"), "{said}");
}

/// What it says on standard error; it succeeds.
fn run(rig: &Rig, program: &str, args: &[&str]) -> String {
    let (succeeded, said) = output(rig, program, args);
    assert!(succeeded, "{said}");
    said
}

fn output(rig: &Rig, program: &str, args: &[&str]) -> (bool, String) {
    let tid = rig.sandbox.node().tid();
    let netns = format!("/proc/{}/task/{tid}/ns/net", process::id());
    let output = Command::new(program)
        .args(args)
        .args(["--netns", &netns])
        .args(match args.contains(&"--cleanup") {
            true => Vec::new(),
            false => vec!["--manifests".into(), rig.folder.join("manifests")],
        })
        .env("XTABLES_LOCKFILE", rig.folder.join("xtables.lock"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    (output.status.success(), said)
}
