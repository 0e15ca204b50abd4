//! The rules of slices made from nothing.

use alloc::vec::Vec;

use expect_test::{Expect, expect};

use super::fixture::{container_port, nodes, pod, port, service, text};
use super::*;
use crate::net::IpFamily;
use crate::object::{Pod, PodPhase, Service, ServiceType, TargetPort, TrafficDistribution};

#[track_caller]
fn check(service: &Service, pods: &[Pod], expected: Expect) {
    let (slices, diagnostics) = slices(service, pods, &Topology::of(&nodes()));
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    expected.assert_eq(&text(&slices));
}

#[test]
fn b398_without_selector_or_with_external_name_there_are_none() {
    let mut web = service("web");
    web.selector.clear();
    check(&web, &[pod("web", 0)], expect![""]);
    let mut web = service("web");
    web.service_type = ServiceType::ExternalName;
    check(&web, &[pod("web", 0)], expect![""]);
}

#[test]
fn b399_no_pods_make_one_empty_slice_per_family() {
    let mut web = service("web");
    web.ip_families = [IpFamily::V6, IpFamily::V4].into();
    check(
        &web,
        &[pod("other", 0)],
        expect![[r#"
        web-ipv4-00000 IPv4
        web-ipv6-00000 IPv6
    "#]],
    );
}

#[test]
fn b400_families_fall_back_to_the_cluster_ip() {
    let mut web = service("web");
    web.ip_families.clear();
    assert_eq!(families(&web), [IpFamily::V4]);
    web.cluster_ips = ["fd00::1".parse().unwrap()].into();
    assert_eq!(families(&web), [IpFamily::V6]);
    web.cluster_ips.clear();
    assert_eq!(families(&web), IpFamily::ALL);
}

#[test]
fn b401_a_pod_is_in_the_families_that_it_has_addresses_of() {
    let mut web = service("web");
    web.ip_families = [IpFamily::V4, IpFamily::V6].into();
    let mut only_v6 = pod("web", 1);
    only_v6.ips.remove(0);
    check(
        &web,
        &[pod("web", 0), only_v6],
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
        web-ipv6-00000 IPv6 :8080/TCP
          fd00:: web-00000 ready serving node=n0 zone=z0
          fd00::1 web-00001 ready serving node=n1 zone=z1
    "#]],
    );
}

#[test]
fn b402_finished_pods_are_left_out() {
    let phases = [
        PodPhase::Pending,
        PodPhase::Running,
        PodPhase::Succeeded,
        PodPhase::Failed,
        PodPhase::Unknown,
    ];
    let pods: Vec<Pod> = (0..)
        .zip(phases)
        .map(|(i, phase)| Pod {
            phase,
            ..pod("web", i)
        })
        .collect();
    check(
        &service("web"),
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
          10.64.0.1 web-00001 ready serving node=n1 zone=z1
          10.64.0.4 web-00004 ready serving node=n1 zone=z1
    "#]],
    );
}

#[test]
fn b403_no_address_no_endpoint_and_terminating_pods_stay() {
    let mut without = pod("web", 0);
    without.ips.clear();
    let mut terminating = pod("web", 1);
    terminating.terminating = true;
    check(
        &service("web"),
        &[without, terminating],
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.1 web-00001 serving terminating node=n1 zone=z1
    "#]],
    );
}

#[test]
fn b404_conditions_follow_the_pod() {
    let mut unready = pod("web", 0);
    unready.ready = false;
    let mut gone = pod("web", 1);
    gone.ready = false;
    gone.terminating = true;
    check(
        &service("web"),
        &[unready, gone, pod("web", 2)],
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 node=n0 zone=z0
          10.64.0.1 web-00001 terminating node=n1 zone=z1
          10.64.0.2 web-00002 ready serving node=n2 zone=z2
    "#]],
    );
}

#[test]
fn b405_publish_not_ready_addresses_overrides_ready_alone() {
    let mut web = service("web");
    web.publish_not_ready_addresses = true;
    let mut gone = pod("web", 1);
    gone.ready = false;
    gone.terminating = true;
    check(
        &web,
        &[gone],
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.1 web-00001 ready terminating node=n1 zone=z1
    "#]],
    );
}

#[test]
fn b407_a_pod_of_a_missing_node_is_left_out_and_reported() {
    let mut lost = pod("web", 1);
    lost.node = Some("gone".into());
    let mut web = service("web");
    web.ip_families = IpFamily::ALL.into();
    let pods = [pod("web", 0), lost];
    let (made, diagnostics) = slices(&web, &pods, &Topology::of(&nodes()));
    assert_eq!(made.iter().map(|s| s.endpoints.len()).sum::<usize>(), 2);
    let [diagnostic] = &diagnostics[..] else {
        panic!("{diagnostics:?}")
    };
    expect![[
        r#"Pod ns/web-00001: spec.nodeName: no endpoint of Service ns/web until Node "gone" exists"#
    ]]
    .assert_eq(&alloc::string::ToString::to_string(diagnostic));
    // Whoever wants unready addresses wants this one too, without a zone.
    web.ip_families = [IpFamily::V4].into();
    web.publish_not_ready_addresses = true;
    check(
        &web,
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
          10.64.0.1 web-00001 ready serving node=gone
    "#]],
    );
}

#[test]
fn b407_without_nodes_nothing_is_missing() {
    let (made, diagnostics) = slices(&service("web"), &[pod("web", 0)], &Topology::unknown());
    assert!(diagnostics.is_empty());
    expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0
    "#]]
    .assert_eq(&text(&made));
}

#[test]
fn b408_hostname_needs_the_subdomain_of_the_service() {
    let with = |i, hostname: Option<&str>, subdomain: Option<&str>| Pod {
        hostname: hostname.map(Into::into),
        subdomain: subdomain.map(Into::into),
        ..pod("web", i)
    };
    let pods = [
        with(0, Some("a"), Some("web")),
        with(1, Some("b"), Some("other")),
        with(2, Some("c"), None),
        with(3, None, Some("web")),
    ];
    check(
        &service("web"),
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0 hostname=a
          10.64.0.1 web-00001 ready serving node=n1 zone=z1
          10.64.0.2 web-00002 ready serving node=n2 zone=z2
          10.64.0.3 web-00003 ready serving node=n0 zone=z0
    "#]],
    );
}

#[test]
fn b409_b421_a_slice_names_its_service_and_its_pods() {
    let (made, _) = slices(&service("web"), &[pod("web", 7)], &Topology::unknown());
    assert_eq!(&*made[0].service, "web");
    assert!(made[0].name.name.starts_with("web-"));
    assert_eq!(made[0].name.namespace, service("web").name.namespace);
    assert_eq!(
        made[0].endpoints[0].pod().map(AsRef::as_ref),
        Some("web-00007")
    );
}

#[test]
fn b410_b411_b412_named_target_ports_differ_per_pod() {
    let mut web = service("web");
    web.ports = [
        port("http", 80, TargetPort::Name("http".into())),
        port("metrics", 90, TargetPort::Name("metrics".into())),
    ]
    .into();
    let mut moved = pod("web", 1);
    moved.ports = [container_port("http", 9090)].into();
    let mut both = pod("web", 2);
    both.ports = [container_port("metrics", 1), container_port("http", 8080)].into();
    let mut none = pod("web", 3);
    none.ports.clear();
    let pods = [pod("web", 0), moved, both, none, pod("web", 4)];
    check(
        &web,
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 http:8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
          10.64.0.4 web-00004 ready serving node=n1 zone=z1
        web-ipv4-00001 IPv4 http:9090/TCP
          10.64.0.1 web-00001 ready serving node=n1 zone=z1
        web-ipv4-00002 IPv4 http:8080/TCP metrics:1/TCP
          10.64.0.2 web-00002 ready serving node=n2 zone=z2
        web-ipv4-00003 IPv4
          10.64.0.3 web-00003 ready serving node=n0 zone=z0
    "#]],
    );
}

#[test]
fn b410_the_protocol_of_a_named_port_counts() {
    let mut dns = service("dns");
    dns.ports = [port("dns", 53, TargetPort::Name("dns".into()))].into();
    dns.ports[0].protocol = crate::Protocol::Udp;
    let mut server = pod("dns", 0);
    server.ports = [container_port("dns", 5353), container_port("dns", 53)].into();
    server.ports[1].protocol = crate::Protocol::Udp;
    check(
        &dns,
        &[server],
        expect![[r#"
        dns-ipv4-00000 IPv4 dns:53/UDP
          10.64.0.0 dns-00000 ready serving node=n0 zone=z0
    "#]],
    );
}

#[test]
fn b413_ports_keep_name_protocol_and_app_protocol() {
    let mut web = service("web");
    web.ports[0].app_protocol = Some("kubernetes.io/h2c".into());
    let (made, _) = slices(&web, &[pod("web", 0)], &Topology::unknown());
    assert_eq!(made[0].ports[0].app_protocol, web.ports[0].app_protocol);
}

#[test]
fn b414_headless_without_ports_has_endpoints_without_ports() {
    let mut web = service("web");
    web.headless = true;
    web.cluster_ips.clear();
    web.ports.clear();
    check(
        &web,
        &[pod("web", 0)],
        expect![[r#"
        web-ipv4-00000 IPv4
          10.64.0.0 web-00000 ready serving node=n0 zone=z0
    "#]],
    );
}

#[test]
fn b415_a_slice_holds_a_hundred() {
    for (pods, expected) in [(100, &[100][..]), (101, &[100, 1]), (250, &[100, 100, 50])] {
        let pods: Vec<Pod> = (0..pods).map(|i| pod("web", i)).collect();
        let (made, _) = slices(&service("web"), &pods, &Topology::unknown());
        let lengths: Vec<usize> = made.iter().map(|slice| slice.endpoints.len()).collect();
        assert_eq!(lengths, expected);
    }
}

#[test]
fn b420_labels_are_those_of_the_service_and_the_reserved_ones() {
    let mut web = service("web");
    let labels_of = |service: &Service| {
        let (made, _) = slices(service, &[], &Topology::unknown());
        labels(&made[0])
            .iter()
            .map(|(key, value)| alloc::format!("{key}={value}\n"))
            .collect::<alloc::string::String>()
    };
    web.extra = Some(Default::default());
    let own = &mut web.extra.as_mut().unwrap().labels;
    own.insert("tier".into(), "front".into());
    own.insert(SERVICE_NAME_LABEL.into(), "stolen".into());
    expect![[r#"
        endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io
        kubernetes.io/service-name=web
        tier=front
    "#]]
    .assert_eq(&labels_of(&web));
    web.headless = true;
    expect![[r#"
        endpointslice.kubernetes.io/managed-by=endpointslice-controller.k8s.io
        kubernetes.io/service-name=web
        service.kubernetes.io/headless=
        tier=front
    "#]]
    .assert_eq(&labels_of(&web));
}

#[test]
fn b425_traffic_distribution_hints_ready_endpoints() {
    let mut web = service("web");
    web.traffic_distribution = Some(TrafficDistribution::PreferSameZone);
    let mut unready = pod("web", 1);
    unready.ready = false;
    let mut nowhere = pod("web", 2);
    nowhere.node = None;
    let pods = [pod("web", 0), unready, nowhere];
    check(
        &web,
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0 for-zone=z0
          10.64.0.1 web-00001 node=n1 zone=z1
          10.64.0.2 web-00002 ready serving
    "#]],
    );
    web.traffic_distribution = Some(TrafficDistribution::PreferSameNode);
    check(
        &web,
        &pods,
        expect![[r#"
        web-ipv4-00000 IPv4 :8080/TCP
          10.64.0.0 web-00000 ready serving node=n0 zone=z0 for-zone=z0 for-node=n0
          10.64.0.1 web-00001 node=n1 zone=z1
          10.64.0.2 web-00002 ready serving
    "#]],
    );
}
