//! What a change writes, whatever the number of Services and endpoints.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use backend_nftables::netlink::{Batch, What, requests};
use backend_nftables::{Batches, Blame, Renderer, Start, shares};
use common::scenarios::{EVERYTHING, many, scenario};
use common::{TABLE, render};
use expect_test::{Expect, expect};
use svc_core::testing::{Aims, Scenario};
use svc_core::{Action, Flow, IpFamily, Plan, Reconciler, Verdict};

#[test]
fn a_change_writes_as_much_among_10_services_as_among_300() {
    let changes: [Change; 9] = [
        (
            "endpoint added",
            |text| text.replace("10.64.1.1@n1", "10.64.1.1@n1 10.127.0.1@n2"),
            expect![[r#"
                + endpoints 1, pools 1
                - pools 1"#]],
        ),
        (
            "first of many endpoints removed",
            |text| text.replace(" 10.64.1.1@n1", ""),
            expect![[r#"
                + endpoints 1, pools 1
                - endpoints 2, hairpin 1, pools 1"#]],
        ),
        (
            "endpoint replaced",
            |text| text.replace("10.64.1.2@n2", "10.64.0.2@n2"),
            expect![[r#"
                + endpoints 1
                - endpoints 1"#]],
        ),
        (
            "no endpoint left",
            |text| text.replace(" 10.64.1.1@n1 10.64.1.2@n2 10.64.1.3@n3 10.64.1.4@n2", ""),
            expect![[r#"
                + frontends 1
                - endpoints 4, frontends 1, hairpin 1, pools 1"#]],
        ),
        (
            "Service added",
            |text| {
                format!("{text}\nservice z ip=10.200.0.1 port=80\nslice z z port=80 10.126.0.1@n2")
            },
            expect![[r#"
                + cluster_ips 1, endpoints 1, frontends 1, pools 1
                - "#]],
        ),
        (
            "Service removed",
            |text| text.replace("service probe ", "# "),
            expect![[r#"
                + 
                - cluster_ips 1, endpoints 4, frontends 1, hairpin 1, pools 1"#]],
        ),
        (
            "internal policy Local",
            |text| text.replace("service probe ", "service probe itp=Local "),
            expect![[r#"
                + endpoints 1, frontends 1, pools 1
                - endpoints 4, frontends 1, pools 1"#]],
        ),
        (
            "affinity",
            |text| text.replace("service probe ", "service probe affinity=10800 "),
            expect![[r#"
                + live 4, pools 1, sticky 4
                - endpoints 4, pools 1"#]],
        ),
        (
            "load-balancer address with a source range",
            |text| {
                let lb = "service probe type=LoadBalancer vip=192.0.2.9 range=203.0.113.0/24 ";
                text.replace("service probe ", lb)
            },
            expect![[r#"
                + addresses 1, firewalled 1, frontends 1, rules 1, sets 1, sources24 1
                - "#]],
        ),
    ];
    for (what, change, expected) in changes {
        let few = written(&probe(10), &change);
        assert_eq!(few, written(&probe(300), &change), "{what}");
        expected.assert_eq(&few);
    }
}

/// What changes, how, and what is written.
type Change = (&'static str, fn(&str) -> String, Expect);

/// Many Services, and one to change.
fn probe(services: u32) -> String {
    let mut text = String::from(
        "config mode=nftables cluster-cidr=10.64.0.0/10\nnode n1 198.18.0.10\ncidr 10.128.0.0/9\n\
         service probe ip=10.255.0.1 port=80\n\
         slice probe probe port=80 10.64.1.1@n1 10.64.1.2@n2 10.64.1.3@n3 10.64.1.4@n2\n",
    );
    for service in 0..services {
        let (high, low) = (service / 256, service % 256);
        let _ = writeln!(text, "service s{service} ip=10.128.{high}.{low} port=80");
        let _ = writeln!(
            text,
            "slice s{service} s{service} port=80 10.100.{high}.{low}@n2"
        );
    }
    text
}

/// Counts of what one change writes, by kind of object.
fn written(text: &str, change: &dyn Fn(&str) -> String) -> String {
    let (before, after): (Scenario, Scenario) = (scenario(text), scenario(&change(text)));
    let (before, after) = (before.plan(IpFamily::V4), after.plan(IpFamily::V4));
    assert_ne!(before, after);
    let mut reconciler = Reconciler::new(Renderer::new(TABLE, IpFamily::V4), IpFamily::V4);
    let mut delta = Plan::empty(before.family, before.node.clone()).diff(&before);
    delta.node = Some(before.node.clone());
    reconciler.change(&delta);
    assert!(matches!(reconciler.poll(), Action::Read));
    reconciler.on_read(render(&before));
    assert!(matches!(reconciler.poll(), Action::Idle));
    reconciler.change(&before.diff(&after));
    let Action::Commit(transaction) = reconciler.poll() else {
        panic!("nothing to do");
    };
    let table = backend_nftables::fake::FakeKernel::new(TABLE, IpFamily::V4)
        .table()
        .clone();
    let batches = Batches::new(table.clone(), Start::AsRead, &transaction);
    assert_eq!(batches.len(), 1);
    let mut batch = Batch::new(table);
    batches.write(0, Blame::Group, &mut batch);
    let (mut added, mut removed) = (BTreeMap::new(), BTreeMap::new());
    for request in requests(&batch).unwrap() {
        let (list, what, count) = match request.what {
            What::AddElements(set, elements, _) => (&mut added, set.to_string(), elements.len()),
            What::DeleteElements(set, elements) => (&mut removed, set.to_string(), elements.len()),
            What::AddSet(..) => (&mut added, "sets".into(), 1),
            What::AddRule(..) => (&mut added, "rules".into(), 1),
            What::AddTable(..)
            | What::DeleteTable
            | What::AddChain(..)
            | What::DeleteChain(_)
            | What::DeleteRule(..)
            | What::FlushChain(_)
            | What::DeleteSet(_)
            | What::FlushSet(_) => panic!("{:?}", request.what),
        };
        *list.entry(what).or_insert(0) += count;
    }
    let shown = |list: BTreeMap<String, usize>| {
        let shown: Vec<String> = list.iter().map(|(what, n)| format!("{what} {n}")).collect();
        shown.join(", ")
    };
    format!("+ {}\n- {}", shown(added), shown(removed))
}

#[test]
fn every_endpoint_gets_an_equal_share() {
    for endpoints in [1, 2, 3, 7, 64, 65, 100, 1000] {
        let plan = many(1, endpoints).plan(IpFamily::V4);
        let flow = Flow::new(
            "10.64.255.1".parse().unwrap(),
            "10.128.0.1:80".parse().unwrap(),
            svc_core::Protocol::Tcp,
        );
        let shares = shares(&render(&plan), &plan.node, plan.family, &flow).unwrap();
        assert_eq!(shares.len(), endpoints as usize);
        let sum: f64 = shares.values().sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        let fair = 1.0 / f64::from(endpoints);
        for share in shares.values() {
            assert!(
                (share - fair).abs() < 1.0 / 65_536.0,
                "{share} of {endpoints}"
            );
        }
    }
}

#[test]
fn shares_are_equal_in_every_pool() {
    for family in IpFamily::ALL {
        let plan = scenario(EVERYTHING).plan(family);
        let ruleset = render(&plan);
        let mut pools = 0;
        for flow in Aims::of(&plan).every_flow().step_by(13) {
            let Verdict::Forward(targets) = plan.route(&flow) else {
                continue;
            };
            let shares = shares(&ruleset, &plan.node, family, &flow).unwrap();
            pools += usize::from(targets.len() > 1);
            let fair = 1.0 / targets.len() as f64;
            assert!(
                shares
                    .values()
                    .all(|share| (share - fair).abs() < 1.0 / 65_536.0)
            );
        }
        assert!(pools > 10, "{pools}");
    }
}
