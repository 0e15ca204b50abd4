//! What the interpreter of rulesets makes of affinity, and of rulesets without a meaning.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeSet;

use backend_nftables::rule::{
    BaseChain, Chain, ChainType, CmpOp, Expr, Found, Hook, Immediate, Lookup, NumgenKind, Policy,
    Register, Rule, Verdict as ChainVerdict,
};
use backend_nftables::{
    ChainBody, ChainId, Evaluator, Fault, Host, Key, Outcome, Pins, SetId, Value, evaluate,
};
use common::render;
use common::scenarios::{EVERYTHING, scenario};
use svc_core::testing::parse_flow;
use svc_core::{Flow, IpFamily, NodePlan, Plan, Ruleset, Verdict};

fn flow(text: &str) -> Flow {
    parse_flow(text).unwrap()
}

/// Every outcome of a flow while some clients are pinned.
fn outcomes(plan: &Plan, flow: &Flow, pins: &Pins) -> Vec<Outcome> {
    let ruleset = render(plan);
    let evaluator = Evaluator::new(&ruleset, Host::of(&plan.node, plan.family));
    evaluator.outcomes(flow, pins).unwrap()
}

fn verdicts(outcomes: &[Outcome]) -> BTreeSet<String> {
    outcomes
        .iter()
        .map(|outcome| outcome.verdict.to_string())
        .collect()
}

#[test]
fn b157_a_client_stays_with_its_endpoint_through_every_front_end() {
    for (family, client, cluster_ip, external) in [
        (
            IpFamily::V4,
            "10.64.1.9",
            "10.96.0.5:80/tcp",
            "192.0.2.3:80/tcp",
        ),
        (
            IpFamily::V6,
            "fd10:64:0:1::9",
            "[fd10:96::5]:80/tcp",
            "[2001:db8:f::3]:80/tcp",
        ),
    ] {
        let plan = scenario(EVERYTHING).plan(family);
        let first = outcomes(
            &plan,
            &flow(&format!("{client} -> {cluster_ip}")),
            &Pins::new(),
        );
        assert_eq!(verdicts(&first).len(), 2);
        for outcome in first {
            assert_eq!(outcome.pins.len(), 1);
            let to = |outcome: &Outcome| match &outcome.verdict {
                Verdict::Forward(targets) => targets[0].endpoint,
                other @ (Verdict::Reject | Verdict::Drop | Verdict::Pass) => panic!("{other}"),
            };
            for again in [cluster_ip, external] {
                let next = outcomes(&plan, &flow(&format!("{client} -> {again}")), &outcome.pins);
                assert_eq!(next.len(), 1, "{next:?}");
                assert_eq!(to(&next[0]), to(&outcome));
                assert_eq!(next[0].pins, outcome.pins);
            }
        }
    }
}

#[test]
fn a_client_whose_endpoint_is_gone_gets_another_pin() {
    let before = scenario(EVERYTHING).plan(IpFamily::V4);
    let after = scenario(&EVERYTHING.replace("80 10.64.1.6@n1 ", "80 ")).plan(IpFamily::V4);
    let flow = flow("10.64.1.9 -> 10.96.0.5:80/tcp");
    for pinned in outcomes(&before, &flow, &Pins::new()) {
        let next = outcomes(&after, &flow, &pinned.pins);
        assert_eq!(verdicts(&next), ["forward 10.64.2.6:80".to_owned()].into());
        // The next packet finds the new pin.
        let again = outcomes(&after, &flow, &next[0].pins);
        assert_eq!(again[0].pins, next[0].pins);
    }
}

#[test]
fn a_pool_with_affinity_and_no_endpoint_left_refuses() {
    let mut ruleset = render(&scenario(EVERYTHING).plan(IpFamily::V4));
    let plan = scenario(EVERYTHING).plan(IpFamily::V4);
    ruleset.retain(|key, _| !matches!(key, Key::Element(SetId::Sticky, _)));
    let got = evaluate(
        &ruleset,
        &plan.node,
        plan.family,
        &flow("10.64.1.9 -> 10.96.0.5:80/tcp"),
    );
    assert_eq!(got, Ok(Verdict::Reject));
}

#[test]
fn shares_add_up_to_one() {
    let plan = scenario(EVERYTHING).plan(IpFamily::V4);
    for to in [
        "10.96.0.1:80/tcp",
        "10.96.0.5:80/tcp",
        "10.96.0.6:80/tcp",
        "8.8.8.8:53/udp",
    ] {
        let all = outcomes(&plan, &flow(&format!("10.64.1.9 -> {to}")), &Pins::new());
        let sum: f64 = all.iter().map(|outcome| outcome.share).sum();
        assert!((sum - 1.0).abs() < 1e-12, "{to}: {sum}");
    }
}

/// A ruleset with one rule of the given expressions at the hook of received packets.
fn ruleset(rules: &[Vec<Expr>]) -> Ruleset<Key, Value> {
    let chain = Chain {
        name: ChainId::Prerouting.name(),
        base: Some(BaseChain {
            kind: ChainType::Nat,
            hook: Hook::Prerouting,
            priority: 0,
            policy: Policy::Accept,
        }),
        comment: None,
    };
    let rules = rules.iter().map(|exprs| Rule {
        chain: chain.name.clone(),
        exprs: exprs.clone(),
        comment: None,
    });
    let body = ChainBody {
        rules: rules.collect(),
        chain: chain.clone(),
    };
    Ruleset::from([(
        Key::BaseChain(ChainId::Prerouting),
        Value::Chain(Box::new(body)),
    )])
}

fn ask(rules: &[Vec<Expr>]) -> Result<Verdict, Fault> {
    let node = NodePlan::bare("n1");
    evaluate(
        &ruleset(rules),
        &node,
        IpFamily::V4,
        &flow("10.0.0.1 -> 10.0.0.2:80/tcp"),
    )
}

fn verdict(verdict: ChainVerdict) -> Expr {
    Expr::Immediate(Immediate::Verdict(verdict))
}

fn random(modulus: u32) -> Expr {
    Expr::Numgen {
        kind: NumgenKind::Random,
        modulus,
        offset: 0,
        dreg: Register::R0,
    }
}

#[test]
fn what_the_kernel_refuses_is_a_fault() {
    let compare = |sreg| Expr::Cmp {
        op: CmpOp::Eq,
        sreg,
        data: [0; 4].into(),
    };
    // Registers do not live from rule to rule.
    let unread = ask(&[vec![random(2)], vec![compare(Register::R0)]]);
    assert!(
        matches!(unread, Err(Fault::Uninitialised { rule: 1, .. })),
        "{unread:?}"
    );
    let lookup = Expr::Lookup(Lookup {
        set: "nothing".into(),
        sreg: Register::R0,
        found: Found::Continue,
    });
    assert!(matches!(
        ask(&[vec![random(2), lookup]]),
        Err(Fault::NoSet(_))
    ));
    let nowhere = verdict(ChainVerdict::Goto("nowhere".into()));
    assert!(matches!(ask(&[vec![nowhere]]), Err(Fault::NoChain(_))));
    let again = verdict(ChainVerdict::Goto(ChainId::Prerouting.name()));
    assert!(matches!(ask(&[vec![again]]), Err(Fault::TooDeep(_))));
    let unknown = Expr::Unknown {
        name: "quota".into(),
        data: [].into(),
    };
    assert!(matches!(
        ask(&[vec![unknown]]),
        Err(Fault::Unsupported { .. })
    ));
}

#[test]
fn a_verdict_by_chance_is_no_verdict() {
    let compare = |op| Expr::Cmp {
        op,
        sreg: Register::R0,
        data: 1u32.to_ne_bytes().into(),
    };
    let sometimes = [random(3), compare(CmpOp::Eq), verdict(ChainVerdict::Drop)];
    assert_eq!(ask(&[sometimes.to_vec()]), Err(Fault::Divided));
    let others = [random(2), compare(CmpOp::Ne), verdict(ChainVerdict::Drop)];
    let always = verdict(ChainVerdict::Drop);
    assert_eq!(
        ask(&[sometimes.to_vec(), others.to_vec(), vec![always]]),
        Ok(Verdict::Drop)
    );
    assert_eq!(ask(&[]), Ok(Verdict::Pass));
}
