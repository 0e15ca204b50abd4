//! Chance from outside, so that a loop does the same again with the same seed.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// A source of chance.
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// The same numbers for the same seed.
    pub fn seeded(seed: u64) -> Self {
        // 0 would stay 0.
        Self(seed | 1)
    }

    /// Other numbers in every process.
    pub fn random() -> Self {
        Self::seeded(RandomState::new().build_hasher().finish())
    }

    /// The duration, and up to half as much again.
    pub fn stretch(&mut self, duration: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // 0 to 1023 of 2048ths.
        let part = u32::try_from(self.0 >> 54).unwrap_or(0);
        duration.saturating_add(duration.saturating_mul(part) / 2048)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_by_half_at_most() {
        let mut jitter = Jitter::seeded(0);
        let second = Duration::from_secs(1);
        let all: Vec<_> = (0..1000).map(|_| jitter.stretch(second)).collect();
        assert!(all.iter().all(|d| *d >= second && *d < second * 3 / 2));
        assert!(all.iter().any(|d| *d > second * 14 / 10));
        assert!(all.iter().any(|d| *d < second * 11 / 10));
    }
}
