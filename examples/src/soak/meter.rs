//! What a process costs, as the kernel counts it.

use std::error::Error;
use std::fs;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Memory of this process that is in RAM, in kB.
pub(super) fn resident_kb() -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("/proc/self/status has no VmRSS")?.parse()?)
}

/// Processor time of the calling thread and of the programs that ended.
pub(super) fn thread_cpu() -> Result<Duration, Box<dyn Error>> {
    let thread = getrusage(UsageWho::RUSAGE_THREAD)?;
    let children = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let times = [
        thread.user_time(),
        thread.system_time(),
        children.user_time(),
        children.system_time(),
    ];
    Ok(times.into_iter().map(length).sum())
}

/// Processor time of all threads of this process.
pub(super) fn process_cpu() -> Result<Duration, Box<dyn Error>> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    Ok(length(usage.user_time()) + length(usage.system_time()))
}

fn length(time: TimeVal) -> Duration {
    let seconds = u64::try_from(time.tv_sec()).unwrap_or_default();
    let micros = u64::try_from(time.tv_usec()).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_micros(micros)
}

/// The middle one of some samples.
pub(super) fn median(samples: &[u64]) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}
