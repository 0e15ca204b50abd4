//! Against the real kernel, in network namespaces of the test's own, with both variants.
//!
//! Needs root, as every use of iptables does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/host.rs"]
mod host;

use std::process::Command;

use backend_iptables::{
    AffinityBy, Config, Features, Goal, HairpinBy, Kernel, Key, Options, Program, Renderer, Value,
};
use common::history;
use host::{assert_holds, each, reconciler, samples, some_plan, start};
use proptest::strategy::Strategy;
use svc_core::{IpFamily, Plan, Reconciler};

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
        assert!(!host.save(&[]).contains("SVC-"), "after probing");
        assert_eq!(kernel.config().features, Features::default());
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
        let mut kernel = host.kernel();
        let config = *kernel.config();
        let in_tree = |plan: &Plan| {
            let values = common::ruleset(&config, plan).into_values();
            let mut goals = values.filter(|value| matches!(value, Value::To(Goal::Endpoints(_))));
            goals.next().is_some()
        };
        let mut plans = (0..20).map(|seed| some_plan(host.family, seed));
        let plan = plans.find(in_tree).unwrap();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        // A rule of a front end whose endpoints stand in the tree.
        let saved = host.save(&["-t", "nat"]);
        let leaf = |line: &&str| line.contains("--dport") && line.contains("-j DNAT");
        let rule = saved.lines().find(leaf).unwrap();
        let rule = rule.strip_prefix("-A ").unwrap();
        let (gone, twice) = (format!("-t nat -D {rule}"), format!("-t nat -A {rule}"));
        let breakages: [&[&str]; 10] = [
            &[&gone],
            &[&twice],
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
        assert_eq!(sets(), 400, "one for each endpoint and family");
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
        let flushes = [
            &["-F"][..],
            &["-t nat -F"],
            // The chains go as well.
            &["-F", "-X"],
            &["-t nat -F", "-t nat -X"],
        ];
        for flush in flushes {
            assert!(!kernel.flushed().unwrap());
            flush.iter().for_each(|args| host.iptables(args));
            assert!(kernel.flushed().unwrap(), "{flush:?}");
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
