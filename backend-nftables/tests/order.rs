//! The order of operations, and how they are cut into batches.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use backend_nftables::fake::FakeKernel;
use backend_nftables::netlink::{Batch, What, requests};
use backend_nftables::{Batches, Blame, Renderer, Start};
use common::scenarios::{EVERYTHING, many, many_text, scenario};
use common::{TABLE, render};
use expect_test::expect;
use svc_core::{Action, IpFamily, Plan, Reconciler, Transaction};

#[test]
fn a_first_load_comes_in_small_batches_and_the_hooks_last() {
    let plan = many(2_000, 3).plan(IpFamily::V4);
    let mut reconciler = reconciler(&plan);
    assert!(matches!(reconciler.poll(), Action::Read));
    reconciler.on_read(svc_core::Ruleset::new());
    let (mut shown, mut transactions) = (Vec::new(), 0);
    while let Action::Commit(transaction) = reconciler.poll() {
        assert_eq!(transaction.base, svc_core::Base::Empty);
        assert!(transaction.groups.len() <= 513);
        shown.extend(batches(&transaction, Start::AsRead, None));
        transactions += 1;
        reconciler.on_committed();
    }
    assert_eq!(transactions, 5);
    assert!(shown.len() > 5, "{}", shown.len());
    let (hooks, rest) = shown.split_last().unwrap();
    assert_eq!(hooks.1, ["chain", "rule"]);
    assert!(rest.iter().all(|(bytes, _)| *bytes < 200_000));
    let first = rest[0].1.join(" ");
    assert!(first.starts_with("table set chain"), "{first}");
}

#[test]
fn a_table_of_no_use_is_replaced_at_once() {
    let transaction = transaction(None, &scenario(EVERYTHING).plan(IpFamily::V4));
    let shown = batches(&transaction, Start::Useless, None);
    assert_eq!(shown.len(), 1);
    assert_eq!(shown[0].1[..2], ["- table", "table"]);
}

#[test]
fn what_is_new_comes_first_and_what_goes_last() {
    let before = scenario(EVERYTHING).plan(IpFamily::V4);
    let after = EVERYTHING
        .replace(" 10.64.2.1@n2 10.64.2.2@n2", " 10.64.2.3@n2")
        .replace(
            "service empty",
            "service new type=LoadBalancer vip=192.0.2.77 range=192.0.2.0/30 affinity=5 ",
        )
        .replace("service dns ", "# ")
        + "\nslice new-4 new port=80 10.64.1.9@n1";
    let after = scenario(&after).plan(IpFamily::V4);
    let transaction = transaction(Some(&before), &after);
    let shown = batches(&transaction, Start::AsRead, None);
    assert_eq!(shown.len(), 1);
    expect![[r#"
        set
        chain
        rule
        sticky
        live
        hairpin
        sources30
        firewalled
        pools
        classes
        local_classes
        - cluster_ips
        - frontends
        - endpoints
        endpoints
        - pools
        pools
        - frontends
        frontends
        addresses
        - pools
        - hairpin
        - endpoints"#]]
    .assert_eq(&shown[0].1.join("\n"));
    // The same in as many batches as there are operations.
    assert!(batches(&transaction, Start::AsRead, Some(1)).len() > 30);
}

#[test]
fn a_change_of_more_than_one_batch_cuts_no_service() {
    // All endpoints move on, and each Service has more of them.
    let [before, after] = [55, 56].map(|endpoints| many(1_000, endpoints).plan(IpFamily::V4));
    let transaction = transaction(Some(&before), &after);
    let table = FakeKernel::new(TABLE, IpFamily::V4).table().clone();
    let batches = Batches::new(table.clone(), Start::AsRead, &transaction);
    let mut batch = Batch::new(table);
    // Pool to the batches in which packets see it change.
    let mut seen: BTreeMap<Vec<u8>, BTreeSet<usize>> = BTreeMap::new();
    for index in 0..batches.len() {
        batches.write(index, Blame::Group, &mut batch);
        assert!(batch.byte_len() < 200_000, "{}", batch.byte_len());
        for request in requests(&batch).unwrap() {
            let What::DeleteElements(set, elements) = request.what else {
                continue;
            };
            if ["endpoints", "pools"].contains(&set.as_str()) {
                let pools = elements.iter().map(|element| element.key[..4].to_vec());
                for pool in pools {
                    seen.entry(pool).or_default().insert(index);
                }
            }
        }
    }
    assert!(batches.len() > 50, "{}", batches.len());
    assert_eq!(seen.len(), 1_000);
    assert!(seen.values().all(|batches| batches.len() == 1));
}

#[test]
fn a_small_send_buffer_stops_no_change() {
    // What belongs together of one Service is larger than the buffer.
    let large = |first: u32| {
        let mut text = many_text(10, 3) + "\nservice large ip=10.128.9.9 port=http:80";
        for slice in 0..3 {
            text += &format!("\nslice large-{slice} large port=http:8080");
            for endpoint in 0..1_000 {
                let ip = Ipv4Addr::from(0x0a78_0000 + first + slice * 1_000 + endpoint);
                text += &format!(" {ip}@n1");
            }
        }
        text
    };
    // Chains, so that the change is larger than one batch may be.
    let sticky = (1..1_100).fold(String::new(), |text, seconds| {
        let ip = Ipv4Addr::from(0x0a81_0000 + seconds);
        text + &format!(
            "\nservice sticky{seconds} ip={ip} port=80 affinity={seconds}\
             \nslice sticky{seconds}-1 sticky{seconds} port=80 10.64.200.1@n1"
        )
    });
    for more in ["", &sticky] {
        let [before, after] =
            [large(0), large(2_000) + more].map(|text| scenario(&text).plan(IpFamily::V4));
        let mut kernel = FakeKernel::new(TABLE, IpFamily::V4);
        kernel.limit_sends(200_000);
        let mut reconciler = reconciler(&before);
        reconciler.settle(&mut kernel, 10).unwrap();
        let generation = kernel.generation();
        reconciler.change(&before.diff(&after));
        reconciler.settle(&mut kernel, 1).unwrap();
        let batches = kernel.generation() - generation;
        assert_eq!(batches > 50, !more.is_empty(), "{batches}");
        assert!(is_settled(&after, &kernel));
    }
}

/// Whether a process that starts would write nothing.
fn is_settled(plan: &Plan, kernel: &FakeKernel) -> bool {
    reconciler(plan).on_read(kernel.ruleset()).is_empty()
}

fn reconciler(plan: &Plan) -> Reconciler<Renderer> {
    let mut reconciler = Reconciler::new(Renderer::new(TABLE, plan.family), plan.family);
    let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
    reconciler
}

/// Bytes of each batch, and the kinds of objects in it, each run once.
fn batches(
    transaction: &Transaction<backend_nftables::Key, backend_nftables::Value>,
    start: Start,
    bytes: Option<usize>,
) -> Vec<(usize, Vec<String>)> {
    let table = FakeKernel::new(TABLE, IpFamily::V4).table().clone();
    let mut batches = Batches::new(table.clone(), start, transaction);
    if let Some(bytes) = bytes {
        batches = batches.in_batches_of(bytes);
    }
    let mut batch = Batch::new(table);
    let mut shown = Vec::new();
    for index in 0..batches.len() {
        batches.write(index, Blame::Group, &mut batch);
        let mut kinds: Vec<String> = requests(&batch)
            .unwrap()
            .into_iter()
            .map(|request| match request.what {
                What::AddTable(..) => "table".into(),
                What::DeleteTable => "- table".into(),
                What::AddChain(..) => "chain".into(),
                What::DeleteChain(_) => "- chain".into(),
                What::AddRule(..) => "rule".into(),
                What::DeleteRule(..) | What::FlushChain(_) => "- rule".into(),
                What::AddSet(..) => "set".into(),
                What::DeleteSet(_) => "- set".into(),
                What::AddElements(set, ..) => set.to_string(),
                What::DeleteElements(set, _) | What::FlushSet(set) => format!("- {set}"),
            })
            .collect();
        // A chain comes with its rules.
        let chains = kinds.iter().position(|kind| kind == "chain");
        if let Some(first) = chains {
            let end = kinds
                .iter()
                .rposition(|kind| kind == "rule")
                .unwrap_or(first);
            kinds.splice(first..=end, ["chain".to_owned(), "rule".to_owned()]);
        }
        kinds.dedup();
        shown.push((batch.byte_len(), kinds));
    }
    shown
}

/// The transaction that makes one plan of another, or of nothing.
fn transaction(
    before: Option<&Plan>,
    after: &Plan,
) -> std::sync::Arc<Transaction<backend_nftables::Key, backend_nftables::Value>> {
    let mut reconciler = reconciler(before.unwrap_or(after));
    assert!(matches!(reconciler.poll(), Action::Read));
    reconciler.on_read(before.map(render).unwrap_or_default());
    if let Some(before) = before {
        assert!(matches!(reconciler.poll(), Action::Idle));
        reconciler.change(&before.diff(after));
    }
    match reconciler.poll() {
        Action::Commit(transaction) => transaction,
        other @ (Action::Idle | Action::Read) => panic!("{other:?}"),
    }
}
