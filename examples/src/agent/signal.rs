//! The wish of the system that the process ends.

use std::io;
use std::thread;

use nix::sys::signal::{SigSet, Signal};

use super::input::{Feed, Input};

/// Makes SIGTERM and SIGINT an input of a loop. Call it before any other thread starts: a thread
/// that was there before would still die of them.
pub(super) fn follow(feed: Feed) -> io::Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    signals.thread_block()?;
    let wait = move || {
        while let Ok(signal) = signals.wait() {
            if feed.send(Input::Stop(signal.as_str())).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}
