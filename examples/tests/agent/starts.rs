//! Agents that are started in other ways than usual.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use examples::sandbox::{Transport, probe};

use crate::rig::{Agent, CLUSTER_IP, IPTABLES, NFTABLES, PATIENCE, Rig};

impl Agent {
    /// Starts it inside the namespace, with these capabilities and no others: as nobody where the
    /// process can become that, and otherwise as the root of a user namespace.
    pub(crate) fn start_reduced(program: &str, rig: &Rig, caps: &str, args: &[&str]) -> Self {
        Self::start_by(reduced(caps), program, rig, args)
    }

    /// Starts it inside the namespace, by a command that runs what follows.
    pub(crate) fn start_by(mut command: Command, program: &str, rig: &Rig, args: &[&str]) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let log = rig.folder.join(format!("reduced-{count}"));
        // Where nobody may read and run it, wherever it was built.
        let copy = rig.folder.join(format!("program-{count}"));
        fs::copy(program, &copy).unwrap();
        let manifests = rig.folder.join("manifests");
        let port = 12_000 + count * 2;
        let metrics = format!("127.0.0.1:{}", port + 1);
        command
            .arg(copy)
            .args(["--manifests", manifests.to_str().unwrap(), "--node", "n1"])
            .args(["--healthz-bind-address", &format!("127.0.0.1:{port}")])
            .args(["--metrics-bind-address", &metrics])
            .args([
                "--nftables-min-sync-period=0s",
                "--iptables-min-sync-period=0s",
            ])
            .args(args)
            .env("XTABLES_LOCKFILE", rig.folder.join("locks/xtables.lock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap());
        let child = rig.sandbox.node().run(|| command.spawn().unwrap()).unwrap();
        Self {
            child,
            log,
            metrics,
        }
    }

    /// Sends what it tells to a disk that is full.
    pub(crate) fn start_on_full_disk(program: &str, rig: &Rig) -> Self {
        let mut agent = rig.start(program, &[]);
        // The first one only showed which addresses are free.
        agent.child.kill().unwrap();
        agent.child.wait().unwrap();
        let manifests = rig.folder.join("manifests");
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(program);
        command
            .args(["--manifests", manifests.to_str().unwrap(), "--node", "n1"])
            .args(["--metrics-bind-address", &agent.metrics])
            .args([
                "--healthz-bind-address=",
                "--nftables-min-sync-period=0s",
                "-v",
                "6",
            ])
            .stdin(Stdio::null())
            .stdout(full.try_clone().unwrap())
            .stderr(full);
        agent.child = rig.sandbox.node().run(|| command.spawn().unwrap()).unwrap();
        agent
    }

    /// Waits for it to end by itself with a failure; what it told.
    pub(crate) fn ended(&mut self) -> String {
        assert!(!self.status().success(), "{}", self.log());
        self.log()
    }

    fn status(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE * 3;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "runs on: {}", self.log());
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A host without ip6tables has its IPv4 Services all the same (B-057).
pub(crate) fn without_ip6tables() {
    let rig = Rig::new();
    let tools = rig.folder.join("tools");
    fs::create_dir(&tools).unwrap();
    for path in ["/usr/sbin", "/usr/bin"] {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("iptables") || name == "ipset" {
                // What is there by both paths is there once.
                let _ = symlink(entry.path(), tools.join(name));
            }
        }
    }
    let bare = rig.folder.join("bare");
    let path = tools.display();
    let script = format!("#!/bin/sh\nPATH={path} exec {IPTABLES} \"$@\"\n");
    fs::write(&bare, script).unwrap();
    fs::set_permissions(&bare, Permissions::from_mode(0o755)).unwrap();
    let bare = bare.to_str().unwrap();
    let mut agent = rig.start(bare, &[]);
    rig.await_synced(&mut agent);
    let to = format!("{CLUSTER_IP}:80").parse().unwrap();
    let outcome = probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap();
    assert!(outcome.pod().is_some(), "{outcome}");
    let metrics = rig.get(&agent.metrics, "/metrics").unwrap().body;
    assert!(!metrics.contains("ip_family=\"IPv6\""), "{metrics}");
    let log = agent.stop();
    assert!(log.contains("IPv6 is left out: ip6tables"), "{log}");
    // Where IPv6 was asked for, it has to be there.
    let bound = rig
        .start(bare, &["--bind-address", "2001:db8:a::10"])
        .ended();
    assert!(bound.contains("ip6tables"), "{bound}");
}

/// What a Service cannot have is said in one line, and the exit code tells; everything else is served.
pub(crate) fn once_names_what_it_cannot_serve() {
    let rig = Rig::new();
    let manifests = rig.folder.join("manifests");
    fs::write(manifests.join("outside.yaml"), OUTSIDE).unwrap();
    let node = rig.sandbox.node();
    let netns = format!("/proc/{}/task/{}/ns/net", std::process::id(), node.tid());
    for mode in ["--dry-run", "--once"] {
        let output = Command::new(NFTABLES)
            .args(["--manifests", manifests.to_str().unwrap(), "--node", "n1"])
            .args([
                "--netns",
                &netns,
                mode,
                "--external-addresses",
                "192.0.2.0/24",
            ])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{mode}: {said}");
        let named: Vec<_> = said.lines().filter(|l| l.contains("8.8.8.8")).collect();
        assert_eq!(named.len(), 1, "{mode}: {said}");
        assert!(
            named[0].starts_with("error: Service demo/outside"),
            "{named:?}"
        );
    }
    let to = format!("{CLUSTER_IP}:80").parse().unwrap();
    let outcome = probe(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap();
    assert!(outcome.pod().is_some(), "{outcome}");
}

const OUTSIDE: &str = "
apiVersion: v1
kind: Service
metadata: {name: outside, namespace: demo}
spec:
  clusterIP: 10.96.0.99
  externalIPs: [8.8.8.8]
  ports: [{port: 80}]
";

/// A command that runs what follows with these capabilities alone, as nobody if there is such a user.
pub(crate) fn reduced(caps: &str) -> Command {
    let mut command = rooted(caps);
    // A user namespace of one user has nobody.
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    if map.split_whitespace().nth(2) != Some("1") {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command.arg(format!("--ambient-caps=-all,{caps}"));
    }
    command
}

/// The same as root, as in a container.
pub(crate) fn rooted(caps: &str) -> Command {
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--inh-caps=-all,{caps}"))
        .arg(format!("--bounding-set=-all,{caps}"))
        .arg("--no-new-privs");
    command
}
