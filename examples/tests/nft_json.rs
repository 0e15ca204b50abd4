//! nft itself reads what `svcctl plan -o nft-json` prints, in a network namespace.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::borrow::Cow;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use backend_nftables::{Kernel, Key, Renderer, SetId, Value};
use examples::backend::NFTABLES_TABLE;
use examples::{cli::nft_json, flow_cases};
use nftables::schema::Nftables;
use nix::sched::{CloneFlags, unshare};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Planner, Ruleset, render};

#[test]
fn nft_loads_the_sets_of_every_case_and_they_are_ours() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&std::fs::read(path).unwrap()).unwrap();
    let mut rulesets = Vec::new();
    for case in cases.iter().step_by(23) {
        let mut planner = Planner::new(case.node_config(ProxyMode::Nftables));
        case.tell(ProxyMode::Nftables, &mut planner);
        for family in IpFamily::ALL {
            let mut renderer = Renderer::new(NFTABLES_TABLE, family);
            rulesets.push((family, render(&mut renderer, &planner.plan(family))));
        }
    }
    assert!(rulesets.len() > 10);
    let test = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for (family, ruleset) in &rulesets {
            loads(*family, ruleset);
        }
    });
    test.join().unwrap();
}

fn loads(family: IpFamily, ruleset: &Ruleset<Key, Value>) {
    let mut objects = Vec::new();
    let left = nft_json::convert(ruleset, &mut objects);
    // Three verdict maps; three rules each of `services` and `outside-local`, five each of two
    // affinity chains, one each of `from-outside` and `postrouting`.
    assert!(left >= 21, "{left}");
    let all = Nftables {
        objects: Cow::Owned(objects),
    };
    let mut kernel = Kernel::open(NFTABLES_TABLE, family).unwrap();
    kernel.cleanup().unwrap();
    nft(&serde_json::to_string(&all).unwrap());
    let held = kernel.read().unwrap();
    let verdicts = [
        SetId::Classes,
        SetId::LocalClasses,
        SetId::MasqueradePolicies,
    ];
    let wanted = ruleset.iter().filter(|(key, _)| match key {
        Key::Set(id) | Key::Element(id, _) => !verdicts.contains(id),
        Key::Table | Key::Chain(_) | Key::SourceRule(_) | Key::BaseChain(_) => false,
    });
    for (key, value) in wanted.clone() {
        assert_eq!(held.get(key), Some(value), "{key:?}");
    }
    let sets = held
        .keys()
        .filter(|key| matches!(key, Key::Set(_) | Key::Element(..)));
    assert_eq!(sets.count(), wanted.count());
}

fn nft(json: &str) {
    let mut child = Command::new("nft")
        .args(["-j", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(json.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
}
