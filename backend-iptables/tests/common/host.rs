//! The real kernel, in network namespaces of the test's own. Needs root, as every use of iptables
//! does.
// Each test crate uses a part of it.
#![allow(dead_code, unreachable_pub)]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backend_iptables::{Kernel, Options, Program, Renderer, Variant};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use svc_core::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use svc_core::{IpFamily, Plan, Reconciler};

use crate::common::{plan_of, ruleset, service};

/// A lock of its own for each namespace, or tests would wait for each other.
pub fn lock_file() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("svc-xtables-{}-{number}.lock", std::process::id());
    std::env::temp_dir().join(name)
}

/// Runs a test in a fresh network namespace, for each variant and family.
pub fn each(test: impl Fn(&Host) + Send + Sync + 'static) {
    let test = Arc::new(test);
    for variant in Variant::ALL {
        for family in IpFamily::ALL {
            let test = test.clone();
            let run = move || {
                nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                    .expect("a network namespace of its own, which takes root");
                let host = Host {
                    variant,
                    family,
                    lock: lock_file(),
                };
                test(&host);
                let _ = std::fs::remove_file(&host.lock);
            };
            let thread = std::thread::Builder::new()
                .name(format!("{variant} {family}"))
                .spawn(run)
                .unwrap();
            assert!(thread.join().is_ok(), "{variant} {family} failed");
        }
    }
}

/// A network namespace of the test's own, with a variant and a family.
pub struct Host {
    pub variant: Variant,
    pub family: IpFamily,
    pub lock: PathBuf,
}

impl Host {
    pub fn options(&self) -> Options {
        Options {
            variant: Some(self.variant),
            lock_file: Some(self.lock.clone()),
            lock_wait: Duration::from_secs(2),
            ..Options::new(self.family)
        }
    }

    pub fn kernel(&self) -> Kernel {
        Kernel::open(self.options()).unwrap()
    }

    pub fn program(&self, part: &str) -> String {
        let base = match self.family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        format!("{base}-{}{part}", self.variant)
    }

    /// Somebody else at work.
    pub fn iptables(&self, args: &str) {
        let mut command = Command::new(self.program(""));
        command
            .args(args.split(' '))
            .env("XTABLES_LOCKFILE", &self.lock);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "iptables {args}: {said}");
    }

    /// Three packets for a rule of others to count.
    pub fn count_packets(&self) {
        let up = Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.unwrap().success());
        let (from, to) = match self.family {
            IpFamily::V4 => ("127.0.0.1:0", "127.0.0.1:8"),
            IpFamily::V6 => ("[::1]:0", "[::1]:8"),
        };
        let socket = std::net::UdpSocket::bind(from).unwrap();
        for _ in 0..3 {
            // Nobody listens, which the socket may hear of.
            let _ = socket.send_to(b"x", to);
        }
    }

    /// Rules that are not ours, with their counters.
    pub fn counted(&self) -> Vec<String> {
        let saved = self.save(&["-c"]);
        let rules = saved
            .lines()
            .filter(|line| line.starts_with('[') && !line.contains("SVC-"));
        rules.map(str::to_owned).collect()
    }

    pub fn save(&self, args: &[&str]) -> String {
        let output = Command::new(self.program("-save"))
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lines that are not ours, without comments and counters.
    pub fn foreign(&self) -> Vec<String> {
        let ours = |line: &&str| !line.contains("SVC-") && !line.starts_with('#');
        let saved = self.save(&[]);
        let lines = saved.lines().filter(ours).map(|line| {
            let (line, _) = line.split_once(" [").unwrap_or((line, ""));
            line.to_owned()
        });
        lines.collect()
    }
}

pub fn reconciler(kernel: &Kernel, family: IpFamily) -> Reconciler<Renderer> {
    Reconciler::new(Renderer::new(*kernel.config()), family)
}

pub fn start(reconciler: &mut Reconciler<Renderer>, plan: &Plan) {
    let empty = Plan::empty(plan.family, plan.node.clone());
    let mut delta = empty.diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
}

/// The kernel holds what the plan asks for, by both readings.
#[track_caller]
pub fn assert_holds(host: &Host, kernel: &mut Kernel, plan: &Plan) {
    let config = *kernel.config();
    let mut fresh = Reconciler::new(Renderer::new(config), plan.family);
    start(&mut fresh, plan);
    let drift = fresh.on_read(kernel.read().unwrap());
    assert!(drift.is_empty(), "{drift:?}");
    let wanted = Program::of(&config, &ruleset(&config, plan));
    let saved = Program::parse(&host.save(&[]));
    assert_eq!(saved.ours().to_string(), wanted.ours().to_string());
}

pub fn samples<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    let sample = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(sample).collect()
}

/// A plan with a bit of everything, of the host's family.
pub fn some_plan(family: IpFamily, seed: usize) -> Plan {
    let services = proptest::collection::vec(service(family), 8..12);
    let mut proxy = ProxyConfig::default_for(ProxyMode::Iptables);
    let pods = match family {
        IpFamily::V4 => "10.64.0.0/16",
        IpFamily::V6 => "fd00:6401::/32",
    };
    proxy.detect_local = LocalDetection::ClusterCidr(vec![pods.parse().unwrap()]);
    proxy.node_port_addresses = NodePortAddresses::Default;
    plan_of(family, proxy, samples(&services, seed + 1).remove(seed))
}
