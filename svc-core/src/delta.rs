//! The difference of two plans.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::name::{NamespacedName, ServicePortName};
use crate::net::IpFamily;
use crate::node_plan::NodePlan;
use crate::plan::{HealthCheck, Plan, ServicePortPlan};
use crate::service_plan::PlannedPort;

/// What turns one plan into another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanDelta {
    /// The family of both plans.
    pub family: IpFamily,
    /// The new node-wide part, if it differs.
    pub node: Option<Arc<NodePlan>>,
    /// Service ports that differ, sorted by name, each once.
    pub service_ports: Vec<Change>,
    /// Health checks that differ, sorted by name: the new value.
    pub health_checks: Vec<(NamespacedName, Option<HealthCheck>)>,
}

/// A service port that differs between two plans.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which.
    pub name: ServicePortName,
    /// Its old plan, if there was one.
    pub before: Option<Arc<ServicePortPlan>>,
    /// Its new plan, if there is one.
    pub after: Option<Arc<ServicePortPlan>>,
}

impl PlanDelta {
    /// The difference of a plan to itself.
    pub fn empty(family: IpFamily) -> Self {
        Self {
            family,
            node: None,
            service_ports: Vec::new(),
            health_checks: Vec::new(),
        }
    }

    /// Whether the two plans are equal.
    pub fn is_empty(&self) -> bool {
        self.node.is_none() && self.service_ports.is_empty() && self.health_checks.is_empty()
    }

    /// Records how the ports of one Service differ, and returns those to keep: unchanged ones
    /// stay the values they were.
    pub(crate) fn compare(
        &mut self,
        before: Vec<PlannedPort>,
        mut after: Vec<PlannedPort>,
    ) -> Vec<PlannedPort> {
        for (name, plan) in &mut after {
            let old = before.binary_search_by(|(other, _)| other.cmp(name)).ok();
            let old = old.map(|at| &before[at].1);
            if let Some(same) = old.filter(|old| **old == *plan) {
                *plan = same.clone();
            } else {
                self.service_ports.push(Change {
                    name: name.clone(),
                    before: old.cloned(),
                    after: Some(plan.clone()),
                });
            }
        }
        for (name, plan) in before {
            if after
                .binary_search_by(|(other, _)| other.cmp(&name))
                .is_err()
            {
                self.service_ports.push(Change {
                    name,
                    before: Some(plan),
                    after: None,
                });
            }
        }
        after
    }

    pub(crate) fn compare_health(
        &mut self,
        former: Option<&NamespacedName>,
        before: Option<HealthCheck>,
        name: Option<&NamespacedName>,
        after: Option<HealthCheck>,
    ) {
        if let (Some(former), Some(_)) = (former, before)
            && (Some(former) != name || after.is_none())
        {
            self.health_checks.push((former.clone(), None));
        }
        if let (Some(name), Some(check)) = (name, after)
            && (Some(name) != former || before != after)
        {
            self.health_checks.push((name.clone(), Some(check)));
        }
    }

    /// Brings the changes into the order of names.
    ///
    /// A name that left one Service's place and came in another's in the same batch stands twice;
    /// the two are one change.
    pub(crate) fn sort(&mut self) {
        self.service_ports.sort_by(|a, b| a.name.cmp(&b.name));
        self.service_ports.dedup_by(|later, first| {
            if later.name != first.name {
                return false;
            }
            first.before = first.before.take().or_else(|| later.before.take());
            first.after = first.after.take().or_else(|| later.after.take());
            true
        });
        self.service_ports
            .retain(|change| change.before != change.after);
        // Removals go first, so that of equal names the last one is the truth.
        self.health_checks
            .sort_by(|a, b| a.0.cmp(&b.0).then(a.1.is_some().cmp(&b.1.is_some())));
        self.health_checks.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 = later.1;
            }
            same
        });
    }
}

impl Plan {
    /// A plan without any Service.
    pub fn empty(family: IpFamily, node: Arc<NodePlan>) -> Self {
        Self {
            family,
            node,
            service_ports: Default::default(),
            health_checks: Default::default(),
        }
    }

    /// What turns this plan into `other`, a plan of the same family.
    pub fn diff(&self, other: &Self) -> PlanDelta {
        let mut delta = PlanDelta::empty(self.family);
        delta.node = (self.node != other.node).then(|| other.node.clone());
        let gone = self.service_ports.iter();
        for (name, before) in gone.filter(|(name, _)| !other.service_ports.contains_key(*name)) {
            delta.service_ports.push(Change {
                name: name.clone(),
                before: Some(before.clone()),
                after: None,
            });
        }
        for (name, after) in &other.service_ports {
            let before = self.service_ports.get(name);
            if before != Some(after) {
                delta.service_ports.push(Change {
                    name: name.clone(),
                    before: before.cloned(),
                    after: Some(after.clone()),
                });
            }
        }
        let gone = self.health_checks.keys();
        for name in gone.filter(|name| !other.health_checks.contains_key(*name)) {
            delta.health_checks.push((name.clone(), None));
        }
        for (name, check) in &other.health_checks {
            if self.health_checks.get(name) != Some(check) {
                delta.health_checks.push((name.clone(), Some(*check)));
            }
        }
        delta.sort();
        delta
    }

    /// Applies a difference: `a.apply(&a.diff(&b))` makes `a` equal to `b`.
    pub fn apply(&mut self, delta: &PlanDelta) {
        if let Some(node) = &delta.node {
            self.node = node.clone();
        }
        for change in &delta.service_ports {
            match &change.after {
                Some(plan) => self.service_ports.insert(change.name.clone(), plan.clone()),
                None => self.service_ports.remove(&change.name),
            };
        }
        for (name, check) in &delta.health_checks {
            match check {
                Some(check) => self.health_checks.insert(name.clone(), *check),
                None => self.health_checks.remove(name),
            };
        }
    }
}
