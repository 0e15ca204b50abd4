//! One test names one rule: an object as JSON in, what is kept and what is reported out.

mod cluster;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Debug;

use expect_test::expect;
use serde_json::{Value as Json, json};

use super::*;
use crate::net::IpFamily;
use crate::object;
use crate::wire;

#[test]
fn b050_what_cannot_be_read_is_left_out_and_the_rest_kept() {
    let spec = json!({
        "clusterIP": "10.96.0.41",
        "ports": [
            {"name": "http", "port": 80, "nodePort": 99999},
            {"name": "zero", "port": 0},
            {"name": "high", "port": 70000},
            {"name": "negative", "port": -1},
            {"name": "text", "port": "80"},
            {"name": "icmp", "port": 1, "protocol": "ICMP"},
            {"name": "none"},
            null,
            17,
        ],
        "externalIPs": ["192.0.2.1", "", "  ", "nonsense", "192.0.02.022"],
        "loadBalancerSourceRanges": [" 203.0.113.0/25", "", "10.0.0.0/99"],
    });
    let (service, diagnostics) = service(spec);
    let kept: Vec<_> = service.ports.iter().map(|p| (&*p.name, p.port)).collect();
    assert_eq!(kept, [("http", 80)]);
    assert_eq!(service.ports[0].node_port, None);
    assert_eq!(texts(&service.external_ips), ["192.0.2.1", "192.0.2.22"]);
    assert_eq!(
        texts(&service.load_balancer_source_ranges),
        ["203.0.113.0/25"]
    );
    expect![[r#"
        Service demo/web: spec.externalIPs[3]: must be an IP address, is "nonsense"
        Service demo/web: spec.loadBalancerSourceRanges[2]: must be an address range such as 10.0.0.0/8, is "10.0.0.0/99"
        Service demo/web: spec.ports[7]: must be an object, is null
        Service demo/web: spec.ports[8]: must be an object, is 17
        Service demo/web: spec.ports[0].nodePort: must be 1 to 65535, is 99999
        Service demo/web: spec.ports[1].port: must be 1 to 65535, is 0
        Service demo/web: spec.ports[2].port: must be 1 to 65535, is 70000
        Service demo/web: spec.ports[3].port: must be 1 to 65535, is -1
        Service demo/web: spec.ports[4].port: must be a whole number, is "80"
        Service demo/web: spec.ports[5].protocol: must be TCP, UDP or SCTP, is "ICMP"
        Service demo/web: spec.ports[6].port: must be set
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b334_unset_fields_have_the_defaults_of_the_api_server() {
    let (service, diagnostics) = service(json!({
        "clusterIP": "10.96.0.41",
        "sessionAffinity": "ClientIP",
        "ports": [
            {"name": "a", "port": 80},
            {"name": "b", "port": 81, "targetPort": 0},
            {"name": "c", "port": 82, "targetPort": ""},
            {"name": "d", "port": 83, "targetPort": "http"},
            {"name": "e", "port": 84, "targetPort": 8084, "protocol": "UDP"},
        ],
    }));
    assert_eq!(diagnostics, "");
    let ports: Vec<String> = service
        .ports
        .iter()
        .map(|p| format!("{}/{} {:?}", p.port, p.protocol, p.target_port))
        .collect();
    assert_eq!(
        ports,
        [
            "80/TCP Number(80)",
            "81/TCP Number(81)",
            "82/TCP Number(82)",
            "83/TCP Name(\"http\")",
            "84/UDP Number(8084)",
        ]
    );
    assert_eq!(service.service_type, object::ServiceType::ClusterIp);
    assert_eq!(service.client_ip_affinity_seconds, Some(10_800));
    assert_eq!(
        service.internal_traffic_policy,
        object::TrafficPolicy::Cluster
    );
}

#[test]
fn b336_a_service_needs_ports_unless_headless_or_external_name() {
    let (_, diagnostics) = service(json!({"clusterIP": "10.96.0.41", "ports": []}));
    assert_eq!(
        diagnostics,
        "Service demo/web: spec.ports: must have at least one entry\n"
    );
    let (headless, diagnostics) = service(json!({"clusterIP": "None"}));
    assert!(headless.headless && headless.cluster_ips.is_empty());
    assert_eq!(diagnostics, "");
    let (external, diagnostics) =
        service(json!({"type": "ExternalName", "externalName": "a.example"}));
    assert_eq!(external.external_name.as_deref(), Some("a.example"));
    assert_eq!(diagnostics, "");
}

#[test]
fn values_that_a_field_does_not_know_fall_back_to_its_default() {
    let (service, diagnostics) = service(json!({
        "type": "Cluster",
        "clusterIPs": ["10.96.0.41"],
        "ipFamilies": ["IPv4", "IPv5"],
        "ipFamilyPolicy": "Dual",
        "sessionAffinity": "Cookie",
        "internalTrafficPolicy": "local",
        "externalTrafficPolicy": 3,
        "trafficDistribution": "PreferMoon",
        "healthCheckNodePort": -5,
        "publishNotReadyAddresses": "yes",
        "ports": [{"port": 80, "protocol": "tcp"}],
    }));
    assert_eq!(service.ports.len(), 1);
    assert!(!service.publish_not_ready_addresses);
    expect![[r#"
        Service demo/web: spec.type: must be ClusterIP, NodePort, LoadBalancer or ExternalName, is "Cluster"
        Service demo/web: spec.ipFamilies[1]: must be IPv4 or IPv6, is "IPv5"
        Service demo/web: spec.ipFamilyPolicy: must be SingleStack, PreferDualStack or RequireDualStack, is "Dual"
        Service demo/web: spec.ports[0].protocol: is read as TCP, is written "tcp"
        Service demo/web: spec.internalTrafficPolicy: must be Cluster or Local, is "local"
        Service demo/web: spec.externalTrafficPolicy: must be a string, is 3
        Service demo/web: spec.publishNotReadyAddresses: must be true or false, is "yes"
        Service demo/web: spec.trafficDistribution: must be PreferSameZone, PreferSameNode or PreferClose, is "PreferMoon"
        Service demo/web: spec.sessionAffinity: must be None or ClientIP, is "Cookie"
        Service demo/web: spec.healthCheckNodePort: must be 1 to 65535, is -5
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b347_an_affinity_out_of_range_is_the_default_one() {
    let with = |seconds: i64| {
        let (service, diagnostics) = service(json!({
            "clusterIP": "None",
            "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}},
        }));
        (
            service.client_ip_affinity_seconds,
            diagnostics.lines().count(),
        )
    };
    assert_eq!(with(1), (Some(1), 0));
    assert_eq!(with(86_400), (Some(86_400), 0));
    assert_eq!(with(86_401), (Some(10_800), 1));
    assert_eq!(with(0), (Some(10_800), 1));
}

#[test]
fn b044_an_unreadable_first_cluster_ip_does_not_shift_the_second() {
    let (service, diagnostics) = service(json!({
        "clusterIPs": ["10.96.0.300", "fd10:96::41"],
        "ipFamilies": ["IPv4", "IPv6"],
        "ports": [{"port": 80}],
    }));
    assert_eq!(service.cluster_ip(IpFamily::V4), None);
    assert_eq!(service.cluster_ip(IpFamily::V6), "fd10:96::41".parse().ok());
    assert_eq!(diagnostics.lines().count(), 1);
}

#[test]
fn two_ports_of_one_name_and_protocol_are_one() {
    let (service, diagnostics) = service(json!({
        "clusterIP": "10.96.0.41",
        "ports": [
            {"name": "dns", "port": 53},
            {"name": "dns", "port": 53, "protocol": "UDP"},
            {"name": "dns", "port": 5353},
        ],
    }));
    assert_eq!(service.ports.len(), 2);
    expect![[r#"
        Service demo/web: spec.ports[2].name: another port has the name "dns" and protocol TCP
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b055_ingress_without_an_address_is_skipped() {
    let (service, diagnostics) = convert_service(json!({
        "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"type": "LoadBalancer", "clusterIP": "10.96.0.41", "ports": [{"port": 80}]},
        "status": {"loadBalancer": {"ingress": [
            {"hostname": "lb.example"},
            {"ip": "192.0.2.31"},
            {"ip": "192.0.2.32", "ipMode": "Proxy"},
            {"ip": "192.0.2.33", "ipMode": "Tunnel"},
            {"ip": "lb"},
        ]}},
    }));
    let service = service.unwrap();
    let kept: Vec<_> = service
        .ingress
        .iter()
        .map(|i| format!("{} {:?}", i.ip, i.mode))
        .collect();
    assert_eq!(kept, ["192.0.2.31 Vip", "192.0.2.32 Proxy"]);
    expect![[r#"
        Service demo/web: status.loadBalancer.ingress[3].ipMode: must be VIP or Proxy, is "Tunnel"
        Service demo/web: status.loadBalancer.ingress[4].ip: must be an IP address, is "lb"
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn metadata_of_a_service() {
    let (service, diagnostics) = convert_service(json!({
        "metadata": {
            "name": "web",
            "creationTimestamp": "1970-01-01T00:01:00Z",
            "labels": {
                "app": "web",
                "service.kubernetes.io/service-proxy-name": "",
                "service.kubernetes.io/headless": "",
                "bad": 7,
            },
            "annotations": {
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "service.kubernetes.io/topology-mode": "Auto",
            },
        },
        "spec": {"clusterIP": "None"},
    }));
    let service = service.unwrap();
    assert_eq!(service.name.to_string(), "default/web");
    assert_eq!(service.created, 60);
    assert!(service.service_proxy_name && service.headless_label);
    let extra = service.extra.unwrap();
    assert_eq!(extra.labels.len(), 1);
    assert_eq!(extra.topology_mode.as_deref(), Some("Auto"));
    assert_eq!(extra.annotations.len(), 1);
    assert_eq!(
        diagnostics,
        "Service default/web: metadata.labels[bad]: must be a string, is 7\n"
    );
}

#[test]
fn an_object_without_a_name_is_not_kept() {
    let (service, diagnostics) = convert_service(json!({"metadata": {"generateName": "web-"}}));
    assert_eq!(service, None);
    assert_eq!(
        diagnostics,
        "Service default/web-: metadata.name: must be set\n"
    );
    let (service, diagnostics) = convert_service(json!({"metadata": []}));
    assert_eq!(service, None);
    expect![[r#"
        Service default/: metadata: must be an object, is a list
        Service default/: metadata.name: must be set
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b056_b060_endpoints_of_a_slice() {
    let (slice, diagnostics) = slice(json!({
        "addressType": "IPv4",
        "ports": [{"name": "", "port": 80}],
        "endpoints": [
            {"addresses": ["10.64.01.001", "10.64.1.2"], "nodeName": "n1"},
            {"addresses": []},
            {},
            {"addresses": ["fd10::1"]},
            {"addresses": ["host"]},
            {"addresses": [null]},
            {"addresses": ["10.64.1.3"], "conditions": {"ready": false, "terminating": true}},
            {"addresses": ["10.64.1.4"], "conditions": {"ready": "no"}},
            {"addresses": ["10.64.1.5"], "zone": "za", "hints": {"forZones": [{"name": "za"}, {}]}},
        ],
    }));
    let slice = slice.unwrap();
    let kept: Vec<_> = slice
        .endpoints
        .iter()
        .map(|e| {
            let c = e.conditions;
            format!("{} {} {} {}", e.address, c.ready, c.serving, c.terminating)
        })
        .collect();
    assert_eq!(
        kept,
        [
            "10.64.1.1 true true false",
            "10.64.1.3 false true true",
            "10.64.1.4 true true false",
            "10.64.1.5 true true false",
        ]
    );
    assert_eq!(slice.endpoints[0].node.as_deref(), Some("n1"));
    assert_eq!(texts(slice.endpoints[3].zone_hints()), ["za"]);
    expect![[r#"
        EndpointSlice demo/web-1: endpoints[1].addresses: must have an address
        EndpointSlice demo/web-1: endpoints[2].addresses: must have an address
        EndpointSlice demo/web-1: endpoints[3].addresses[0]: must be IPv4 as addressType says, is fd10::1
        EndpointSlice demo/web-1: endpoints[4].addresses[0]: must be an IP address, is "host"
        EndpointSlice demo/web-1: endpoints[5].addresses[0]: must be an address
        EndpointSlice demo/web-1: endpoints[7].conditions.ready: must be true or false, is "no"
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b026_to_b029_ports_of_a_slice() {
    let (slice, diagnostics) = slice(json!({
        "addressType": "IPv6",
        "ports": [
            {"name": "http", "port": 80, "protocol": "TCP", "appProtocol": "http"},
            {"name": "", "port": 81},
            {"port": 82},
            {"name": null, "port": 83},
            {"name": "any"},
            {"name": "zero", "port": 0},
            {"name": "icmp", "port": 1, "protocol": "ICMP"},
        ],
    }));
    let slice = slice.unwrap();
    let kept: Vec<_> = slice
        .ports
        .iter()
        .map(|p| format!("{} {}/{}", p.name, p.port, p.protocol))
        .collect();
    assert_eq!(kept, ["http 80/TCP", " 81/TCP"]);
    expect![[r#"
        EndpointSlice demo/web-1: ports[2].name: must be set, to "" for the unnamed port
        EndpointSlice demo/web-1: ports[3].name: must be set, to "" for the unnamed port
        EndpointSlice demo/web-1: ports[4].port: must be set
        EndpointSlice demo/web-1: ports[5].port: must be 1 to 65535, is 0
        EndpointSlice demo/web-1: ports[6].protocol: must be TCP, UDP or SCTP, is "ICMP"
    "#]]
    .assert_eq(&diagnostics);
}

#[test]
fn b042_b223_slices_that_no_proxy_can_use() {
    let (object, diagnostics) = slice(json!({"addressType": "FQDN"}));
    assert_eq!(object, None);
    assert_eq!(
        diagnostics,
        "EndpointSlice demo/web-1: addressType: must be IPv4 or IPv6, is \"FQDN\"\n"
    );
    let wire = read(json!({"metadata": {"name": "web-1"}, "addressType": "IPv4"}));
    let (object, diagnostics) = Conversion::default().endpoint_slice(&wire);
    assert_eq!(object, None);
    assert_eq!(
        diagnostics[0].field,
        "metadata.labels[kubernetes.io/service-name]"
    );
    assert_eq!(diagnostics[0].reason, DiagnosticReason::Required);
}

#[test]
fn equal_extras_and_names_are_allocated_once() {
    let endpoint = |pod: &str| {
        json!({
            "addresses": ["10.64.1.1"], "zone": "za", "nodeName": "n1",
            "targetRef": {"kind": "Pod", "name": pod},
        })
    };
    let json = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [endpoint("a"), endpoint("b")],
    });
    let mut forwarding = Conversion::new(PodNames::Drop);
    let slice = forwarding.endpoint_slice(&read(json.clone())).0.unwrap();
    let extras: Vec<_> = slice.endpoints.iter().flat_map(|e| &e.extra).collect();
    assert!(alloc::sync::Arc::ptr_eq(extras[0], extras[1]));
    assert_eq!(extras[0].pod, None);
    let again = forwarding.endpoint_slice(&read(json.clone())).0.unwrap();
    let node = |slice: &object::EndpointSlice| slice.endpoints[0].node.clone().unwrap();
    assert!(alloc::sync::Arc::ptr_eq(&node(&slice), &node(&again)));

    let kept = Conversion::default().endpoint_slice(&read(json)).0.unwrap();
    let pods = kept.endpoints.iter().flat_map(|e| &e.extra);
    let pods: Vec<_> = pods.map(|extra| extra.pod.clone().unwrap()).collect();
    assert_eq!(texts(&pods), ["a", "b"]);
}

#[test]
fn unused_names_are_forgotten() {
    let mut conversion = Conversion::default();
    let name = |name: &str| read(json!({"metadata": {"name": name}}));
    let (kept, _) = conversion.node(&name("kept"));
    conversion.node(&name("gone"));
    conversion.forget_unused_names();
    let (again, _) = conversion.node(&name("kept"));
    let (kept, again) = (kept.unwrap(), again.unwrap());
    assert!(alloc::sync::Arc::ptr_eq(&kept.name, &again.name));
    assert_eq!(alloc::sync::Arc::strong_count(&kept.name), 3);
}

fn service(spec: Json) -> (object::Service, String) {
    let (service, diagnostics) =
        convert_service(json!({"metadata": {"name": "web", "namespace": "demo"}, "spec": spec}));
    (service.unwrap(), diagnostics)
}

fn convert_service(json: Json) -> (Option<object::Service>, String) {
    let (service, diagnostics) = Conversion::default().service(&read(json));
    (service, lines(&diagnostics))
}

#[test]
fn b235_a_slice_with_an_unreadable_trigger_time_is_one_without() {
    let read = |time: &str| {
        let json = json!({
            "metadata": {
                "name": "web-1",
                "namespace": "demo",
                "labels": {"kubernetes.io/service-name": "web"},
                "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": time},
            },
            "addressType": "IPv4",
        });
        let (slice, diagnostics) = Conversion::default().endpoint_slice(&read(json));
        assert_eq!(lines(&diagnostics), "");
        slice.unwrap().trigger_time
    };
    assert_eq!(read("2026-01-05T08:00:00.123456789Z"), Some(1_767_600_000));
    assert_eq!(read("soon"), None);
}

fn slice(mut json: Json) -> (Option<object::EndpointSlice>, String) {
    json["metadata"] = json!({
        "name": "web-1",
        "namespace": "demo",
        "labels": {"kubernetes.io/service-name": "web"},
    });
    let wire: wire::EndpointSlice = read(json);
    let (slice, diagnostics) = Conversion::default().endpoint_slice(&wire);
    (slice, lines(&diagnostics))
}

fn read<T: serde::de::DeserializeOwned>(json: Json) -> T {
    serde_json::from_value(json).unwrap()
}

fn lines(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|d| format!("{d}\n")).collect()
}

fn texts<T: ToString + Debug>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}
