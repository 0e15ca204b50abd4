//! Against the real kernel, in network namespaces of the test's own, with both variants.
//!
//! Needs root, as every use of iptables does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use backend_iptables::rule::{Match, Rule, SourcePorts, Target};
use backend_iptables::{
    AffinityBy, Config, Error, HairpinBy, Kernel, Key, Options, Program, Renderer, Table, Value,
    Variant,
};
use common::{history, plan_of};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use svc_core::config::{LocalDetection, NodePortAddresses, ProxyConfig, ProxyMode};
use svc_core::{
    Base, Edit, EditGroup, IpFamily, NamespacedName, Plan, Protocol, Reconciler, ServicePortName,
    Transaction,
};

/// A lock of its own for each namespace, or tests would wait for each other.
fn lock_file() -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let name = format!("svc-xtables-{}-{number}.lock", std::process::id());
    std::env::temp_dir().join(name)
}

/// Runs a test in a fresh network namespace, for each variant and family.
fn each(test: impl Fn(&Host) + Send + Sync + 'static) {
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

struct Host {
    variant: Variant,
    family: IpFamily,
    lock: PathBuf,
}

impl Host {
    fn options(&self) -> Options {
        Options {
            variant: Some(self.variant),
            lock_file: Some(self.lock.clone()),
            lock_wait: Duration::from_secs(2),
            ..Options::new(self.family)
        }
    }

    fn kernel(&self) -> Kernel {
        Kernel::open(self.options()).unwrap()
    }

    fn program(&self, part: &str) -> String {
        let base = match self.family {
            IpFamily::V4 => "iptables",
            IpFamily::V6 => "ip6tables",
        };
        format!("{base}-{}{part}", self.variant)
    }

    /// Somebody else at work.
    fn iptables(&self, args: &str) {
        let mut command = Command::new(self.program(""));
        command
            .args(args.split(' '))
            .env("XTABLES_LOCKFILE", &self.lock);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "iptables {args}: {said}");
    }

    /// Three packets for a rule of others to count.
    fn count_packets(&self) {
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
    fn counted(&self) -> Vec<String> {
        let saved = self.save(&["-c"]);
        let rules = saved
            .lines()
            .filter(|line| line.starts_with('[') && !line.contains("SVC-"));
        rules.map(str::to_owned).collect()
    }

    fn save(&self, args: &[&str]) -> String {
        let output = Command::new(self.program("-save"))
            .args(args)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Lines that are not ours, without comments and counters.
    fn foreign(&self) -> Vec<String> {
        let ours = |line: &&str| !line.contains("SVC-") && !line.starts_with('#');
        let saved = self.save(&[]);
        let lines = saved.lines().filter(ours).map(|line| {
            let (line, _) = line.split_once(" [").unwrap_or((line, ""));
            line.to_owned()
        });
        lines.collect()
    }
}

fn reconciler(kernel: &Kernel, family: IpFamily) -> Reconciler<Renderer> {
    Reconciler::new(Renderer::new(*kernel.config()), family)
}

fn start(reconciler: &mut Reconciler<Renderer>, plan: &Plan) {
    let empty = Plan::empty(plan.family, plan.node.clone());
    let mut delta = empty.diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
}

/// The kernel holds what the plan asks for, by both readings.
#[track_caller]
fn assert_holds(host: &Host, kernel: &mut Kernel, plan: &Plan) {
    let config = *kernel.config();
    let mut fresh = Reconciler::new(Renderer::new(config), plan.family);
    start(&mut fresh, plan);
    let drift = fresh.on_read(kernel.read().unwrap());
    assert!(drift.is_empty(), "{drift:?}");
    let wanted = Program::of(&config, &common::ruleset(&config, plan));
    let saved = Program::parse(&host.save(&[]));
    assert_eq!(saved.ours().to_string(), wanted.ours().to_string());
}

fn samples<S: Strategy>(strategy: &S, count: usize) -> Vec<S::Value> {
    let mut runner = TestRunner::deterministic();
    let sample = |_| strategy.new_tree(&mut runner).unwrap().current();
    (0..count).map(sample).collect()
}

/// A plan with a bit of everything, of the host's family.
fn some_plan(family: IpFamily, seed: usize) -> Plan {
    let services = proptest::collection::vec(common::service(family), 8..12);
    let mut proxy = ProxyConfig::default_for(ProxyMode::Iptables);
    let pods = match family {
        IpFamily::V4 => "10.64.0.0/16",
        IpFamily::V6 => "fd00:6401::/32",
    };
    proxy.detect_local = LocalDetection::ClusterCidr(vec![pods.parse().unwrap()]);
    proxy.node_port_addresses = NodePortAddresses::Default;
    plan_of(family, proxy, samples(&services, seed + 1).remove(seed))
}

#[test]
fn histories_end_in_what_the_last_plan_asks_for() {
    each(|host| {
        let family = host.family;
        let histories = samples(
            &history().prop_filter("family", move |plans| {
                plans.first().is_some_and(|plan| plan.family == family)
            }),
            8,
        );
        for plans in histories {
            let mut kernel = host.kernel();
            let mut reconciler = reconciler(&kernel, host.family);
            let mut last: Option<Plan> = None;
            for plan in plans {
                match &last {
                    None => start(&mut reconciler, &plan),
                    Some(last) => reconciler.change(&last.diff(&plan)),
                }
                reconciler.settle(&mut kernel, 4).unwrap();
                assert_holds(host, &mut kernel, &plan);
                last = Some(plan);
            }
            kernel.cleanup().unwrap();
            assert!(!host.save(&[]).contains("SVC-"), "{}", host.save(&[]));
            assert!(kernel.read().unwrap().is_empty());
        }
    });
}

#[test]
fn foreign_rules_stay_as_they_are() {
    each(|host| {
        host.iptables("-t nat -N OTHER");
        host.iptables("-t nat -A OTHER -p tcp --dport 99 -j RETURN");
        host.iptables("-t nat -A PREROUTING -p udp -j OTHER");
        host.iptables("-t nat -A PREROUTING -p tcp -j OTHER");
        host.iptables("-A FORWARD -p tcp --dport 7 -j DROP");
        host.iptables("-A OUTPUT -p udp --dport 8 -j ACCEPT");
        host.count_packets();
        let counted = host.counted();
        assert!(
            counted.iter().any(|line| line.starts_with("[3:")),
            "{counted:?}"
        );
        let before = host.foreign();
        let mut kernel = host.kernel();
        assert_eq!(host.foreign(), before, "after probing");
        let plan = some_plan(host.family, 1);
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_eq!(host.foreign(), before);
        // Ours come first, as kube-proxy's do.
        let saved = host.save(&["-t", "nat"]);
        let first = saved.lines().find(|line| line.starts_with("-A PREROUTING"));
        assert_eq!(first, Some("-A PREROUTING -j SVC-SERVICES"));
        assert_eq!(host.counted(), counted);
        let other = some_plan(host.family, 2);
        reconciler.change(&plan.diff(&other));
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_eq!(host.foreign(), before);
        assert_eq!(host.counted(), counted);
        kernel.cleanup().unwrap();
        assert_eq!(host.foreign(), before);
        assert!(!host.save(&[]).contains("SVC-"));
    });
}

#[test]
fn what_others_break_is_repaired() {
    each(|host| {
        let plan = some_plan(host.family, 3);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        let breakages: [&[&str]; 8] = [
            &["-t nat -D PREROUTING -j SVC-SERVICES"],
            &["-t nat -A PREROUTING -j SVC-SERVICES"],
            &["-t nat -F SVC-SERVICES"],
            &["-t nat -I SVC-CIPS -j RETURN"],
            &["-t nat -F"],
            &["-F"],
            &[
                "-t nat -N SVC-garbage",
                "-t nat -A SVC-garbage -j SVC-CLUSTER",
            ],
            &["-t nat -F", "-t nat -X"],
        ];
        for commands in breakages {
            for command in commands {
                host.iptables(command);
            }
            reconciler.verify();
            let settled = reconciler.settle(&mut kernel, 4).unwrap();
            assert!(
                !settled.drift.unwrap().is_empty(),
                "{commands:?} was not seen"
            );
            assert_holds(host, &mut kernel, &plan);
        }
        reconciler.verify();
        let settled = reconciler.settle(&mut kernel, 4).unwrap();
        assert!(settled.drift.unwrap().is_empty());
    });
}

/// Sets of both families are in one list, and each family takes only its own away.
#[test]
fn both_families_share_a_host() {
    each(|host| {
        let mut families: Vec<_> = IpFamily::ALL
            .into_iter()
            .map(|family| {
                let options = Options {
                    family,
                    ..host.options()
                };
                let mut kernel = Kernel::open(options).unwrap();
                let mut config = *kernel.config();
                config.features.affinity = AffinityBy::Sets;
                let plan = common::deep_plan(family);
                let mut reconciler = Reconciler::new(Renderer::new(config), family);
                start(&mut reconciler, &plan);
                reconciler.settle(&mut kernel, 4).unwrap();
                (kernel, reconciler, plan)
            })
            .collect();
        let sets = || {
            let output = Command::new("ipset")
                .args(["list", "-name"])
                .output()
                .unwrap();
            String::from_utf8(output.stdout).unwrap().lines().count()
        };
        assert_eq!(sets(), 200, "one for each endpoint and family");
        for (kernel, reconciler, plan) in &mut families {
            reconciler.verify();
            let settled = reconciler.settle(kernel, 4).unwrap();
            assert!(settled.drift.unwrap().is_empty());
            assert_eq!(settled.commits, 0);
            // Without its Services a family has no sets.
            reconciler.change(&plan.diff(&Plan::empty(plan.family, plan.node.clone())));
            reconciler.settle(kernel, 4).unwrap();
            let left = kernel.read().unwrap();
            assert!(!left.keys().any(|key| matches!(key, Key::Set(_))));
        }
        assert_eq!(sets(), 0);
    });
}

/// B-207.
#[test]
fn health_checks_are_let_in() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        let admitted = || {
            let saved = host.save(&["-t", "filter"]);
            let rules = saved
                .lines()
                .filter(|line| line.starts_with("-A SVC-HEALTH"));
            rules.map(str::to_owned).collect::<Vec<_>>()
        };
        let rule = |port: u16| format!("-A SVC-HEALTH -p tcp -m tcp --dport {port} -j ACCEPT");
        kernel.admit_health_checks([30_900].into()).unwrap();
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_eq!(admitted(), [rule(30_900)]);
        kernel.admit_health_checks([30_901, 30_902].into()).unwrap();
        assert_eq!(admitted(), [rule(30_901), rule(30_902)]);
        for repaired in [false, true] {
            reconciler.verify();
            let settled = reconciler.settle(&mut kernel, 4).unwrap();
            assert_eq!(!settled.drift.unwrap().is_empty(), repaired);
            assert_eq!(admitted(), [rule(30_901), rule(30_902)]);
            host.iptables("-F SVC-HEALTH");
        }
        kernel.cleanup().unwrap();
        assert!(!host.save(&[]).contains("SVC-"));
    });
}

#[test]
fn a_flush_of_either_table_is_noticed() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        for flush in ["-F", "-t nat -F"] {
            assert!(!kernel.flushed().unwrap());
            host.iptables(flush);
            assert!(kernel.flushed().unwrap(), "{flush}");
            reconciler.verify();
            reconciler.settle(&mut kernel, 4).unwrap();
        }
    });
}

#[test]
fn chains_that_others_use_are_emptied_and_stay() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        host.iptables("-t nat -A OUTPUT -p tcp -j SVC-CIPS");
        kernel.cleanup().unwrap();
        let saved = host.save(&["-t", "nat"]);
        let ours: Vec<_> = saved.lines().filter(|line| line.contains("SVC-")).collect();
        assert_eq!(ours, [":SVC-CIPS - [0:0]", "-A OUTPUT -p tcp -j SVC-CIPS"]);
    });
}

#[test]
fn who_holds_the_lock_is_named() {
    each(|host| {
        // iptables-nft takes no lock.
        if host.variant == Variant::Nft {
            return;
        }
        let mut kernel = host.kernel();
        let plan = some_plan(host.family, 0);
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        let file = std::fs::File::create(&host.lock).unwrap();
        let held = nix::fcntl::Flock::lock(file, nix::fcntl::FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .unwrap();
        let failed = reconciler.settle(&mut kernel, 4).unwrap_err().to_string();
        assert!(
            failed.contains(&format!("process {} (", std::process::id())),
            "{failed}"
        );
        drop(held);
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_holds(host, &mut kernel, &plan);
    });
}

fn port_name(name: &str) -> ServicePortName {
    ServicePortName {
        service: NamespacedName::new("ns", name),
        port: "".into(),
        protocol: Protocol::Tcp,
    }
}

/// Rules that the tools, and rules that only the kernel refuses.
#[test]
fn a_refused_rule_is_traced_to_its_service() {
    each(|host| {
        let mut kernel = host.kernel();
        let plan = some_plan(host.family, 0);
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        let bad = [
            Rule::new([Match::Opaque("-m nonsense".into())], Target::Return),
            // Not from a chain that OUTPUT reaches.
            Rule::always(Target::Masquerade(SourcePorts::Kept)),
        ];
        for rule in bad {
            let groups = (0..20u8).map(|number| {
                let chain = format!("SVC-0a60ff{number:02x}-t00080c");
                let chain = backend_iptables::name::ChainName::new(&chain).unwrap();
                let rules = match number {
                    7 | 13 => vec![rule.clone()],
                    _ => vec![Rule::always(Target::Return)],
                };
                let entry = backend_iptables::Entry {
                    tree: backend_iptables::Tree::Cluster,
                    ip: common::ip(host.family, common::CLUSTER, 100 + number),
                    protocol: Protocol::Tcp,
                    port: 80,
                };
                let edit = |key, after| Edit {
                    key,
                    before: None,
                    after: Some(after),
                };
                EditGroup {
                    name: Some(port_name(&format!("s{number}"))),
                    edits: vec![
                        edit(Key::Chain(Table::Nat, chain), Value::Rules(rules.into())),
                        edit(Key::Entry(entry), Value::To(chain)),
                    ],
                }
            });
            let transaction = Transaction {
                groups: groups.collect(),
                base: Base::InUse,
            };
            let mut left = transaction.clone();
            let mut named = Vec::new();
            // Some tools name one line at a time.
            while let Err(error) = kernel.commit(&left) {
                let Error::Refused(ports) = error else {
                    panic!("{rule}: {error}");
                };
                let refused: Vec<_> = ports.into_iter().map(|(name, _)| name).collect();
                assert!(!refused.is_empty());
                left.groups.retain(|group| {
                    !group
                        .name
                        .as_ref()
                        .is_some_and(|name| refused.contains(name))
                });
                named.extend(refused);
                kernel.read().unwrap();
            }
            named.sort();
            assert_eq!(named, [port_name("s13"), port_name("s7")], "{rule}");
            reconciler.verify();
            reconciler.settle(&mut kernel, 4).unwrap();
            assert_holds(host, &mut kernel, &plan);
        }
    });
}

#[test]
fn the_deepest_path_is_not_too_deep() {
    each(|host| {
        let kernel = &mut host.kernel();
        let mut config: Config = *kernel.config();
        config.features.hairpin = HairpinBy::Tree;
        config.features.affinity = AffinityBy::Sets;
        let plan = common::deep_plan(host.family);
        let mut reconciler = Reconciler::new(Renderer::new(config), host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(kernel, 4).unwrap();
        let ruleset = common::ruleset(&config, &plan);
        let depth = Program::of(&config, &ruleset).depth();
        assert_eq!(depth, 15, "the case does not reach the limit");
    });
}
