//! Tests that need another kernel than this machine's run themselves in a virtual machine.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Runs what needs a stock kernel: here if this is one, otherwise by starting this very program
/// with the same arguments inside `tools/vm`.
///
/// `defaults` are variables of the environment that are set inside unless they are set already.
pub fn run_inside(defaults: &[(&str, &str)], run: impl FnOnce() -> ExitCode) -> ExitCode {
    if env::var_os("SVC_VM").is_some() {
        return run();
    }
    start_again(defaults).unwrap_or_else(|error| {
        eprintln!("cannot start tools/vm: {error}");
        ExitCode::FAILURE
    })
}

fn start_again(defaults: &[(&str, &str)]) -> io::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let vm = fs::canonicalize(root.join("tools/vm"))?;
    let program = env::current_exe()?;
    let unset = defaults
        .iter()
        .filter(|(name, _)| env::var_os(name).is_none());
    let status = Command::new(vm)
        .envs(unset.copied())
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .status()?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
