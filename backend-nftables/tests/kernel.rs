//! The backend against this machine's kernel, each test in a network namespace of its own.
//!
//! Needs `CAP_NET_ADMIN`, and `nft` as an independent reader.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;
#[path = "kernel/like_fake.rs"]
mod like_fake;
#[path = "kernel/other_agent.rs"]
mod other_agent;
#[path = "kernel/pins.rs"]
mod pins;

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc::channel;
use std::thread;

use backend_nftables::netlink::{Batch, EventKind, Events, Socket};
use backend_nftables::rule::{Bytes, Element, ElementKind};
use backend_nftables::{Audit, ElementValue, Kernel, Key, Renderer, SetId, Value, failure};
use common::scenarios::{EVERYTHING, many, scenario};
use common::{TABLE, render};
use nix::sched::{CloneFlags, unshare};
use svc_core::{
    Action, Drift, Fragment, IpFamily, NodePlan, Plan, Reconciler, Render, Ruleset,
    ServicePortName, ServicePortPlan,
};

#[test]
fn a_ruleset_reads_back_as_it_was_committed() {
    in_namespace(|| {
        for family in IpFamily::ALL {
            let plan = scenario(EVERYTHING).plan(family);
            let mut proxy = Proxy::new(&plan);
            proxy.settle();
            assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
        }
    });
}

#[test]
fn a_restart_over_a_right_ruleset_writes_nothing() {
    in_namespace(|| {
        let before = scenario(EVERYTHING);
        let text = EVERYTHING.replace(
            "service dns",
            "service a-new-one ip=10.96.9.9 port=1\n    service dns",
        );
        let after = scenario(&text.replace(" 10.64.1.1@n1 10.64.2.1@n2", " 10.64.2.1@n2"));
        for family in IpFamily::ALL {
            // A history gives numbers and slots that a fresh start would not choose.
            let mut proxy = Proxy::new(&before.plan(family));
            proxy.settle();
            proxy.change_to(&after.plan(family));
            proxy.settle();
            let generation = proxy.kernel.socket().generation().unwrap();
            let mut fresh = Proxy::new(&after.plan(family));
            assert_eq!(fresh.settle().unwrap(), Drift::default());
            assert_eq!(fresh.kernel.socket().generation().unwrap(), generation);
            // And the numbers it learnt are those of later changes.
            fresh.change_to(&before.plan(family));
            fresh.settle();
            fresh.verify();
            assert_eq!(fresh.settle().unwrap(), Drift::default());
        }
    });
}

#[test]
fn foreign_changes_are_heard_of_and_repaired() {
    in_namespace(|| {
        let plan = scenario(EVERYTHING).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        proxy.settle();
        let wanted = render(&plan);
        let mut events = proxy.kernel.socket().events().unwrap();
        for edit in [
            "delete element ip svc endpoints { 0x02000000 . 0 }",
            "delete element ip svc service_cidrs { 10.96.0.0/16 }",
            "flush map ip svc frontends",
            "flush map ip svc slots",
            "flush chain ip svc services",
            "flush chain ip svc firewall",
            "add rule ip svc firewall accept",
            "insert rule ip svc prerouting accept",
            "flush chain ip svc postrouting; delete chain ip svc postrouting",
            "add element ip svc addresses { 203.0.113.1 }",
            // A table as version 0.1.0 made it before others could serve inside the service range.
            "delete chain ip svc free-prerouting; delete chain ip svc free-output; \
             add rule ip svc prerouting ip daddr @service_cidrs fib daddr type != local drop; \
             add rule ip svc output ip daddr @service_cidrs fib daddr type != local drop",
            "add chain ip svc mine { type filter hook input priority 0; }; add rule ip svc mine drop",
            "add set ip svc odd { type ether_addr . mark; }; add element ip svc odd { 1:2:3:4:5:6 . 1 }",
            "add table ip svc { flags dormant; }",
            "delete table ip svc",
        ] {
            let (socket, edit) = (proxy.kernel.socket().port(), edit_for_this_machine(edit));
            nft(&[&edit]);
            assert!(heard_of_others(&mut events, socket), "{edit}");
            proxy.verify();
            let drift = proxy.settle().unwrap();
            assert!(!drift.is_empty(), "{edit}");
            assert_same(&proxy.kernel.read().unwrap(), &wanted);
            heard_of_others(&mut events, socket);
            proxy.verify();
            assert_eq!(proxy.settle().unwrap(), Drift::default(), "{edit}");
            assert!(!heard_of_others(&mut events, socket), "{edit}");
        }
    });
}

#[test]
fn an_audit_finds_and_mends_what_nobody_told() {
    in_namespace(|| {
        for family in IpFamily::ALL {
            let scenario = scenario(EVERYTHING);
            let plan = scenario.plan(family);
            let mut planner = scenario.planner();
            planner.delta();
            let mut proxy = Proxy::new(&plan);
            proxy.settle();
            let wanted = render(&plan);
            let (name, address) = match family {
                IpFamily::V4 => ("ip", "203.0.113.7"),
                IpFamily::V6 => ("ip6", "2001:db8::7"),
            };
            let mut audit = Audit::new(family);
            let tells_numbers = counts(&mut proxy.kernel);
            for (edit, objects) in [
                ("flush map FAM svc endpoints", 2..1000),
                ("flush map FAM svc slots", 136..137),
                ("flush map FAM svc sticky", 2..3),
                ("flush map FAM svc frontends", 6..1000),
                ("flush set FAM svc cluster_ips", 5..7),
                ("flush set FAM svc pod_cidrs", 1..2),
                ("flush map FAM svc classes", 3..5),
                ("flush chain FAM svc services", 1..2),
                ("add rule FAM svc firewall accept", 1..4),
                ("add table FAM svc { flags dormant; }", 1..2),
                // Found, and left to a complete comparison.
                (
                    "flush chain FAM svc postrouting; delete chain FAM svc postrouting",
                    1..2,
                ),
                ("add chain FAM svc mine", 0..1),
                // The kernel tells that a set has more elements than it should: all is read.
                (
                    "add element FAM svc endpoints { 0x7000 . 7 : ADDRESS . 80 }",
                    0..1,
                ),
                ("add element FAM svc cluster_ips { ADDRESS }", 0..1),
                (
                    "flush map FAM svc sticky; add element FAM svc live { 0x7000 . ADDRESS . 80 }",
                    0..3,
                ),
                ("delete table FAM svc", 0..1),
            ] {
                if edit.contains("ADDRESS") && !tells_numbers {
                    continue;
                }
                nft(&[&edit.replace("FAM", name).replace("ADDRESS", address)]);
                let (mut found, round) = (0, audit.rounds());
                for _ in 0..100 {
                    let (reconciler, kernel) = (&mut proxy.reconciler, &mut proxy.kernel);
                    found += audit.step(&planner, reconciler, kernel, 2).unwrap().len();
                    proxy.settle();
                    if audit.rounds() > round + 1 {
                        break;
                    }
                }
                assert!(audit.rounds() > round + 1, "{edit}");
                assert!(objects.contains(&found), "{edit}: {found}");
                assert_same(&proxy.kernel.read().unwrap(), &wanted);
            }
            let generation = proxy.kernel.socket().generation().unwrap();
            let round = audit.rounds();
            while audit.rounds() == round {
                let (reconciler, kernel) = (&mut proxy.reconciler, &mut proxy.kernel);
                assert_eq!(audit.step(&planner, reconciler, kernel, 1).unwrap(), []);
            }
            assert_eq!(proxy.kernel.socket().generation().unwrap(), generation);
        }
    });
}

/// Whether the kernel tells how many elements a set has, as Linux 6.16 and later do.
fn counts(kernel: &mut Kernel) -> bool {
    let table = kernel.table().clone();
    let count = kernel.socket().count(&table, &SetId::Frontends.name());
    let (tells, recent) = (count.unwrap().is_some(), kernel_release() >= (6, 16));
    assert!(tells || !recent, "this kernel should tell");
    tells
}

fn kernel_release() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn a_table_of_very_many_endpoints_is_read_as_it_is() {
    in_namespace(|| {
        // More than that are looked up, not listed, as long as there is nothing else.
        // An older kernel lists in any case.
        let services = if kernel_release() >= (6, 16) {
            17_000
        } else {
            1_000
        };
        let plan = many(services, 3).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        proxy.settle();
        let wanted = render(&plan);
        assert_same(&proxy.kernel.read().unwrap(), &wanted);
        nft(&[&edit_for_this_machine(
            "delete element ip svc endpoints { 0x02000000 . 1 }",
        )]);
        let mut held = proxy.kernel.read().unwrap();
        assert_eq!(held.len() + 1, wanted.len());
        nft(&["add element ip svc endpoints { 0x7000 . 7 : 192.0.2.7 . 80 }"]);
        held = proxy.kernel.read().unwrap();
        assert_eq!(held.len(), wanted.len());
        proxy.verify();
        let drift = proxy.settle().unwrap();
        assert_eq!((drift.missing.len(), drift.foreign.len()), (1, 1));
        assert_same(&proxy.kernel.read().unwrap(), &wanted);
    });
}

#[test]
fn a_table_of_another_kind_with_our_name_is_replaced() {
    in_namespace(|| {
        nft(&["add table ip svc; add set ip svc live { type mark; }; \
            add chain ip svc c { type filter hook input priority 0; }; \
            add rule ip svc c meta mark @live drop"]);
        let plan = scenario(EVERYTHING).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        proxy.settle();
        assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
        assert!(!nft(&["list", "table", "ip", "svc"]).contains("chain c "));
    });
}

#[test]
fn a_table_of_another_kind_is_replaced_at_once_however_large() {
    in_namespace(|| {
        let plan = many(1_500, 4).plan(IpFamily::V4);
        let wanted = render(&plan);
        for (impossible, parts) in [(false, 0), (true, 1)] {
            nft(
                &["add table ip svc; delete table ip svc; add table ip svc; \
                add set ip svc live { type mark; }"],
            );
            let mut proxy = Proxy::new(&plan);
            let before = proxy.kernel.socket().generation().unwrap();
            if impossible {
                // The table is another's meanwhile: what replaces it is refused, and tried again.
                let Action::Read = proxy.reconciler.poll() else {
                    panic!()
                };
                proxy.reconciler.on_read(proxy.kernel.read().unwrap());
                nft(&["delete table ip svc"]);
                let mut refused = 0;
                while let Action::Commit(transaction) = proxy.reconciler.poll() {
                    match proxy.kernel.commit(&transaction) {
                        Ok(()) => proxy.reconciler.on_committed(),
                        Err(error) => {
                            refused += 1;
                            proxy.reconciler.on_failed(failure(&error, &transaction));
                        }
                    }
                }
                assert_eq!(refused, parts);
            }
            proxy.settle();
            let commits = proxy.kernel.socket().generation().unwrap() - before;
            assert!(impossible || commits == 1, "{commits} transactions");
            assert_same(&proxy.kernel.read().unwrap(), &wanted);
        }
    });
}

#[test]
fn ranges_that_overlap_their_predecessors_can_be_changed() {
    in_namespace(|| {
        let old = scenario(EVERYTHING);
        let text = EVERYTHING.replace("10.96.0.0/16", "10.96.0.0/12 10.128.0.0/12");
        let new = scenario(
            &text
                .replace("10.64.0.0/11", "10.64.0.0/10")
                .replace("fd10:64::/48", "fd10:64::/40"),
        );
        // One range becomes shorter, and another begins where it ended.
        let split = EVERYTHING.replace("10.96.0.0/16", "10.96.0.0/16 10.100.0.0/16");
        let split = scenario(&split.replace("fd10:96::/112", "fd10:96::/116 fd10:96::8000/116"));
        for family in IpFamily::ALL {
            let mut proxy = Proxy::new(&old.plan(family));
            proxy.settle();
            for plan in [&new, &split, &new, &old].map(|scenario| scenario.plan(family)) {
                proxy.change_to(&plan);
                proxy.settle();
                proxy.verify();
                assert_eq!(proxy.settle().unwrap(), Drift::default());
            }
        }
    });
}

#[test]
fn half_a_range_is_found_and_repaired() {
    in_namespace(|| {
        let text = EVERYTHING.replace("10.96.0.0/16", "10.96.0.0/16 10.98.0.0/16");
        let plan = scenario(&text).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        proxy.settle();
        let set = SetId::ServiceCidrs.name();
        let start = Element::new([10, 96, 0, 0]);
        let end = Element::new([10, 97, 0, 0]).with_kind(ElementKind::IntervalEnd);
        for half in [start, end] {
            let mut batch = Batch::new(proxy.kernel.table().clone());
            batch.delete_element(0, &set, &half);
            proxy.kernel.socket().commit(&batch).unwrap();
            proxy.verify();
            assert!(!proxy.settle().unwrap().is_empty());
            assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
        }
    });
}

#[test]
fn two_instances_in_two_namespaces_share_a_process() {
    let (ready, wait) = channel();
    let (resume, stopped) = channel::<()>();
    let other = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let plan = scenario(EVERYTHING).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        proxy.settle();
        ready.send(()).unwrap();
        stopped.recv().unwrap();
        assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
        proxy.verify();
        assert_eq!(proxy.settle().unwrap(), Drift::default());
    });
    in_namespace(move || {
        wait.recv().unwrap();
        let plan = many(3, 2).plan(IpFamily::V4);
        let mut proxy = Proxy::new(&plan);
        assert!(proxy.kernel.read().unwrap().is_empty());
        proxy.settle();
        assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
        proxy.kernel.cleanup().unwrap();
        resume.send(()).unwrap();
    });
    other.join().unwrap();
}

#[test]
fn nft_lists_everything_with_its_service() {
    in_namespace(|| {
        for family in IpFamily::ALL {
            Proxy::new(&scenario(EVERYTHING).plan(family)).settle();
        }
        for list in [&["list", "ruleset"][..], &["-j", "list", "ruleset"]] {
            let text = nft(list);
            for name in [
                "default/web:http",
                "default/dns:dns-tcp",
                "default/sticky",
                "default/far",
            ] {
                assert!(text.contains(name), "{name} in {text}");
            }
        }
    });
}

/// Adds an element that no kernel takes to one service port.
struct Spoilt {
    inner: Renderer,
    victim: &'static str,
}

impl Render for Spoilt {
    type Key = Key;
    type Value = Value;

    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<Key, Value> {
        self.inner.skeleton(node)
    }

    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<Key, Value> {
        let mut fragment = self.inner.service_port(node, name, plan);
        if &*name.service.name == self.victim {
            let short = Key::Element(SetId::Addresses, Bytes::from([1; 2]));
            fragment.push((short, Value::Element(ElementValue::present())));
        }
        fragment
    }

    fn is_shared(key: &Key) -> bool {
        Renderer::is_shared(key)
    }

    fn outlives_users(key: &Key) -> bool {
        Renderer::outlives_users(key)
    }

    fn learn(&mut self, held: &Ruleset<Key, Value>) {
        self.inner.learn(held);
    }

    fn forget(&mut self, name: &ServicePortName) {
        self.inner.forget(name);
    }
}

#[test]
fn an_impossible_object_is_set_aside_and_999_services_work() {
    in_namespace(|| {
        let plan = many(1_000, 3).plan(IpFamily::V4);
        let render = Spoilt {
            inner: Renderer::new(TABLE, IpFamily::V4),
            victim: "s500",
        };
        let mut reconciler = Reconciler::new(render, IpFamily::V4);
        reconciler.change(&from_nothing(&plan));
        let mut kernel = Kernel::open(TABLE, IpFamily::V4).unwrap();
        let mut rounds = 0;
        loop {
            match reconciler.poll() {
                Action::Idle => break,
                Action::Read => drop(reconciler.on_read(kernel.read().unwrap())),
                Action::Commit(transaction) => {
                    rounds += 1;
                    match kernel.commit(&transaction) {
                        Ok(()) => reconciler.on_committed(),
                        Err(error) => reconciler.on_failed(failure(&error, &transaction)),
                    }
                }
            }
        }
        assert!(rounds <= 2, "{rounds}");
        let quarantine: Vec<String> = reconciler
            .quarantine()
            .iter()
            .map(|(name, why)| format!("{name}: {why}"))
            .collect();
        assert_eq!(quarantine.len(), 1);
        assert!(
            quarantine[0].starts_with("default/s500:http: EINVAL"),
            "{quarantine:?}"
        );
        let held = kernel.read().unwrap();
        let frontends = held
            .keys()
            .filter(|key| matches!(key, Key::Element(SetId::Frontends, _)));
        assert_eq!(frontends.count(), 999);
    });
}

#[test]
fn clean_up_leaves_foreign_tables_alone() {
    in_namespace(|| {
        nft(&[
            "add table ip others; add set ip others odd { type ether_addr . mark; }; \
            add element ip others odd { 1:2:3:4:5:6 . 7 }; \
            add map ip others strange { type ipv4_addr : verdict; flags interval; }; \
            add table ip svc-not-ours; add table inet svc; add table ip6 others; \
            add counter ip others k; add quota ip others q { 1 mbytes }; \
            add set ip others typed { typeof ip saddr . tcp option maxseg size; }",
        ]);
        let before = nft(&["list", "ruleset"]);
        for family in IpFamily::ALL {
            let plan = scenario(EVERYTHING).plan(family);
            let mut proxy = Proxy::new(&plan);
            proxy.settle();
            assert_same(&proxy.kernel.read().unwrap(), &render(&plan));
            proxy.kernel.cleanup().unwrap();
            proxy.kernel.cleanup().unwrap();
        }
        assert_eq!(nft(&["list", "ruleset"]), before);
    });
}

/// A proxy for one family.
struct Proxy {
    reconciler: Reconciler<Renderer>,
    kernel: Kernel,
    plan: Plan,
}

impl Proxy {
    fn new(plan: &Plan) -> Self {
        let mut reconciler = Reconciler::new(Renderer::new(TABLE, plan.family), plan.family);
        reconciler.change(&from_nothing(plan));
        Self {
            reconciler,
            kernel: Kernel::open(TABLE, plan.family).unwrap(),
            plan: plan.clone(),
        }
    }

    fn change_to(&mut self, plan: &Plan) {
        self.reconciler.change(&self.plan.diff(plan));
        self.plan = plan.clone();
    }

    fn verify(&mut self) {
        self.reconciler.verify();
    }

    /// Until there is nothing to do; how the kernel differed, if it was read.
    fn settle(&mut self) -> Option<Drift<Key>> {
        let mut drift = None;
        // A first load takes a transaction for every 512 service ports.
        for _ in 0..12 + self.plan.service_ports.len() / 512 {
            match self.reconciler.poll() {
                Action::Idle => return drift,
                Action::Read => drift = Some(self.reconciler.on_read(self.kernel.read().unwrap())),
                Action::Commit(transaction) => {
                    if let Err(error) = self.kernel.commit(&transaction) {
                        panic!("{error:?} of {transaction:#?}");
                    }
                    self.reconciler.on_committed();
                }
            }
        }
        panic!("the kernel does not settle");
    }
}

fn from_nothing(plan: &Plan) -> svc_core::PlanDelta {
    let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
    delta.node = Some(plan.node.clone());
    delta
}

/// Whether somebody else changed our table since it was asked last.
fn heard_of_others(events: &mut Events, own: u32) -> bool {
    let mut heard = false;
    while let Some(event) = events.next_event().unwrap() {
        let of_table = event.table.is_some_and(|table| table.as_str() == TABLE);
        let change = !matches!(event.kind, EventKind::Generation { .. });
        heard |= of_table && change && event.port != own;
    }
    heard
}

/// nft reads marks in host order.
fn edit_for_this_machine(edit: &str) -> String {
    let pool = format!("{:#010x}", 0x0200_0000u32.swap_bytes());
    edit.replace("0x02000000", &pool)
}

fn assert_same(held: &Ruleset<Key, Value>, wanted: &Ruleset<Key, Value>) {
    let keys: BTreeSet<&Key> = held.keys().chain(wanted.keys()).collect();
    for key in keys {
        assert_eq!(held.get(key), wanted.get(key), "{key:?}");
    }
}

fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let test = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        // Loads the kernel's module.
        Socket::open().unwrap();
        test();
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

fn nft(args: &[&str]) -> String {
    let output = Command::new("nft").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "nft {args:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
