//! What the loop tells people: logs, Events, and what is odd.

use std::collections::BTreeSet;

use svc_core::{Diagnostic, IpFamily, Kernel, ObjectKind, Severity};
use tracing::{debug, error, info, warn};

use super::Agent;
use crate::agent::backend::Backend;
use crate::agent::clock::Clock;
use crate::agent::events::Announcement;
use crate::agent::health_ports::Deaf;
use crate::agent::pace::Cause;
use crate::agent::status::{RunSummary, Status};

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    /// Announces what is odd and was not before.
    pub(super) fn remark(&mut self) {
        let now = self.parts.clock.now();
        if self.remarks_at.is_none_or(|at| at > now) {
            return;
        }
        self.remarks_at = None;
        let conflicts: Vec<_> = self
            .parts
            .planner
            .diagnostics()
            .into_iter()
            .cloned()
            .collect();
        let mut status = self.parts.shared.lock();
        let standing = standing(&status, &conflicts, &self.deaf);
        status
            .deaf
            .retain(|listener, _| !listener.starts_with("service "));
        for deaf in &self.deaf {
            let listener = format!("service {} {}", deaf.service, deaf.at);
            status.deaf.insert(listener, deaf.error.to_string());
        }
        status.conflicts = conflicts;
        drop(status);
        for announcement in self.parts.announcer.update(standing) {
            log(&announcement);
        }
    }
}

/// Everything that is odd now.
fn standing(status: &Status, conflicts: &[Diagnostic], deaf: &[Deaf]) -> BTreeSet<Announcement> {
    let own = status.remarks.values().flatten();
    let mut standing: BTreeSet<Announcement> =
        own.chain(conflicts).map(Announcement::from).collect();
    let error = |object, reason: &str, message| Announcement {
        kind: ObjectKind::Service,
        object,
        severity: Severity::Error,
        reason: reason.into(),
        message,
    };
    for of_family in status.families.values() {
        let refused = of_family.quarantine.iter();
        standing.extend(refused.map(|(name, reason)| {
            let message = format!("port {name}: {reason}");
            error(name.service.clone(), "RefusedByKernel", message)
        }));
    }
    standing.extend(deaf.iter().map(|deaf| {
        let message = format!("cannot listen on {}: {}", deaf.at, deaf.error);
        let reason = "FailedToStartServiceHealthcheck";
        error(deaf.service.clone(), reason, message)
    }));
    standing
}

fn log(announcement: &Announcement) {
    let Announcement {
        kind,
        object,
        severity,
        reason,
        message,
    } = announcement;
    match severity {
        Severity::Error => error!(?kind, %object, reason, "{message}"),
        Severity::Warning => warn!(?kind, %object, reason, "{message}"),
    }
}

/// Says what a run did.
pub(super) fn tell(family: IpFamily, run: &RunSummary) {
    let took = format!("{:.1?}", run.took);
    let cause = run.cause.name();
    match &run.result {
        Err(cause) => error!(%family, took, error = cause, "sync failed, trying again"),
        Ok((edits, _)) if run.repaired > 0 => {
            let repaired = run.repaired;
            warn!(%family, took, cause, repaired, edits, "repaired what somebody else changed");
        }
        Ok((edits, _)) if *edits > 0 && run.cause != Cause::Change => {
            info!(%family, took, cause, edits, "synced");
        }
        Ok((edits, applied)) => {
            let waited = format!("{:.1?}", applied.waited.unwrap_or_default());
            debug!(%family, took, cause, edits, waited, "synced");
        }
    }
}
