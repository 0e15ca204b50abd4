//! The wish of the system that the process ends.

use std::io;
use std::ops::ControlFlow;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

/// Calls `told` with the name of each SIGTERM and SIGINT, on a thread of its own, until it breaks.
///
/// Call it before any other thread starts: a thread that was there before would still die of them.
/// Without it the first process of a container gets neither, as the kernel spares it those.
pub(crate) fn follow(
    mut told: impl FnMut(&'static str) -> ControlFlow<()> + Send + 'static,
) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if told(signal.as_str()).is_break() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
