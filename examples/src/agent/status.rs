//! What an agent knows of itself, for everybody who asks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use svc_core::config::ProxyMode;
use svc_core::health::ProxyHealth;
use svc_core::object::Node;
use svc_core::{
    Diagnostic, FrontendAddress, IpFamily, NamespacedName, NodePlan, ObjectKind, Plan, PlanDelta,
    ServicePortName,
};

use super::clock::{Clock, SystemClock};
use super::family::Run;
use super::histogram::{Histogram, PROGRAMMING, SYNC, WAIT};
use super::input::SourceLink;
use super::pace::Cause;
use super::presence::Rival;
use super::unapplied::Applied;

/// What an agent knows of itself; shared by its loop and its servers.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    clock: SystemClock,
    status: Arc<Mutex<Status>>,
}

impl Shared {
    pub(super) fn new(status: Status, clock: SystemClock) -> Self {
        Self {
            clock,
            status: Arc::new(Mutex::new(status)),
        }
    }

    /// Locks it; nobody holds the lock for longer than a copy takes.
    pub(super) fn lock(&self) -> MutexGuard<'_, Status> {
        // Each change is whole by itself, whatever became of a holder.
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.now()
    }
}

/// Most times kept of one family: changes may come for days while a kernel fails.
const TRIGGERS: usize = 10_000;

/// See [`Shared`].
#[derive(Debug)]
pub(super) struct Status {
    pub(super) mode: ProxyMode,
    pub(super) health: ProxyHealth,
    /// The Node of this node, once known.
    pub(super) node: Option<Arc<Node>>,
    /// Whether a complete list of Nodes was seen.
    pub(super) node_listed: bool,
    pub(super) families: BTreeMap<IpFamily, FamilyStatus>,
    /// What is odd about objects by themselves.
    pub(super) remarks: BTreeMap<(ObjectKind, NamespacedName), Vec<Diagnostic>>,
    /// What is odd about Services in the company of others.
    pub(super) conflicts: Vec<Diagnostic>,
    pub(super) links: BTreeMap<ObjectKind, SourceLink>,
    pub(super) link_failures: u64,
    pub(super) services: ChangeCount,
    pub(super) endpoints: ChangeCount,
    /// Answers of `/healthz` and `/livez`, by path and code.
    pub(super) health_answers: BTreeMap<(&'static str, u16), u64>,
    /// Listeners that could not be opened, in words.
    pub(super) deaf: BTreeMap<String, String>,
    /// Who manages the same.
    pub(super) rival: Option<Rival>,
}

/// Events of one kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ChangeCount {
    pub(super) total: u64,
    pub(super) pending: u64,
}

/// What is known of one family.
#[derive(Debug)]
pub(super) struct FamilyStatus {
    /// The plan that the kernel shows.
    pub(super) plan: Plan,
    /// Grows with each change of `plan`.
    pub(super) generation: u64,
    /// When the oldest change came that is not in the kernel.
    pub(super) oldest: Option<Duration>,
    pub(super) quarantine: BTreeMap<ServicePortName, String>,
    /// UDP front ends that are gone and whose entries were not looked for yet.
    pub(super) retired: BTreeSet<FrontendAddress>,
    pub(super) sync: Histogram,
    pub(super) full: Histogram,
    pub(super) partial: Histogram,
    pub(super) wait: Histogram,
    pub(super) programming: Histogram,
    pub(super) conntrack: Histogram,
    pub(super) conntrack_deleted: u64,
    /// When that happened which waits for the kernel; of changes of EndpointSlices.
    triggers: Vec<SystemTime>,
    pub(super) last_success: Option<Duration>,
    pub(super) last_queued: Option<Duration>,
    pub(super) failures: BTreeMap<Compared, u64>,
    pub(super) runs: BTreeMap<Cause, u64>,
    /// Objects repaired, by what the repair was occasioned by.
    pub(super) repairs: BTreeMap<Cause, u64>,
    pub(super) objects_written: u64,
    pub(super) error: Option<String>,
}

/// Whether a run compared everything with the kernel: what upstream calls a full sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Compared {
    Whole,
    Changes,
}

/// A run, without what depends on the backend.
#[derive(Clone, Debug)]
pub(super) struct RunSummary {
    pub(super) cause: Cause,
    pub(super) took: Duration,
    pub(super) compared: Compared,
    pub(super) repaired: usize,
    /// Objects written and what was applied, or what went wrong.
    pub(super) result: Result<(usize, Applied), String>,
}

impl RunSummary {
    pub(super) fn of<Key>(run: Run<Key>) -> Self {
        Self {
            cause: run.cause,
            took: run.took,
            compared: match &run.result {
                Ok((settled, _)) if settled.drift.is_none() => Compared::Changes,
                Ok(_) | Err(_) => Compared::Whole,
            },
            repaired: run.repaired(),
            result: run
                .result
                .map(|(settled, applied)| (settled.edits, applied)),
        }
    }
}

impl Status {
    pub(super) fn new(
        mode: ProxyMode,
        sync_period: Duration,
        families: impl Iterator<Item = IpFamily>,
    ) -> Self {
        let families = families.map(|family| (family, FamilyStatus::new(family)));
        Self {
            mode,
            health: ProxyHealth::new(sync_period),
            node: None,
            node_listed: false,
            families: families.collect(),
            remarks: BTreeMap::new(),
            conflicts: Vec::new(),
            links: BTreeMap::new(),
            link_failures: 0,
            services: ChangeCount::default(),
            endpoints: ChangeCount::default(),
            health_answers: BTreeMap::new(),
            deaf: BTreeMap::new(),
            rival: None,
        }
    }

    /// A change of a family waits since `since`.
    pub(super) fn queued(&mut self, family: IpFamily, since: Duration) {
        if let Some(status) = self.families.get_mut(&family) {
            self.health.queued_update(family, since);
            status.oldest.get_or_insert(since);
            status.last_queued = Some(since);
        }
    }

    /// A change of an EndpointSlice that is not planned yet is the consequence of what happened then.
    pub(super) fn triggered(&mut self, family: IpFamily, at: SystemTime) {
        let Some(status) = self.families.get_mut(&family) else {
            return;
        };
        if status.triggers.len() < TRIGGERS {
            status.triggers.push(at);
        }
    }

    /// Every change is planned: of what makes no difference to the kernel no time is taken.
    pub(super) fn planned(&mut self) {
        for status in self.families.values_mut() {
            if status.oldest.is_none() {
                status.triggers.clear();
            }
        }
    }

    /// A run ended at `now`; says what has to be done about health-check ports: the plan before.
    pub(super) fn ran(&mut self, family: IpFamily, run: &RunSummary, now: Duration) {
        let Some(status) = self.families.get_mut(&family) else {
            return;
        };
        *status.runs.entry(run.cause).or_default() += 1;
        status.sync.add(run.took);
        match run.compared {
            Compared::Whole => status.full.add(run.took),
            Compared::Changes => status.partial.add(run.took),
        }
        match &run.result {
            Err(error) => {
                *status.failures.entry(run.compared).or_default() += 1;
                status.error = Some(error.clone());
            }
            Ok((written, applied)) => {
                status.error = None;
                status.oldest = None;
                status.last_success = Some(now);
                status.objects_written += u64::try_from(*written).unwrap_or(u64::MAX);
                if run.repaired > 0 {
                    let repaired = u64::try_from(run.repaired).unwrap_or(u64::MAX);
                    *status.repairs.entry(run.cause).or_default() += repaired;
                }
                status.apply(applied);
                self.health.updated(family, now);
                self.services.pending = 0;
                self.endpoints.pending = 0;
            }
        }
    }
}

impl FamilyStatus {
    fn new(family: IpFamily) -> Self {
        Self {
            plan: Plan::empty(family, Arc::new(NodePlan::bare(""))),
            generation: 0,
            oldest: None,
            quarantine: BTreeMap::new(),
            retired: BTreeSet::new(),
            sync: Histogram::new(SYNC),
            full: Histogram::new(SYNC),
            partial: Histogram::new(SYNC),
            wait: Histogram::new(WAIT),
            programming: Histogram::new(PROGRAMMING),
            conntrack: Histogram::new(SYNC),
            conntrack_deleted: 0,
            triggers: Vec::new(),
            last_success: None,
            last_queued: None,
            failures: BTreeMap::new(),
            runs: BTreeMap::new(),
            repairs: BTreeMap::new(),
            objects_written: 0,
            error: None,
        }
    }

    fn apply(&mut self, applied: &Applied) {
        if let Some(waited) = applied.waited {
            self.wait.add(waited);
        }
        let now = SystemTime::now();
        for trigger in std::mem::take(&mut self.triggers) {
            self.programming
                .add(now.duration_since(trigger).unwrap_or_default());
        }
        let delta: &PlanDelta = &applied.delta;
        if !delta.is_empty() {
            self.plan.apply(delta);
            self.generation += 1;
        }
        self.retired.extend(&applied.retired);
    }
}
