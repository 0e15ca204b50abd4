//! The table of behaviours tells the truth: every number has a row, and the test it names cites it.
#![allow(clippy::panic, clippy::unwrap_used)]

use std::fs;
use std::path::Path;

const LAST: u32 = 445;

/// Numbers that the names of the tests of a file cite: `fn b032_…`, `b321_to_b329_…`.
fn cited(file: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for line in file.lines() {
        let line = line.trim_start().trim_start_matches("pub(crate) ");
        let Some(name) = line.strip_prefix("fn b") else {
            continue;
        };
        let mut words = name.split('_').peekable();
        let mut last: Option<u32> = None;
        let mut range = false;
        while let Some(word) = words.next_if(|w| ["to", "and"].contains(w) || number(w).is_some()) {
            match number(word) {
                Some(n) => {
                    let first = last.filter(|_| range).map_or(n, |last| last + 1);
                    numbers.extend(first..=n);
                    last = Some(n);
                    range = false;
                }
                None => range = word == "to",
            }
        }
    }
    numbers
}

fn number(word: &str) -> Option<u32> {
    let digits = word.strip_prefix('b').unwrap_or(word);
    (digits.len() == 3).then(|| digits.parse().ok()).flatten()
}

#[test]
fn every_behaviour_has_a_row_and_every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("docs/behaviours.md")).unwrap();
    let (_, groups) = table.split_once("\n## 1. ").unwrap();
    let mut next = 1;
    let mut tested = 0;
    for row in groups.lines().filter(|line| line.starts_with("| B-")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, rule, by] = cells[..] else {
            panic!("{row}")
        };
        assert_eq!(
            id,
            format!("B-{next:03}"),
            "rows are in order, none is missing"
        );
        assert!(!rule.is_empty() && !by.is_empty(), "{row}");
        let paths = by
            .split('`')
            .skip(1)
            .step_by(2)
            .filter(|path| path.ends_with(".rs"));
        // A file that is named on the side says more in words.
        if by.starts_with('`') && by.contains(".rs") {
            for path in paths {
                let places = ["svc-core/tests", "svc-core/src", ""];
                let mut files = places.iter().map(|place| root.join(place).join(path));
                let file = files
                    .find(|file| file.exists())
                    .unwrap_or_else(|| panic!("{row}"));
                let cited = cited(&fs::read_to_string(file).unwrap());
                assert!(cited.contains(&next), "{path} cites no B-{next:03}");
            }
            tested += 1;
        }
        next += 1;
    }
    assert_eq!(next - 1, LAST);
    assert!(tested > 250, "{tested} behaviours are cited by tests");
}
