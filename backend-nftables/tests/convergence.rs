//! A reconciler makes the kernel match the plan, whatever goes wrong on the way, and every packet
//! meanwhile finds the old way or the new one.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use backend_nftables::error::{CommitError, Errno};
use backend_nftables::fake::{FakeKernel, Fault};
use backend_nftables::netlink::Batch;
use backend_nftables::{Batches, Blame, Evaluator, Host, Key, Renderer, Start, Value, failure};
use common::edits::edit;
use common::scenarios::scenario;
use common::{TABLE, is_possible, render_with};
use proptest::prelude::*;
use svc_core::testing::{Aims, History, Source, Step, bytes, histories};
use svc_core::{
    Action, Base, Flow, IpFamily, Plan, Planner, Reconciler, Ruleset, Transaction, Verdict,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_converges(history in histories(), faults in bytes(20), v6 in any::<bool>()) {
        let family = if v6 { IpFamily::V6 } else { IpFamily::V4 };
        if let Err(what) = converge(&history, &mut Source::new(&faults), family) {
            return Err(TestCaseError::fail(what));
        }
    }
}

struct Node {
    reconciler: Reconciler<Renderer>,
    kernel: FakeKernel,
    family: IpFamily,
    /// Somebody else has been at the table since it was read.
    interfered: bool,
    /// What somebody else did to it may not be mended yet.
    damaged: bool,
    /// In words only where it is needed, as they take longer than most histories.
    last_error: Option<(CommitError, Arc<Transaction<Key, Value>>)>,
}

/// Whether a first load takes one transaction or many.
fn renderer(family: IpFamily, source: &mut Source<'_>) -> Renderer {
    let ports_at_once = match source.chance(50) {
        true => 1,
        false => 1000,
    };
    Renderer::new(TABLE, family).with_ports_at_once(ports_at_once)
}

pub(crate) fn converge(
    history: &History,
    source: &mut Source<'_>,
    family: IpFamily,
) -> Result<(), String> {
    let mut planner = Planner::new(history.config.clone());
    let mut node = Node::new(renderer(family, source), family);
    for step in &history.steps {
        match step {
            Step::Event(event) => drop(planner.handle(event.clone())),
            Step::Configure(config) => planner.configure(config.clone()),
            Step::Delta => {
                let deltas = planner.delta();
                deltas
                    .iter()
                    .for_each(|delta| node.reconciler.change(delta));
                if source.chance(15) {
                    node.interfere(source)?;
                }
                for _ in 0..source.below(4) {
                    node.kernel.fail([fault(source)]);
                    node.kernel.break_reads(u32::from(source.chance(5)));
                    node.round()?;
                }
                node.kernel.heal();
            }
        }
    }
    node.heal()?;
    node.restart_changes_nothing()
}

fn fault(source: &mut Source<'_>) -> Fault {
    let errno = source.pick(&[Errno::EINVAL, Errno::EEXIST, Errno::ENOMEM, Errno::ENOENT]);
    match source.below(10) {
        4 => Fault::Refuse(usize::from(source.byte()), errno),
        5 => Fault::Refuse(usize::from(source.byte()), errno),
        6 => Fault::LostApplied,
        7 => Fault::LostUnapplied,
        8 => Fault::TooLarge,
        9 => Fault::Io(Errno::ENOBUFS),
        _ => Fault::None,
    }
}

impl Node {
    fn new(renderer: Renderer, family: IpFamily) -> Self {
        Self {
            reconciler: Reconciler::new(renderer, family),
            kernel: FakeKernel::new(TABLE, family),
            family,
            interfered: false,
            damaged: false,
            last_error: None,
        }
    }

    /// One step; whether there was anything to do.
    fn round(&mut self) -> Result<bool, String> {
        match self.reconciler.poll() {
            Action::Idle => return Ok(false),
            Action::Read => {
                if let Ok(held) = self.kernel.read() {
                    self.reconciler.on_read(held);
                    self.interfered = false;
                }
            }
            Action::Commit(transaction) => {
                if !self.interfered {
                    self.check_every_step(&transaction)?;
                }
                match self.kernel.commit(&transaction) {
                    Ok(()) => {
                        self.reconciler.on_committed();
                        self.damaged = self.interfered;
                    }
                    Err(error) => {
                        self.reconciler.on_failed(failure(&error, &transaction));
                        self.last_error = Some((error, transaction));
                    }
                }
            }
        }
        if self.reconciler.is_settled() && !self.interfered {
            self.damaged = false;
            self.check_held()?;
        }
        Ok(true)
    }

    fn heal(&mut self) -> Result<(), String> {
        self.reconciler.verify();
        let mut left = 4;
        while left > 0 {
            // The transactions of a first load are one round.
            let action = self.reconciler.poll();
            let loads =
                matches!(action, Action::Commit(transaction) if transaction.base == Base::Empty);
            left -= u32::from(!loads);
            if !self.round()? {
                let settled = self.reconciler.is_settled() || self.reconciler.wanted().is_none();
                return match settled {
                    true => Ok(()),
                    false => Err("idle, but not settled".into()),
                };
            }
        }
        let what = self
            .last_error
            .as_ref()
            .map_or_else(String::new, |(error, of)| {
                format!("{error:?} of {:#?}", refused(error, of))
            });
        Err(format!("four good rounds are not enough: {what}"))
    }

    fn check_held(&self) -> Result<(), String> {
        let wanted = self.reconciler.wanted().ok_or("settled without a plan")?;
        let expected = render_with(&mut self.reconciler.render().clone(), &wanted);
        let miscounted = self.kernel.miscounted();
        if !miscounted.is_empty() {
            return Err(format!("{miscounted:?} have other numbers of elements"));
        }
        let mut held = self.kernel.ruleset();
        // What costs too much to remove stays.
        held.retain(|key, _| expected.contains_key(key) || !outlives_users(key));
        same("the kernel", &held, &expected)
    }

    fn restart_changes_nothing(&mut self) -> Result<(), String> {
        let Some(wanted) = self.reconciler.wanted() else {
            return Ok(());
        };
        let mut fresh = Reconciler::new(Renderer::new(TABLE, self.family), self.family);
        let mut delta = Plan::empty(self.family, wanted.node.clone()).diff(&wanted);
        delta.node = Some(wanted.node.clone());
        fresh.change(&delta);
        let held = self.kernel.read().map_err(|error| error.to_string())?;
        match fresh.on_read(held) {
            drift if drift.is_empty() => Ok(()),
            drift => Err(format!("a restart changes {drift:#?}")),
        }
    }

    /// Every batch leaves a sane ruleset, be they as small as can be, as far as no node-wide object
    /// changes; and that goes into one batch.
    fn check_every_step(&self, transaction: &Arc<Transaction<Key, Value>>) -> Result<(), String> {
        let named = transaction.groups.iter().all(|group| group.name.is_some());
        if transaction.base == Base::Empty || !named {
            return Ok(());
        }
        let plan = self
            .reconciler
            .wanted()
            .ok_or("a transaction without a plan")?;
        let held = self.kernel.ruleset();
        let evaluator = Evaluator::new(&held, Host::of(&plan.node, plan.family));
        let flows: Vec<Flow> = Aims::of(&plan)
            .every_flow()
            .filter(|flow| is_possible(&plan, flow))
            .step_by(197)
            // Where an endpoint is missing there is no old way.
            .filter(|flow| !self.damaged || evaluator.verdict(flow).is_ok())
            .collect();
        self.check_flows_at_every_step(&plan, &flows, transaction)
    }

    fn check_flows_at_every_step(
        &self,
        plan: &Plan,
        flows: &[Flow],
        transaction: &Arc<Transaction<Key, Value>>,
    ) -> Result<(), String> {
        let host = Host::of(&plan.node, plan.family);
        let verdicts = |kernel: &FakeKernel| -> Result<Vec<Verdict>, String> {
            let ruleset = kernel.ruleset();
            let evaluator = Evaluator::new(&ruleset, host.clone());
            let verdict = |flow| {
                evaluator
                    .verdict(flow)
                    .map_err(|fault| format!("{flow}: {fault}"))
            };
            flows.iter().map(verdict).collect()
        };
        let mut kernel = self.kernel.clone();
        kernel.heal();
        let old = verdicts(&kernel)?;
        let batches = Batches::new(kernel.table().clone(), Start::AsRead, transaction);
        let batches = batches.in_single_steps();
        let mut batch = Batch::new(kernel.table().clone());
        let mut seen = Vec::new();
        for index in 0..batches.len() {
            batches.write(index, Blame::Group, &mut batch);
            let refused = |error| format!("step {index}: {error:?} in {transaction:#?}");
            kernel.apply(&batch).map_err(refused)?;
            seen.push(verdicts(&kernel)?);
        }
        let new = verdicts(&kernel)?;
        for (step, verdicts) in seen.iter().enumerate() {
            for (index, verdict) in verdicts.iter().enumerate() {
                if !is_sane(&old[index], verdict, &new[index]) {
                    return Err(format!(
                        "{}: {} becomes {}, and {verdict} after step {step} of {transaction:#?}",
                        flows[index], old[index], new[index]
                    ));
                }
            }
        }
        Ok(())
    }

    /// Somebody else changes our table, and the reconciler is told to look.
    fn interfere(&mut self, source: &mut Source<'_>) -> Result<(), String> {
        let held = self.kernel.ruleset();
        for _ in 0..=source.below(3) {
            let mut batch = Batch::new(self.kernel.table().clone());
            edit(&held, source, &mut batch);
            // Some make no sense, as an edit before removed what this one needs.
            drop(self.kernel.apply(&batch));
        }
        self.interfered = true;
        self.damaged = true;
        self.reconciler.verify();
        Ok(())
    }
}

/// Found by random histories: front ends led to endpoints that they never had or never get.
#[test]
fn front_ends_and_their_endpoints_change_at_once() {
    let frontends = [
        ("", "vip=192.0.2.1", "comes"),
        ("vip=192.0.2.1", "", "goes"),
        ("port=80", "port=81", "moves to another port"),
        ("ip=10.96.0.1", "ip=10.96.0.9", "moves to another address"),
        (
            "vip=192.0.2.1",
            "vip=192.0.2.1 etp=Local",
            "serves outsiders apart",
        ),
        ("itp=Cluster", "itp=Local", "leads to another pool"),
        ("", "affinity=5", "sticks"),
        (
            "vip=192.0.2.1 range=203.0.113.0/24",
            "vip=192.0.2.1",
            "opens",
        ),
        (
            "ip=10.96.0.1",
            "ip=10.96.0.9\nservice web2 ip=10.96.0.1 port=80",
            "passes to another",
        ),
        (
            "ip=10.96.0.1",
            "ip=10.96.0.9 external=10.96.0.1",
            "changes its kind",
        ),
    ];
    let (one, more, others) = ("10.64.1.1@n1", "10.64.1.1@n1 10.64.1.2@n2", "10.64.1.3@n2");
    let endpoints = [
        (one, more),
        (more, one),
        (one, others),
        (one, ""),
        ("", one),
    ];
    for (old, new, what) in frontends {
        for (fewer, others) in endpoints {
            for ((old, endpoints), (new, others)) in
                [((old, fewer), (new, others)), ((new, fewer), (old, others))]
            {
                let checked = check_change([(old, endpoints), (new, others)]);
                assert_eq!(checked, Ok(()), "{what}, from {endpoints:?} to {others:?}");
            }
        }
    }
}

/// Looks at every step from a Service to what it becomes: what it has but the usual, and endpoints.
fn check_change(texts: [(&str, &str); 2]) -> Result<(), String> {
    let [before, after] = texts.map(|(service, endpoints)| {
        let usual = |what: &'static str, key: &str| match service.contains(key) {
            true => "",
            false => what,
        };
        let (ip, port) = (
            usual("ip=10.96.0.1", "ip=10.96"),
            usual("port=80", "port=8"),
        );
        let text = format!(
            "config mode=nftables cluster-cidr=10.64.0.0/11
             node n1 198.18.0.10 pods=10.64.1.0/24
             cidr 10.96.0.0/16
             service web type=LoadBalancer {ip} {port} {service}
             slice web-1 web port=8080 {endpoints}
             slice web2-1 web2 port=8080 10.64.1.1@n1 10.64.1.7@n2"
        );
        scenario(&text).plan(IpFamily::V4)
    });
    let mut node = Node::new(Renderer::new(TABLE, IpFamily::V4), IpFamily::V4);
    let mut delta = Plan::empty(IpFamily::V4, before.node.clone()).diff(&before);
    delta.node = Some(before.node.clone());
    node.reconciler.change(&delta);
    node.heal()?;
    node.reconciler.change(&before.diff(&after));
    let Action::Commit(transaction) = node.reconciler.poll() else {
        return Err("nothing to do".into());
    };
    // What goes is no aim of the plan that comes.
    let flows: Vec<Flow> = [&before, &after]
        .into_iter()
        .flat_map(|plan| Aims::of(plan).every_flow().step_by(7).collect::<Vec<_>>())
        .filter(|flow| is_possible(&after, flow))
        .collect();
    node.check_flows_at_every_step(&after, &flows, &transaction)
}

/// The edits of the groups that were refused.
fn refused(error: &CommitError, transaction: &Transaction<Key, Value>) -> String {
    let CommitError::Refused(refusals) = error else {
        return String::new();
    };
    let tags = refusals.iter().filter_map(|refusal| refusal.tag);
    let groups = tags.filter_map(|tag| transaction.groups.get(tag as usize));
    format!("{:#?}", groups.take(2).collect::<Vec<_>>())
}

fn is_sane(old: &Verdict, now: &Verdict, new: &Verdict) -> bool {
    match (old, now, new) {
        (_, now, _) if now == old || now == new => true,
        (old, Verdict::Forward(targets), new) => targets.iter().all(|target| {
            let among = |verdict: &Verdict| match verdict {
                Verdict::Forward(targets) => targets.contains(target),
                Verdict::Reject | Verdict::Drop | Verdict::Pass => false,
            };
            among(old) || among(new)
        }),
        (_, Verdict::Reject | Verdict::Drop | Verdict::Pass, _) => false,
    }
}

fn outlives_users(key: &Key) -> bool {
    <Renderer as svc_core::Render>::outlives_users(key)
}

fn same(what: &str, a: &Ruleset<Key, Value>, b: &Ruleset<Key, Value>) -> Result<(), String> {
    let differs = |key: &&Key| a.get(key) != b.get(key);
    let keys: std::collections::BTreeSet<&Key> = a.keys().chain(b.keys()).collect();
    match keys.into_iter().find(differs) {
        None => Ok(()),
        Some(key) => Err(format!(
            "{what}: {key:?} is {:#?}, not {:#?}",
            a.get(key),
            b.get(key)
        )),
    }
}
