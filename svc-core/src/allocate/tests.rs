//! The rules of whole Services.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;

use expect_test::{Expect, expect};

use super::fixture::{allocators, service};
use super::*;
use crate::diagnostic::Diagnostic;
use crate::net::{IpFamily, Protocol};
use crate::object::{IpFamilyPolicy, Service, ServiceCidr, ServiceType, TrafficPolicy};

fn dual() -> Allocators {
    allocators(&["10.96.0.0/16", "fd00::/112"], 30_000, 30_100)
}

fn single() -> Allocators {
    allocators(&["10.96.0.0/16"], 30_000, 30_100)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node_port(name: &str, ports: &[(u16, Protocol, u16)]) -> Service {
    service(name, ServiceType::NodePort, ports)
}

fn text(diagnostics: &[Diagnostic]) -> String {
    diagnostics
        .iter()
        .map(|d| format!("{:?} {:?} {d}\n", d.severity, d.reason))
        .collect()
}

/// Families and policy that a Service gets, and what is wrong.
#[track_caller]
fn check_families(allocators: &mut Allocators, service: &mut Service, expected: Expect) {
    let result = allocators.create(service, 1, Run::Real);
    let families: Vec<IpFamily> = service
        .cluster_ips
        .iter()
        .map(|ip| IpFamily::of(*ip))
        .collect();
    let problems = result.err().unwrap_or_default();
    let policy = service.ip_family_policy;
    expected.assert_eq(&format!(
        "{policy:?} {:?} addresses {families:?}\n{}",
        service.ip_families,
        text(&problems)
    ));
}

#[test]
fn b395_no_policy_is_single_stack() {
    check_families(
        &mut dual(),
        &mut service("a", ServiceType::ClusterIp, &[]),
        expect![[r#"
        Some(SingleStack) [V4] addresses [V4]
    "#]],
    );
}

#[test]
fn b395_headless_without_selector_is_dual_stack_on_any_cluster() {
    let mut headless = service("a", ServiceType::ClusterIp, &[]);
    headless.headless = true;
    headless.selector.clear();
    check_families(
        &mut single(),
        &mut headless,
        expect![[r#"
        Some(RequireDualStack) [V4, V6] addresses []
    "#]],
    );
    let mut with_selector = service("a", ServiceType::ClusterIp, &[]);
    with_selector.headless = true;
    check_families(
        &mut dual(),
        &mut with_selector,
        expect![[r#"
        Some(SingleStack) [V4] addresses []
    "#]],
    );
}

#[test]
fn b396_prefer_dual_stack_takes_what_there_is() {
    let mut prefer = service("a", ServiceType::ClusterIp, &[]);
    prefer.ip_family_policy = Some(IpFamilyPolicy::PreferDualStack);
    check_families(
        &mut single(),
        &mut prefer.clone(),
        expect![[r#"
        Some(PreferDualStack) [V4] addresses [V4]
    "#]],
    );
    check_families(
        &mut dual(),
        &mut prefer,
        expect![[r#"
        Some(PreferDualStack) [V4, V6] addresses [V4, V6]
    "#]],
    );
}

#[test]
fn b396_an_unrelated_update_does_not_upgrade() {
    let mut allocators = single();
    let mut before = service("a", ServiceType::ClusterIp, &[]);
    before.ip_family_policy = Some(IpFamilyPolicy::PreferDualStack);
    allocators.create(&mut before, 1, Run::Real).unwrap();
    let mut cidr = ServiceCidr {
        name: "kubernetes".into(),
        cidrs: ["10.96.0.0/16", "fd00::/112"]
            .map(|net| net.parse().unwrap())
            .into(),
        ready: true,
        terminating: false,
    };
    let _ = allocators.set_cidrs(core::slice::from_ref(&cidr));
    let mut after = before.clone();
    after.publish_not_ready_addresses = true;
    allocators
        .update(&before, &mut after, 2, Run::Real)
        .unwrap();
    assert_eq!(after.cluster_ips, before.cluster_ips);
    // Asking for it does.
    let mut upgraded = after.clone();
    upgraded.ip_family_policy = Some(IpFamilyPolicy::RequireDualStack);
    allocators
        .update(&after, &mut upgraded, 3, Run::Real)
        .unwrap();
    assert_eq!(upgraded.cluster_ips.len(), 2);
    assert_eq!(upgraded.cluster_ips[0], before.cluster_ips[0]);
    // And SingleStack gives the second one back.
    cidr.ready = true;
    let mut downgraded = upgraded.clone();
    downgraded.ip_family_policy = Some(IpFamilyPolicy::SingleStack);
    allocators
        .update(&upgraded, &mut downgraded, 4, Run::Real)
        .unwrap();
    assert_eq!(downgraded.cluster_ips, before.cluster_ips);
    assert_eq!(downgraded.ip_families, [IpFamily::V4]);
    assert_eq!(allocators.cluster_ips().allocated().count(), 1);
}

#[test]
fn b396_exported_services_are_not_upgraded() {
    let prefer = Some(IpFamilyPolicy::PreferDualStack);
    let mut exported = service("a", ServiceType::ClusterIp, &[(80, Protocol::Tcp, 0)]);
    exported.ip_family_policy = prefer;
    exported.cluster_ips = [ip("10.96.0.7")].into();
    exported.ip_families = [IpFamily::V4].into();
    let mut headless = service("b", ServiceType::ClusterIp, &[(80, Protocol::Tcp, 0)]);
    headless.ip_family_policy = prefer;
    headless.headless = true;
    headless.ip_families = [IpFamily::V6].into();
    // Whoever writes a manifest leaves the families, or the addresses, to the cluster.
    let mut by_address = exported.clone();
    by_address.name = crate::name::NamespacedName::new("ns", "c");
    by_address.cluster_ips = [ip("10.96.0.8")].into();
    by_address.ip_families.clear();
    let mut by_family = exported.clone();
    by_family.name = crate::name::NamespacedName::new("ns", "d");
    by_family.cluster_ips.clear();
    let before = [exported.clone(), headless.clone()];
    let mut services = [exported, headless, by_address, by_family];
    assert_eq!(dual().assign(&mut services, 1), []);
    assert_eq!(services[..2], before);
    for written in &services[2..] {
        assert_eq!(written.cluster_ips.len(), 2, "{}", written.name);
        assert_eq!(written.ip_families, [IpFamily::V4, IpFamily::V6]);
    }
}

#[test]
fn b397_families_follow_given_addresses() {
    let mut given = service("a", ServiceType::ClusterIp, &[]);
    given.cluster_ips = [ip("fd00::77")].into();
    check_families(
        &mut dual(),
        &mut given,
        expect![[r#"
        Some(SingleStack) [V6] addresses [V6]
    "#]],
    );
    let mut partly = service("a", ServiceType::ClusterIp, &[]);
    partly.cluster_ips = [ip("fd00::77")].into();
    partly.ip_family_policy = Some(IpFamilyPolicy::PreferDualStack);
    check_families(
        &mut dual(),
        &mut partly,
        expect![[r#"
        Some(PreferDualStack) [V6, V4] addresses [V6, V4]
    "#]],
    );
}

#[test]
fn b363_policies_that_do_not_fit() {
    let mut require = service("a", ServiceType::ClusterIp, &[]);
    require.ip_family_policy = Some(IpFamilyPolicy::RequireDualStack);
    check_families(
        &mut single(),
        &mut require,
        expect![[r#"
        Some(RequireDualStack) [] addresses []
        Error Invalid Service ns/a: spec.ipFamilyPolicy: this cluster is not configured for dual-stack Services
    "#]],
    );
    let mut two = service("a", ServiceType::ClusterIp, &[]);
    two.ip_families = IpFamily::ALL.into();
    check_families(
        &mut dual(),
        &mut two,
        expect![[r#"
        None [V4, V6] addresses []
        Error Invalid Service ns/a: spec.ipFamilyPolicy: must be RequireDualStack or PreferDualStack when there are two IP families
    "#]],
    );
    let mut foreign = service("a", ServiceType::ClusterIp, &[]);
    foreign.ip_families = [IpFamily::V6].into();
    check_families(
        &mut single(),
        &mut foreign,
        expect![[r#"
        None [V6] addresses []
        Error Invalid Service ns/a: spec.ipFamilies[0]: IPv6 is not configured on this cluster
    "#]],
    );
    let mut foreign = service("a", ServiceType::ClusterIp, &[]);
    foreign.cluster_ips = [ip("fd00::1")].into();
    let problems = single().create(&mut foreign, 1, Run::Real).unwrap_err();
    expect![[r#"
        Error Invalid Service ns/a: spec.clusterIPs[0]: fd00::1: IPv6 is not configured on this cluster
    "#]]
    .assert_eq(&text(&problems));
}

#[test]
fn b388_ports_of_one_number_share_a_node_port() {
    let mut dns = node_port(
        "dns",
        &[
            (53, Protocol::Udp, 0),
            (53, Protocol::Tcp, 0),
            (54, Protocol::Tcp, 0),
        ],
    );
    let mut allocators = dual();
    allocators.create(&mut dns, 1, Run::Real).unwrap();
    assert_eq!(dns.ports[0].node_port, dns.ports[1].node_port);
    assert_ne!(dns.ports[0].node_port, dns.ports[2].node_port);
    assert_eq!(allocators.node_ports().allocated().count(), 2);
    // A given one counts for the other, wherever it stands.
    let mut given = node_port(
        "given",
        &[(53, Protocol::Udp, 0), (53, Protocol::Tcp, 30_053)],
    );
    allocators.create(&mut given, 1, Run::Real).unwrap();
    assert_eq!(given.ports[0].node_port, Some(30_053));
}

#[test]
fn b388_a_number_that_the_protocol_has_already_is_not_shared() {
    let ports = [
        (82, Protocol::Tcp, 0),
        (80, Protocol::Tcp, 30_000),
        (82, Protocol::Udp, 30_000),
    ];
    let mut services = [node_port("a", &ports)];
    assert_eq!(dual().assign(&mut services, 1), []);
    assert_ne!(services[0].ports[0].node_port, Some(30_000));
}

#[test]
fn b389_one_node_port_for_two_port_numbers_fails_on_create_and_works_on_update() {
    let ports = [(80, Protocol::Tcp, 30_001), (81, Protocol::Udp, 30_001)];
    let mut allocators = dual();
    let problems = allocators
        .create(&mut node_port("a", &ports), 1, Run::Real)
        .unwrap_err();
    expect![[r#"
        Error Claimed Service ns/a: spec.ports[1].nodePort: the node port 30001 is already allocated to Service ns/a
    "#]]
    .assert_eq(&text(&problems));
    assert_eq!(allocators.node_ports().allocated().count(), 0);
    let mut before = node_port("a", &ports[..1]);
    allocators.create(&mut before, 1, Run::Real).unwrap();
    let mut after = node_port("a", &ports);
    allocators
        .update(&before, &mut after, 2, Run::Real)
        .unwrap();
    assert_eq!(allocators.node_ports().allocated().count(), 1);
}

#[test]
fn b390_an_added_port_gets_a_node_port_of_its_own() {
    let mut allocators = dual();
    let mut before = node_port("a", &[(53, Protocol::Udp, 0), (80, Protocol::Tcp, 0)]);
    allocators.create(&mut before, 1, Run::Real).unwrap();
    let mut after = node_port("a", &[(53, Protocol::Udp, 0), (53, Protocol::Tcp, 0)]);
    allocators
        .update(&before, &mut after, 2, Run::Real)
        .unwrap();
    // The one that stays keeps its number, by the name of the port (B-369).
    assert_eq!(after.ports[0].node_port, before.ports[0].node_port);
    assert_ne!(after.ports[1].node_port, after.ports[0].node_port);
    // The one that is gone is free.
    let gone = before.ports[1].node_port.unwrap();
    assert_eq!(allocators.node_ports().owner(gone), None);
    assert_eq!(allocators.node_ports().allocated().count(), 2);
}

#[test]
fn b391_one_number_serves_one_service_whatever_the_protocol() {
    let mut allocators = dual();
    allocators
        .create(
            &mut node_port("a", &[(53, Protocol::Udp, 30_053)]),
            1,
            Run::Real,
        )
        .unwrap();
    let problems = allocators
        .create(
            &mut node_port("b", &[(53, Protocol::Tcp, 30_053)]),
            1,
            Run::Real,
        )
        .unwrap_err();
    expect![[r#"
        Error Claimed Service ns/b: spec.ports[0].nodePort: the node port 30053 is already allocated to Service ns/a
    "#]]
    .assert_eq(&text(&problems));
}

#[test]
fn b392_load_balancers_may_do_without_node_ports() {
    let mut allocators = dual();
    let mut balanced = service(
        "a",
        ServiceType::LoadBalancer,
        &[(80, Protocol::Tcp, 0), (81, Protocol::Tcp, 30_001)],
    );
    balanced.allocate_load_balancer_node_ports = Some(false);
    allocators.create(&mut balanced, 1, Run::Real).unwrap();
    assert_eq!(balanced.ports[0].node_port, None);
    assert_eq!(balanced.ports[1].node_port, Some(30_001));
    let mut allocating = service("b", ServiceType::LoadBalancer, &[(80, Protocol::Tcp, 0)]);
    allocating.allocate_load_balancer_node_ports = Some(true);
    allocators.create(&mut allocating, 1, Run::Real).unwrap();
    let before = allocating.clone();
    assert!(before.ports[0].node_port.is_some());
    allocating.allocate_load_balancer_node_ports = Some(false);
    allocators
        .update(&before, &mut allocating, 1, Run::Real)
        .unwrap();
    assert_eq!(allocating.ports[0].node_port, before.ports[0].node_port);
}

#[test]
fn b393_health_check_ports_come_from_the_same_pool() {
    let mut allocators = allocators(&["10.96.0.0/16"], 30_000, 30_001);
    let mut local = service("a", ServiceType::LoadBalancer, &[(80, Protocol::Tcp, 0)]);
    local.external_traffic_policy = TrafficPolicy::Local;
    allocators.create(&mut local, 1, Run::Real).unwrap();
    assert!(local.health_check_node_port.is_some());
    assert_eq!(allocators.node_ports().allocated().count(), 2);
    let mut other = node_port("b", &[(80, Protocol::Tcp, 0)]);
    let problems = allocators.create(&mut other, 1, Run::Real).unwrap_err();
    expect![[r#"
        Error Exhausted Service ns/b: spec.ports[0].nodePort: the node-port range 30000-30001 is full
    "#]]
    .assert_eq(&text(&problems));
    // The address that it had by then is free again.
    assert_eq!(allocators.cluster_ips().allocated().count(), 1);
    let mut cluster = local.clone();
    cluster.external_traffic_policy = TrafficPolicy::Cluster;
    allocators
        .update(&local, &mut cluster, 2, Run::Real)
        .unwrap();
    assert_eq!(cluster.health_check_node_port, None);
    allocators.create(&mut other, 1, Run::Real).unwrap();
}

#[test]
fn b394_a_dry_run_keeps_nothing() {
    let mut allocators = dual();
    let mut web = node_port("a", &[(80, Protocol::Tcp, 0)]);
    allocators.create(&mut web, 1, Run::Dry).unwrap();
    assert_eq!(web.cluster_ips.len(), 1);
    assert!(web.ports[0].node_port.is_some());
    assert_eq!(allocators.cluster_ips().allocated().count(), 0);
    assert_eq!(allocators.node_ports().allocated().count(), 0);
}

#[test]
fn b394_a_failed_update_gives_nothing_back() {
    let mut allocators = dual();
    let mut before = node_port("a", &[(80, Protocol::Tcp, 30_001)]);
    allocators.create(&mut before, 1, Run::Real).unwrap();
    allocators
        .create(
            &mut node_port("b", &[(80, Protocol::Tcp, 30_002)]),
            1,
            Run::Real,
        )
        .unwrap();
    let mut after = node_port("a", &[(80, Protocol::Tcp, 30_002)]);
    let sent = after.clone();
    assert!(
        allocators
            .update(&before, &mut after, 1, Run::Real)
            .is_err()
    );
    assert_eq!(after, sent);
    assert_eq!(allocators.node_ports().owner(30_001), Some(&before.name));
}

#[test]
fn b361_the_primary_address_stays() {
    let mut allocators = dual();
    let mut before = service("a", ServiceType::ClusterIp, &[]);
    allocators.create(&mut before, 1, Run::Real).unwrap();
    let mut after = before.clone();
    after.cluster_ips = [ip("10.96.9.9")].into();
    assert!(
        allocators
            .update(&before, &mut after, 1, Run::Real)
            .is_err()
    );
    // ExternalName gives it back.
    let mut external = before.clone();
    external.service_type = ServiceType::ExternalName;
    allocators
        .update(&before, &mut external, 1, Run::Real)
        .unwrap();
    assert!(external.cluster_ips.is_empty() && external.ip_families.is_empty());
    assert_eq!(allocators.cluster_ips().allocated().count(), 0);
    let mut again = external.clone();
    again.service_type = ServiceType::ClusterIp;
    allocators
        .update(&external, &mut again, 1, Run::Real)
        .unwrap();
    assert_eq!(again.cluster_ips.len(), 1);
}

#[test]
fn assign_never_steals_what_somebody_asks_for() {
    // Only one address is free for the first one in the order.
    let mut free = service("a", ServiceType::ClusterIp, &[]);
    free.created = 1;
    let mut asking = service("b", ServiceType::ClusterIp, &[]);
    asking.created = 2;
    asking.cluster_ips = [ip("10.0.0.1")].into();
    let mut services = [free, asking];
    let mut small = allocators(&["10.0.0.0/30"], 30_000, 30_100);
    assert_eq!(small.assign(&mut services, 1), []);
    assert_eq!(services[0].cluster_ips, [ip("10.0.0.2")]);
    let once = services.clone();
    assert_eq!(small.assign(&mut services, 2), []);
    assert_eq!(services, once);
}

#[test]
fn assign_reports_what_is_taken_full_or_outside() {
    let mut older = node_port("older", &[(80, Protocol::Tcp, 30_001)]);
    older.created = 1;
    older.cluster_ips = [ip("10.0.0.1")].into();
    let mut younger = node_port("younger", &[(80, Protocol::Tcp, 30_001)]);
    younger.created = 2;
    younger.cluster_ips = [ip("10.0.0.1")].into();
    let mut elsewhere = node_port("elsewhere", &[(80, Protocol::Tcp, 80)]);
    elsewhere.created = 3;
    elsewhere.cluster_ips = [ip("172.20.0.1")].into();
    let more = (4..6).map(|created| {
        let mut service = service(&format!("more-{created}"), ServiceType::ClusterIp, &[]);
        service.created = created;
        service
    });
    let mut services: Vec<Service> = [younger, older, elsewhere]
        .into_iter()
        .chain(more)
        .collect();
    let mut small = allocators(&["10.0.0.0/30"], 30_000, 30_100);
    expect![[r#"
        Error Claimed Service ns/younger: spec.clusterIPs[0]: the address 10.0.0.1 is already allocated to Service ns/older
        Error Claimed Service ns/younger: spec.ports[0].nodePort: the node port 30001 is already allocated to Service ns/older
        Warning Invalid Service ns/elsewhere: spec.clusterIPs[0]: the address 172.20.0.1 is not in a usable range: 10.0.0.0/30
        Warning Invalid Service ns/elsewhere: spec.ports[0].nodePort: the node port 80 is not in the range 30000-30100
        Error Exhausted Service ns/more-5: spec.clusterIPs: the IPv4 ranges are full: 10.0.0.0/30
    "#]]
    .assert_eq(&text(&small.assign(&mut services, 1)));
    let [younger, older, elsewhere, ..] = &services[..] else {
        panic!()
    };
    assert!(younger.cluster_ips.is_empty());
    assert_eq!(older.cluster_ips, [ip("10.0.0.1")]);
    assert_eq!(elsewhere.ports[0].node_port, Some(80));
}

#[test]
fn repair_reports_duplicates_and_owns_what_nobody_noted() {
    let mut allocators = dual();
    let mut a = node_port("a", &[(80, Protocol::Tcp, 30_001)]);
    a.cluster_ips = [ip("10.96.0.9")].into();
    a.created = 1;
    let mut b = a.clone();
    b.name.name = "b".into();
    b.created = 2;
    let mut lost = a.clone();
    lost.name.name = "lost".into();
    lost.cluster_ips = [ip("192.0.2.1")].into();
    lost.ports[0].node_port = Some(80);
    let services = [b, a, lost];
    let mut repair = Repair::default();
    expect![[r#"
        Warning Claimed Service ns/b: spec.clusterIPs: the cluster IP 10.96.0.9 is assigned more than once, create the Service again
        Warning Suspicious Service ns/a: spec.clusterIPs: the cluster IP 10.96.0.9 was not allocated, repaired
        Warning Invalid Service ns/lost: spec.clusterIPs: the cluster IP 192.0.2.1 is in no range, create the Service again
        Warning Invalid Service ns/lost: spec.ports: the node port 80 is in no range, create the Service again
        Warning Claimed Service ns/b: spec.ports: the node port 30001 is assigned more than once, create the Service again
        Warning Suspicious Service ns/a: spec.ports: the node port 30001 was not allocated, repaired
    "#]]
    .assert_eq(&text(&repair.round(&mut allocators, &services)));
    assert_eq!(
        allocators.cluster_ips().owner(ip("10.96.0.9")),
        Some(&services[1].name)
    );
    // What is repaired is not said again, what is wrong is.
    assert_eq!(repair.round(&mut allocators, &services).len(), 4);
}

#[test]
fn repair_frees_leaks_in_the_third_round() {
    let mut allocators = dual();
    let mut web = node_port("a", &[(80, Protocol::Tcp, 30_001)]);
    allocators.create(&mut web, 1, Run::Real).unwrap();
    let mut repair = Repair::default();
    // Its Service may not be written yet.
    assert_eq!(repair.round(&mut allocators, []), []);
    assert_eq!(repair.round(&mut allocators, []), []);
    // And a Service that turns up ends the count.
    assert_eq!(repair.round(&mut allocators, [&web]), []);
    assert_eq!(repair.round(&mut allocators, []), []);
    assert_eq!(repair.round(&mut allocators, []), []);
    let found = repair.round(&mut allocators, []);
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!(allocators.cluster_ips().allocated().count(), 0);
    assert_eq!(allocators.node_ports().allocated().count(), 0);
}
