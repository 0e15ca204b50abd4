//! Rules of other proxies: named, and removed if that is wanted.

use std::collections::BTreeMap;

use svc_core::config::ProxyMode;
use svc_core::{Kernel, ServicePortName};
use tracing::{error, info, warn};

use super::{Agent, Others};
use crate::agent::backend::Backend;
use crate::agent::clock::Clock;
use crate::agent::family::FamilyLoop;
use crate::agent::takeover::{self, Other};
use crate::cli::one_line;
use crate::ipvs_proxy;

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
        if let Err(why) = self.make_way(&others).and_then(|()| self.verify()) {
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

    /// Puts our virtual servers in the place of kube-proxy's. IPVS has one for each front end, so ours
    /// cannot be there before theirs go: that is the one case in which something goes first.
    fn make_way(&mut self, others: &[Other]) -> Result<(), String> {
        if B::MODE != ProxyMode::Ipvs || !others.contains(&Other::KubeProxyIpvs) {
            return Ok(());
        }
        let settings = ipvs_proxy::settings(&self.parts.planner.config().proxy.ipvs);
        let scheduler = settings.map_err(|error| one_line(&error))?.scheduler;
        let now = self.parts.clock.now();
        for looped in &mut self.parts.families {
            let family = looped.family_mut();
            if family.reconciler.quarantine().is_empty() {
                continue;
            }
            let of = family.reconciler.family();
            let replaced = takeover::replace_kube_proxys_servers(of, scheduler, || {
                family.reconciler.verify();
                family.settle().map(drop).map_err(|error| one_line(&*error))
            });
            let quarantine = family.reconciler.quarantine().clone();
            if let Some(status) = self.parts.shared.lock().families.get_mut(&of) {
                status.quarantine = quarantine;
            }
            if let Err(why) = replaced {
                // Theirs may be gone and ours not there: this cannot wait.
                looped.disturbed(now);
                return Err(format!("{of}: {why}"));
            }
            info!(family = %of, "our virtual servers are in the place of kube-proxy's");
        }
        Ok(())
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
            // What others have may be all there is of these.
            set_aside(family.reconciler.quarantine())
                .map_err(|why| format!("{}: {why}", family.reconciler.family()))?;
            let plan = looped.wanted().ok_or("there is no plan yet")?;
            let tried = takeover::agrees(B::PURE, &plan)?;
            info!(family = %plan.family, tried, "our rules do what the plan says");
        }
        Ok(())
    }
}

/// An error if there is a service port that is not in the kernel as it was refused.
fn set_aside(quarantine: &BTreeMap<ServicePortName, String>) -> Result<(), String> {
    match quarantine.first_key_value() {
        None => Ok(()),
        Some((name, reason)) => {
            let count = quarantine.len();
            Err(format!(
                "{count} service ports are set aside, the first {name}: {reason}"
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use svc_core::{NamespacedName, Protocol};

    use super::*;

    #[test]
    fn a_service_port_that_was_refused_keeps_the_others() {
        let mut quarantine = BTreeMap::new();
        assert_eq!(set_aside(&quarantine), Ok(()));
        for service in ["b", "a"] {
            let name = ServicePortName {
                service: NamespacedName::new("ns", service),
                port: "web".into(),
                protocol: Protocol::Tcp,
            };
            quarantine.insert(name, format!("no {service}"));
        }
        let said = set_aside(&quarantine).unwrap_err();
        assert_eq!(
            said,
            "2 service ports are set aside, the first ns/a:web: no a"
        );
    }
}
