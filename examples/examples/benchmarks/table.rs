//! `BENCHMARKS.md`.

use std::fmt::Write;

use crate::measured::{Measured, Place, Spread};
use crate::rows::{Row, SECTIONS, Section, Unit};
use crate::sources;

const HEAD: &str = "\
# Benchmarks

Made by `tools/benchmarks`, which runs the commands below and keeps what they print in
[`docs/benchmarks/measured.json`](docs/benchmarks/measured.json); `tools/test` checks that this text is what
that file says. Do not edit.

Each figure is the median of some runs, with the least and the most. *Aim* is what the project wants. The aims and
the figures of *kube-proxy* (v1.36.2) are from a machine of the same kind in another hour; how fast this one was
is told by chains in kube-proxy's form, 10,000 Services × 3 endpoints, restored by iptables-legacy: 0.88 s of CPU
there, {here} here. Ratios are what to compare.

![Growth with the number of Services](docs/benchmarks/growth.svg)
";

pub(crate) fn document(measured: &Measured) -> String {
    let here = measured.figure("peer-form", Place::Json("/cpu_ms"));
    let here = here.map_or_else(|| "not run".to_owned(), |figure| time(figure.median * 1e-3));
    let mut text = HEAD.replace("{here}", &here);
    let loads = measured.sources.values().flat_map(|runs| &runs.load);
    let most = loads.copied().fold(0.0, f64::max);
    let machine = &measured.machine;
    writeln!(
        text,
        "\nMachine: {machine}. Load before a run: at most {most}."
    )
    .unwrap();
    for section in SECTIONS {
        text += &table(section, measured);
    }
    text
}

fn table(section: &Section, measured: &Measured) -> String {
    let mut text = format!("\n## {}\n\n", section.title);
    text += "| | measured | least to most | aim | kube-proxy |\n|---|---|---|---|---|\n";
    let mut commands = Vec::new();
    for row in section.rows {
        let command = sources::command(row.source);
        if !commands.contains(&command) {
            commands.push(command);
        }
        let [median, spread] = match measured.figure(row.source, row.place) {
            Some(figure) => cells(row, figure),
            None => ["not run".to_owned(), String::new()],
        };
        let (what, aim, peer) = (row.what, row.aim.replace("us", "µs"), row.peer);
        writeln!(text, "| {what} | {median} | {spread} | {aim} | {peer} |").unwrap();
    }
    text += "\n```sh\n";
    for command in commands {
        text += command;
        text.push('\n');
    }
    text + "```\n"
}

fn cells(row: &Row, figure: Spread) -> [String; 2] {
    let shown = |value| shown(row.unit, value);
    let spread = match figure.least < figure.most {
        true => format!("{} to {}", shown(figure.least), shown(figure.most)),
        false => String::new(),
    };
    [shown(figure.median), spread]
}

fn shown(unit: Unit, value: f64) -> String {
    match unit {
        Unit::Nanoseconds => time(value * 1e-9),
        Unit::Microseconds => time(value * 1e-6),
        Unit::Milliseconds => time(value * 1e-3),
        Unit::Bytes => format!("{value:.0} B"),
        Unit::Kibibytes => format!("{:.0} MiB", value / 1024.0),
        Unit::TicksPerMinute => format!("{:.2} %", value / 60.0),
        Unit::NanosecondsOf1024 => time(value * 1e-9 / 1024.0),
        Unit::Queries => format!("{value:.0} k"),
        Unit::Number => format!("{value:.0}"),
        Unit::Times => format!("{value:.2} ×"),
    }
}

/// Three digits that count.
fn time(seconds: f64) -> String {
    let (value, unit) = match seconds {
        s if s >= 1.0 => (s, "s"),
        s if s >= 1e-3 => (s * 1e3, "ms"),
        s if s >= 1e-6 => (s * 1e6, "µs"),
        s => (s * 1e9, "ns"),
    };
    let decimals = match value {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    format!("{value:.decimals$} {unit}")
}
