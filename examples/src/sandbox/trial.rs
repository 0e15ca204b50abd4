//! A test harness that is isolated before it starts its first thread.

use std::env;
use std::error::Error as _;
use std::process::ExitCode;
use std::thread;
use std::time::Instant;

use super::{Error, isolate};

/// A named test; it fails by panicking.
#[derive(Debug, Clone, Copy)]
pub struct Trial {
    /// Its name, which filters match.
    pub name: &'static str,
    /// The test.
    pub run: fn(),
}

/// Isolates the process and runs the trials one after another.
///
/// For test targets with `harness = false`. The arguments are those of the usual harness, as far
/// as they make sense here: words that a name must contain, `--exact`, `--list`, and without effect
/// `--nocapture` and `--test-threads=N`. A kernel that does not permit isolation is a failure, not
/// a skipped test.
pub fn run_trials(trials: &[Trial]) -> ExitCode {
    let (options, words): (Vec<String>, Vec<String>) = env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    let known = |option: &String| {
        ["--exact", "--list", "--nocapture"].contains(&option.as_str())
            || option.starts_with("--test-threads=")
    };
    if let Some(option) = options.iter().find(|option| !known(option)) {
        eprintln!("unknown option {option}");
        return ExitCode::FAILURE;
    }
    let has = |option: &str| options.iter().any(|one| one == option);
    let matches = |trial: &&Trial| {
        words.is_empty()
            || words.iter().any(|word| trial.name == word)
            || !has("--exact") && words.iter().any(|word| trial.name.contains(word.as_str()))
    };
    let chosen = trials.iter().filter(matches);
    if has("--list") {
        chosen.for_each(|trial| println!("{}: test", trial.name));
        return ExitCode::SUCCESS;
    }
    if let Err(error) = isolate() {
        eprintln!("{}", with_causes(&error));
        return ExitCode::FAILURE;
    }
    let (mut passed, mut failed) = (0, 0);
    for trial in chosen {
        let start = Instant::now();
        let succeeded = thread::scope(|scope| scope.spawn(trial.run).join().is_ok());
        let (count, word) = if succeeded {
            (&mut passed, "ok")
        } else {
            (&mut failed, "FAILED")
        };
        *count += 1;
        println!("test {} ... {word} ({:.0?})", trial.name, start.elapsed());
    }
    println!("\ntest result: {passed} passed; {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn with_causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
