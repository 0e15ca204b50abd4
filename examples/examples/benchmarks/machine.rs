//! What was measured on.

use std::fs;
use std::process::Command;

/// Processor, cores, memory, kernel and tools, on a line.
pub(crate) fn describe() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value
            .map_or("unknown", |(_, value)| value.trim())
            .to_owned()
    };
    let cores = cpus
        .lines()
        .filter(|line| line.starts_with("processor"))
        .count();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let memory = field(&memory, "MemTotal");
    let kib = memory
        .split(' ')
        .next()
        .and_then(|kib| kib.parse::<u64>().ok());
    format!(
        "{cores} cores of {}, {} GiB, Linux {}, {}, {}",
        field(&cpus, "model name"),
        kib.unwrap_or_default().div_ceil(1024 * 1024),
        output("uname", &["-r"]),
        output("nft", &["--version"]),
        output("iptables", &["--version"]),
    )
}

/// The average of the last minute: how many others had work for the machine.
pub(crate) fn load() -> f64 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let first = text.split(' ').next();
    first.and_then(|load| load.parse().ok()).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(
        |error| format!("{program}: {error}"),
        |output| String::from_utf8_lossy(&output.stdout).trim().to_owned(),
    )
}
