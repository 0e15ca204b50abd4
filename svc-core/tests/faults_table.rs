//! The table of faults tells the truth: every test that it names exists.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let is_row = |line: &&str| line.starts_with("| ") && !line.starts_with("| fault |");
    let (mut rows, mut named) = (0, 0);
    for row in table.lines().filter(is_row) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [fault, what, by] = cells[..] else {
            panic!("{row}")
        };
        assert!(!fault.is_empty() && !what.is_empty(), "{row}");
        let tests = by.split('`').skip(1).step_by(2);
        let before = named;
        for test in tests {
            let (file, name) = test.split_once("::").unwrap_or_else(|| panic!("{test}"));
            let text = fs::read_to_string(root.join(file)).unwrap_or_else(|_| panic!("no {file}"));
            assert!(is_there(&text, name), "{file} has no test {name}");
            named += 1;
        }
        assert!(named > before, "{row}");
        rows += 1;
    }
    assert!(rows > 30 && named > 40, "{rows} rows name {named} tests");
}

/// As a function under `#[test]`, or as a trial of a test without the usual harness.
fn is_there(text: &str, name: &str) -> bool {
    if text.contains(&format!("\"{name}\"")) {
        return true;
    }
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let starts = format!("fn {name}(");
    let mut of_name = (0..lines.len()).filter(|at| lines[*at].starts_with(&starts));
    of_name.any(|at| {
        let above = lines[..at].iter().rev();
        let mut attributes = above.take_while(|line| line.starts_with("#["));
        attributes.any(|line| *line == "#[test]")
    })
}

#[test]
fn a_helper_or_a_comment_is_no_test() {
    let text =
        "// fn a(\nfn b() {}\n#[test]\n#[ignore]\nfn c() {}\nown(\"d\", d)\n#[test]\nfn ef() {}";
    let found = ["a", "b", "c", "d", "e"].map(|name| is_there(text, name));
    assert_eq!(found, [false, false, true, true, false]);
}
