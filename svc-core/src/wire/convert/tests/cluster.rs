//! Nodes, Pods, workloads, Endpoints and ServiceCIDRs.

use super::*;

#[test]
fn a_node() {
    let wire = read(json!({
        "metadata": {
            "name": "n1",
            "labels": {"topology.kubernetes.io/zone": "za", "node-role.kubernetes.io/control-plane": ""},
        },
        "spec": {"podCIDR": "10.64.1.0/24", "taints": [{"key": "ToBeDeletedByClusterAutoscaler"}]},
        "status": {
            "addresses": [
                {"type": "Hostname", "address": "n1"},
                {"type": "ExternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "198.18.0.10"},
                {"type": "InternalIP", "address": "fd00:::1"},
            ],
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "allocatable": {"cpu": "3920m"},
        },
    }));
    let (node, diagnostics) = Conversion::default().node(&wire);
    let node = node.unwrap();
    assert_eq!(texts(&node.addresses), ["198.18.0.10", "192.0.2.1"]);
    assert_eq!(texts(&node.pod_cidrs), ["10.64.1.0/24"]);
    assert_eq!(node.zone.as_deref(), Some("za"));
    assert_eq!(node.eligibility, object::NodeEligibility::ToBeScaledDown);
    assert_eq!(node.allocatable_cpu_milli, Some(3920));
    assert!(node.control_plane && !node.ready);
    assert_eq!(
        lines(&diagnostics),
        "Node default/n1: status.addresses[3].address: must be an IP address, is \"fd00:::1\"\n"
    );
}

#[test]
fn b410_a_pod_has_the_ports_of_containers_and_sidecars() {
    let wire = read(json!({
        "metadata": {"name": "web-0", "namespace": "demo", "deletionTimestamp": "2026-01-05T08:00:00Z"},
        "spec": {
            "nodeName": "n1",
            "containers": [{"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 0}]}],
            "initContainers": [
                {"ports": [{"name": "init", "containerPort": 1}]},
                {"restartPolicy": "Always", "ports": [{"containerPort": 2, "protocol": "UDP"}]},
            ],
        },
        "status": {
            "phase": "Running",
            "podIPs": [{"ip": "10.64.1.1"}, {"ip": "fd10:64:0:1::1"}],
            "conditions": [
                {"type": "Initialized", "status": "True", "lastTransitionTime": "2025-01-01T00:00:00Z"},
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-05T08:00:00Z"},
            ],
        },
    }));
    let (pod, diagnostics) = Conversion::default().pod(&wire);
    let pod = pod.unwrap();
    let ports: Vec<_> = pod.ports.iter().map(|p| (&*p.name, p.port)).collect();
    assert_eq!(ports, [("http", 80), ("", 2)]);
    assert_eq!(pod.ips.len(), 2);
    assert!(pod.ready && pod.terminating);
    assert_eq!(pod.ready_changed, Some(1_767_600_000));
    assert_eq!(
        diagnostics[0].field,
        "spec.containers[0].ports[1].containerPort"
    );
}

#[test]
fn b428_endpoints_of_the_older_form() {
    let wire = read(json!({
        "metadata": {"name": "ext", "namespace": "demo"},
        "subsets": [{
            "addresses": [{"ip": "192.0.2.7", "nodeName": "n1"}, {"ip": "x"}, {}],
            "notReadyAddresses": [{"ip": "2001:db8::7"}],
            "ports": [{"port": 5432}],
        }],
    }));
    let (endpoints, diagnostics) = Conversion::default().endpoints(&wire);
    let endpoints = endpoints.unwrap();
    let subset = &endpoints.subsets[0];
    let kept: Vec<_> = subset
        .endpoints
        .iter()
        .map(|e| (e.address.to_string(), e.conditions.ready))
        .collect();
    assert_eq!(
        kept,
        [("192.0.2.7".into(), true), ("2001:db8::7".into(), false)]
    );
    assert_eq!(subset.ports[0].port, 5432);
    assert!(!endpoints.skip_mirror);
    assert_eq!(diagnostics.len(), 2);
}

#[test]
fn a_workload() {
    let wire = read(json!({
        "metadata": {"name": "web"},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web", "tier": "front"}},
                "spec": {
                    "initContainers": [
                        {"name": "mesh", "restartPolicy": "Always",
                            "ports": [{"containerPort": 15090}]},
                        {"name": "once", "ports": [{"containerPort": 1}]},
                    ],
                    "containers": [{"name": "c", "ports": [{"containerPort": 8080}]}],
                },
            },
        },
    }));
    let kind = object::WorkloadKind::Deployment;
    let (workload, diagnostics) = Conversion::default().workload(kind, &wire);
    let workload = workload.unwrap();
    assert_eq!(diagnostics, []);
    assert_eq!(workload.replicas, Some(3));
    assert_eq!(workload.selector.len(), 1);
    assert_eq!(workload.template_labels.len(), 2);
    let ports: Vec<_> = workload
        .ports
        .iter()
        .map(|p| (p.port, p.container))
        .collect();
    let [own, sidecar] = [
        object::ContainerKind::Regular,
        object::ContainerKind::Sidecar,
    ];
    assert_eq!(ports, [(8080, own), (15090, sidecar)]);
}

#[test]
fn a_service_cidr_without_conditions_is_ready() {
    let wire = read(json!({"metadata": {"name": "k"}, "spec": {"cidrs": ["10.96.0.0/16", "x"]}}));
    let (cidr, diagnostics) = Conversion::default().service_cidr(&wire);
    let cidr = cidr.unwrap();
    assert!(cidr.ready);
    assert_eq!(texts(&cidr.cidrs), ["10.96.0.0/16"]);
    assert_eq!(diagnostics[0].field, "spec.cidrs[1]");
}
