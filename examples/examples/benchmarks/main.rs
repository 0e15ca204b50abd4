//! Every figure that the project states: measured, as tables (`BENCHMARKS.md`) and as a plot.
//!
//! ```sh
//! tools/benchmarks                  # measures everything, some twenty minutes, as root
//! tools/benchmarks only NAME...     # measures again what these sources print
//! tools/benchmarks render           # tables and plot of what was measured last
//! tools/benchmarks check            # whether the committed ones are those
//! ```
//!
//! What was measured is in `docs/benchmarks/measured.json`, raw, run by run.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a figure that is missing is an error of this program"
)]

mod machine;
mod measure;
mod measured;
mod peer;
mod plot;
mod rows;
mod sources;
mod table;

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use measured::Measured;

const MEASURED: &str = "docs/benchmarks/measured.json";

fn main() -> ExitCode {
    env::set_current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("..")).unwrap();
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        [] => measure::all(&mut Measured::default()),
        ["only", names @ ..] => measure::some(&mut Measured::read(MEASURED), names),
        ["render"] => {}
        ["check"] => return check(),
        other => {
            eprintln!("unknown: {other:?}; see the head of examples/examples/benchmarks/main.rs");
            return ExitCode::FAILURE;
        }
    }
    for (path, text) in rendered() {
        fs::write(path, text).unwrap();
    }
    ExitCode::SUCCESS
}

fn rendered() -> [(&'static str, String); 2] {
    let measured = Measured::read(MEASURED);
    [
        ("BENCHMARKS.md", table::document(&measured)),
        ("docs/benchmarks/growth.svg", plot::svg(&measured)),
    ]
}

fn check() -> ExitCode {
    for (path, text) in rendered() {
        if fs::read_to_string(path).unwrap_or_default() != text {
            eprintln!("{path} is not what {MEASURED} says: run `tools/benchmarks render`");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
