//! Every dependency comes from crates.io and has a licence that `deny.toml` allows, and none is one that
//! it denies.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value as Json;

/// The quoted texts of a list of `deny.toml`.
fn list(of: &str) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("deny.toml")).unwrap();
    let (_, after) = text.split_once(&format!("\n{of} = [")).unwrap();
    let (list, _) = after.split_once(']').unwrap();
    let quoted = list.split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

/// Whether an expression of SPDX can be kept with some licences: `AND` binds more than `OR`.
fn is_kept(expression: &str, allowed: &BTreeSet<String>) -> bool {
    // An old way to write `OR`.
    let words = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let words: Vec<&str> = words.split_whitespace().collect();
    let mut rest = words.as_slice();
    let kept = any(&mut rest, allowed);
    assert!(rest.is_empty(), "{expression}");
    kept
}

fn any(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut kept = all(rest, allowed);
    while let ["OR", after @ ..] = *rest {
        *rest = after;
        kept |= all(rest, allowed);
    }
    kept
}

fn all(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    let mut kept = one(rest, allowed);
    while let ["AND", after @ ..] = *rest {
        *rest = after;
        kept &= one(rest, allowed);
    }
    kept
}

fn one(rest: &mut &[&str], allowed: &BTreeSet<String>) -> bool {
    match *rest {
        ["(", after @ ..] => {
            *rest = after;
            let kept = any(rest, allowed);
            let [")", after @ ..] = *rest else {
                panic!("an open bracket before {rest:?}");
            };
            *rest = after;
            kept
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            allowed.contains(&format!("{licence} WITH {exception}"))
        }
        [licence, after @ ..] => {
            *rest = after;
            allowed.contains(*licence)
        }
        [] => panic!("an expression that breaks off"),
    }
}

#[test]
fn licences_are_read_as_spdx_says() {
    let allowed = BTreeSet::from(["MIT".to_owned(), "ISC".to_owned()]);
    for kept in [
        "MIT",
        "GPL-3.0 OR MIT",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND ISC",
        "GPL-3.0 AND X OR ISC",
    ] {
        assert!(is_kept(kept, &allowed), "{kept}");
    }
    for not in [
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT WITH X",
        "(MIT OR X) AND GPL-3.0",
        "mit",
    ] {
        assert!(!is_kept(not, &allowed), "{not}");
    }
}

#[test]
fn every_dependency_is_allowed() {
    let (allowed, sources) = (list("allow"), list("allow-registry"));
    let denied = list("deny");
    assert!(allowed.contains("MIT") && sources.len() == 1 && denied.contains("openssl-sys"));
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version",
            "1",
            "--locked",
            "--all-features",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Json = serde_json::from_slice(&output.stdout).unwrap();
    let mut wrong = Vec::new();
    let packages = metadata["packages"].as_array().unwrap();
    for package in packages {
        let text = |field: &str| package[field].as_str();
        let name = text("name").unwrap();
        match text("license") {
            Some(licence) if is_kept(licence, &allowed) => {}
            licence => wrong.push(format!("{name} has licence {licence:?}")),
        }
        // Those of the workspace have none.
        if let Some(source) = text("source")
            && !source
                .strip_prefix("registry+")
                .is_some_and(|source| sources.contains(source))
        {
            wrong.push(format!("{name} comes from {source}"));
        }
        if denied.contains(name) {
            wrong.push(format!("{name} is denied"));
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert!(packages.len() > 100, "{} packages", packages.len());
}
