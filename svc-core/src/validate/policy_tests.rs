//! The rules of new Services: affinity, addresses outside the cluster, load balancers and policies.

use expect_test::expect;
use serde_json::{Value, json};

use super::fixture::{check, check_raw, check_valid, patched, read, text, with_spec};
use super::*;
use crate::wire::Service;

#[test]
fn b347_session_affinity() {
    let with_timeout = |seconds: i64| json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": seconds}}});
    check_valid(with_timeout(1));
    check_valid(with_timeout(86_400));
    for seconds in [0, 86_401] {
        let mut service = with_spec(with_timeout(seconds));
        let errors = create(&mut service).unwrap_err();
        assert_eq!(errors[0].detail, "between 1 and 86400", "{seconds}");
    }
    check(
        json!({"sessionAffinity": "Cookie"}),
        expect![[r#"
        spec.sessionAffinity: not supported: "Cookie": one of ClientIP, None
    "#]],
    );
    let raw = |affinity: Value| {
        let mut service = with_spec(json!({}));
        default_service(&mut service);
        let mut value = serde_json::to_value(&service).unwrap();
        let spec = value["spec"].as_object_mut().unwrap();
        spec.insert("sessionAffinity".into(), affinity["type"].clone());
        if !affinity["config"].is_null() {
            spec.insert("sessionAffinityConfig".into(), affinity["config"].clone());
        }
        text(&self::service(&read::<Service>(value), Allocation::Done))
    };
    expect![[r#"
        spec.sessionAffinity: required: None or ClientIP
    "#]]
    .assert_eq(&raw(json!({"type": ""})));
    expect![[r#"
        spec.sessionAffinityConfig: forbidden: not without session affinity
    "#]]
    .assert_eq(&raw(json!({"type": "None", "config": {}})));
    expect![[r#"
        spec.sessionAffinityConfig: required: the configuration of ClientIP
    "#]]
    .assert_eq(&raw(json!({"type": "ClientIP"})));
    expect![[r#"
        spec.sessionAffinityConfig.clientIP.timeoutSeconds: required: a time in seconds
    "#]]
    .assert_eq(&raw(
        json!({"type": "ClientIP", "config": {"clientIP": {}}}),
    ));
}

#[test]
fn b348_external_addresses() {
    check_valid(json!({"externalIPs": ["192.0.2.1", "2001:db8::1"]}));
    check(
        json!({"externalIPs": ["0.0.0.0", "127.0.0.1", "a", "224.0.0.1"]}),
        expect![[r#"
        spec.externalIPs[0]: invalid: "0.0.0.0": must not be the unspecified address
        spec.externalIPs[1]: invalid: "127.0.0.1": must not be a loopback address (127.0.0.0/8, ::1)
        spec.externalIPs[2]: invalid: "a": must be an IP address, such as 10.9.8.7 or 2001:db8::ffff
        spec.externalIPs[3]: invalid: "224.0.0.1": must not be a link-local multicast address (224.0.0.0/24, ff02::/16)
    "#]],
    );
}

#[test]
fn b349_types() {
    check(
        json!({"type": "NodeBalancer"}),
        expect![[r#"
        spec.type: not supported: "NodeBalancer": one of ClusterIP, ExternalName, LoadBalancer, NodePort
    "#]],
    );
}

#[test]
fn rules_of_a_service_that_was_not_defaulted() {
    check_raw(
        json!({}),
        expect![[r#"
        spec.ports[0].protocol: required: a protocol
        spec.ports[0].targetPort: invalid: 0: between 1 and 65535
        spec.sessionAffinity: required: None or ClientIP
        spec.type: required: a type
    "#]],
    );
}

#[test]
fn b350_source_ranges() {
    check_valid(json!({"type": "LoadBalancer", "loadBalancerSourceRanges": [" 10.0.0.0/8 "]}));
    check(
        json!({"type": "NodePort", "loadBalancerSourceRanges": ["10.0.0.0/8", "10.0.0.1/8", "x"]}),
        expect![[r#"
        spec.loadBalancerSourceRanges: forbidden: only of type LoadBalancer
        spec.loadBalancerSourceRanges[1]: invalid: "10.0.0.1/8": must not have bits set beyond the prefix length
        spec.loadBalancerSourceRanges[2]: invalid: "x": must be a range, such as 10.9.8.0/24 or 2001:db8::/64
    "#]],
    );
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let annotated = |spec: Value, ranges: &str| {
        let mut service = patched(json!({
            "metadata": {"annotations": {key: ranges}},
            "spec": spec,
        }));
        text(&create(&mut service).err().unwrap_or_default())
    };
    let balanced = json!({"type": "LoadBalancer"});
    assert_eq!(annotated(balanced.clone(), " 10.0.0.0/8, 192.0.2.0/24"), "");
    assert_eq!(annotated(balanced.clone(), ""), "");
    assert!(annotated(balanced, "10.0.0.0/8,").contains("must be a range"));
    assert!(annotated(json!({}), "10.0.0.0/8").contains("forbidden"));
    // The field counts when both are set.
    let both = json!({"type": "LoadBalancer", "loadBalancerSourceRanges": ["10.0.0.0/8"]});
    assert_eq!(annotated(both, "x"), "");
}

#[test]
fn b351_allocate_load_balancer_node_ports() {
    check(
        json!({"allocateLoadBalancerNodePorts": true}),
        expect![[r#"
        spec.allocateLoadBalancerNodePorts: forbidden: only of type LoadBalancer
    "#]],
    );
    let errors = text(&service(
        &with_spec(json!({"type": "LoadBalancer"})),
        Allocation::Done,
    ));
    assert!(
        errors.contains("spec.allocateLoadBalancerNodePorts: required"),
        "{errors}"
    );
}

#[test]
fn b352_load_balancer_class() {
    check_valid(json!({"type": "LoadBalancer", "loadBalancerClass": "example.com/internal"}));
    check(
        json!({"loadBalancerClass": "a"}),
        expect![[r#"
        spec.loadBalancerClass: forbidden: only of type LoadBalancer
    "#]],
    );
    check(
        json!({"type": "LoadBalancer", "loadBalancerClass": "a/b/c"}),
        expect![[r#"
        spec.loadBalancerClass: invalid: "a/b/c": a qualified name: an optional DNS subdomain and a slash, then at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end
    "#]],
    );
}

#[test]
fn b353_external_traffic_policy() {
    check(
        json!({"externalTrafficPolicy": "Local"}),
        expect![[r#"
        spec.externalTrafficPolicy: invalid: "Local": only of a Service reachable from outside
    "#]],
    );
    check_valid(json!({"externalTrafficPolicy": "Local", "externalIPs": ["192.0.2.1"]}));
    check(
        json!({"type": "NodePort", "externalTrafficPolicy": "Zone"}),
        expect![[r#"
        spec.externalTrafficPolicy: not supported: "Zone": one of Cluster, Local
    "#]],
    );
    let errors = text(&service(
        &with_spec(json!({"type": "NodePort"})),
        Allocation::Done,
    ));
    assert!(
        errors.contains("spec.externalTrafficPolicy: required"),
        "{errors}"
    );
}

#[test]
fn b354_health_check_node_port() {
    check(
        json!({"type": "NodePort", "healthCheckNodePort": 30000}),
        expect![[r#"
        spec.healthCheckNodePort: invalid: 30000: only of type LoadBalancer with externalTrafficPolicy Local
    "#]],
    );
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
    check_valid(local.clone());
    let mut defaulted = with_spec(local);
    default_service(&mut defaulted);
    expect![[r#"
        spec.healthCheckNodePort: required: a port
    "#]]
    .assert_eq(&text(&service(&defaulted, Allocation::Done)));
    check(
        json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 65536}),
        expect![[r#"
        spec.healthCheckNodePort: invalid: 65536: between 1 and 65535
    "#]],
    );
}

#[test]
fn b355_internal_traffic_policy() {
    check(
        json!({"internalTrafficPolicy": "Zone"}),
        expect![[r#"
        spec.internalTrafficPolicy: not supported: "Zone": one of Cluster, Local
    "#]],
    );
    check_valid(
        json!({"type": "ExternalName", "externalName": "a.example", "internalTrafficPolicy": "Local"}),
    );
    let raw = json!({"type": "ClusterIP"});
    let errors = text(&service(&with_spec(raw.clone()), Allocation::Done));
    // With a known type it is required; the defaults give it.
    assert!(
        errors.contains("spec.internalTrafficPolicy: required"),
        "{errors}"
    );
    check_valid(raw);
}

#[test]
fn b356_traffic_distribution() {
    for distribution in ["PreferClose", "PreferSameZone", "PreferSameNode"] {
        check_valid(json!({"trafficDistribution": distribution}));
    }
    check(
        json!({"trafficDistribution": ""}),
        expect![[r#"
        spec.trafficDistribution: not supported: "": one of PreferClose, PreferSameNode, PreferSameZone
    "#]],
    );
}

#[test]
fn b357_topology_annotations_agree() {
    let annotated = |mode: &str| {
        let mut service = patched(json!({"metadata": {"annotations": {
            "service.kubernetes.io/topology-mode": mode,
            "service.kubernetes.io/topology-aware-hints": "auto",
        }}}));
        text(&create(&mut service).err().unwrap_or_default())
    };
    assert_eq!(annotated("auto"), "");
    expect![[r#"
        metadata.annotations[service.kubernetes.io/topology-mode]: invalid: "Disabled": must be that of service.kubernetes.io/topology-aware-hints, as both are set
    "#]]
    .assert_eq(&annotated("Disabled"));
}
