//! A reconciler makes any kernel match the plan, whatever goes wrong on the way.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::super::fake_kernel::{FakeKernel, Fault};
use super::super::generate::{History, Step};
use super::super::source::Source;
use crate::name::ServicePortName;
use crate::net::IpFamily;
use crate::plan::{Plan, ServicePortPlan};
use crate::planner::Planner;
use crate::reconciler::{Action, Failure, Reconciler};
use crate::ruleset::{Render, Ruleset, Transaction};

/// After any history, with faults drawn from `faults`, one round without a fault makes the
/// kernel hold the union of the fragments of the plan, and nothing else; and whenever the
/// reconciler calls itself settled, that is so already.
///
/// `render` makes a renderer as a process that starts makes it.
///
/// # Errors
///
/// What is broken.
pub fn convergence<R: Render + Clone>(
    render: impl Fn() -> R,
    family: IpFamily,
    history: &History,
    faults: &[u8],
) -> Result<(), String> {
    let mut planner = Planner::new(history.config.clone());
    let mut node = Node {
        reconciler: Reconciler::new(render(), family),
        kernel: FakeKernel::default(),
        interfered: false,
        transaction: None,
        offered: BTreeMap::new(),
        refused: BTreeMap::new(),
    };
    let mut faults = Source::new(faults);
    for step in &history.steps {
        match step {
            Step::Event(event) => {
                planner.handle(event.clone());
            }
            Step::Configure(config) => planner.configure(config.clone()),
            Step::Delta => {
                planner
                    .delta()
                    .iter()
                    .for_each(|d| node.reconciler.change(d));
                if faults.chance(10) {
                    node.restart(render(), &planner.plan(family), &planner);
                }
                node.interfere(&mut faults);
                for _ in 0..faults.below(5) {
                    let fault = node.fault(&mut faults);
                    node.round(&fault)?;
                }
            }
        }
    }
    node.heal()?;
    node.quarantine_is_current(&planner.plan(family))?;
    node.restart_changes_nothing(render(), &planner)
}

type Ports = BTreeMap<ServicePortName, Arc<ServicePortPlan>>;

struct Node<R: Render> {
    reconciler: Reconciler<R>,
    kernel: FakeKernel<R>,
    /// Whether somebody else changed the kernel since it was read.
    interfered: bool,
    /// The transaction under way.
    transaction: Option<Arc<Transaction<R::Key, R::Value>>>,
    /// What was wanted when it was made.
    offered: Ports,
    /// What was wanted of each service port when it was refused.
    refused: Ports,
}

impl<R: Render + Clone> Node<R> {
    /// One step of the reconciler; whether there was anything to do.
    fn round(&mut self, fault: &Fault) -> Result<bool, String> {
        match self.reconciler.poll() {
            Action::Idle => {
                self.check()?;
                return Ok(false);
            }
            Action::Read => {
                self.reconciler.on_read(self.kernel.held.clone());
                self.interfered = false;
            }
            Action::Commit(transaction) => self.commit(&transaction, fault)?,
        }
        self.check()?;
        Ok(true)
    }

    fn commit(
        &mut self,
        transaction: &Arc<Transaction<R::Key, R::Value>>,
        fault: &Fault,
    ) -> Result<(), String> {
        if !self
            .transaction
            .as_ref()
            .is_some_and(|old| Arc::ptr_eq(old, transaction))
        {
            let wanted = self.reconciler.wanted();
            self.offered = wanted.map(|plan| plan.service_ports).unwrap_or_default();
            self.transaction = Some(transaction.clone());
        }
        if !self.interfered
            && let Some(misfit) = self.kernel.misfit(transaction)
        {
            return Err(format!("{misfit}, in {transaction:#?}"));
        }
        match self.kernel.commit(transaction, fault) {
            Ok(()) => self.reconciler.on_committed(),
            Err(failure) => {
                if let Failure::Refused(ports) = &failure {
                    for (name, _) in ports {
                        let plan = self.offered.get(name);
                        self.refused.extend(plan.map(|p| (name.clone(), p.clone())));
                    }
                }
                self.reconciler.on_failed(failure);
            }
        }
        Ok(())
    }

    /// Whoever calls himself settled is right.
    fn check(&self) -> Result<(), String> {
        if !self.reconciler.is_settled() || self.interfered {
            return Ok(());
        }
        let wanted = self.reconciler.wanted().ok_or("settled without a plan")?;
        let expected = expected(&mut self.reconciler.render().clone(), &wanted)?;
        let mut held = self.kernel.held.clone();
        held.retain(|key, _| {
            expected.contains_key(key) || !(R::is_shared(key) && R::outlives_users(key))
        });
        super::same("the kernel, when settled,", &held, &expected)
    }

    /// Rounds without fault until there is nothing to do.
    fn heal(&mut self) -> Result<(), String> {
        self.reconciler.verify();
        for _ in 0..6 {
            if !self.round(&Fault::None)? {
                let settled = self.reconciler.is_settled();
                let without_plan = self.reconciler.wanted().is_none();
                return match settled || without_plan {
                    true => Ok(()),
                    false => Err("idle, but not settled".into()),
                };
            }
        }
        Err("six good rounds are not enough".into())
    }

    /// Somebody else deletes, changes or adds objects, and the reconciler is told to look.
    fn interfere(&mut self, faults: &mut Source<'_>) {
        if faults.chance(20) {
            let keys: Vec<R::Key> = self.kernel.held.keys().cloned().collect();
            let gone = keys.into_iter().filter(|_| faults.chance(30));
            for key in gone.collect::<Vec<_>>() {
                let other = self.kernel.held.values().next_back().cloned();
                self.kernel.held.remove(&key);
                if let Some(other) = other.filter(|_| faults.chance(30)) {
                    self.kernel.held.insert(key, other);
                }
                self.interfered = true;
            }
            self.reconciler.verify();
        }
        if faults.chance(5) {
            self.kernel.held.clear();
            self.interfered = true;
            self.reconciler.verify();
        }
    }

    fn fault(&self, faults: &mut Source<'_>) -> Fault {
        let names = self.reconciler.wanted().map(|plan| plan.service_ports);
        let names: Vec<ServicePortName> = names.into_iter().flatten().map(|(n, _)| n).collect();
        match faults.below(10) {
            4 => Fault::Busy,
            5 => Fault::BrokenAfter(0),
            6 => Fault::BrokenAfter(faults.below(4)),
            7 => Fault::BrokenAfter(usize::MAX),
            8 if !names.is_empty() => Fault::Refused(faults.pick(&names)),
            9 if !names.is_empty() => Fault::RefusedWhole(faults.pick(&names)),
            _ => Fault::None,
        }
    }

    /// The process ends and another one starts with the plan as it is.
    fn restart(&mut self, render: R, plan: &Plan, planner: &Planner) {
        self.reconciler = Reconciler::new(render, plan.family);
        self.refused.clear();
        if planner.state().is_complete() {
            let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
            delta.node = Some(plan.node.clone());
            self.reconciler.change(&delta);
        }
    }

    /// What was set aside is what was refused, not a later plan (which deserves its own try).
    fn quarantine_is_current(&self, plan: &Plan) -> Result<(), String> {
        for name in self.reconciler.quarantine().keys() {
            let (now, then) = (plan.service_ports.get(name), self.refused.get(name));
            if now.is_none() || now != then {
                return Err(format!("{name:?} is set aside, but not for {now:#?}"));
            }
        }
        Ok(())
    }

    /// A process that starts over a kernel that is right leaves it alone (B-254).
    fn restart_changes_nothing(&mut self, render: R, planner: &Planner) -> Result<(), String> {
        let Some(wanted) = self.reconciler.wanted() else {
            return Ok(());
        };
        self.restart(render, &wanted, planner);
        let before = self.kernel.held.clone();
        let drift = self.reconciler.on_read(before.clone());
        if planner.state().is_complete() && !drift.is_empty() {
            return Err(format!("a restart changes {drift:#?}"));
        }
        Ok(())
    }
}

/// The union of the skeleton and all fragments.
fn expected<R: Render>(render: &mut R, plan: &Plan) -> Result<Ruleset<R::Key, R::Value>, String> {
    let mut ruleset = render.skeleton(&plan.node);
    for (name, port) in &plan.service_ports {
        for (key, value) in render.service_port(&plan.node, name, port) {
            let shared = R::is_shared(&key);
            match ruleset.insert(key.clone(), value.clone()) {
                None => {}
                Some(old) if shared && old == value => {}
                Some(old) => {
                    return Err(format!("{key:?} of {name:?} is {old:?} and {value:?}"));
                }
            }
        }
    }
    Ok(ruleset)
}
