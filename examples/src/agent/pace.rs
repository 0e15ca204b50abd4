//! When a loop runs: as often as needed and no more often than allowed (B-239 to B-244).

use std::time::Duration;

use super::jitter::Jitter;

/// The periods of a [`Pace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// Least time from the end of a run to the start of the next (B-240).
    pub min: Duration,
    /// Most time between two comparisons with the kernel (B-241).
    pub check: Duration,
    /// A comparison is made so rarely that it takes at most one part in so many of the time.
    pub check_share: u32,
    /// Wait after a first failure; doubled after each one that follows.
    pub retry_first: Duration,
    /// Longest wait after a failure (B-242).
    pub retry_most: Duration,
}

/// Why a loop runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Somebody else changed the kernel, or is thought to have.
    Disturbance,
    /// The plan changed.
    Change,
    /// The run before failed.
    Retry,
    /// It is time to compare.
    Check,
    /// An audit found something wrong.
    Audit,
}

impl Cause {
    /// All causes.
    pub const ALL: [Self; 5] = [
        Self::Disturbance,
        Self::Change,
        Self::Retry,
        Self::Check,
        Self::Audit,
    ];

    /// The cause in one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Disturbance => "disturbance",
            Self::Change => "change",
            Self::Retry => "retry",
            Self::Check => "check",
            Self::Audit => "audit",
        }
    }
}

/// Decides when to run. Time is an argument, always since the same moment.
///
/// Requests during a run or inside the least period are merged into one later run, and none is
/// lost. A request brings a retry forward, but a kernel that fails is not asked more often than
/// [`Periods::retry_first`] allows, however many changes arrive.
#[derive(Clone, Debug)]
pub struct Pace {
    periods: Periods,
    jitter: Jitter,
    wanted: Option<Duration>,
    disturbed: Option<Duration>,
    audited: Option<Duration>,
    ended: Option<Duration>,
    /// End of the latest run that answered a disturbance: somebody who changes the kernel all the
    /// time shall not keep a processor busy.
    answered: Option<Duration>,
    failures: u32,
    retry_at: Option<Duration>,
    check_at: Option<Duration>,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The kernel shows the plan, and was compared with it.
    Compared,
    /// The kernel shows the plan.
    Applied,
    /// It does not.
    Failed,
}

impl Pace {
    /// A pace that runs nothing until it is asked to.
    pub fn new(periods: Periods, jitter: Jitter) -> Self {
        Self {
            periods,
            jitter,
            wanted: None,
            disturbed: None,
            audited: None,
            ended: None,
            answered: None,
            failures: 0,
            retry_at: None,
            check_at: None,
        }
    }

    /// Asks for a run, since the plan changed.
    pub fn request(&mut self, now: Duration) {
        self.catch_up(now);
        self.wanted.get_or_insert(now);
    }

    /// Asks for a run that compares with the kernel, past the least period.
    pub fn disturb(&mut self, now: Duration) {
        self.catch_up(now);
        self.disturbed.get_or_insert(now);
    }

    /// Asks for a run that mends what an audit found, past the least period.
    pub fn mend(&mut self, now: Duration) {
        self.catch_up(now);
        self.audited.get_or_insert(now);
    }

    /// Should a clock have gone back, though it must not: what was noted then would hold up
    /// everything until the clock is there again.
    fn catch_up(&mut self, now: Duration) {
        if self.ended.is_none_or(|ended| ended <= now) {
            return;
        }
        self.ended = Some(now);
        self.answered = self.answered.map(|_| now);
        self.retry_at = self.retry_at.map(|_| now + self.periods.retry_first);
        self.check_at = self.check_at.map(|_| now + self.periods.check);
        for asked in [&mut self.wanted, &mut self.disturbed, &mut self.audited] {
            *asked = asked.map(|at| at.min(now));
        }
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// When to run next, and why; `None` until there is a reason.
    pub fn next(&self) -> Option<(Duration, Cause)> {
        let after = |moment: Option<Duration>, wait: Duration| moment.map(|at| at + wait);
        // After a failure not even an urgent run comes at once.
        let floor = after(
            self.ended.filter(|_| self.failures > 0),
            self.periods.retry_first,
        );
        let soonest = |at: Duration, other: Option<Duration>| {
            at.max(other.unwrap_or_default())
                .max(floor.unwrap_or_default())
        };
        let disturbed = self
            .disturbed
            .map(|at| (soonest(at, after(self.answered, CALM)), Cause::Disturbance));
        let wanted = self.wanted.map(|at| {
            let at = soonest(at, after(self.ended, self.periods.min));
            (at, Cause::Change)
        });
        let audited = self.audited.map(|at| (soonest(at, None), Cause::Audit));
        let retry = self.retry_at.map(|at| (at, Cause::Retry));
        let check = self.check_at.map(|at| (at, Cause::Check));
        [disturbed, wanted, audited, retry, check]
            .into_iter()
            .flatten()
            .min()
    }

    /// A run starts: what was asked for until now is its business.
    pub fn start(&mut self) {
        self.wanted = None;
        self.audited = None;
    }

    /// A run has ended, after it took so long.
    ///
    /// A comparison that is expensive is made more rarely, see [`Periods::check_share`].
    pub fn end(&mut self, now: Duration, cause: Cause, took: Duration, end: End) {
        self.ended = Some(now);
        match end {
            End::Compared | End::Applied => {
                self.failures = 0;
                self.retry_at = None;
            }
            End::Failed => {
                let doublings = self.failures.min(20);
                self.failures = self.failures.saturating_add(1);
                let wait = self.periods.retry_first.saturating_mul(1 << doublings);
                let wait = self.jitter.stretch(wait.min(self.periods.retry_most));
                self.retry_at = Some(now + wait);
                // The retry compares, as the reconciler remembers that it has to.
                if cause == Cause::Disturbance {
                    self.disturbed = None;
                }
            }
        }
        // With nothing to compare with yet, a comparison is as good as made.
        let asked = matches!(cause, Cause::Disturbance | Cause::Check);
        if end == End::Compared || (end == End::Applied && asked) {
            // Other runs write, too, which says nothing of what a comparison costs.
            let cost = match cause {
                Cause::Check => took,
                Cause::Disturbance | Cause::Audit | Cause::Change | Cause::Retry => Duration::ZERO,
            };
            let rarely = cost.saturating_mul(self.periods.check_share).min(RAREST);
            self.check_at = Some(now + self.periods.check.max(rarely));
            self.disturbed = None;
            if cause == Cause::Disturbance {
                self.answered = Some(now);
            }
        } else if end == End::Failed && self.check_at.is_some_and(|at| at <= now) {
            // A check that failed is tried again by the retry.
            self.check_at = None;
        } else if end == End::Applied && self.check_at.is_none() {
            // That retry had but to write what the check had found.
            self.check_at = Some(now + self.periods.check);
        }
    }
}

/// Time between two runs that answer disturbances.
const CALM: Duration = Duration::from_millis(100);
/// A comparison is made at least so often, whatever it costs.
const RAREST: Duration = Duration::from_secs(6 * 60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const PERIODS: Periods = Periods {
        min: ms(1_000),
        check: ms(3_600_000),
        check_share: 1000,
        retry_first: ms(250),
        retry_most: ms(30_000),
    };

    fn pace() -> Pace {
        Pace::new(PERIODS, Jitter::seeded(1))
    }

    fn run(pace: &mut Pace, now: Duration, end: End) -> Cause {
        let (at, cause) = pace.next().unwrap();
        assert!(at <= now, "{at:?} is after {now:?}");
        pace.start();
        pace.end(now, cause, ms(1), end);
        cause
    }

    #[test]
    fn b239_requests_inside_the_least_period_are_merged() {
        let mut pace = pace();
        assert_eq!(pace.next(), None);
        pace.request(ms(5));
        assert_eq!(pace.next(), Some((ms(5), Cause::Change)));
        run(&mut pace, ms(5), End::Compared);
        for at in [10, 20, 900] {
            pace.request(ms(at));
        }
        assert_eq!(pace.next(), Some((ms(1_005), Cause::Change)));
        run(&mut pace, ms(1_005), End::Applied);
        assert_eq!(pace.next(), Some((ms(3_600_005), Cause::Check)));
    }

    #[test]
    fn request_during_a_run_is_not_lost() {
        let mut pace = pace();
        pace.request(ms(0));
        pace.start();
        pace.request(ms(1));
        pace.end(ms(2), Cause::Change, ms(2), End::Compared);
        assert_eq!(pace.next(), Some((ms(1_002), Cause::Change)));
    }

    #[test]
    fn b242_failures_are_tried_again_ever_more_rarely() {
        let mut pace = pace();
        pace.request(ms(0));
        let mut now = ms(0);
        run(&mut pace, now, End::Failed);
        for wait in [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000] {
            let (at, cause) = pace.next().unwrap();
            assert_eq!(cause, Cause::Retry);
            let waited = at - now;
            assert!(
                waited >= ms(wait) && waited < ms(wait * 3 / 2),
                "{waited:?}"
            );
            now = at;
            run(&mut pace, now, End::Failed);
        }
        // A change brings the retry forward, as far as the least period lets it.
        pace.request(now);
        assert_eq!(pace.next(), Some((now + ms(1_000), Cause::Change)));
        // A disturbance too, and still the failing kernel gets its rest.
        pace.disturb(now);
        assert_eq!(pace.next(), Some((now + ms(250), Cause::Disturbance)));
        run(&mut pace, now + ms(250), End::Compared);
        assert_eq!(pace.failures(), 0);
    }

    #[test]
    fn disturbance_is_answered_at_once_but_not_without_end() {
        let mut pace = pace();
        pace.request(ms(0));
        run(&mut pace, ms(0), End::Compared);
        pace.disturb(ms(3));
        assert_eq!(pace.next(), Some((ms(3), Cause::Disturbance)));
        run(&mut pace, ms(3), End::Compared);
        pace.disturb(ms(4));
        assert_eq!(pace.next(), Some((ms(103), Cause::Disturbance)));
    }

    #[test]
    fn b242_a_disturbance_whose_answer_fails_is_tried_again_ever_more_rarely() {
        let mut pace = pace();
        pace.request(ms(0));
        run(&mut pace, ms(0), End::Compared);
        pace.disturb(ms(3));
        assert_eq!(run(&mut pace, ms(3), End::Failed), Cause::Disturbance);
        let mut now = ms(3);
        for wait in [250, 500, 1_000, 2_000] {
            let (at, cause) = pace.next().unwrap();
            assert_eq!(cause, Cause::Retry);
            assert!(at - now >= ms(wait), "{:?}", at - now);
            now = at;
            run(&mut pace, now, End::Failed);
        }
        // Another one brings the retry forward.
        pace.disturb(now);
        assert_eq!(pace.next(), Some((now + ms(250), Cause::Disturbance)));
    }

    #[test]
    fn b241_checks_go_on_after_one_whose_repair_was_written_by_a_retry() {
        let mut pace = pace();
        pace.request(ms(0));
        run(&mut pace, ms(0), End::Compared);
        let at = PERIODS.check;
        assert_eq!(run(&mut pace, at, End::Failed), Cause::Check);
        let (retry, cause) = pace.next().unwrap();
        assert_eq!(cause, Cause::Retry);
        run(&mut pace, retry, End::Applied);
        assert_eq!(pace.next(), Some((retry + PERIODS.check, Cause::Check)));
    }

    #[test]
    fn b241_a_change_at_the_time_of_a_comparison_does_not_replace_it() {
        let mut pace = pace();
        pace.request(ms(0));
        run(&mut pace, ms(0), End::Compared);
        pace.request(ms(3_599_990));
        assert_eq!(run(&mut pace, ms(3_600_020), End::Applied), Cause::Change);
        assert_eq!(pace.next(), Some((ms(3_600_000), Cause::Check)));
    }

    #[test]
    fn what_an_audit_found_does_not_wait_for_the_least_period() {
        let mut pace = pace();
        pace.request(ms(0));
        run(&mut pace, ms(0), End::Compared);
        pace.mend(ms(3));
        assert_eq!(pace.next(), Some((ms(3), Cause::Audit)));
        run(&mut pace, ms(3), End::Failed);
        // It stays wanted, as the retry's business.
        assert!(matches!(pace.next(), Some((_, Cause::Retry))));
    }

    #[test]
    fn expensive_comparisons_are_made_more_rarely() {
        let mut pace = Pace::new(
            Periods {
                check: ms(30_000),
                ..PERIODS
            },
            Jitter::seeded(1),
        );
        pace.request(ms(0));
        pace.start();
        pace.end(ms(100), Cause::Change, ms(100), End::Compared);
        assert_eq!(pace.next(), Some((ms(30_100), Cause::Check)));
        pace.start();
        pace.end(ms(30_200), Cause::Check, ms(100), End::Compared);
        assert_eq!(pace.next(), Some((ms(130_200), Cause::Check)));
    }
}
