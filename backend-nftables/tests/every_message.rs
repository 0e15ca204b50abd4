//! Each message of each kind of change is refused once, with each errno, and each answer is lost once:
//! the kernel holds the old ruleset or the new one, and good rounds make it show the plan.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;

use backend_nftables::error::{CommitError, Errno};
use backend_nftables::fake::{FakeKernel, Fault};
use backend_nftables::{Key, Renderer, Value, failure};
use common::scenarios::{EVERYTHING, scenario};
use common::{TABLE, render_with};
use svc_core::testing::Scenario;
use svc_core::{Action, IpFamily, Plan, Planner, Reconciler, Ruleset, Transaction};

/// Shortages, lost privileges and changes of others: the change is tried again.
const PASSING: [Errno; 8] = [
    Errno::EPERM,
    Errno::ENOENT,
    Errno::EINTR,
    Errno::EAGAIN,
    Errno::ENOMEM,
    Errno::EBUSY,
    Errno::EEXIST,
    Errno::ENOBUFS,
];

/// What says that an object is impossible: its Service is set aside until it changes.
const OF_OBJECTS: [Errno; 6] = [
    Errno::EINVAL,
    Errno::ENFILE,
    Errno::EMFILE,
    Errno::ENOSPC,
    Errno::EOPNOTSUPP,
    Errno::EOVERFLOW,
];

#[derive(Clone)]
struct Node {
    planner: Planner,
    reconciler: Reconciler<Renderer>,
    kernel: FakeKernel,
}

#[test]
fn a_first_load() {
    check("", EVERYTHING);
}

#[test]
fn everything_goes() {
    check(EVERYTHING, "");
}

#[test]
fn endpoints_are_replaced() {
    check(EVERYTHING, &EVERYTHING.replace("10.64.2.", "10.64.3."));
}

#[test]
fn policies_affinity_and_source_ranges_change() {
    let changed = EVERYTHING
        .replace(" etp=Local", "")
        .replace(" affinity=600", "")
        .replace(" range=203.0.113.0/25", " range=203.0.113.128/25");
    check(EVERYTHING, &changed);
    check(&changed, EVERYTHING);
}

#[test]
fn services_move_to_other_addresses_and_ports() {
    let changed = EVERYTHING
        .replace("ip=10.96.0.", "ip=10.96.1.")
        .replace("@3008", "@3018");
    check(EVERYTHING, &changed);
}

fn check(before: &str, after: &str) {
    let head = "config mode=nftables cluster-cidr=10.64.0.0/11\nnode n1 198.18.0.10\n";
    let of = |text: &str| match text {
        "" => scenario(head),
        text => scenario(text),
    };
    let (before, after) = (of(before), of(after));
    let (changed, transaction) = Node::of(&before).changing(&before, &after);
    let messages = messages(&changed, &transaction);
    assert!(messages >= 5, "only {messages} messages");
    for errno in PASSING.into_iter().chain(OF_OBJECTS) {
        let mut message = 0;
        // Later ones of each kind of errno; each would be minutes.
        let all = [Errno::ENOMEM, Errno::EINVAL].contains(&errno);
        while message < messages && (all || message < EACH) {
            fails(&changed, &transaction, Fault::Refuse(message, errno));
            message += step(message);
        }
        fails(&changed, &transaction, Fault::Io(errno));
    }
    for fault in [Fault::LostApplied, Fault::LostUnapplied, Fault::TooLarge] {
        fails(&changed, &transaction, fault);
    }
}

/// Every message of a short change, and with a long one every seventh.
fn step(message: usize) -> usize {
    match message {
        0..EACH => 1,
        _ => 7,
    }
}

/// Messages of a change that are refused with each errno.
const EACH: usize = 12;

/// Lets the first batch of a change fail.
fn fails(changed: &Node, transaction: &Arc<Transaction<Key, Value>>, fault: Fault) {
    let mut node = changed.clone();
    let old = node.kernel.ruleset();
    // Twice: a large batch that is refused is sent again, to learn who is to blame.
    node.kernel.fail([fault; 2]);
    match node.kernel.commit(transaction) {
        // In smaller batches it was not too large.
        Ok(()) if fault == Fault::TooLarge => node.reconciler.on_committed(),
        Ok(()) => panic!("{fault:?} is no fault"),
        Err(error) => {
            let changed = node.kernel.ruleset() != old;
            assert!(
                !changed || fault == Fault::LostApplied,
                "{fault:?} changed something"
            );
            node.reconciler.on_failed(failure(&error, transaction));
        }
    }
    node.kernel.heal();
    node.settle(&format!("{fault:?}"));
    let set_aside = node.reconciler.quarantine().len();
    if let Fault::Refuse(_, errno) = fault
        && OF_OBJECTS.contains(&errno)
    {
        assert!(set_aside <= 1, "{fault:?} blames {set_aside}");
        node.tell_again();
        node.settle(&format!("{fault:?}, and told again"));
    } else {
        assert_eq!(set_aside, 0, "{fault:?} is nobody's");
    }
    assert!(node.reconciler.quarantine().is_empty(), "{fault:?}");
}

/// Messages of the first batch of a transaction, as the kernel that refuses each would count them.
fn messages(node: &Node, transaction: &Arc<Transaction<Key, Value>>) -> usize {
    let mut kernel = node.kernel.clone();
    let mut seen = std::collections::BTreeSet::new();
    // The number of the message that is refused, until it is one that was there before.
    for message in 0.. {
        kernel.fail([Fault::Refuse(message, Errno::EXDEV); 2]);
        let index = match kernel.clone().commit(transaction) {
            Err(CommitError::Refused(refusals)) => refusals.first().map(|refusal| refusal.index),
            other => panic!("{other:?}"),
        };
        kernel.heal();
        if !seen.insert(index) {
            break;
        }
    }
    seen.len()
}

impl Node {
    /// The node in the midst of a change, and the transaction that is to be committed.
    fn changing(
        mut self,
        before: &Scenario,
        after: &Scenario,
    ) -> (Self, Arc<Transaction<Key, Value>>) {
        for event in before.changes_to(after) {
            self.planner.handle(event);
        }
        self.planner.configure(after.config.clone());
        for delta in self.planner.delta() {
            self.reconciler.change(&delta);
        }
        match self.reconciler.poll() {
            Action::Commit(transaction) => (self, transaction),
            Action::Idle | Action::Read => panic!("nothing to commit"),
        }
    }

    fn of(scenario: &Scenario) -> Self {
        let family = IpFamily::V4;
        let mut node = Self {
            planner: scenario.planner(),
            reconciler: Reconciler::new(Renderer::new(TABLE, family), family),
            kernel: FakeKernel::new(TABLE, family),
        };
        for delta in node.planner.delta() {
            node.reconciler.change(&delta);
        }
        node.settle("at first");
        node
    }

    /// Every Service changes, as far as the reconciler can tell.
    fn tell_again(&mut self) {
        let plan = self.planner.plan(IpFamily::V4);
        let nothing = Plan::empty(IpFamily::V4, plan.node.clone());
        self.reconciler.change(&nothing.diff(&plan));
    }

    /// Good rounds make the kernel show the plan, but for what is set aside.
    fn settle(&mut self, what: &str) {
        for _ in 0..40 {
            match self.reconciler.poll() {
                Action::Idle => break,
                Action::Read => drop(self.reconciler.on_read(self.kernel.read().unwrap())),
                Action::Commit(transaction) => match self.kernel.commit(&transaction) {
                    Ok(()) => self.reconciler.on_committed(),
                    Err(error) => panic!("{what}: {error}"),
                },
            }
        }
        assert!(self.reconciler.is_settled(), "{what}");
        let wanted = self.reconciler.wanted().unwrap();
        let expected = render_with(&mut self.reconciler.render().clone(), &wanted);
        let held: Ruleset<Key, Value> = self.kernel.ruleset();
        let missing: Vec<&Key> = expected
            .keys()
            .filter(|key| held.get(key) != expected.get(key))
            .collect();
        assert!(missing.is_empty(), "{what}: {missing:?}");
    }
}
