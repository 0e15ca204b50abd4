//! The loop of a family against a kernel in memory that fails, on a clock that stands still.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use examples::agent::{Cause, Clock, FamilyLoop, Jitter, Periods, StoppedClock};
use examples::proxy::Family;
use proptest::prelude::*;
use svc_core::testing::{FakeKernel, Fault, Scenario, Step, Toy, histories};
use svc_core::{
    CommitFailure, Event, Failure, IpFamily, Kernel, Plan, Planner, Reconciler, Render, Ruleset,
    Transaction, WatchEvent, render,
};

type ToyValue = <Toy as Render>::Value;
type ToyKey = <Toy as Render>::Key;

/// A kernel whose next commits fail as told.
#[derive(Clone, Default)]
struct Flaky(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    kernel: FakeKernel<Toy>,
    faults: VecDeque<Fault>,
    commits: usize,
    reads: usize,
    broken: bool,
}

#[derive(Debug)]
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")
    }
}

impl std::error::Error for Broken {}

impl Kernel<Toy> for Flaky {
    type Error = Broken;

    fn read(&mut self) -> Result<Ruleset<ToyKey, ToyValue>, Broken> {
        let mut state = self.0.borrow_mut();
        state.reads += 1;
        match state.broken {
            true => Err(Broken),
            false => Ok(state.kernel.held.clone()),
        }
    }

    fn commit(
        &mut self,
        transaction: &Transaction<ToyKey, ToyValue>,
    ) -> Result<(), CommitFailure<Broken>> {
        let mut state = self.0.borrow_mut();
        state.commits += 1;
        let fault = state.faults.pop_front().unwrap_or(Fault::None);
        let result = match state.broken {
            true => Err(Failure::Unknown),
            false => state.kernel.commit(transaction, &fault),
        };
        result.map_err(|failure| CommitFailure {
            failure,
            error: Broken,
        })
    }
}

const PERIODS: Periods = Periods {
    min: Duration::from_secs(1),
    check: Duration::from_secs(3600),
    check_share: 1000,
    retry_first: Duration::from_millis(250),
    retry_most: Duration::from_secs(30),
};

struct Rig {
    clock: StoppedClock,
    kernel: Flaky,
    looped: FamilyLoop<Toy, Flaky>,
    planner: Planner,
    /// What was applied, delta by delta.
    applied: Plan,
    ended: Option<Duration>,
}

impl Rig {
    fn new(config: svc_core::NodeConfig) -> Self {
        let planner = Planner::new(config);
        let kernel = Flaky::default();
        let family = Family {
            reconciler: Reconciler::new(Toy::default(), IpFamily::V4),
            kernel: kernel.clone(),
        };
        let node = svc_core::NodePlan::bare("");
        Self {
            clock: StoppedClock::default(),
            kernel,
            looped: FamilyLoop::new(family, PERIODS, Jitter::seeded(1)),
            planner,
            applied: Plan::empty(IpFamily::V4, node.into()),
            ended: None,
        }
    }

    fn plan(&mut self) {
        for delta in self.planner.delta() {
            self.looped.change(&delta, self.clock.now());
        }
    }

    /// Runs if it is time to, and checks what every run has to keep.
    fn run(&mut self) -> Option<Cause> {
        let run = self.looped.run(&self.clock)?;
        let now = self.clock.now();
        if let (Some(ended), Cause::Change) = (self.ended, run.cause) {
            assert!(now - ended >= PERIODS.min, "too soon: {:?}", now - ended);
        }
        self.ended = Some(now);
        if let Ok((_, applied)) = &run.result {
            self.applied.apply(&applied.delta);
        }
        Some(run.cause)
    }

    /// Lets time pass until nothing but the slow check is left to be done.
    fn settle(&mut self) {
        for _ in 0..200 {
            let Some(next) = self.looped.next() else {
                return;
            };
            let wait = next.saturating_sub(self.clock.now());
            if wait > PERIODS.retry_most * 2 {
                return;
            }
            self.clock.pass(wait);
            self.run();
        }
        panic!("never settles");
    }

    fn held(&self) -> Ruleset<ToyKey, ToyValue> {
        self.kernel.0.borrow().kernel.held.clone()
    }
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        3 => Just(Fault::None),
        1 => Just(Fault::Busy),
        1 => (0usize..4).prop_map(Fault::BrokenAfter),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Whatever happens and whatever fails, one quiet while later the kernel shows the plan, and
    /// what the loop said it applied adds up to that plan.
    #[test]
    fn nothing_is_lost(
        history in histories(),
        faults in prop::collection::vec(fault(), 0..12),
        waits in prop::collection::vec(0u64..2000, 70),
    ) {
        let mut rig = Rig::new(history.config.clone());
        rig.kernel.0.borrow_mut().faults = faults.into();
        for (step, wait) in history.steps.into_iter().zip(waits) {
            match step {
                Step::Event(event) => drop(rig.planner.handle(event)),
                Step::Configure(config) => rig.planner.configure(config),
                Step::Delta => rig.plan(),
            }
            rig.clock.pass(Duration::from_millis(wait));
            rig.run();
            // B-237.
            if !rig.planner.state().is_complete() {
                prop_assert_eq!(rig.kernel.0.borrow().commits, 0);
            }
        }
        rig.plan();
        rig.settle();
        if !rig.planner.state().is_complete() {
            prop_assert!(rig.held().is_empty());
            return Ok(());
        }
        let plan = rig.planner.plan(IpFamily::V4);
        let wanted = rig.looped.wanted().unwrap();
        prop_assert_eq!(&wanted.service_ports, &plan.service_ports);
        prop_assert_eq!(&rig.applied, &plan);
        prop_assert_eq!(rig.looped.oldest_change(), None);
        // Numbers that are handed out depend on the past: what the renderer holds is the measure.
        let mut renderer = rig.looped.family().reconciler.render().clone();
        let mut expected = render(&mut renderer, &wanted);
        let mut held = rig.held();
        // Shared objects may outlive their users.
        expected.retain(|key, _| !matches!(key, ToyKey::Count(_)));
        held.retain(|key, _| !matches!(key, ToyKey::Count(_)));
        prop_assert_eq!(held, expected);
    }
}

fn web() -> Rig {
    let scenario: Scenario = "
        config mode=nftables
        node n1 198.18.0.10
        service web ip=10.96.0.1 port=80
        slice web-1 web port=8080 10.64.1.1@n1
    "
    .parse()
    .unwrap();
    let mut rig = Rig::new(scenario.config.clone());
    for event in scenario.events() {
        rig.planner.handle(event);
    }
    rig.plan();
    rig
}

#[test]
fn b238_first_sync_is_at_once_and_its_failure_is_tried_again() {
    let mut rig = web();
    rig.kernel.0.borrow_mut().broken = true;
    assert_eq!(rig.run(), Some(Cause::Change));
    assert!(rig.looped.oldest_change().is_some());
    let next = rig.looped.next().unwrap();
    assert!(next >= PERIODS.retry_first && next < PERIODS.retry_first * 2);
    rig.kernel.0.borrow_mut().broken = false;
    rig.clock.pass(next);
    assert_eq!(rig.run(), Some(Cause::Retry));
    assert!(rig.looped.oldest_change().is_none());
    assert!(!rig.held().is_empty());
}

#[test]
fn foreign_change_is_repaired_and_counted_as_one() {
    let mut rig = web();
    rig.settle();
    let before = rig.held();
    rig.kernel.0.borrow_mut().kernel.held.clear();
    rig.looped.disturbed(rig.clock.now());
    let run = rig.looped.run(&rig.clock).unwrap();
    assert_eq!(run.cause, Cause::Disturbance);
    assert_eq!(run.repaired(), before.len());
    assert_eq!(rig.held(), before);
    // Flows that began meanwhile went where no rule sends them.
    assert!(run.may_leave_stale_flows());
    rig.clock.pass(Duration::from_secs(60));
    rig.looped.disturbed(rig.clock.now());
    let run = rig.looped.run(&rig.clock).unwrap();
    assert!(
        !run.may_leave_stale_flows(),
        "all was as it should have been"
    );
    // The first sync was none of somebody else's doing.
    let mut fresh = web();
    assert_eq!(fresh.looped.run(&fresh.clock).unwrap().repaired(), 0);
}

#[test]
fn a_foreign_change_that_cannot_be_repaired_is_compared_again_by_the_retry() {
    let mut rig = web();
    rig.settle();
    let before = rig.held();
    rig.kernel.0.borrow_mut().kernel.held.clear();
    rig.kernel.0.borrow_mut().broken = true;
    rig.clock.pass(Duration::from_secs(60));
    rig.looped.disturbed(rig.clock.now());
    assert_eq!(rig.run(), Some(Cause::Disturbance));
    // B-242: ever more rarely.
    let mut waits = Vec::new();
    for _ in 0..8 {
        let wait = rig.looped.next().unwrap() - rig.clock.now();
        rig.clock.pass(wait);
        assert_eq!(rig.run(), Some(Cause::Retry));
        waits.push(wait);
    }
    assert!(waits[7] >= PERIODS.retry_most, "{waits:?}");
    rig.kernel.0.borrow_mut().broken = false;
    rig.clock.pass(PERIODS.retry_most * 2);
    let run = rig.looped.run(&rig.clock).unwrap();
    assert_eq!(run.cause, Cause::Retry);
    assert!(run.may_leave_stale_flows());
    assert_eq!(rig.held(), before);
}

#[test]
fn slow_check_reads_and_writes_nothing() {
    let mut rig = web();
    rig.settle();
    let (commits, reads) = {
        let state = rig.kernel.0.borrow();
        (state.commits, state.reads)
    };
    rig.clock.pass(PERIODS.check * 2);
    assert_eq!(rig.run(), Some(Cause::Check));
    let state = rig.kernel.0.borrow();
    assert_eq!((state.commits, state.reads), (commits, reads + 1));
}

#[test]
fn what_failed_stays_unapplied_until_it_is_in_the_kernel() {
    let mut rig = web();
    rig.settle();
    let since = rig.clock.now();
    rig.kernel.0.borrow_mut().broken = true;
    let name = svc_core::NamespacedName::new("default", "web");
    let event = Event::Service(WatchEvent::Delete(name));
    rig.planner.handle(event);
    rig.plan();
    rig.clock.pass(Duration::from_secs(1));
    assert_eq!(rig.run(), Some(Cause::Change));
    rig.clock.pass(Duration::from_secs(60));
    assert_eq!(rig.looped.oldest_change(), Some(since));
    rig.kernel.0.borrow_mut().broken = false;
    let run = rig.looped.run(&rig.clock).unwrap();
    let (_, applied) = run.result.unwrap();
    assert_eq!(applied.waited, Some(Duration::from_secs(61)));
    assert_eq!(applied.delta.service_ports.len(), 1);
}

/// A clock that shows what it is told to.
struct Jumping(Cell<Duration>);

impl Clock for Jumping {
    fn now(&self) -> Duration {
        self.0.get()
    }
}

/// One endpoint or none, in the kernel or not.
fn turn(rig: &mut Rig, clock: &Jumping, name: &str) {
    let name = svc_core::NamespacedName::new("default", name);
    let mut service = svc_core::object::Service::named(name);
    service.cluster_ips = vec![[10, 96, 1, 1].into()];
    service.ip_families = vec![IpFamily::V4];
    let port = svc_core::object::ServicePort::new("", svc_core::Protocol::Tcp, 80);
    service.ports = vec![port];
    rig.planner
        .handle(Event::Service(WatchEvent::Apply(service)));
    for delta in rig.planner.delta() {
        rig.looped.change(&delta, clock.now());
    }
}

#[test]
fn a_clock_that_jumps_forwards_costs_one_comparison() {
    let mut rig = web();
    rig.settle();
    let clock = Jumping(Cell::new(
        rig.clock.now() + Duration::from_secs(10 * 365 * 86_400),
    ));
    let (commits, reads) = {
        let state = rig.kernel.0.borrow();
        (state.commits, state.reads)
    };
    assert_eq!(rig.looped.run(&clock).unwrap().cause, Cause::Check);
    assert!(
        rig.looped.run(&clock).is_none(),
        "what was missed is not made up for"
    );
    turn(&mut rig, &clock, "more");
    let soon = rig.looped.next().unwrap();
    assert!(soon <= clock.now() + PERIODS.min);
    clock.0.set(soon);
    assert_eq!(rig.looped.run(&clock).unwrap().cause, Cause::Change);
    let state = rig.kernel.0.borrow();
    assert_eq!((state.commits, state.reads), (commits + 1, reads + 1));
}

#[test]
fn a_clock_that_jumps_back_holds_up_no_change() {
    let mut rig = web();
    let late = Duration::from_secs(1_000_000);
    rig.clock.pass(late);
    rig.settle();
    for broken in [false, true] {
        let clock = Jumping(Cell::new(rig.clock.now()));
        rig.kernel.0.borrow_mut().broken = broken;
        turn(&mut rig, &clock, if broken { "two" } else { "one" });
        clock.0.set(clock.now() + PERIODS.min);
        // Fails if it is broken, and is to be tried again long after what the clock shows then.
        assert_eq!(rig.looped.run(&clock).unwrap().result.is_err(), broken);
        clock.0.set(Duration::from_secs(7));
        rig.kernel.0.borrow_mut().broken = false;
        turn(&mut rig, &clock, "three");
        turn(&mut rig, &clock, if broken { "five" } else { "four" });
        let soon = rig.looped.next().unwrap();
        assert!(soon <= clock.now() + PERIODS.min, "not before {soon:?}");
        clock.0.set(soon);
        assert!(rig.looped.run(&clock).unwrap().result.is_ok());
        assert!(rig.looped.oldest_change().is_none());
    }
    let names: Vec<String> = rig
        .looped
        .wanted()
        .unwrap()
        .service_ports
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(names.len(), 2, "one address has one owner: {names:?}");
    assert!(rig.looped.family().reconciler.is_settled());
}
