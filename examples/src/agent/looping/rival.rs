//! Another agent that manages the same.

use svc_core::Kernel;

use super::Agent;
use crate::agent::backend::Backend;
use crate::agent::clock::Clock;

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    /// Asks from time to time whether another agent is still there, if there was one.
    pub(super) fn rival(&mut self) {
        // Whenever the loop wakes for something else: nobody waits for it.
        self.parts.presence.forget_visitors();
        let now = self.parts.clock.now();
        if self.rival_at.is_none_or(|at| at > now) {
            return;
        }
        self.parts.presence.claim_again();
        let rival = self.parts.presence.rival().cloned();
        let period = self.parts.planner.config().proxy.sync_period;
        self.rival_at = rival.is_some().then(|| now + period);
        self.parts.shared.lock().rival = rival;
    }
}
