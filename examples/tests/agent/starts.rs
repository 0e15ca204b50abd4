//! Agents that are started in other ways than usual.

use std::fs;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::rig::{Agent, PATIENCE, Rig};

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

    /// The same with success.
    pub(crate) fn ended_well(&mut self) -> String {
        assert!(self.status().success(), "{}", self.log());
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
