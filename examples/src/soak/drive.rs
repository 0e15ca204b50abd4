//! The loop of a soak: changes when they are due, and syncs when the loop of an agent wants them.

use std::error::Error;
use std::thread;
use std::time::Duration;

use svc_core::object::{Node, NodeEligibility};
use svc_core::{Event, IpFamily, Kernel, NodeConfig, Planner, Render, WatchEvent};

use super::churn::Churn;
use super::meter::{process_cpu, resident_kb, thread_cpu};
use super::report::{Report, Syncs};
use super::stage::{Clients, Servers};
use super::{Args, NODE};
use crate::agent::{Clock, FamilyLoop, Jitter, Periods, SystemClock};
use crate::cli::one_line;
use crate::proxy::Family;
use crate::sandbox::{Layout, Sandbox};

/// What changes the objects and syncs the kernel, in the network namespace of the node.
pub(super) struct Driver<'a, R: Render, K> {
    sandbox: &'a Sandbox,
    servers: &'a mut Servers,
    planner: Planner,
    families: Vec<FamilyLoop<R, K>>,
    clock: SystemClock,
    churn: Churn,
    syncs: Syncs,
    resident: Vec<u64>,
}

impl<'a, R: Render, K: Kernel<R>> Driver<'a, R, K>
where
    K::Error: 'static,
{
    pub(super) fn new(
        sandbox: &'a Sandbox,
        servers: &'a mut Servers,
        config: NodeConfig,
        families: Vec<Family<R, K>>,
        min: Duration,
    ) -> Self {
        let periods = Periods { min, ..PERIODS };
        let looped = |family| FamilyLoop::new(family, periods, Jitter::seeded(7));
        Self {
            sandbox,
            servers,
            planner: Planner::new(config),
            families: families.into_iter().map(looped).collect(),
            clock: SystemClock::start(),
            churn: Churn::new(0),
            syncs: Syncs::default(),
            resident: Vec::new(),
        }
    }

    /// Brings so many Services into the kernel.
    pub(super) fn load(&mut self, services: u32) -> Result<(), Box<dyn Error>> {
        self.churn = Churn::new(services.saturating_sub(2));
        // Empty lists, and then what comes one by one.
        let mut first = vec![
            Event::Service(WatchEvent::Init),
            Event::Service(WatchEvent::InitDone),
            Event::EndpointSlice(WatchEvent::Init),
            Event::EndpointSlice(WatchEvent::InitDone),
            Event::Node(WatchEvent::Apply(node())),
        ];
        first.extend(self.churn.first());
        self.tell(first);
        self.settle()
    }

    /// Warms up, soaks, and takes everything back to how it was.
    pub(super) fn soak(&mut self, args: &Args, clients: Clients) -> Result<Report, Box<dyn Error>> {
        let at_first = self.objects()?;
        self.change_for(WARM_UP, args.changes)?;
        (self.syncs, self.resident) = (Syncs::default(), Vec::new());
        let (made, cpu, process) = (self.churn.made(), thread_cpu()?, process_cpu()?);
        let start = self.clock.now();
        let length = Duration::from_secs(args.seconds.into());
        self.change_for(length, args.changes)?;
        let took = self.clock.now().saturating_sub(start);
        let (agent_cpu, all_cpu) = (thread_cpu()? - cpu, process_cpu()? - process);
        let changes = self.churn.made() - made;
        let clients = clients.stop();
        let first = self.churn.first();
        self.tell(first);
        self.settle()?;
        let at_last = self.objects()?;
        Ok(Report {
            took,
            changes,
            asked: u64::from(args.changes) * u64::from(args.seconds),
            syncs: std::mem::take(&mut self.syncs),
            clients,
            resident_kb: std::mem::take(&mut self.resident),
            objects: [at_first, at_last],
            left_over: self.differences()?,
            agent_cpu,
            all_cpu,
        })
    }

    fn change_for(&mut self, length: Duration, changes: u32) -> Result<(), Box<dyn Error>> {
        let start = self.clock.now();
        let mut sampled = start;
        let (mut made, mut passed) = (0, Duration::ZERO);
        let all = length.as_nanos() * u128::from(changes) / NANOS;
        while passed < length || made < all {
            passed = self.clock.now().saturating_sub(start);
            let due = (passed.as_nanos() * u128::from(changes) / NANOS).min(all);
            let mut events = Vec::new();
            // Each in a sync of its own, unless the kernel or the least period is slower.
            while made < due {
                events.extend(self.churn.next());
                made += 1;
            }
            events.extend(self.leave()?);
            self.tell(events);
            self.sync();
            let now = self.clock.now();
            if now.saturating_sub(sampled) >= SAMPLE {
                self.resident.push(resident_kb()?);
                sampled = now;
            }
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Servers stop and start; returns what changes with them.
    fn leave(&mut self) -> Result<Vec<Event>, Box<dyn Error>> {
        let now = self.clock.now();
        let families = self.families.iter();
        let unapplied = families.filter_map(FamilyLoop::oldest_change).min();
        let (events, orders) = self.churn.leave(now, unapplied);
        for order in orders {
            self.servers.obey(self.sandbox, order)?;
        }
        Ok(events)
    }

    fn tell(&mut self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        for event in events {
            self.planner.handle(event);
        }
        // Not later than the time that servers note as that of their change.
        let now = self.clock.now();
        for delta in self.planner.delta() {
            for family in &mut self.families {
                family.change(&delta, now);
            }
        }
    }

    /// Runs every family whose time has come.
    fn sync(&mut self) {
        for family in &mut self.families {
            let Some(run) = family.run(&self.clock) else {
                continue;
            };
            let (repaired, took) = (run.repaired(), run.took);
            let set_aside = family.family().reconciler.quarantine();
            let set_aside = set_aside.keys().map(ToString::to_string);
            self.syncs.add(took, repaired, run.result.err(), set_aside);
        }
    }

    /// Runs until nothing is left to be done.
    fn settle(&mut self) -> Result<(), Box<dyn Error>> {
        let deadline = self.clock.now() + SETTLES;
        while self
            .families
            .iter()
            .any(|one| one.oldest_change().is_some())
        {
            if self.clock.now() > deadline {
                return Err(format!("nothing settles: {:?}", self.syncs.failed).into());
            }
            self.sync();
            thread::sleep(PAUSE);
        }
        Ok(())
    }

    /// Number of objects that the kernel holds of us, of both families.
    fn objects(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut count = 0;
        for family in &mut self.families {
            let held = family.family_mut().kernel.read();
            count += held.map_err(|error| one_line(&error))?.len();
        }
        Ok(count)
    }

    /// Objects that a comparison of the whole kernel finds missing, changed or too many.
    fn differences(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut count = 0;
        for family in &mut self.families {
            let family = family.family_mut();
            if family.reconciler.wanted().is_none() {
                // A family that the node does not have.
                continue;
            }
            family.reconciler.verify();
            let drift = family.settle()?.settled.drift;
            let drift = drift.ok_or("the kernel was not compared")?;
            count += drift.missing.len() + drift.changed.len() + drift.foreign.len();
        }
        Ok(count)
    }
}

fn node() -> Node {
    let addresses = Layout::default().node_addresses;
    Node {
        name: NODE.into(),
        addresses: addresses
            .into_iter()
            .filter(|ip| IpFamily::of(*ip) == IpFamily::V4)
            .collect(),
        pod_cidrs: Vec::new(),
        zone: None,
        eligibility: NodeEligibility::default(),
        ready: true,
        allocatable_cpu_milli: None,
        control_plane: false,
    }
}

/// Those of an agent that audits are made for, but for the least one.
const PERIODS: Periods = Periods {
    min: Duration::ZERO,
    check: Duration::from_secs(24 * 3600),
    check_share: 1000,
    retry_first: Duration::from_millis(250),
    retry_most: Duration::from_secs(30),
};
/// Buffers, caches and the sets of affinity reach their size.
const WARM_UP: Duration = Duration::from_secs(10);
const SAMPLE: Duration = Duration::from_secs(1);
const SETTLES: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(1);
const NANOS: u128 = 1_000_000_000;
