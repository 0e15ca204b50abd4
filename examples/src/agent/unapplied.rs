//! Changes of a plan that the kernel does not show yet.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use svc_core::conntrack::{may_make_stale, retired};
use svc_core::{
    Change, FrontendAddress, HealthCheck, IpFamily, NamespacedName, NodePlan, PlanDelta,
    ServicePortName, ServicePortPlan,
};

/// Changes of a plan, merged, since the kernel last showed it.
#[derive(Clone, Debug, Default)]
pub(super) struct Unapplied {
    since: Option<Duration>,
    node: Option<Arc<NodePlan>>,
    ports: BTreeMap<ServicePortName, (Before, After)>,
    health: BTreeMap<NamespacedName, Option<HealthCheck>>,
    conntrack: bool,
    /// A set: while the kernel fails, the same may come and go any number of times.
    retired: BTreeSet<FrontendAddress>,
}

type Before = Option<Arc<ServicePortPlan>>;
type After = Option<Arc<ServicePortPlan>>;

/// What a run brought into the kernel.
#[derive(Clone, Debug)]
pub struct Applied {
    /// How the plan changed.
    pub delta: PlanDelta,
    /// How long the oldest of the changes waited.
    pub waited: Option<Duration>,
    /// Whether connection-tracking entries may be stale now (B-178).
    pub conntrack: bool,
    /// UDP front ends that are gone.
    pub retired: BTreeSet<FrontendAddress>,
}

impl Unapplied {
    pub(super) fn add(&mut self, delta: &PlanDelta, now: Duration) {
        self.since.get_or_insert(now);
        if let Some(node) = &delta.node {
            self.node = Some(node.clone());
        }
        for change in &delta.service_ports {
            let after = change.after.clone();
            match self.ports.get_mut(&change.name) {
                Some(pending) => pending.1 = after,
                None => {
                    let value = (change.before.clone(), after);
                    self.ports.insert(change.name.clone(), value);
                }
            }
        }
        for (name, check) in &delta.health_checks {
            self.health.insert(name.clone(), *check);
        }
        // Of each delta, not of their sum: what came and went again was in the kernel, maybe.
        self.conntrack |= may_make_stale(delta);
        self.retired.extend(retired(delta));
    }

    /// When the oldest change came.
    pub(super) fn since(&self) -> Option<Duration> {
        self.since
    }

    pub(super) fn take(&mut self, family: IpFamily, now: Duration) -> Applied {
        let Self {
            since,
            node,
            ports,
            health,
            conntrack,
            retired,
        } = std::mem::take(self);
        let mut delta = PlanDelta::empty(family);
        delta.node = node;
        let changes = ports.into_iter().map(|(name, (before, after))| Change {
            name,
            before,
            after,
        });
        delta.service_ports = changes.collect();
        delta.health_checks = health.into_iter().collect();
        Applied {
            delta,
            waited: since.map(|since| now.saturating_sub(since)),
            conntrack,
            retired,
        }
    }
}
