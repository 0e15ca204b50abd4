//! Runs the sources.

use std::process::{Command, Stdio};

use serde_json::{Map, Value};

use crate::machine;
use crate::measured::Measured;
use crate::sources::{Kind, SOURCES, Source};

/// Everything, from nothing.
pub(crate) fn all(measured: &mut Measured) {
    let names: Vec<&str> = SOURCES.iter().map(|source| source.name).collect();
    some(measured, &names);
}

/// These sources again. Runs of different sources take turns, so that a busy minute meets all.
pub(crate) fn some(measured: &mut Measured, names: &[&str]) {
    measured.machine = machine::describe();
    for name in names {
        assert!(
            SOURCES.iter().any(|source| source.name == *name),
            "no source {name}"
        );
        measured.sources.remove(*name);
    }
    let wanted = |source: &&Source| names.contains(&source.name);
    let rounds = SOURCES
        .iter()
        .filter(wanted)
        .map(|source| source.runs)
        .max();
    for round in 0..rounds.unwrap_or_default() {
        for source in SOURCES
            .iter()
            .filter(wanted)
            .filter(|source| round < source.runs)
        {
            eprintln!("{} ({}): {}", source.name, round + 1, source.command);
            let load = machine::load();
            let printed = run(source);
            let runs = measured.sources.entry(source.name.to_owned()).or_default();
            runs.load.push(load);
            runs.printed.push(printed);
            measured.write(crate::MEASURED);
        }
    }
}

fn run(source: &Source) -> Value {
    let mut words = source.command.split(' ');
    let program = words.next().unwrap();
    let output = Command::new(program)
        .args(words)
        .stderr(Stdio::inherit())
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{}: {}",
        source.command,
        output.status
    );
    let text = String::from_utf8(output.stdout).unwrap();
    match source.kind {
        Kind::Json => serde_json::from_str(&text).unwrap(),
        Kind::Text => text.into(),
        Kind::Criterion => criterion(&text),
    }
}

/// Medians in nanoseconds by name, from lines such as
/// `plan/10/ms   time:   [32.1 ms 33.0 ms 33.9 ms]`; a long name is on the line before.
fn criterion(text: &str) -> Value {
    let mut medians = Map::new();
    let mut name = "";
    for line in text.lines() {
        let Some((before, times)) = line.split_once("time:") else {
            name = line.trim();
            continue;
        };
        if !before.trim().is_empty() {
            name = before.trim();
        }
        let times: Vec<&str> = times.trim().trim_matches(['[', ']']).split(' ').collect();
        let [_, _, median, unit, ..] = times[..] else {
            panic!("{line}")
        };
        let factor = match unit {
            "ps" => 1e-3,
            "ns" => 1.0,
            "ms" => 1e6,
            "s" => 1e9,
            // With the letter of either alphabet.
            _ => 1e3,
        };
        let median: f64 = median.parse().unwrap();
        medians.insert(name.replace('/', ":"), (median * factor).into());
    }
    assert!(!medians.is_empty(), "no times in {text}");
    medians.into()
}
