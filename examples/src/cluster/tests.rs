use std::net::IpAddr;

use super::*;
use crate::manifest::Reading;
use svc_core::object::ServiceType;
use svc_core::wire::Document;

/// Manifests of Services in namespace `ns`, each a name and the rest of its spec in JSON.
fn manifests(services: &[(&str, &str)]) -> Manifests {
    let mut reading = Reading::default();
    for (name, spec) in services {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"Service",
                "metadata":{{"name":"{name}","namespace":"ns"}},
                "spec":{{"selector":{{"app":"{name}"}},"ports":[{{"name":"http","port":80}}],{spec}}}}}"#
        );
        let document: Document = serde_json::from_str(&text).unwrap();
        reading.document("test", document);
    }
    let mut manifests = reading.finish();
    assert!(manifests.problems.is_empty() && manifests.diagnostics.is_empty());
    manifests.load_balancer_pools = vec!["192.0.2.1-192.0.2.2".parse().unwrap()];
    manifests
}

/// The cluster before and after a reload of a manifest of one Service, which raises no objection.
fn reload(before: &str, after: &str) -> (Service, Service) {
    let first = Cluster::of(&manifests(&[("web", before)]));
    let second = first.next(&manifests(&[("web", after)]));
    let third = second.next(&manifests(&[("web", after)]));
    for cluster in [&first, &second, &third] {
        assert_eq!(cluster.diagnostics, [], "{before} then {after}");
    }
    assert_eq!(
        second.services, third.services,
        "a second reload changes nothing"
    );
    (first.services[0].clone(), second.services[0].clone())
}

const NODE_PORT: &str = r#""type":"NodePort""#;
const BALANCER: &str = r#""type":"LoadBalancer""#;
const CLUSTER_IP: &str = r#""type":"ClusterIP""#;
const DUAL: &str = r#""ipFamilyPolicy":"PreferDualStack""#;
const SINGLE: &str = r#""ipFamilyPolicy":"SingleStack""#;

#[test]
fn b369_a_reload_keeps_what_the_type_still_has() {
    let (before, after) = reload(NODE_PORT, BALANCER);
    assert!(before.ports[0].node_port.is_some());
    assert_eq!(before.ports, after.ports);
    assert_eq!(before.cluster_ips, after.cluster_ips);
    let (before, after) = reload(
        BALANCER,
        r#""type":"LoadBalancer","sessionAffinity":"None""#,
    );
    assert_eq!(before.ingress.len(), 1);
    assert_eq!(before, after);
}

#[test]
fn b367_the_node_port_goes_with_the_type() {
    for (before, after) in [
        (NODE_PORT, CLUSTER_IP),
        (BALANCER, CLUSTER_IP),
        (
            NODE_PORT,
            r#""type":"LoadBalancer","allocateLoadBalancerNodePorts":false"#,
        ),
    ] {
        let (before, after) = reload(before, after);
        assert!(before.ports[0].node_port.is_some());
        assert_eq!(after.ports[0].node_port, None);
        assert_eq!(before.cluster_ips, after.cluster_ips, "B-361");
    }
}

#[test]
fn b367_the_ingress_address_goes_with_the_type_or_class() {
    for after in [
        CLUSTER_IP,
        NODE_PORT,
        r#""type":"LoadBalancer","loadBalancerClass":"example.com/other""#,
    ] {
        let first = Cluster::of(&manifests(&[("web", BALANCER)]));
        let second = first.next(&manifests(&[("web", after), ("younger", BALANCER)]));
        let ips = |service: &Service| -> Vec<IpAddr> {
            service.ingress.iter().map(|ingress| ingress.ip).collect()
        };
        let named = |name: &str| {
            let mut all = second.services.iter();
            ips(all.find(|s| &*s.name.name == name).unwrap())
        };
        assert_eq!(ips(&first.services[0]), [IpAddr::from([192, 0, 2, 1])]);
        assert_eq!(named("web"), [] as [IpAddr; 0], "{after}");
        assert_eq!(named("younger"), [IpAddr::from([192, 0, 2, 1])], "{after}");
    }
}

#[test]
fn b361_single_stack_releases_the_second_address() {
    let (before, after) = reload(DUAL, SINGLE);
    assert_eq!(before.cluster_ips.len(), 2);
    assert_eq!(after.cluster_ips, before.cluster_ips[..1]);
    assert_eq!(after.ip_families, before.ip_families[..1]);
    let (single, dual) = reload(SINGLE, DUAL);
    assert_eq!(single.cluster_ips, dual.cluster_ips[..1]);
    assert_eq!(dual.cluster_ips.len(), 2);
    // Whoever leaves the policy out does not change it.
    let (before, after) = reload(DUAL, CLUSTER_IP);
    assert_eq!(before.cluster_ips, after.cluster_ips);
}

#[test]
fn addresses_of_other_families_than_asked_for_are_not_kept() {
    let (before, after) = reload(CLUSTER_IP, r#""ipFamilies":["IPv6"]"#);
    assert!(before.cluster_ips[0].is_ipv4());
    assert_eq!(after.cluster_ips.len(), 1);
    assert!(after.cluster_ips[0].is_ipv6());
}

#[test]
fn neither_headless_services_nor_external_names_keep_addresses() {
    for before in [CLUSTER_IP, NODE_PORT, BALANCER, DUAL] {
        for after in [
            r#""clusterIP":"None""#,
            r#""type":"ExternalName","externalName":"example.com""#,
        ] {
            let (_, after) = reload(before, after);
            assert_eq!(after.cluster_ips, [] as [IpAddr; 0]);
            assert_eq!(after.ports[0].node_port, None);
            assert_eq!(after.ingress, []);
            if after.service_type == ServiceType::ExternalName {
                assert_eq!(after.ip_families, []);
            }
            // And back again.
            let (_, after) = reload(
                r#""type":"ExternalName","externalName":"example.com""#,
                before,
            );
            assert!(!after.cluster_ips.is_empty());
        }
    }
}

#[test]
fn a_node_port_that_the_manifest_gives_to_one_port_is_not_kept_by_another() {
    let first = manifests(&[("web", NODE_PORT)]);
    let held = Cluster::of(&first);
    let number = held.services[0].ports[0].node_port;
    let mut second = first;
    let mut admin = second.services[0].ports[0].clone();
    admin.name = "admin".into();
    admin.port = 81;
    admin.node_port = number;
    second.services[0].ports.push(admin);
    let next = held.next(&second);
    assert_eq!(next.diagnostics, []);
    let ports = &next.services[0].ports;
    assert_eq!(ports[1].node_port, number);
    assert!(ports[0].node_port.is_some() && ports[0].node_port != number);
}

#[test]
fn b393_a_health_check_port_stays_while_it_is_needed() {
    let local = r#""type":"LoadBalancer","externalTrafficPolicy":"Local""#;
    let held = Cluster::of(&manifests(&[("web", local)]));
    let port = held.services[0].health_check_node_port.unwrap();
    // Not the one that would be chosen anew.
    let moved = Cluster {
        services: vec![Service {
            health_check_node_port: Some(port ^ 1),
            ..held.services[0].clone()
        }],
        ..Cluster::default()
    };
    let next = moved.next(&manifests(&[("web", local)]));
    assert_eq!(next.services[0].health_check_node_port, Some(port ^ 1));
    let next = moved.next(&manifests(&[("web", CLUSTER_IP)]));
    assert_eq!(next.services[0].health_check_node_port, None);
}

#[test]
fn b396_what_an_api_server_stores_is_complete() {
    let stored = r#""ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv4"],
        "clusterIP":"172.20.0.9","clusterIPs":["172.20.0.9"]"#;
    let mut manifests = manifests(&[
        ("web", stored),
        (
            "none",
            r#""clusterIP":"None","ipFamilyPolicy":"PreferDualStack","ipFamilies":["IPv4"]"#,
        ),
        (
            "mesh",
            r#""type":"LoadBalancer","allocateLoadBalancerNodePorts":false,"clusterIP":"172.20.0.8""#,
        ),
    ]);
    manifests.load_balancer_pools.clear();
    let before = manifests.services.clone();
    manifests.origin = Origin::ApiServer;
    let cluster = Cluster::of(&manifests);
    assert_eq!(cluster.services, before);
    assert_eq!(cluster.diagnostics, []);
    // In files they are exported: no family is added either, but the made-up range is told.
    manifests.origin = Origin::Files;
    let cluster = Cluster::of(&manifests);
    let families = |services: &[Service]| -> Vec<_> {
        let all = services.iter().filter(|s| &*s.name.name != "mesh");
        all.map(|s| (s.cluster_ips.clone(), s.ip_families.clone()))
            .collect()
    };
    assert_eq!(families(&cluster.services), families(&before));
    assert_eq!(cluster.diagnostics.len(), 2, "{:?}", cluster.diagnostics);
}
