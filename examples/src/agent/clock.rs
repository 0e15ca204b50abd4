//! Time as a loop sees it.

use std::cell::Cell;
use std::time::{Duration, Instant, SystemTime};

/// A clock that never goes back.
pub trait Clock {
    /// The time since 1970, or since any other fixed moment.
    fn now(&self) -> Duration;
}

/// The clock of the machine: the time since 1970 when it was made, and what passed since then.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    started: Instant,
    at: Duration,
}

impl SystemClock {
    /// Reads the clock of the machine.
    pub fn start() -> Self {
        let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Self {
            started: Instant::now(),
            // A machine before 1970 counts from its start.
            at: at.unwrap_or_default(),
        }
    }

    /// The time of a moment.
    pub fn at(&self, moment: Instant) -> Duration {
        self.at + moment.saturating_duration_since(self.started)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.at(Instant::now())
    }
}

/// A clock that stands until it is told to go on.
#[derive(Clone, Debug, Default)]
pub struct StoppedClock(Cell<Duration>);

impl StoppedClock {
    /// Lets time pass.
    pub fn pass(&self, duration: Duration) {
        self.0.set(self.0.get() + duration);
    }
}

impl Clock for StoppedClock {
    fn now(&self) -> Duration {
        self.0.get()
    }
}
