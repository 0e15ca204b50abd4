//! The loop of one address family: from changes of the plan to a kernel that shows it.

use std::time::Duration;

use svc_core::{Kernel, Plan, PlanDelta, Render, Settled};

use super::clock::Clock;
use super::jitter::Jitter;
use super::pace::{Cause, End, Pace, Periods};
use super::unapplied::{Applied, Unapplied};
use crate::cli::one_line;
use crate::proxy::Family;

/// The loop of one address family, without a thread, a clock or a channel of its own.
///
/// The caller tells it what changed and calls [`FamilyLoop::run`] when [`FamilyLoop::next`] is
/// reached. Nothing is lost when the kernel fails: what is wanted stays wanted, and is tried again.
///
/// ```
/// use examples::agent::{Clock, FamilyLoop, Jitter, Periods, StoppedClock};
/// use examples::proxy::Family;
/// use std::time::Duration;
/// use svc_core::{IpFamily, NodePlan, Plan, Pretend, Reconciler};
/// # let render = backend_nftables::Renderer::new("t", IpFamily::V4);
/// let family = Family { reconciler: Reconciler::new(render, IpFamily::V4), kernel: Pretend(Default::default()) };
/// let periods = Periods {
///     min: Duration::from_secs(1),
///     check: Duration::from_secs(3600),
///     check_share: 1000,
///     retry_first: Duration::from_millis(250),
///     retry_most: Duration::from_secs(30),
/// };
/// let clock = StoppedClock::default();
/// let mut family = FamilyLoop::new(family, periods, Jitter::seeded(7));
/// assert!(family.run(&clock).is_none());
///
/// let nothing = Plan::empty(IpFamily::V4, NodePlan::bare("").into());
/// let plan = Plan::empty(IpFamily::V4, NodePlan::bare("n1").into());
/// family.change(&nothing.diff(&plan), clock.now());
/// assert!(family.run(&clock).unwrap().result.is_ok());
/// ```
#[derive(Debug)]
pub struct FamilyLoop<R: Render, K> {
    family: Family<R, K>,
    pace: Pace,
    unapplied: Unapplied,
    /// What an audit found wrong and is not mended.
    found: Option<usize>,
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct Run<Key> {
    /// Why it ran.
    pub cause: Cause,
    /// How long it took.
    pub took: Duration,
    /// Whether the kernel was as it should be before, as far as was known: then what differed was
    /// somebody else's doing.
    pub settled_before: bool,
    /// Number of objects that an audit had found wrong.
    pub audited: usize,
    /// What was done, or in one line what went wrong.
    pub result: Result<(Settled<Key>, Applied), String>,
}

impl<Key> Run<Key> {
    /// Number of objects that somebody else had removed, changed or added.
    pub fn repaired(&self) -> usize {
        let Ok((settled, _)) = &self.result else {
            return 0;
        };
        let compared = match &settled.drift {
            Some(drift) if self.settled_before => {
                drift.missing.len() + drift.changed.len() + drift.foreign.len()
            }
            Some(_) | None => 0,
        };
        self.audited + compared
    }

    /// Whether connection-tracking entries may be stale now: by what changed in the plan (B-178), or
    /// since rules were not what they should have been for a while, in which a flow that began went
    /// where no rule sends it.
    pub fn may_leave_stale_flows(&self) -> bool {
        let Ok((settled, applied)) = &self.result else {
            return false;
        };
        // A retry may write what the run before it has found by a comparison.
        let mended = settled.edits > 0 && (self.cause != Cause::Change || settled.drift.is_some());
        applied.conntrack || mended
    }
}

impl<R: Render, K: Kernel<R>> FamilyLoop<R, K>
where
    K::Error: 'static,
{
    /// A loop that does nothing until it is told of a change.
    pub fn new(family: Family<R, K>, periods: Periods, jitter: Jitter) -> Self {
        Self {
            family,
            pace: Pace::new(periods, jitter),
            unapplied: Unapplied::default(),
            found: None,
        }
    }

    /// Takes in how the plan changed, and asks for a run; deltas of the other family are passed
    /// over.
    pub fn change(&mut self, delta: &PlanDelta, now: Duration) {
        if delta.family != self.family.reconciler.family() {
            return;
        }
        self.family.reconciler.change(delta);
        self.unapplied.add(delta, now);
        self.pace.request(now);
    }

    /// Somebody else changed the kernel, or may have: compares at once.
    pub fn disturbed(&mut self, now: Duration) {
        self.pace.disturb(now);
    }

    /// An audit found so many objects wrong, which the reconciler knows of: mends them at once. None
    /// at all, if it found that everything has to be compared.
    pub fn mend(&mut self, found: usize, now: Duration) {
        *self.found.get_or_insert(0) += found;
        self.pace.mend(now);
    }

    /// When to call [`FamilyLoop::run`] next; `None` until something changes.
    pub fn next(&self) -> Option<Duration> {
        self.pace.next().map(|(at, _)| at)
    }

    /// When the oldest change came that is not in the kernel.
    pub fn oldest_change(&self) -> Option<Duration> {
        self.unapplied.since()
    }

    /// The plan that the kernel should show, without health checks.
    pub fn wanted(&self) -> Option<Plan> {
        self.family.reconciler.wanted()
    }

    /// Reconciler and kernel.
    pub fn family(&self) -> &Family<R, K> {
        &self.family
    }

    /// Reconciler and kernel, for what only the backend knows.
    pub fn family_mut(&mut self) -> &mut Family<R, K> {
        &mut self.family
    }

    /// Makes the kernel show the plan, if it is time to.
    pub fn run(&mut self, clock: &impl Clock) -> Option<Run<R::Key>> {
        let start = clock.now();
        let (_, cause) = self.pace.next().filter(|(at, _)| *at <= start)?;
        // What an audit found is not a change of ours.
        let only_audited = cause == Cause::Audit;
        let settled_before = only_audited || self.family.reconciler.is_settled();
        match cause {
            Cause::Disturbance | Cause::Check => self.family.reconciler.verify(),
            Cause::Change | Cause::Retry | Cause::Audit => {}
        }
        let aside = self.family.reconciler.quarantine().len();
        self.pace.start();
        let result = self.family.settle();
        // What was set aside and no longer is was not there: nobody else took it away.
        let settled_before = settled_before && self.family.reconciler.quarantine().len() >= aside;
        let now = clock.now();
        let took = now.saturating_sub(start);
        let end = match &result {
            Ok(report) if report.settled.drift.is_some() => End::Compared,
            Ok(_) => End::Applied,
            Err(_) => End::Failed,
        };
        self.pace.end(now, cause, took, end);
        let mut audited = 0;
        let result = match result {
            Ok(report) => {
                audited = self.found.take().unwrap_or_default();
                let family = self.family.reconciler.family();
                Ok((report.settled, self.unapplied.take(family, now)))
            }
            Err(error) => Err(one_line(&*error)),
        };
        Some(Run {
            cause,
            took,
            settled_before,
            audited,
            result,
        })
    }
}
