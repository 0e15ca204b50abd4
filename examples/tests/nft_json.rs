//! `svcctl plan -o nft-json` prints what nft lists, once the kernel holds it.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::borrow::Cow;
use std::path::Path;
use std::process::Command;
use std::thread;

use backend_nftables::{Kernel, Key, Renderer, SetId, Value};
use examples::backend::NFTABLES_TABLE;
use examples::{cli::nft_json, flow_cases};
use nftables::schema::Nftables;
use nix::sched::{CloneFlags, unshare};
use serde_json::Value as Json;
use svc_core::config::ProxyMode;
use svc_core::{Base, Edit, EditGroup, IpFamily, Planner, Ruleset, Transaction, render};

#[test]
fn nft_lists_the_objects_that_we_print() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    let cases = flow_cases::read(&std::fs::read(path).unwrap()).unwrap();
    let mut rulesets = Vec::new();
    for case in cases.iter().step_by(23) {
        let mut planner = Planner::new(case.node_config(ProxyMode::Nftables));
        case.tell(ProxyMode::Nftables, &mut planner);
        planner.delta();
        for family in IpFamily::ALL {
            let mut renderer = Renderer::new(NFTABLES_TABLE, family);
            rulesets.push((family, render(&mut renderer, &planner.plan(family))));
        }
    }
    let frontends = rulesets.iter().filter(|(_, ruleset)| {
        let frontend = |key| matches!(key, &Key::Element(SetId::Frontends, _));
        ruleset.keys().any(frontend)
    });
    assert!(frontends.count() > 5);
    let test = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        for (family, ruleset) in &rulesets {
            compare(*family, ruleset);
        }
    });
    test.join().unwrap();
}

/// Commits a ruleset and compares what nft lists with what we print.
fn compare(family: IpFamily, ruleset: &Ruleset<Key, Value>) {
    let mut objects = Vec::new();
    let left = nft_json::convert(ruleset, &mut objects);
    // Three verdict maps and `affinity`; three rules each of `services` and `outside-local`, six each
    // of two affinity chains but for the last, one each of `from-outside` and `outgoing`.
    assert!(left >= 22, "{left}");
    let ours = json(
        &serde_json::to_string(&Nftables {
            objects: Cow::Owned(objects),
        })
        .unwrap(),
    );
    let mut kernel = Kernel::open(NFTABLES_TABLE, family).unwrap();
    kernel.cleanup().unwrap();
    let transaction = Transaction {
        base: Base::Empty,
        groups: vec![EditGroup {
            name: None,
            edits: ruleset.iter().map(new).collect(),
        }],
    };
    kernel.commit(&transaction).unwrap();
    let theirs = json(&nft(&["-j", "list", "ruleset"]));
    kernel.cleanup().unwrap();
    let mut compared = 0;
    for object in ours {
        let kind = object.as_object().unwrap().keys().next().unwrap().clone();
        if object["rule"]["chain"] == "postrouting" && object.to_string().contains("\"status\"") {
            // nft says that in a way of its own.
            continue;
        }
        let found = theirs.contains(&object);
        assert!(found, "{kind}: {object} in {theirs:#?}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

fn new((key, value): (&Key, &Value)) -> Edit<Key, Value> {
    Edit {
        key: key.clone(),
        before: None,
        after: Some(value.clone()),
    }
}

/// The objects of a listing, without what only nft knows or says in another form.
fn json(text: &str) -> Vec<Json> {
    let all: Json = serde_json::from_str(text).unwrap();
    let mut objects = all["nftables"].as_array().unwrap().clone();
    objects.iter_mut().for_each(normalise);
    objects
}

fn normalise(value: &mut Json) {
    match value {
        Json::Object(fields) => {
            // The type of map data is a list here and a string there.
            if fields.contains_key("elem") || fields.contains_key("type") {
                fields.remove("map");
            }
            let words = ["accept", "drop", "return", "continue"];
            fields.retain(|name, field| {
                name != "handle" && (!field.is_null() || words.contains(&name.as_str()))
            });
            for (name, field) in fields.iter_mut() {
                normalise(field);
                if name == "flags" && field.is_string() {
                    *field = Json::Array(vec![field.clone()]);
                }
                if let Json::Array(elements) = field
                    && name == "elem"
                {
                    elements.sort_by_key(Json::to_string);
                }
            }
            fields.sort_keys();
        }
        Json::Array(list) => list.iter_mut().for_each(normalise),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

fn nft(args: &[&str]) -> String {
    let output = Command::new("nft").args(args).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    String::from_utf8(output.stdout).unwrap()
}
