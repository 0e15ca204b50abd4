//! What a change asks of the kernel: as much at a thousand Services as at ten.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write;

use backend_ipvs::fake::FakeKernel;
use backend_ipvs::{Counted, HeldId, Kernel, Renderer, Settings};
use expect_test::{Expect, expect};
use svc_core::testing::Scenario;
use svc_core::{IpFamily, Planner, Protocol, Reconciler};

/// Services, of which the first one is `first`.
fn cluster(services: u32, first: &str) -> Scenario {
    let mut text = String::from(
        "config mode=ipvs cluster-cidr=10.64.0.0/11
         node n1 198.18.0.10\n",
    );
    text.push_str(first);
    for number in 1..services {
        let (high, low) = (number / 250, number % 250 + 1);
        writeln!(text, "service s{number} ip=10.96.{high}.{low} port=80").unwrap();
        let pods = format!("10.65.{high}.{low}@n1 10.66.{high}.{low}@n2");
        writeln!(text, "slice s{number}-1 s{number} port=8080 {pods}").unwrap();
    }
    text.parse().unwrap()
}

struct Node {
    planner: Planner,
    reconciler: Reconciler<Renderer>,
    kernel: Kernel<FakeKernel>,
}

impl Node {
    fn of(scenario: &Scenario) -> Self {
        let settings = Settings::default();
        let mut node = Self {
            planner: scenario.planner(),
            reconciler: Reconciler::new(
                Renderer::new(settings.clone(), IpFamily::V4),
                IpFamily::V4,
            ),
            kernel: Kernel::over(FakeKernel::default(), &settings, IpFamily::V4),
        };
        node.sync();
        node
    }

    /// The requests that make the kernel show the plan.
    fn sync(&mut self) -> Vec<String> {
        for delta in self.planner.delta() {
            self.reconciler.change(&delta);
        }
        self.kernel.system().requests.clear();
        self.reconciler.settle(&mut self.kernel, 4).unwrap();
        assert!(self.reconciler.quarantine().is_empty());
        std::mem::take(&mut self.kernel.system().requests)
    }
}

/// The requests of a change from one first Service to another, in a large cluster and a small one.
fn check(before: &str, after: &str, expected: &Expect) {
    let requests = [10, 1000].map(|services| {
        let (before, after) = (cluster(services, before), cluster(services, after));
        let mut node = Node::of(&before);
        for event in before.changes_to(&after) {
            node.planner.handle(event);
        }
        node.sync().join("\n")
    });
    assert_eq!(requests[0], requests[1]);
    let short = requests[0]
        .replace("Destination { weight: ", "w")
        .replace(", method: Masquerade }", "");
    expected.assert_eq(&short);
}

#[test]
fn one_endpoint_costs_six_exchanges() {
    check(
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2\n",
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.2@n1 10.64.2.1@n2\n",
        &expect![[r#"
            table, 1 objects
            NewDestination(At(Tcp, 10.96.9.1:80), 10.64.1.2:8080, w1)
            SetDestination(At(Tcp, 10.96.9.1:80), 10.64.1.1:8080, w0)
            list At(Tcp, 10.96.9.1:80)
            DeleteDestination(At(Tcp, 10.96.9.1:80), 10.64.1.1:8080)
            table, 1 objects"#]],
    );
}

#[test]
fn an_endpoint_of_udp_goes_at_once() {
    check(
        "service dns ip=10.96.9.1 port=53/UDP
         slice dns-1 dns port=53/UDP 10.64.2.1@n2 10.64.2.2@n2\n",
        "service dns ip=10.96.9.1 port=53/UDP
         slice dns-1 dns port=53/UDP 10.64.2.1@n2\n",
        &expect!["DeleteDestination(At(Udp, 10.96.9.1:53), 10.64.2.2:53)"],
    );
}

#[test]
fn a_service_comes() {
    check(
        "",
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1\n",
        &expect![[r#"
            table, 4 objects
            NewServer(At(Tcp, 10.96.9.1:80), Server { scheduler: "rr", flags: 0, persistence: None })
            NewDestination(At(Tcp, 10.96.9.1:80), 10.64.1.1:8080, w1)
            10.96.9.1 Present"#]],
    );
}

#[test]
fn a_service_goes() {
    check(
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1\n",
        "",
        &expect![[r#"
            DeleteServer(At(Tcp, 10.96.9.1:80))
            10.96.9.1 Absent
            table, 4 objects"#]],
    );
}

#[test]
fn the_last_endpoint_goes() {
    check(
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1\n",
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080\n",
        &expect![[r#"
            table, 2 objects
            SetDestination(At(Tcp, 10.96.9.1:80), 10.64.1.1:8080, w0)
            list At(Tcp, 10.96.9.1:80)
            DeleteDestination(At(Tcp, 10.96.9.1:80), 10.64.1.1:8080)
            table, 2 objects"#]],
    );
}

#[test]
fn a_busy_destination_waits_for_its_connections() {
    let before = cluster(
        3,
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.1.1@n1 10.64.2.1@n2\n",
    );
    let after = cluster(
        3,
        "service web ip=10.96.9.1 port=80
         slice web-1 web port=8080 10.64.2.1@n2\n",
    );
    let mut node = Node::of(&before);
    let at = "10.96.9.1:80".parse().unwrap();
    let id = HeldId::At(Protocol::Tcp, at);
    let busy = "10.64.1.1:8080".parse().unwrap();
    let counted = |node: &mut Node| -> Option<Counted> {
        let server = &node.kernel.system().servers[&id];
        server.destinations.get(&busy).copied()
    };
    let set = |node: &mut Node, connections| {
        let server = node.kernel.system().servers.get_mut(&id).unwrap();
        server.destinations.get_mut(&busy).unwrap().connections = connections;
    };
    set(&mut node, 2);
    for event in before.changes_to(&after) {
        node.planner.handle(event);
    }
    node.sync();
    assert_eq!(counted(&mut node).unwrap().value.weight, 0);
    assert_eq!(node.kernel.draining(), 1);
    let minute = std::time::Duration::from_secs(60);
    assert_eq!(node.kernel.timeout(), Some(minute));
    node.kernel.advance(minute).unwrap();
    assert!(counted(&mut node).is_some());
    // A look at the kernel does not take it for a difference.
    node.reconciler.verify();
    let requests = node.sync();
    assert!(
        requests.iter().all(|request| request.starts_with("list")),
        "{requests:?}"
    );
    set(&mut node, 0);
    node.kernel.advance(2 * minute).unwrap();
    assert_eq!(counted(&mut node), None);
    assert_eq!(node.kernel.timeout(), None);
}
