//! The types of `k8s-openapi` and the wire give equal objects and equal remarks.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::{apps, core, discovery, networking};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use svc_core::object::WorkloadKind;
use svc_core::wire::{self, Conversion};

#[test]
fn a_service() {
    let json = json!({
        "metadata": {
            "name": "web", "namespace": "demo", "labels": {"app": "web"},
            "annotations": {"service.kubernetes.io/topology-mode": "Auto"},
            "creationTimestamp": "2026-01-05T08:00:00Z",
        },
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.041",
            "clusterIPs": ["10.96.0.041", "fd10:96::41"],
            "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {"app": "web"},
            "ports": [
                {"name": "a", "port": 80, "targetPort": "http", "nodePort": 30801, "appProtocol": "http"},
                {"name": "b", "port": 70000},
                {"name": "c", "port": 81, "protocol": "ICMP"},
                {"name": "d", "port": 82, "targetPort": 8082, "protocol": "UDP"},
            ],
            "externalIPs": ["192.0.2.1", "x"],
            "loadBalancerIP": "192.0.2.9",
            "loadBalancerClass": "example.com/lb",
            "loadBalancerSourceRanges": [" 203.0.113.0/25", "y"],
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
            "internalTrafficPolicy": "Local",
            "externalTrafficPolicy": "Local",
            "healthCheckNodePort": 30900,
            "publishNotReadyAddresses": true,
            "allocateLoadBalancerNodePorts": false,
            "trafficDistribution": "PreferClose",
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.31", "ipMode": "Proxy"}, {"hostname": "lb.example"},
        ]}},
    });
    let (wire, api): (wire::Service, core::v1::Service) = both(&json);
    let (object, remarks) = Conversion::default().service(&wire);
    assert_eq!(remarks.len(), 4);
    assert!(object.is_some());
    assert_eq!(
        Conversion::default().service(&api.into()),
        (object, remarks)
    );
}

#[test]
fn an_endpoint_slice() {
    let json = json!({
        "metadata": {"name": "web-1", "namespace": "demo", "labels": {
            "kubernetes.io/service-name": "web",
            "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
        }},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 81}, {"name": "x"}],
        "endpoints": [
            {
                "addresses": ["10.64.1.1"], "nodeName": "n1", "zone": "za", "hostname": "web-0",
                "conditions": {"ready": false, "serving": true, "terminating": true},
                "hints": {"forZones": [{"name": "za"}], "forNodes": [{"name": "n1"}]},
                "targetRef": {"kind": "Pod", "name": "web-0"},
            },
            {"addresses": []},
            {"addresses": ["fd00::1"]},
        ],
    });
    let (wire, api): (wire::EndpointSlice, discovery::v1::EndpointSlice) = both(&json);
    let (object, remarks) = Conversion::default().endpoint_slice(&wire);
    assert_eq!(remarks.len(), 4);
    assert_eq!(object.as_ref().map(|slice| slice.endpoints.len()), Some(1));
    assert_eq!(
        Conversion::default().endpoint_slice(&api.into()),
        (object, remarks)
    );
}

#[test]
fn a_node() {
    let json = json!({
        "metadata": {"name": "n1", "labels": {"topology.kubernetes.io/zone": "za"}},
        "spec": {
            "podCIDR": "10.64.1.0/24",
            "podCIDRs": ["10.64.1.0/24", "fd10:64:0:1::/64", "x"],
            "taints": [{"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}],
        },
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": "198.18.0.10"},
                {"type": "Hostname", "address": "n1"},
            ],
            "conditions": [{"type": "Ready", "status": "False"}],
            "allocatable": {"cpu": "3920m", "memory": "1Gi"},
        },
    });
    let (wire, api): (wire::Node, core::v1::Node) = both(&json);
    let (object, remarks) = Conversion::default().node(&wire);
    let cpu = object.as_ref().and_then(|n| n.allocatable_cpu_milli);
    assert_eq!(cpu, Some(3920));
    assert_eq!(remarks.len(), 1);
    assert_eq!(Conversion::default().node(&api.into()), (object, remarks));
}

#[test]
fn a_pod() {
    let json = json!({
        "metadata": {
            "name": "web-0", "labels": {"app": "web"}, "deletionTimestamp": "2026-01-05T08:00:00Z",
        },
        "spec": {
            "nodeName": "n1", "hostname": "web-0", "subdomain": "web", "hostNetwork": true,
            "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 8080}]}],
            "initContainers": [
                {"name": "s", "restartPolicy": "Always", "ports": [{"containerPort": 0}]},
            ],
        },
        "status": {
            "phase": "Running", "podIP": "10.64.1.1", "podIPs": [{"ip": "10.64.1.1"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    });
    let (wire, api): (wire::Pod, core::v1::Pod) = both(&json);
    let (object, remarks) = Conversion::default().pod(&wire);
    assert!(
        object
            .as_ref()
            .is_some_and(|pod| pod.ready && pod.terminating)
    );
    assert_eq!(remarks.len(), 1);
    assert_eq!(Conversion::default().pod(&api.into()), (object, remarks));
}

#[test]
fn older_endpoints() {
    let json = json!({
        "metadata": {"name": "ext"},
        "subsets": [{
            "addresses": [{"ip": "192.0.2.7", "hostname": "a", "nodeName": "n1"}, {"ip": "x"}],
            "notReadyAddresses": [{"ip": "2001:db8::7"}],
            "ports": [{"name": "db", "port": 5432}],
        }],
    });
    let (wire, api): (wire::Endpoints, core::v1::Endpoints) = both(&json);
    let converted = Conversion::default().endpoints(&wire);
    assert_eq!(converted.1.len(), 1);
    assert_eq!(Conversion::default().endpoints(&api.into()), converted);
}

#[test]
fn cluster_scoped_kinds() {
    let json = json!({"metadata": {"name": "demo"}});
    let (wire, api): (wire::Namespace, core::v1::Namespace) = both(&json);
    let converted = Conversion::default().namespace(&wire);
    assert_eq!(converted.0.as_deref(), Some("demo"));
    assert_eq!(Conversion::default().namespace(&api.into()), converted);

    let json = json!({
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": ["10.96.0.0/16", "x"]},
        "status": {"conditions": [{
            "type": "Ready", "status": "False", "reason": "", "message": "",
            "lastTransitionTime": "2026-01-05T08:00:00Z",
        }]},
    });
    let (wire, api): (wire::ServiceCidr, networking::v1::ServiceCIDR) = both(&json);
    let converted = Conversion::default().service_cidr(&wire);
    assert_eq!(converted.0.as_ref().map(|cidr| cidr.ready), Some(false));
    assert_eq!(Conversion::default().service_cidr(&api.into()), converted);
}

#[test]
fn workloads() {
    let json = json!({
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 3,
            "serviceName": "web",
            "selector": {
                "matchLabels": {"app": "web"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a"]}],
            },
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 8080}]}]},
            },
        },
    });
    let (wire, deployment): (wire::Workload, apps::v1::Deployment) = both(&json);
    let (_, replica_set): (wire::Workload, apps::v1::ReplicaSet) = both(&json);
    let (_, stateful_set): (wire::Workload, apps::v1::StatefulSet) = both(&json);
    let (_, daemon_set): (wire::Workload, apps::v1::DaemonSet) = both(&json);
    let convert =
        |wire: &wire::Workload| Conversion::default().workload(WorkloadKind::Deployment, wire);
    let (object, remarks) = convert(&wire);
    let mut object = object.unwrap();
    assert!(object.selects_by_expression);
    assert_eq!(object.ports.len(), 1);
    let wanted = (Some(object.clone()), remarks.clone());
    assert_eq!(convert(&deployment.into()), wanted);
    assert_eq!(convert(&replica_set.into()), wanted);
    assert_eq!(convert(&stateful_set.into()), wanted);
    object.replicas = None;
    assert_eq!(convert(&daemon_set.into()), (Some(object), remarks));
}

fn both<W: DeserializeOwned, A: DeserializeOwned>(json: &Json) -> (W, A) {
    (
        serde_json::from_value(json.clone()).unwrap(),
        serde_json::from_value(json.clone()).unwrap(),
    )
}
