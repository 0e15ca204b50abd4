//! The thread of an agent: inputs in, kernels made to match, everybody else told.

mod audit;
mod listen;
mod others;
mod rival;
mod tell;

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use svc_core::{Event, Flow, IpFamily, Kernel, ObjectKind, Planner, WatchEvent, explain_verdict};
use tracing::{debug, error, info, trace, warn};

use super::addresses::OwnAddresses;
use super::backend::Backend;
use super::clock::{Clock, SystemClock};
use super::events::Announcer;
use super::family::{FamilyLoop, Run};
use super::flows::FlowKeeper;
use super::health_ports::{Deaf, HealthPorts};
use super::input::{Input, SourceLink, Told};
use super::presence::Presence;
use super::status::{RunSummary, Shared};
use crate::cli::explain::to_json;
use crate::cli::one_line;
use crate::host;

/// Inputs taken in before the kernel's turn: a flood of events must not keep changes from it.
const BATCH: usize = 4096;
/// Least time between two looks at what is odd, which cost a walk over all Services.
const REMARKS: Duration = Duration::from_secs(1);
/// How long the first sync waits for the list of Nodes (B-276).
const NODE_PATIENCE: Duration = Duration::from_secs(30);

/// What an agent is made of.
pub(super) struct Parts<B: Backend> {
    pub(super) backend: B,
    pub(super) families: Vec<FamilyLoop<B::Render, B::Kernel>>,
    pub(super) planner: Planner,
    pub(super) clock: SystemClock,
    pub(super) shared: Shared,
    pub(super) health_ports: HealthPorts,
    pub(super) flows: Option<FlowKeeper>,
    pub(super) announcer: Announcer,
    /// How often to ask whether others changed the kernel.
    pub(super) asked: Option<Duration>,
    pub(super) audits: Audits,
    pub(super) presence: Presence,
    pub(super) take_over: bool,
    pub(super) own_addresses: OwnAddresses,
}

/// Whether a backend looks after its kernel by and by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audits {
    Made,
    None,
}

/// Why a loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Somebody wanted it, such as by this signal.
    Asked(&'static str),
    /// Its configuration changed (B-333).
    Reconfigured,
}

/// The loop of one node.
pub(super) struct Agent<B: Backend> {
    parts: Parts<B>,
    gate: Gate,
    /// When the oldest event that is not planned yet was sent.
    unplanned: Option<Duration>,
    /// When what the next event of an EndpointSlice tells of happened.
    triggered: Option<SystemTime>,
    ask_at: Option<Duration>,
    tick_at: Option<Duration>,
    audit_at: Option<Duration>,
    /// When to ask again whether the other agent is still there.
    rival_at: Option<Duration>,
    remarks_at: Option<Duration>,
    /// When to try again to open the health-check ports that are not.
    listen_at: Option<Duration>,
    deaf: Vec<Deaf>,
    others: Others,
    stopped: Option<Ended>,
}

/// Whether the first lists are complete (B-237).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    /// Not all of them.
    Shut,
    /// All but that of Nodes, until this time.
    AwaitsNode(Duration),
    Open,
}

/// What is done about rules of other proxies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Others {
    /// They were not looked for yet.
    Unknown,
    /// Nothing is left to be done.
    Done,
}

impl<B: Backend> Agent<B>
where
    <B::Kernel as Kernel<B::Render>>::Error: 'static,
{
    pub(super) fn new(parts: Parts<B>) -> Self {
        let now = parts.clock.now();
        {
            // B-216: healthy from the moment the loop starts.
            let mut status = parts.shared.lock();
            for family in super::run::FAMILIES {
                status.health.updated(family, now);
            }
        }
        Self {
            gate: Gate::Shut,
            unplanned: None,
            triggered: None,
            ask_at: parts.asked.map(|period| now + period),
            tick_at: Some(now),
            audit_at: match parts.audits {
                Audits::Made => Some(now + audit::FIRST),
                Audits::None => None,
            },
            // What was found at start goes to the status first.
            rival_at: Some(now),
            remarks_at: None,
            listen_at: None,
            deaf: Vec::new(),
            others: Others::Unknown,
            stopped: None,
            parts,
        }
    }

    /// Runs until it is told to stop; the rules stay in the kernel (B-274).
    pub(super) fn run(&mut self, told: &Receiver<Told>) -> Ended {
        loop {
            let received = match self.wait() {
                None => told.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => told.recv_timeout(wait),
            };
            match received {
                Ok(first) => self.take(first),
                Err(RecvTimeoutError::Timeout) => {}
                // Servers and signals hold senders, so this does not happen.
                Err(RecvTimeoutError::Disconnected) => return Ended::Asked("nobody"),
            }
            for _ in 1..BATCH {
                match told.try_recv() {
                    Ok(more) => self.take(more),
                    Err(_) => break,
                }
            }
            if let Some(ended) = self.stopped {
                match ended {
                    Ended::Asked(signal) => info!(signal, "stopping, the rules stay"),
                    Ended::Reconfigured => info!("stopping, the rules stay"),
                }
                return ended;
            }
            self.plan();
            self.ask();
            self.audit();
            self.sync();
            self.tick();
            self.listen_again();
            self.rival();
            self.remark();
        }
    }

    /// How long nothing has to be done.
    fn wait(&self) -> Option<Duration> {
        let now = self.parts.clock.now();
        let gate = match self.gate {
            Gate::AwaitsNode(until) => Some(until),
            Gate::Shut | Gate::Open => None,
        };
        let families = self.parts.families.iter().filter_map(FamilyLoop::next);
        let others = [
            gate,
            self.ask_at,
            self.audit_at,
            self.rival_at,
            self.tick_at,
            self.remarks_at,
            self.listen_at,
        ];
        let next = families.chain(others.into_iter().flatten()).min()?;
        Some(next.saturating_sub(now))
    }

    fn take(&mut self, told: Told) {
        match told.input {
            Input::Event(event) => self.event(event, told.at),
            Input::Events(events) => {
                for event in events {
                    self.event(event, told.at);
                }
            }
            Input::Remarks {
                kind,
                object,
                diagnostics,
            } => {
                let mut status = self.parts.shared.lock();
                match diagnostics.is_empty() {
                    true => status.remarks.remove(&(kind, object)),
                    false => status.remarks.insert((kind, object), diagnostics),
                };
                drop(status);
                self.remarks_soon();
            }
            Input::Link { kind, link } => self.link(kind, link),
            Input::Complete => {
                let complete = self.parts.planner.state().is_complete();
                if self.gate != Gate::Open && complete {
                    self.open();
                }
            }
            Input::Triggered(at) => self.triggered = Some(at),
            Input::Disturbed(family) => self.disturbed(family),
            Input::Addresses => self.take_addresses(),
            Input::Explain(flow, answer) => {
                // Whoever asked may have gone.
                let _ = answer.send(self.explain(&flow));
            }
            Input::Stop(signal) => self.stopped = Some(Ended::Asked(signal)),
            Input::Reconfigured => self.stopped = Some(Ended::Reconfigured),
        }
    }

    fn event(&mut self, event: Event, at: Instant) {
        trace!(?event, "event");
        let nodes_complete = matches!(event, Event::Node(WatchEvent::InitDone));
        let of_node = matches!(event, Event::Node(_));
        let of_endpoints = matches!(event, Event::EndpointSlice(_));
        let triggered = self.cause_of(&event);
        let changes = self.parts.planner.handle(event);
        let now = self.parts.clock.at(at);
        if !changes.services.is_empty() || changes.node == svc_core::NodeChange::Changed {
            self.unplanned.get_or_insert(now);
        }
        let complete = self.parts.planner.state().is_complete();
        let gate = self.gate;
        match gate {
            Gate::Shut if complete && self.parts.shared.lock().node_listed => self.open(),
            Gate::Shut if complete => self.gate = Gate::AwaitsNode(now + NODE_PATIENCE),
            Gate::AwaitsNode(_) if nodes_complete => self.open(),
            Gate::Shut | Gate::AwaitsNode(_) | Gate::Open => {}
        }
        let mut status = self.parts.shared.lock();
        if !changes.services.is_empty() {
            let count = match of_endpoints {
                true => &mut status.endpoints,
                false => &mut status.services,
            };
            count.total += 1;
            count.pending += 1;
            if let Some((family, at)) = triggered {
                status.triggered(family, at);
            }
        }
        if of_node {
            status.node_listed |= nodes_complete;
            let name = &self.parts.planner.config().name;
            status.node = self.parts.planner.state().node(name).cloned();
        }
    }

    /// When what led to a changed slice happened, and the family that is changed; of each once.
    fn cause_of(&mut self, event: &Event) -> Option<(IpFamily, SystemTime)> {
        match event {
            Event::EndpointSlice(WatchEvent::Apply(slice)) => {
                self.triggered.take().map(|at| (slice.family, at))
            }
            Event::EndpointSlice(_) => {
                self.triggered = None;
                None
            }
            Event::Service(_) | Event::Node(_) | Event::ServiceCidr(_) => None,
        }
    }

    fn open(&mut self) {
        self.gate = Gate::Open;
        let planner = &self.parts.planner;
        let name = &planner.config().name;
        if planner.state().node(name).is_none() {
            warn!(
                node = &**name,
                "no such Node: the addresses of the host are taken"
            );
            self.parts.own_addresses = OwnAddresses::OfHost;
        }
        self.take_addresses();
        info!("the first lists are complete");
        let now = self.parts.clock.now();
        self.unplanned.get_or_insert(now);
    }

    /// Takes the addresses of the host for the node's, as they are now (B-124).
    fn take_addresses(&mut self) {
        if self.parts.own_addresses == OwnAddresses::OfNode || self.gate != Gate::Open {
            return;
        }
        let planner = &mut self.parts.planner;
        match host::addresses() {
            Ok(addresses) if addresses != planner.config().local_addresses => {
                debug!(?addresses, "addresses of the host");
                let mut config = planner.config().clone();
                config.local_addresses = addresses;
                planner.configure(config);
                let now = self.parts.clock.now();
                self.unplanned.get_or_insert(now);
            }
            Ok(_) => {}
            Err(cause) => error!(error = %cause, "cannot list the addresses of the host"),
        }
    }

    /// Hands what changed in the plans to the families.
    fn plan(&mut self) {
        let now = self.parts.clock.now();
        if let Gate::AwaitsNode(until) = self.gate
            && until <= now
        {
            self.open();
        }
        if self.gate != Gate::Open {
            return;
        }
        let Some(since) = self.unplanned.take() else {
            return;
        };
        for delta in self.parts.planner.delta() {
            self.parts.shared.lock().queued(delta.family, since);
            for family in &mut self.parts.families {
                family.change(&delta, since);
            }
        }
        self.parts.shared.lock().planned();
        if self.others == Others::Unknown {
            self.prepare();
        }
        self.remarks_soon();
    }

    /// Before the first read, so that what an agent before this one let in is not taken for
    /// somebody else's doing.
    fn prepare(&mut self) {
        for looped in &mut self.parts.families {
            let plan = self.parts.planner.plan(looped.family().reconciler.family());
            let kernel = &mut looped.family_mut().kernel;
            if let Err(cause) = self.parts.backend.applied(kernel, &plan) {
                // It is done again after the sync, and told of then.
                debug!(
                    error = one_line(&*cause),
                    "health-check ports are not admitted yet"
                );
            }
        }
    }

    fn sync(&mut self) {
        let mut ran = false;
        for at in 0..self.parts.families.len() {
            let clock = self.parts.clock;
            let Some(looped) = self.parts.families.get_mut(at) else {
                continue;
            };
            let now = clock.now();
            if looped.next().is_none_or(|at| at > now) {
                continue;
            }
            // Drains that begin now begin now, not when the kernel last heard of the time.
            if let Err(cause) = self
                .parts
                .backend
                .tick(&mut looped.family_mut().kernel, now)
            {
                warn!(
                    error = one_line(&*cause),
                    "cannot end what is drained, trying again"
                );
            }
            if let Some(run) = looped.run(&clock) {
                ran = true;
                self.ran(at, run);
            }
        }
        if ran && self.others == Others::Unknown {
            self.look_for_others();
        }
        if ran {
            // A drain may have begun.
            self.tick_at = Some(self.parts.clock.now());
        }
    }

    fn ran(&mut self, at: usize, run: Run<<B::Render as svc_core::Render>::Key>) {
        let Some(looped) = self.parts.families.get_mut(at) else {
            return;
        };
        let family = looped.family().reconciler.family();
        let stale_flows = run.may_leave_stale_flows();
        let summary = RunSummary::of(run);
        tell::tell(family, &summary);
        let now = self.parts.clock.now();
        let quarantine = looped.family().reconciler.quarantine().clone();
        let mut status = self.parts.shared.lock();
        status.ran(family, &summary, now);
        let Some(of_family) = status.families.get_mut(&family) else {
            return;
        };
        of_family.quarantine = quarantine;
        if self.parts.flows.is_none() {
            // Nobody will ever look for them.
            of_family.retired.clear();
        }
        if summary.result.is_err() {
            return;
        }
        let checks = listen::checks(family, of_family);
        drop(status);
        // The order of B-264: rules, health mark, health-check listeners, conntrack.
        self.listen(&checks);
        let Some(looped) = self.parts.families.get_mut(at) else {
            return;
        };
        let kernel = &mut looped.family_mut().kernel;
        if let Err(cause) = self.parts.backend.applied(kernel, &checks) {
            error!(%family, error = one_line(&*cause), "health-check ports are not admitted");
        }
        if stale_flows && let Some(flows) = &self.parts.flows {
            flows.look(family);
        }
        self.remarks_soon();
    }

    fn disturbed(&mut self, family: Option<IpFamily>) {
        let now = self.parts.clock.now();
        for looped in &mut self.parts.families {
            if family.is_none_or(|family| family == looped.family().reconciler.family()) {
                looped.disturbed(now);
            }
        }
    }

    /// Asks the backends that are not told whether somebody else changed the kernel.
    fn ask(&mut self) {
        let now = self.parts.clock.now();
        let (Some(period), Some(at)) = (self.parts.asked, self.ask_at) else {
            return;
        };
        if at > now {
            return;
        }
        if self.gate != Gate::Open {
            // Nothing is there to be changed; a time that is past would keep the loop awake.
            self.ask_at = Some(now + period);
            return;
        }
        for looped in &mut self.parts.families {
            // What is not applied yet may well not be there.
            if looped.oldest_change().is_some() {
                continue;
            }
            match self
                .parts
                .backend
                .disturbed(&mut looped.family_mut().kernel)
            {
                Ok(false) => {}
                Ok(true) => looped.disturbed(now),
                Err(cause) => warn!(
                    error = one_line(&*cause),
                    "cannot look for changes by others"
                ),
            }
        }
        self.ask_at = Some(self.parts.clock.now() + period);
    }

    fn tick(&mut self) {
        let now = self.parts.clock.now();
        if self.tick_at.is_none_or(|at| at > now) {
            return;
        }
        self.tick_at = None;
        for looped in &mut self.parts.families {
            let next = match self
                .parts
                .backend
                .tick(&mut looped.family_mut().kernel, now)
            {
                Ok(next) => next,
                Err(cause) => {
                    warn!(
                        error = one_line(&*cause),
                        "cannot end what is drained, trying again"
                    );
                    Some(now + REMARKS)
                }
            };
            self.tick_at = self.tick_at.into_iter().chain(next).min();
        }
    }

    fn link(&mut self, kind: ObjectKind, link: SourceLink) {
        let mut status = self.parts.shared.lock();
        let before = status.links.insert(kind, link.clone());
        status.link_failures += u64::from(matches!(link, SourceLink::Down(_)));
        drop(status);
        if before.as_ref() == Some(&link) {
            return;
        }
        match link {
            SourceLink::Up => debug!(?kind, "objects arrive"),
            SourceLink::Down(cause) => {
                warn!(?kind, cause, "no objects arrive, the last state is kept");
            }
            SourceLink::Absent(cause) => info!(?kind, cause, "there are no objects of this kind"),
        }
    }

    /// What happens to a packet by the plan that the kernel shows.
    fn explain(&self, flow: &Flow) -> String {
        let family = IpFamily::of(flow.destination.ip());
        let status = self.parts.shared.lock();
        let Some(of_family) = status.families.get(&family) else {
            return "null".into();
        };
        let verdict = of_family.plan.route(flow);
        let state = self.parts.planner.state();
        to_json(&explain_verdict(&of_family.plan, state, flow, verdict)).to_string()
    }

    fn remarks_soon(&mut self) {
        let at = self.parts.clock.now() + REMARKS;
        self.remarks_at.get_or_insert(at);
    }
}

#[cfg(test)]
mod tests;
