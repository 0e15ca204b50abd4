//! What changes without a word: looked for a little at a time.

use std::time::Duration;

use svc_core::Kernel;
use tracing::warn;

use super::{Agent, Gate};
use crate::agent::backend::Backend;
use crate::agent::clock::Clock;
use crate::cli::one_line;

/// Wait for the first step, which comes after the first sync.
pub(super) const FIRST: Duration = Duration::from_secs(1);
/// Wait after a step that failed.
const AFTER_FAILURE: Duration = Duration::from_secs(60);
/// Objects named of those that one step found wrong.
const NAMED: usize = 5;

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    /// Makes a step of the audit of each family that has nothing else to do.
    pub(super) fn audit(&mut self) {
        let now = self.parts.clock.now();
        if self.audit_at.is_none_or(|at| at > now) {
            return;
        }
        let mut next: Option<Duration> = None;
        for at in 0..self.parts.families.len() {
            let wait = self.audit_family(at, now);
            next = next.into_iter().chain(wait).min();
        }
        // From the end, so that a slow kernel does other things as well.
        self.audit_at = next.map(|wait| self.parts.clock.now() + wait);
    }

    /// The wait until the next step; `None` if there are no audits.
    fn audit_family(&mut self, at: usize, now: Duration) -> Option<Duration> {
        let looped = self.parts.families.get_mut(at)?;
        // A change comes first; so it does when nothing was written yet.
        let busy = looped.oldest_change().is_some() || looped.next().is_some_and(|at| at <= now);
        if busy || self.gate != Gate::Open {
            return Some(FIRST);
        }
        let family = looped.family_mut();
        let of = family.reconciler.family();
        let settled = family.reconciler.is_settled();
        let step = match self.parts.backend.audit(&self.parts.planner, family) {
            Ok(step) => step?,
            Err(cause) => {
                let error = one_line(&*cause);
                warn!(family = %of, error, "cannot look whether the kernel is as it should be");
                return Some(AFTER_FAILURE);
            }
        };
        if settled && !family.reconciler.is_settled() {
            let (found, title) = (step.differed.len(), self.parts.backend.title(family));
            for key in step.differed.iter().take(NAMED) {
                warn!(family = %of, object = ?key, "wrong in {title}");
            }
            warn!(family = %of, found, "an audit found {title} changed without notice");
            looped.mend(found, now);
        }
        Some(step.wait)
    }
}
