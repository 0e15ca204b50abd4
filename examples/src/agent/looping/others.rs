//! Rules of other proxies: named, and removed if that is wanted.

use svc_core::Kernel;
use tracing::{error, info, warn};

use super::{Agent, Others};
use crate::agent::backend::Backend;
use crate::agent::family::FamilyLoop;
use crate::agent::takeover;
use crate::cli::one_line;

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    /// Looks for rules of other proxies once ours are there, and removes them if that is wanted.
    pub(super) fn look_for_others(&mut self) {
        let settled = |looped: &FamilyLoop<B::Render, B::Kernel>| {
            looped.oldest_change().is_none() && looped.wanted().is_some()
        };
        if !self.parts.families.iter().all(settled) {
            return;
        }
        self.others = Others::Done;
        let others = takeover::find(B::MODE);
        for other in &others {
            warn!("there are {other} as well");
        }
        for why in takeover::unreadable() {
            warn!(
                "there are tables of iptables-legacy that cannot be read, which takes CAP_NET_RAW; \
                 rules of others in them are neither named nor removed: {why}"
            );
        }
        if self.parts.take_over {
            let missing = takeover::missing_programs();
            if !missing.is_empty() {
                let missing = missing.join(", ");
                warn!(
                    "not installed: {missing}; what others have there stays, if they have anything"
                );
            }
        }
        if others.is_empty() {
            return;
        }
        if !self.parts.take_over {
            warn!("both answer; --take-over removes the others'");
            return;
        }
        if let Err(why) = self.verify() {
            error!("ours are not what the plan says, the others stay: {why}");
            return;
        }
        for other in &others {
            match takeover::remove(other) {
                Ok(()) => info!("removed {other}"),
                Err(why) => error!("cannot remove {other}: {why}"),
            }
        }
    }

    /// Whether the kernel holds what was rendered, and what was rendered does what is planned.
    fn verify(&mut self) -> Result<(), String> {
        for looped in &mut self.parts.families {
            let family = looped.family_mut();
            family.reconciler.verify();
            let report = family.settle().map_err(|error| one_line(&*error))?;
            if report.settled.drift.is_none_or(|drift| !drift.is_empty()) {
                return Err(format!(
                    "{}: read back, it differs",
                    family.reconciler.family()
                ));
            }
            let plan = looped.wanted().ok_or("there is no plan yet")?;
            let tried = takeover::agrees(B::PURE, &plan)?;
            info!(family = %plan.family, tried, "our rules do what the plan says");
        }
        Ok(())
    }
}
