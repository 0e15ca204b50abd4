//! Each call to the kernel fails once, in each way, in the midst of each kind of change: what was done
//! until then is a sane state, and a good round makes the rest.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use backend_ipvs::error::Errno;
use backend_ipvs::fake::{FakeKernel, Fault};
use backend_ipvs::{Kernel, Renderer, Settings};
use common::render_with;
use common::steps::{check_steps, same};
use svc_core::testing::{Aims, Scenario};
use svc_core::{Action, Flow, FrontendAddress, IpFamily, Plan, Planner, Reconciler};

#[test]
fn replacing_endpoints() {
    check(
        "service web type=NodePort ip=10.96.0.1 port=80@30080
         slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2",
        "service web type=NodePort ip=10.96.0.1 port=80@30080
         slice web-1 web port=8080 10.64.1.2@n1 10.64.2.2@n2",
    );
}

#[test]
fn the_first_service_and_the_last() {
    let web = "service web ip=10.96.0.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1";
    check("", web);
    check(web, "");
}

#[test]
fn the_first_endpoint_and_the_last() {
    let with = "service web ip=10.96.0.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1";
    let without = "service web ip=10.96.0.1 port=80
         slice web-1 web port=8080";
    check(without, with);
    check(with, without);
}

#[test]
fn moving_to_another_address() {
    check(
        "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1
         slice web-1 web port=8080 10.64.1.1@n1",
        "service web type=LoadBalancer ip=10.96.0.2 port=81@30081 vip=192.0.2.2
         slice web-1 web port=8080 10.64.1.1@n1",
    );
}

#[test]
fn policies_and_affinity() {
    let cluster = "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1
         slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2";
    let local = cluster.replace("vip=", "etp=Local affinity=600 vip=");
    let remote = local.replace("10.64.1.1@n1 ", "");
    check(cluster, &local);
    check(&local, cluster);
    check(&local, &remote);
    check(&remote, &local);
}

#[test]
fn source_ranges() {
    let open = "service web type=LoadBalancer ip=10.96.0.1 port=80 vip=192.0.2.1
         slice web-1 web port=8080 10.64.1.1@n1";
    let narrow = open.replace("vip=", "range=203.0.113.0/24 vip=");
    check(open, &narrow);
    check(&narrow, open);
}

/// Pods and the node find their endpoints all the while, first by the address and then by a mark.
#[test]
fn a_local_policy_where_no_endpoint_is() {
    let cluster = "service web type=LoadBalancer ip=10.96.0.1 port=80@30080 vip=192.0.2.1
         slice web-1 web port=8080 10.64.2.1@n2 10.64.2.2@n2";
    let local = cluster.replace("vip=", "etp=Local vip=");
    check(cluster, &local);
    check(&local, cluster);
}

/// A front end that goes, or comes, is at no time with endpoints that its Service did not have while
/// it had the front end: all front ends share the virtual server that goes by the mark.
#[test]
fn a_front_end_less_and_other_endpoints() {
    let two =
        "service web type=LoadBalancer etp=Local ip=10.96.0.1 port=80 vip=192.0.2.1 vip=192.0.2.2
         slice web-1 web port=8080 10.64.2.1@n2";
    let one = two
        .replace(" vip=192.0.2.2", "")
        .replace("10.64.2.1", "10.64.2.2");
    check(two, &one);
    check(&one, two);
}

/// An address goes from one Service to another, with marks of their own.
#[test]
fn handing_over_an_address() {
    let services = |first, second, endpoints: [&str; 2]| {
        let [a, b] = endpoints;
        format!(
            "service a type=LoadBalancer etp=Local ip=10.96.0.1 port=80 vip={first}
             slice a-1 a port=8080 {a}
             service b type=LoadBalancer etp=Local ip=10.96.0.2 port=80 vip={second}
             slice b-1 b port=8080 {b}"
        )
    };
    let before = services("192.0.2.1", "192.0.2.2", ["10.64.2.1@n2", "10.64.2.2@n2"]);
    let swapped = services("192.0.2.2", "192.0.2.1", ["10.64.2.3@n2", "10.64.2.4@n2"]);
    check(&before, &swapped);
    // The new owner gets its mark with the address, or has none.
    let cluster = |text: &str| text.replacen("etp=Local ", "", 1);
    check_undisturbed(&cluster(&before), &swapped);
    check_undisturbed(&before, &cluster(&swapped));
}

struct Node {
    planner: Planner,
    reconciler: Reconciler<Renderer>,
    kernel: Kernel<FakeKernel>,
}

fn check(before: &str, after: &str) {
    let faults = [
        Fault::Break { applied: 0 },
        Fault::Break { applied: 1 },
        Fault::Break { applied: 2 },
        refuse(0, Errno::ENOMEM),
        refuse(1, Errno::ENOBUFS),
        // Somebody else was quicker, and left the virtual server alone.
        refuse(0, Errno::ENOENT),
        refuse(0, Errno::EEXIST),
        // The virtual server is gone.
        refuse(1, Errno::ESRCH),
    ];
    let (before, after) = (scenario(before), scenario(after));
    for fault in faults {
        let mut calls = 0;
        while fails_at(&before, &after, calls, fault) {
            calls += 1;
        }
        assert!(calls >= 1, "no call failed");
    }
}

fn check_undisturbed(before: &str, after: &str) {
    let never = Fault::Break { applied: 0 };
    assert!(!fails_at(
        &scenario(before),
        &scenario(after),
        u32::MAX,
        never
    ));
}

/// Lets that call of the change fail; `false` if there are not so many.
fn fails_at(before: &Scenario, after: &Scenario, call: u32, fault: Fault) -> bool {
    let what = format!("{fault:?} of call {call}");
    let mut node = Node::of(before);
    let shown = node.reconciler.wanted().unwrap();
    for event in before.changes_to(after) {
        node.planner.handle(event);
    }
    for delta in node.planner.delta() {
        node.reconciler.change(&delta);
    }
    node.kernel.system().record = Some(Vec::new());
    node.kernel.system().fail(call, fault);
    let Action::Commit(transaction) = node.reconciler.poll() else {
        panic!("nothing to do");
    };
    let wanted = node.reconciler.wanted().unwrap();
    match node.kernel.commit(&transaction) {
        Ok(()) => node.reconciler.on_committed(),
        Err(failed) => node.reconciler.on_failed(failed.failure),
    }
    let failed = !node.kernel.system().is_failing();
    node.kernel.system().heal();
    let steps = node.kernel.system().record.take().unwrap();
    let aims = Aims::of(&wanted);
    let some = aims.every_flow().step_by(41);
    let flows = some.chain([&shown, &wanted].into_iter().flat_map(to_frontends));
    // Where somebody else removes a virtual server, packets notice.
    if !matches!(
        fault,
        Fault::Refuse {
            errno: Errno::ESRCH,
            ..
        }
    ) {
        let sane = check_steps(&shown, &wanted, &steps, flows);
        sane.unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    node.settle(&what);
    failed
}

/// From a pod, the node and a client outside to each front end.
fn to_frontends(plan: &Plan) -> Vec<Flow> {
    let node = plan.node.addresses[0];
    let sources = [
        ("10.64.9.9".parse().unwrap(), Some("eth0".into())),
        ("203.0.113.9".parse().unwrap(), Some("eth0".into())),
        (node, None),
    ];
    let all = plan.service_ports.iter();
    let frontends =
        all.flat_map(|(name, plan)| plan.frontends.iter().map(|f| (name.protocol, f.at)));
    let flows = frontends.flat_map(|(protocol, at)| {
        sources.clone().map(|(source, interface)| Flow {
            source,
            destination: match at {
                FrontendAddress::Ip(at) => at,
                FrontendAddress::NodePort(port) => (node, port).into(),
            },
            protocol,
            interface,
        })
    });
    flows.collect()
}

fn refuse(index: usize, errno: Errno) -> Fault {
    Fault::Refuse { index, errno }
}

fn scenario(text: &str) -> Scenario {
    let head = "config mode=ipvs cluster-cidr=10.64.0.0/11
         node n1 198.18.0.10
";
    format!("{head}{text}").parse().unwrap()
}

impl Node {
    fn of(scenario: &Scenario) -> Self {
        let settings = Settings::default();
        let family = IpFamily::V4;
        let mut node = Self {
            planner: scenario.planner(),
            reconciler: Reconciler::new(Renderer::new(settings.clone(), family), family),
            kernel: Kernel::over(FakeKernel::default(), &settings, family),
        };
        for delta in node.planner.delta() {
            node.reconciler.change(&delta);
        }
        node.settle("at first");
        node
    }

    /// Good rounds make the kernel show the plan.
    fn settle(&mut self, what: &str) {
        let settled = self.reconciler.settle(&mut self.kernel, 10);
        settled.unwrap_or_else(|error| panic!("{what}: {error}"));
        let wanted = self.reconciler.wanted().unwrap();
        let expected = render_with(&mut self.reconciler.render().clone(), &wanted);
        let held = self.kernel.read().unwrap();
        same(&held, &expected).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
}
