//! Runs the tools, and tells their failures apart once and for all.

use std::ffi::OsStr;
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use svc_core::IpFamily;

use super::detect::Variant;
use super::lock::{holder, lock_file};
use crate::error::Error;

/// Exit status of the tools when the lock is not free.
const RESOURCE_PROBLEM: i32 = 4;

/// The tools of one variant and family.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) family: IpFamily,
    pub(crate) variant: Variant,
    /// Whether the programs carry the variant in their names.
    pub(crate) named: bool,
    pub(crate) lock_wait: Duration,
    pub(crate) lock_file: Option<PathBuf>,
}

impl Tools {
    /// `iptables`, `ip6tables-nft-restore` and the like; `part` is empty, `restore` or `save`.
    pub(crate) fn program(&self, part: &str) -> String {
        let mut name = base(self.family).to_owned();
        if self.named {
            name.push('-');
            name.push_str(self.variant.name());
        }
        if !part.is_empty() {
            name.push('-');
            name.push_str(part);
        }
        name
    }

    /// Applies an input, and keeps everything that it does not name.
    pub(crate) fn restore(&self, input: &str) -> Result<(), Error> {
        let wait = self.lock_wait.as_secs().max(1).to_string();
        let args = ["--noflush", "--counters", "-w", &wait];
        self.run("restore", &args, input.as_bytes()).map(drop)
    }

    /// What a table holds, as text.
    pub(crate) fn save(&self, table: &str) -> Result<String, Error> {
        let output = self.run("save", &["-t", table], &[])?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Whether a jump from one chain to another is there, as `-C` tells.
    pub(crate) fn jumps(&self, table: &str, from: &str, to: &str) -> Result<bool, Error> {
        let wait = self.lock_wait.as_secs().max(1).to_string();
        let args = ["-w", &wait, "-t", table, "-C", from, "-j", to];
        match self.run("", &args, &[]) {
            Ok(_) => Ok(true),
            Err(Error::Failed {
                status, message, ..
            }) if is_absent(status, &message, to) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn run(&self, part: &str, args: &[&str], input: &[u8]) -> Result<Output, Error> {
        let program = self.program(part);
        let lock = self.lock_file.as_deref();
        let environment = lock.map(|path| ("XTABLES_LOCKFILE", path));
        match run(&program, args, environment, input) {
            Err(Error::Failed {
                status: RESOURCE_PROBLEM,
                message,
                ..
            }) if message.contains("lock") => Err(self.lock_problem(message)),
            result => result,
        }
    }

    /// Why the lock was not had: somebody has it, or there can be none.
    fn lock_problem(&self, message: String) -> Error {
        let path = self.lock_file.clone().unwrap_or_else(lock_file);
        match message.contains("open lock file") {
            true => Error::LockFile { path, message },
            false => Error::Locked {
                waited: self.lock_wait,
                holder: holder(&path),
            },
        }
    }
}

/// Whether `-C` failed as there is no such jump. Without the chain that it leads to, the tools fail as
/// with a wrong command line, and name that chain.
fn is_absent(status: i32, message: &str, to: &str) -> bool {
    const NO_SUCH_RULE: i32 = 1;
    const PARAMETER_PROBLEM: i32 = 2;
    match status {
        NO_SUCH_RULE => true,
        PARAMETER_PROBLEM => {
            message.contains(&format!("target `{to}'"))
                || message.contains(&format!("Chain '{to}'"))
        }
        _ => false,
    }
}

/// `iptables` or `ip6tables`.
pub(crate) fn base(family: IpFamily) -> &'static str {
    match family {
        IpFamily::V4 => "iptables",
        IpFamily::V6 => "ip6tables",
    }
}

/// Runs a program in the network namespace of the calling thread.
pub(crate) fn run(
    program: &str,
    args: &[impl AsRef<OsStr>],
    environment: Option<(&str, &Path)>,
    input: &[u8],
) -> Result<Output, Error> {
    let spawn = |source: io::Error| {
        let program = program.to_owned();
        match source.kind() == io::ErrorKind::NotFound {
            true => Error::Missing { program },
            false => Error::Spawn { program, source },
        }
    };
    let mut command = Command::new(program);
    command.args(args).envs(environment);
    // Messages are matched in English.
    command.env("LC_ALL", "C");
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().map_err(spawn)?;
    let stdin = child.stdin.take();
    let output = std::thread::scope(|scope| {
        // Beside the reading of its output: a pipe holds little.
        scope.spawn(move || {
            // A program that ends early says why itself.
            let _ = stdin.map(|mut stdin| stdin.write_all(input));
        });
        child.wait_with_output()
    });
    let output = output.map_err(spawn)?;
    if output.status.success() {
        return Ok(output);
    }
    if let Some(signal) = output.status.signal() {
        return Err(Error::Killed {
            program: program.to_owned(),
            signal,
        });
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Error::Failed {
        program: program.to_owned(),
        status: output.status.code().unwrap_or(-1),
        message: one_line(&said),
        lines: blamed_lines(&said),
    })
}

/// The input lines that a message of `iptables-restore` names, in either variant's words.
///
/// `line 12: RULE_APPEND failed`, `Error occurred at line: 12`, and `line 12 failed`, which with
/// iptables-legacy is the line of `COMMIT` when the kernel refused something.
fn blamed_lines(said: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let words: Vec<&str> = said.split_whitespace().collect();
    for pair in words.windows(2) {
        let [word, number] = pair else { continue };
        if !matches!(*word, "line" | "line:") {
            continue;
        }
        let digits = number.trim_end_matches(|c: char| !c.is_ascii_digit());
        lines.extend(digits.parse::<usize>());
    }
    lines.dedup();
    lines
}

/// What a program said without what it says each time.
fn one_line(said: &str) -> String {
    const LONGEST: usize = 400;
    let useful = said.lines().map(str::trim).filter(|line| {
        let noise = line.starts_with("Try `") || line.starts_with('#') || line.is_empty();
        !noise
    });
    let mut text = useful.collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_found_in_the_words_of_both_variants() {
        let legacy = "iptables-restore v1.8.9 (legacy): Couldn't load match `foo':No such file\n\n\
                      Error occurred at line: 5\nTry `iptables-restore -h' for more information.\n";
        assert_eq!(blamed_lines(legacy), [5]);
        assert_eq!(blamed_lines("iptables-restore: line 12 failed\n"), [12]);
        let nft = "iptables-nft-restore v1.8.9 (nf_tables): \n\
                   line 15: RULE_APPEND failed (Invalid argument): rule in chain SVC-T\n\
                   line 16: RULE_APPEND failed (Invalid argument): rule in chain SVC-T\n";
        assert_eq!(blamed_lines(nft), [15, 16]);
        assert!(!one_line(legacy).contains("Try `"));
    }

    #[test]
    fn only_a_chain_or_rule_that_is_not_there_is_absent() {
        let legacy =
            "iptables v1.8.9 (legacy): Couldn't load target `SVC-T':No such file or directory";
        let nft = "iptables v1.8.9 (nf_tables): Chain 'SVC-T' does not exist";
        let no_rule = "iptables: Bad rule (does a matching rule exist in that chain?).";
        assert!(is_absent(2, legacy, "SVC-T") && is_absent(2, nft, "SVC-T"));
        assert!(is_absent(1, no_rule, "SVC-T"));
        let other = "iptables v1.8.9 (legacy): unknown option \"--foo\"";
        assert!(!is_absent(2, other, "SVC-T") && !is_absent(4, nft, "SVC-T"));
        let table = "iptables v1.8.9 (nf_tables): table 'nat' does not exist";
        assert!(!is_absent(3, table, "SVC-T") && !is_absent(2, legacy, "SVC-U"));
    }

    #[test]
    fn a_missing_program_is_named() {
        let missing = run("no-such-program-here", &[""; 0], None, &[]);
        assert!(matches!(missing, Err(Error::Missing { program }) if program.starts_with("no-")));
    }
}
