//! Invariants of the crate itself: no `std`, no `unsafe`, no clock, no dependency with more than
//! it needs.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// Lines of code, without comments, documentation and `#[cfg(test)]` modules at the end of files.
fn code(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().map(str::trim);
    let lines = lines.take_while(|line| *line != "#[cfg(test)]");
    lines
        .filter(|line| !line.starts_with("//"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_crate_compiles_without_std() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let lib = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    assert!(
        lib.lines().any(|line| line == "#![no_std]"),
        "not under any condition"
    );
    let mut files = Vec::new();
    sources(&root.join("src"), &mut files);
    assert!(files.len() > 30, "{} files", files.len());
    for file in files {
        let is_test = file.file_stem().is_some_and(|stem| stem == "tests");
        for line in code(&file).iter().filter(|_| !is_test) {
            for word in [
                "std::",
                "extern crate std",
                "unsafe ",
                "Instant::",
                "SystemTime",
            ] {
                assert!(!line.contains(word), "{}: {line}", file.display());
            }
        }
    }
}

#[test]
fn dependencies_bring_no_std() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let own = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let workspace = fs::read_to_string(root.join("../Cargo.toml")).unwrap();
    let section = own.split("\n[dependencies]\n").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let lines = section
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut seen = 0;
    for line in lines {
        let (name, rest) = line.split_once([' ', '.']).unwrap();
        let declared = match rest.contains("workspace") {
            true => workspace
                .lines()
                .find(|line| line.starts_with(&format!("{name} = ")))
                .unwrap(),
            false => line,
        };
        // What is optional is for features that say so.
        let optional = line.contains("optional = true");
        assert!(
            optional || declared.contains("default-features = false"),
            "{declared}"
        );
        assert!(optional || !declared.contains("\"std\""), "{declared}");
        seen += 1;
    }
    assert!(seen >= 4, "{seen} dependencies");
}
