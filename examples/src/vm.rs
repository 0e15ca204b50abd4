//! Tests that need another kernel than this machine's run themselves in a virtual machine.

use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::{env, fs};

/// Runs what needs a stock kernel: here if this is one, otherwise by starting this very program
/// with the same arguments inside `tools/vm`.
pub fn run_inside(run: impl FnOnce() -> ExitCode) -> ExitCode {
    if env::var_os("SVC_VM").is_some() {
        return run();
    }
    start_again().unwrap_or_else(|error| {
        eprintln!("cannot start tools/vm: {error}");
        ExitCode::FAILURE
    })
}

fn start_again() -> io::Result<ExitCode> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let vm = fs::canonicalize(root.join("tools/vm"))?;
    let program = env::current_exe()?;
    let status = Command::new(vm)
        .arg("--")
        .arg(program)
        .args(env::args_os().skip(1))
        .status()?;
    Ok(match status.success() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
