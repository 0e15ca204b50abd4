//! The health-check ports of Services: as an applied plan asks for, and again until all are open.

use svc_core::{IpFamily, Kernel, Plan};
use tracing::info;

use super::Agent;
use crate::agent::backend::Backend;
use crate::agent::clock::Clock;
use crate::agent::server::LISTEN_AGAIN;
use crate::agent::status::FamilyStatus;

/// What an applied plan says of health checks; a copy of all of it would cost as much as it is long.
pub(super) fn checks(family: IpFamily, status: &FamilyStatus) -> Plan {
    let mut checks = Plan::empty(family, status.plan.node.clone());
    checks.health_checks.clone_from(&status.plan.health_checks);
    checks
}

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    /// Opens and closes what the plan asks for.
    pub(super) fn listen(&mut self, checks: &Plan) {
        let (before, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.deaf)
            .into_iter()
            .partition(|deaf| IpFamily::of(deaf.at.ip()) == checks.family);
        self.deaf = others;
        let deaf = self.parts.health_ports.apply(checks);
        for was in before {
            let still = deaf.iter().any(|deaf| deaf.at == was.at);
            if !still && checks.health_checks.contains_key(&was.service) {
                info!(service = %was.service, at = %was.at, "the health-check port is open now");
            }
        }
        self.deaf.extend(deaf);
        let soon = self.parts.clock.now() + LISTEN_AGAIN;
        // Runs of one family do not put off the other's.
        self.listen_at = match self.deaf.is_empty() {
            true => None,
            false => Some(self.listen_at.unwrap_or(soon)),
        };
    }

    /// Tries again what could not be opened, once it is time to.
    pub(super) fn listen_again(&mut self) {
        let now = self.parts.clock.now();
        if self.listen_at.is_none_or(|at| at > now) {
            return;
        }
        self.listen_at = None;
        for family in IpFamily::ALL {
            let deaf = self.deaf.iter();
            if !deaf
                .map(|deaf| deaf.at.ip())
                .any(|ip| IpFamily::of(ip) == family)
            {
                continue;
            }
            let status = self.parts.shared.lock();
            let Some(of_family) = status.families.get(&family) else {
                continue;
            };
            let checks = checks(family, of_family);
            drop(status);
            self.listen(&checks);
        }
        self.remarks_soon();
    }
}
