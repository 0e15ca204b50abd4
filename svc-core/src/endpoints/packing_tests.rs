//! The rules of slices that exist already.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use expect_test::expect;

use super::fixture::{container_port, nodes, pod, port, service, text};
use super::*;
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{
    Conditions, EndpointPort, EndpointSlice, Pod, Service, SliceEndpoint, TargetPort,
};

/// A controller, and the slices as its writes left them.
struct Bench {
    controller: SliceController,
    slices: BTreeMap<NamespacedName, EndpointSlice>,
}

impl Bench {
    fn new(max_endpoints: u16) -> Self {
        let config = SliceConfig {
            max_endpoints,
            ..SliceConfig::default()
        };
        Self {
            controller: SliceController::new(config, Topology::of(&nodes())),
            slices: BTreeMap::new(),
        }
    }

    /// A Service `web`, with this many Pods.
    fn web(max_endpoints: u16, pods: u16) -> Self {
        let mut bench = Self::new(max_endpoints);
        bench.controller.apply_service(service("web"));
        (0..pods).for_each(|i| bench.controller.apply_pod(pod("web", i)));
        bench.reconcile();
        bench
    }

    /// The writes, one a line: `web-ipv4-00000=<endpoints>` or `-web-ipv4-00000`.
    fn reconcile(&mut self) -> String {
        let (changes, diagnostics) = self.controller.reconcile();
        assert!(diagnostics.is_empty(), "{diagnostics:?}");
        let mut text = String::new();
        for change in changes {
            text += &match change {
                SliceChange::Apply(slice) => {
                    let line = format!("{}={}\n", slice.name.name, slice.endpoints.len());
                    self.slices.insert(slice.name.clone(), slice);
                    line
                }
                SliceChange::Delete(name) => {
                    assert!(self.slices.remove(&name).is_some(), "{name} does not exist");
                    format!("-{}\n", name.name)
                }
            };
        }
        text
    }

    fn lengths(&self) -> Vec<usize> {
        self.slices.values().map(|s| s.endpoints.len()).collect()
    }

    fn delete_pods(&mut self, pods: impl IntoIterator<Item = u16>) {
        for i in pods {
            self.controller.delete_pod(&pod("web", i).name);
        }
    }
}

fn slice(name: &str, managed_by: &str, pods: impl IntoIterator<Item = u16>) -> EndpointSlice {
    let pods: Vec<Pod> = pods.into_iter().map(|i| pod("web", i)).collect();
    let (mut made, _) = slices(&service("web"), &pods, &Topology::of(&nodes()));
    let mut slice = made.remove(0);
    slice.name.name = name.into();
    slice.managed_by = Some(managed_by.into());
    slice
}

#[test]
fn b399_the_last_slice_becomes_the_placeholder() {
    let mut bench = Bench::web(2, 3);
    assert_eq!(bench.lengths(), [2, 1]);
    bench.delete_pods(0..3);
    expect![[r#"
        web-ipv4-00000=0
        -web-ipv4-00001
    "#]]
    .assert_eq(&bench.reconcile());
    expect![[r#"
        web-ipv4-00000 IPv4
    "#]]
    .assert_eq(&text(bench.slices.values()));
    // And is filled again under the same name.
    bench.controller.apply_pod(pod("web", 7));
    expect![[r#"
        web-ipv4-00000=1
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b416_a_refreshed_endpoint_stays_in_its_slice() {
    let mut bench = Bench::web(2, 6);
    let mut unready = pod("web", 2);
    unready.ready = false;
    bench.controller.apply_pod(unready);
    expect![[r#"
        web-ipv4-00001=2
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b416_slices_that_change_anyway_are_filled_first() {
    let mut bench = Bench::web(4, 12);
    bench.delete_pods([1, 4, 5]);
    (20..23).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    expect![[r#"
        web-ipv4-00000=4
        web-ipv4-00001=4
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b416_then_the_one_slice_that_is_fullest_afterwards() {
    let mut bench = Bench::web(4, 12);
    // Slices of 1, 2 and 3.
    bench.delete_pods([0, 1, 2, 4, 5, 8]);
    bench.reconcile();
    assert_eq!(bench.lengths(), [1, 2, 3]);
    (20..22).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    expect![[r#"
        web-ipv4-00001=4
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b416_else_a_new_slice_and_never_a_rewrite_to_pack_better() {
    let mut bench = Bench::web(4, 12);
    bench.delete_pods([0, 4, 8]);
    bench.reconcile();
    assert_eq!(bench.lengths(), [3, 3, 3]);
    (20..22).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    expect![[r#"
        web-ipv4-00003=2
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b417_an_emptied_slice_is_used_for_other_ports() {
    let mut bench = Bench::new(4);
    let mut web = service("web");
    web.ports = [port("", 80, TargetPort::Name("http".into()))].into();
    bench.controller.apply_service(web);
    bench.controller.apply_pod(pod("web", 0));
    bench.reconcile();
    let mut moved = pod("web", 0);
    moved.ports = [container_port("http", 9090)].into();
    bench.controller.apply_pod(moved);
    expect![[r#"
        web-ipv4-00000=1
    "#]]
    .assert_eq(&bench.reconcile());
    expect![[r#"
        web-ipv4-00000 IPv4 :9090/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
    "#]]
    .assert_eq(&text(bench.slices.values()));
}

#[test]
fn b418_slices_of_a_family_that_is_gone_are_deleted() {
    let mut bench = Bench::web(4, 1);
    let mut web = service("web");
    web.ip_families = [IpFamily::V6].into();
    bench.controller.apply_service(web);
    expect![[r#"
        -web-ipv4-00000
        web-ipv6-00000=1
    "#]]
    .assert_eq(&bench.reconcile());
}

#[test]
fn b419_another_address_or_hostname_is_written() {
    let mut bench = Bench::web(4, 2);
    let mut changed = pod("web", 1);
    changed.ips[0] = [10, 65, 0, 1].into();
    bench.controller.apply_pod(changed.clone());
    assert_eq!(bench.reconcile(), "web-ipv4-00000=2\n");
    changed.hostname = Some("db".into());
    changed.subdomain = Some("web".into());
    bench.controller.apply_pod(changed.clone());
    assert_eq!(bench.reconcile(), "web-ipv4-00000=2\n");
    // What no endpoint shows is not.
    changed.host_network = true;
    bench.controller.apply_pod(changed);
    assert_eq!(bench.reconcile(), "");
}

#[test]
fn b420_labels_follow_the_service() {
    let mut bench = Bench::web(4, 1);
    let mut web = service("web");
    web.extra = Some(Default::default());
    let own = &mut web.extra.as_mut().unwrap().labels;
    own.insert("tier".into(), "front".into());
    own.insert(SERVICE_NAME_LABEL.into(), "stolen".into());
    bench.controller.apply_service(web.clone());
    assert_eq!(bench.reconcile(), "web-ipv4-00000=1\n");
    let copied: Vec<(Name, Name)> = [("tier".into(), "front".into())].into();
    let slice = bench.slices.values().next().unwrap();
    assert!(
        slice
            .labels
            .as_deref()
            .unwrap()
            .iter()
            .eq(copied.iter().map(|(k, v)| (k, v)))
    );
    // A reserved label of the Service changes nothing.
    let own = &mut web.extra.as_mut().unwrap().labels;
    own.insert(SERVICE_NAME_LABEL.into(), "again".into());
    bench.controller.apply_service(web);
    assert_eq!(bench.reconcile(), "");
}

#[test]
fn b422_slices_of_others_are_not_touched() {
    let mut bench = Bench::new(4);
    let theirs = slice("web-ipv4-00000", "somebody.example", [9]);
    bench.controller.apply_slice(theirs.clone());
    bench.controller.apply_service(service("web"));
    bench.controller.apply_pod(pod("web", 0));
    // Not even their names.
    assert_eq!(bench.reconcile(), "web-ipv4-00001=1\n");
    bench.controller.delete_service(&service("web").name);
    assert_eq!(bench.reconcile(), "-web-ipv4-00001\n");
    // A slice that changes hands is let go of.
    let mut bench = Bench::web(4, 1);
    let mut taken = bench.slices.values().next().unwrap().clone();
    taken.managed_by = theirs.managed_by;
    bench.controller.apply_slice(taken);
    assert_eq!(bench.reconcile(), "web-ipv4-00001=1\n");
}

#[test]
fn b423_a_service_being_deleted_gets_no_new_slices() {
    let mut bench = Bench::web(1, 1);
    let web = Service {
        terminating: true,
        ..service("web")
    };
    bench.controller.apply_service(web);
    bench.controller.apply_pod(pod("web", 1));
    assert_eq!(bench.reconcile(), "");
    // Those that exist are kept up to date.
    bench.delete_pods([0]);
    assert_eq!(bench.reconcile(), "web-ipv4-00000=0\n");
}

#[test]
fn existing_slices_are_adopted_and_put_right() {
    let mut bench = Bench::new(3);
    bench.controller.apply_service(service("web"));
    (0..6).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    let right = slice("a", CLUSTER_CONTROLLER, 0..3);
    // One gone, one that is in the other slice too, one that no Pod stands behind.
    let mut wrong = slice("b", CLUSTER_CONTROLLER, [3, 7, 2]);
    let stray = SliceEndpoint::new([192, 0, 2, 1].into(), Conditions::READY);
    wrong.endpoints = wrong.endpoints.iter().cloned().chain([stray]).collect();
    for slice in [right, wrong] {
        bench.slices.insert(slice.name.clone(), slice.clone());
        bench.controller.apply_slice(slice);
    }
    assert_eq!(bench.reconcile(), "b=3\n");
    // The same slices again say nothing new.
    for slice in bench.slices.clone().into_values() {
        bench.controller.apply_slice(slice);
    }
    assert_eq!(bench.reconcile(), "");
    // One that somebody deleted comes back.
    bench
        .controller
        .delete_slice(&NamespacedName::new("ns", "b"));
    bench.slices.remove(&NamespacedName::new("ns", "b"));
    assert_eq!(bench.reconcile(), "web-ipv4-00000=3\n");
}

#[test]
fn the_order_of_ports_in_a_slice_does_not_matter() {
    let mut bench = Bench::new(4);
    let mut web = service("web");
    web.ports = [
        port("a", 80, TargetPort::Number(1)),
        port("b", 81, TargetPort::Number(2)),
    ]
    .into();
    let (mut made, _) = slices(&web, &[pod("web", 0)], &Topology::of(&nodes()));
    let ports: Vec<EndpointPort> = made[0].ports.iter().rev().cloned().collect();
    made[0].ports = ports.into();
    bench.controller.apply_slice(made.remove(0));
    bench.controller.apply_service(web);
    bench.controller.apply_pod(pod("web", 0));
    assert_eq!(bench.reconcile(), "");
}

#[test]
fn b406_b407_nodes_come_change_and_go() {
    let mut bench = Bench::web(4, 4);
    let [node, ..] = nodes();
    bench.controller.delete_node(&node.name);
    let (changes, diagnostics) = bench.controller.reconcile();
    assert_eq!(
        (changes.len(), diagnostics.len()),
        (1, 2),
        "{diagnostics:?}"
    );
    let mut moved = node;
    moved.zone = Some("z9".into());
    bench.controller.apply_node(&moved);
    bench.reconcile();
    expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.1 web-00001 ready serving node=n1 zone=z1
          10.64.0.2 web-00002 ready serving node=n2 zone=z2
          10.64.0.0 web-00000 ready serving node=n0 zone=z9
          10.64.0.3 web-00003 ready serving node=n0 zone=z9
    "#]]
    .assert_eq(&text(bench.slices.values()));
}

#[test]
fn b407_the_first_node_makes_all_others_missing() {
    let mut controller = SliceController::new(SliceConfig::default(), Topology::unknown());
    controller.apply_service(service("web"));
    (0..3).for_each(|i| controller.apply_pod(pod("web", i)));
    let (changes, diagnostics) = controller.reconcile();
    assert_eq!((changes.len(), diagnostics.len()), (1, 0));
    let [first, others @ ..] = nodes();
    controller.apply_node(&first);
    let (changes, diagnostics) = controller.reconcile();
    let [SliceChange::Apply(slice)] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((slice.endpoints.len(), diagnostics.len()), (1, 2));
    others.iter().for_each(|node| controller.apply_node(node));
    let (changes, diagnostics) = controller.reconcile();
    let [SliceChange::Apply(slice)] = &changes[..] else {
        panic!("{changes:?}")
    };
    assert_eq!((slice.endpoints.len(), diagnostics.len()), (3, 0));
}

fn auto() -> Service {
    let mut web = service("web");
    web.extra = Some(Default::default());
    web.extra.as_mut().unwrap().topology_mode = Some("Auto".into());
    // Loses against the annotation.
    web.traffic_distribution = Some(crate::object::TrafficDistribution::PreferSameNode);
    web
}

/// How many endpoints are hinted to each zone.
fn hinted(slices: &BTreeMap<NamespacedName, EndpointSlice>) -> BTreeMap<Name, usize> {
    let mut zones = BTreeMap::new();
    for endpoint in slices.values().flat_map(|slice| &slice.endpoints) {
        assert!(endpoint.node_hints().is_empty());
        for zone in endpoint.zone_hints() {
            *zones.entry(zone.clone()).or_default() += 1;
        }
    }
    zones
}

#[track_caller]
fn check_hints(bench: &Bench, expected: &[(&str, usize)]) {
    let expected = expected.iter().map(|(zone, n)| ((*zone).into(), *n));
    assert_eq!(hinted(&bench.slices), expected.collect());
}

#[test]
fn b426_auto_hints_are_proportional_to_cpu() {
    let mut bench = Bench::new(100);
    bench.controller.apply_service(auto());
    (0..9).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    bench.reconcile();
    check_hints(&bench, &[("z0", 3), ("z1", 3), ("z2", 3)]);
    // Half of the CPU in one zone.
    let mut large = nodes()[0].clone();
    large.allocatable_cpu_milli = Some(2000);
    bench.controller.apply_node(&large);
    bench.reconcile();
    // Hints that overload nobody too much stay as they are.
    check_hints(&bench, &[("z0", 3), ("z1", 3), ("z2", 3)]);
    let mut larger = large;
    larger.allocatable_cpu_milli = Some(7000);
    bench.controller.apply_node(&larger);
    bench.reconcile();
    check_hints(&bench, &[("z0", 7), ("z1", 1), ("z2", 1)]);
}

#[test]
fn b426_auto_hints_need_zones_cpu_and_enough_endpoints() {
    let mut bench = Bench::new(100);
    bench.controller.apply_service(auto());
    (0..2).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    let why = |bench: &mut Bench| {
        let (changes, diagnostics) = bench.controller.reconcile();
        for change in changes {
            if let SliceChange::Apply(slice) = change {
                bench.slices.insert(slice.name.clone(), slice);
            }
        }
        diagnostics
            .into_iter()
            .map(|d| d.message + "\n")
            .collect::<String>()
    };
    let mut texts = why(&mut bench);
    (2..6).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    assert_eq!(why(&mut bench), "");
    check_hints(&bench, &[("z0", 2), ("z1", 2), ("z2", 2)]);
    let mut small = nodes()[0].clone();
    small.allocatable_cpu_milli = None;
    bench.controller.apply_node(&small);
    texts += &why(&mut bench);
    check_hints(&bench, &[]);
    for mut node in nodes() {
        node.ready = &*node.name == "n0";
        bench.controller.apply_node(&node);
    }
    texts += &why(&mut bench);
    expect![[r#"
        no topology hints for IPv4 endpoints: there are fewer ready endpoints (2) than zones (3)
        no topology hints for IPv4 endpoints: a node has no zone or no allocatable CPU
        no topology hints for IPv4 endpoints: the ready nodes are in fewer than two zones
    "#]]
    .assert_eq(&texts);
}

#[test]
fn b427_hints_go_when_nobody_asks_for_them_any_more() {
    let mut bench = Bench::new(100);
    bench.controller.apply_service(auto());
    (0..3).for_each(|i| bench.controller.apply_pod(pod("web", i)));
    bench.reconcile();
    check_hints(&bench, &[("z0", 1), ("z1", 1), ("z2", 1)]);
    bench.controller.apply_service(service("web"));
    bench.reconcile();
    check_hints(&bench, &[]);
}
