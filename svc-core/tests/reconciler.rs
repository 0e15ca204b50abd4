//! The reconciler, case by case; `laws.rs` tries it on histories.
#![allow(clippy::panic, clippy::unwrap_used)]

use svc_core::testing::{FakeKernel, Fault, Scenario, Toy, ToyKey};
use svc_core::{Action, Failure, FrontendAddress, IpFamily::V4, Plan, Protocol, Reconciler};

struct Node {
    plan: Plan,
    reconciler: Reconciler<Toy>,
    kernel: FakeKernel<Toy>,
}

fn plan(text: &str) -> Plan {
    let text = format!("node n1 198.18.0.10\n{text}");
    text.parse::<Scenario>().unwrap().plan(V4)
}

impl Node {
    /// A node whose kernel shows a plan.
    fn settled(text: &str) -> Self {
        let mut node = Self {
            plan: plan(""),
            reconciler: Reconciler::new(Toy::default(), V4),
            kernel: FakeKernel::default(),
        };
        let mut first = plan("").diff(&plan(text));
        first.node = Some(node.plan.node.clone());
        node.plan.apply(&first);
        node.reconciler.change(&first);
        node.settle();
        node
    }

    fn change(&mut self, text: &str) {
        let wanted = plan(text);
        self.reconciler.change(&self.plan.diff(&wanted));
        self.plan = wanted;
    }

    /// One action, and what it was.
    fn step(&mut self, fault: &Fault) -> &'static str {
        match self.reconciler.poll() {
            Action::Idle => "idle",
            Action::Read => {
                self.reconciler.on_read(self.kernel.held.clone());
                "read"
            }
            Action::Commit(transaction) => {
                match self.kernel.commit(&transaction, fault) {
                    Ok(()) => self.reconciler.on_committed(),
                    Err(failure) => self.reconciler.on_failed(failure),
                }
                "commit"
            }
        }
    }

    fn settle(&mut self) -> Vec<&'static str> {
        let mut steps = Vec::new();
        for _ in 0..10 {
            match self.step(&Fault::None) {
                "idle" => return steps,
                step => steps.push(step),
            }
        }
        panic!("does not settle: {steps:?}");
    }

    fn serves(&self, ip: [u8; 4]) -> bool {
        let at = FrontendAddress::Ip((ip, 80).into());
        self.kernel
            .held
            .contains_key(&ToyKey::Frontend(Protocol::Tcp, at))
    }
}

const A: &str = "service a ip=10.96.0.1 port=80\n slice a-1 a port=80 10.64.1.1\n";
const B: &str = "service b ip=10.96.0.2 port=80\n slice b-1 b port=80 10.64.1.1\n";

fn both() -> String {
    format!("{A}{B}")
}

#[test]
fn b239_changes_during_a_commit_are_not_lost() {
    let mut node = Node::settled(A);
    node.change(&both());
    let Action::Commit(transaction) = node.reconciler.poll() else {
        panic!()
    };
    node.change(B);
    node.kernel.commit(&transaction, &Fault::None).unwrap();
    node.reconciler.on_committed();
    assert_eq!(node.settle(), ["commit"]);
    assert!(!node.serves([10, 96, 0, 1]) && node.serves([10, 96, 0, 2]));
}

#[test]
fn b243_after_an_unknown_failure_the_kernel_is_read() {
    for applied in [0, 1, usize::MAX] {
        let mut node = Node::settled(A);
        node.change(&both());
        assert_eq!(node.step(&Fault::BrokenAfter(applied)), "commit");
        let steps = node.settle();
        assert_eq!(steps[0], "read");
        assert!(node.serves([10, 96, 0, 1]) && node.serves([10, 96, 0, 2]));
    }
}

#[test]
fn b248_when_nothing_changed_nothing_is_done() {
    let mut node = Node::settled(&both());
    node.change(&both());
    assert_eq!(node.settle(), [""; 0]);
    // There and back again.
    node.change(A);
    node.change(&both());
    assert_eq!(node.settle(), [""; 0]);
    assert!(node.reconciler.is_settled());
}

#[test]
fn b249_all_changes_are_one_transaction() {
    let mut node = Node::settled("");
    node.change(&both());
    let Action::Commit(transaction) = node.reconciler.poll() else {
        panic!()
    };
    let names: Vec<String> = transaction
        .groups
        .iter()
        .flat_map(|g| &g.name)
        .map(ToString::to_string)
        .collect();
    assert_eq!(names, ["default/a", "default/b"]);
}

#[test]
fn b250_a_busy_kernel_is_tried_again_with_the_same() {
    let mut node = Node::settled(A);
    node.change(&both());
    assert_eq!(node.step(&Fault::Busy), "commit");
    assert!(!node.serves([10, 96, 0, 2]));
    // No need to read: nothing was applied.
    assert_eq!(node.settle(), ["commit"]);
    assert!(node.serves([10, 96, 0, 2]));
}

#[test]
fn b252_only_differences_are_written() {
    let mut node = Node::settled(A);
    node.change(&A.replace("10.64.1.1", "10.64.1.2"));
    let Action::Commit(transaction) = node.reconciler.poll() else {
        panic!()
    };
    let keys: Vec<_> = transaction.edits().map(|edit| edit.key.clone()).collect();
    let endpoint = |last| ToyKey::Endpoint([10, 64, 1, last].into());
    assert_eq!(keys, [ToyKey::Pool(0), endpoint(1), endpoint(2)]);
}

#[test]
fn b254_a_restart_over_a_right_kernel_writes_nothing() {
    let old = Node::settled(&both());
    let mut node = Node::settled("");
    node.kernel = old.kernel;
    node.reconciler = Reconciler::new(Toy::default(), V4);
    let mut first = plan("").diff(&old.plan);
    first.node = Some(old.plan.node.clone());
    node.reconciler.change(&first);
    assert_eq!(node.settle(), ["read"]);
}

#[test]
fn b261_what_somebody_else_did_is_found_and_undone() {
    let mut node = Node::settled(&both());
    let right = node.kernel.held.clone();
    node.kernel.held.clear();
    assert_eq!(node.settle(), [""; 0]);
    node.reconciler.verify();
    assert_eq!(node.settle(), ["read", "commit"]);
    assert_eq!(node.kernel.held, right);
}

#[test]
fn what_the_kernel_refuses_is_set_aside_until_it_changes() {
    let mut node = Node::settled("");
    node.change(&both());
    let name = node.plan.service_ports.keys().next().unwrap().clone();
    assert_eq!(node.step(&Fault::RefusedWhole(name.clone())), "commit");
    node.settle();
    assert!(!node.serves([10, 96, 0, 1]) && node.serves([10, 96, 0, 2]));
    assert!(node.reconciler.quarantine().contains_key(&name));
    assert!(
        !node
            .reconciler
            .wanted()
            .unwrap()
            .service_ports
            .contains_key(&name)
    );
    node.change(&both().replace("10.96.0.1", "10.96.0.3"));
    assert!(node.reconciler.quarantine().is_empty());
    assert_eq!(node.settle(), ["commit"]);
    assert!(node.serves([10, 96, 0, 3]));
}

#[test]
fn what_was_set_aside_is_tried_again_when_released() {
    let mut node = Node::settled("");
    node.change(&both());
    let name = node.plan.service_ports.keys().next().unwrap().clone();
    node.step(&Fault::RefusedWhole(name.clone()));
    node.settle();
    assert!(!node.serves([10, 96, 0, 1]) && node.reconciler.is_settled());
    node.reconciler.release();
    assert!(node.reconciler.quarantine().is_empty() && !node.reconciler.is_settled());
    assert_eq!(node.settle(), ["read", "commit"]);
    assert!(node.serves([10, 96, 0, 1]) && node.serves([10, 96, 0, 2]));
    // Nothing is set aside, so there is nothing to do.
    node.reconciler.release();
    assert_eq!(node.settle(), [""; 0]);
}

#[test]
fn a_plan_that_came_during_the_refusal_is_tried() {
    let mut node = Node::settled("");
    node.change(A);
    let Action::Commit(_) = node.reconciler.poll() else {
        panic!()
    };
    let name = node.plan.service_ports.keys().next().unwrap().clone();
    node.change(&A.replace("10.96.0.1", "10.96.0.3"));
    node.reconciler
        .on_failed(Failure::Refused(vec![(name, "no".into())]));
    assert!(node.reconciler.quarantine().is_empty());
    node.settle();
    assert!(node.serves([10, 96, 0, 3]));
}

#[test]
fn a_front_end_that_passes_to_a_service_of_a_smaller_name_stays() {
    // The owner goes; its heir sorts before it.
    let heir = "service a created=2 ip=10.96.0.1 port=80 external=192.0.2.1\n";
    let owner = "service b created=1 ip=10.96.0.2 port=80 external=192.0.2.1\n";
    let mut node = Node::settled(&format!("{heir}{owner}"));
    node.change(heir);
    assert_eq!(node.settle(), ["commit"]);
    assert!(node.serves([192, 0, 2, 1]));
    assert!(!node.serves([10, 96, 0, 2]));
}

#[test]
fn a_shared_object_stays_while_anybody_needs_it() {
    let shared = ToyKey::Endpoint([10, 64, 1, 1].into());
    let mut node = Node::settled(&both());
    node.change(B);
    node.settle();
    assert!(node.kernel.held.contains_key(&shared));
    // It passes from one to another in one transaction, without a gap.
    node.change(A);
    let Action::Commit(transaction) = node.reconciler.poll() else {
        panic!()
    };
    assert!(transaction.edits().all(|edit| edit.key != shared));
    node.settle();
    node.change("");
    node.settle();
    assert!(!node.kernel.held.contains_key(&shared));
}
