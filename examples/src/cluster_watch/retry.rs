//! When to try again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Waits that double, with jitter, so that the agents of a thousand nodes do not come back at once.
#[derive(Clone, Debug)]
pub(super) struct Retry {
    first: Duration,
    most: Duration,
    next: Duration,
}

impl Retry {
    pub(super) fn new(first: Duration, most: Duration) -> Self {
        Self {
            first,
            most,
            next: first,
        }
    }

    /// It works again.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }

    /// How long to wait now: between half of the nominal time and all of it.
    pub(super) fn wait(&mut self) -> Duration {
        let nominal = self.next.min(self.most);
        self.next = (nominal * 2).min(self.most);
        // Seeded by the system for every value: no generator is needed for one number now and then.
        let random = RandomState::new().hash_one(()) as u32;
        nominal.mul_f64(0.5 + 0.5 * f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_again_after_success() {
        let (first, most) = (Duration::from_millis(100), Duration::from_secs(1));
        let mut retry = Retry::new(first, most);
        for nominal in [100, 200, 400, 800, 1000, 1000] {
            let (wait, nominal) = (retry.wait(), Duration::from_millis(nominal));
            assert!(
                wait >= nominal / 2 && wait <= nominal,
                "{wait:?} {nominal:?}"
            );
        }
        retry.reset();
        assert!(retry.wait() <= first);
    }
}
