//! The rules of updates.

use alloc::string::String;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::fixture::{patched, text, with_spec};
use super::*;
use crate::wire::Service;

/// A stored Service: prepared, defaulted, with what was allocated in the patch.
fn stored(spec: Value) -> Service {
    let mut service = with_spec(spec);
    assert_eq!(create(&mut service).err(), None);
    service
}

/// Errors of an update from one spec to another.
#[track_caller]
fn check(before: Value, after: Value, expected: Expect) {
    let errors = update(&stored(before), &mut with_spec(after)).err();
    expected.assert_eq(&text(&errors.unwrap_or_default()));
}

/// The spec that an update leads to, without the fields that all have.
fn updated(before: Value, after: Value) -> String {
    let mut after = with_spec(after);
    assert_eq!(update(&stored(before), &mut after).err(), None);
    let mut value = serde_json::to_value(&after.spec).unwrap();
    let spec = value.as_object_mut().unwrap();
    for same in ["selector", "sessionAffinity", "internalTrafficPolicy"] {
        spec.remove(same);
    }
    serde_json::to_string(&value).unwrap()
}

fn ips(ips: &[&str], policy: &str) -> Value {
    json!({"clusterIP": ips[0], "clusterIPs": ips, "ipFamilyPolicy": policy})
}

#[test]
fn b361_addresses_stay() {
    let single = ips(&["10.96.0.1"], "SingleStack");
    let dual = ips(&["10.96.0.1", "fd00::1"], "PreferDualStack");
    check(
        single.clone(),
        ips(&["10.96.0.2"], "SingleStack"),
        expect![[r#"
        spec.clusterIPs[0]: invalid: ["10.96.0.2"]: may not change once set
    "#]],
    );
    check(
        dual.clone(),
        ips(&["10.96.0.1", "fd00::2"], "PreferDualStack"),
        expect![[r#"
        spec.clusterIPs[1]: invalid: ["10.96.0.1", "fd00::2"]: may not change once set
    "#]],
    );
    // A second one may come, and go with the right policy.
    check(single.clone(), dual.clone(), expect![""]);
    check(dual.clone(), single, expect![""]);
    check(
        dual.clone(),
        ips(&["10.96.0.1"], "PreferDualStack"),
        expect![[r#"
        spec.ipFamilyPolicy: invalid: "PreferDualStack": must be SingleStack to release the secondary address
    "#]],
    );
    check(
        dual,
        ips(&["10.96.0.9"], "SingleStack"),
        expect![[r#"
        spec.clusterIPs[0]: invalid: ["10.96.0.9"]: may not change once set
    "#]],
    );
    // Headless is an address, too.
    let headless = json!({"clusterIP": "None", "clusterIPs": ["None"]});
    check(
        json!({"clusterIP": "10.96.0.1"}),
        headless,
        expect![[r#"
        spec.clusterIPs[0]: invalid: ["None"]: may not change once set
    "#]],
    );
    // The single field alone does not say that the other one is to go (B-368).
    check(
        json!({"clusterIP": "10.96.0.1"}),
        json!({"clusterIP": "None"}),
        expect![[r#"
        spec.clusterIPs: invalid: ["10.96.0.1"]: the first value must be that of clusterIP
    "#]],
    );
}

#[test]
fn b361_external_name_is_exempt() {
    let external = json!({"type": "ExternalName", "externalName": "a.example"});
    check(
        json!({"clusterIP": "10.96.0.1"}),
        external.clone(),
        expect![""],
    );
    check(external, json!({"clusterIP": "10.96.0.1"}), expect![""]);
}

#[test]
fn b362_families_stay() {
    let families =
        |families: &[&str], policy: &str| json!({"ipFamilies": families, "ipFamilyPolicy": policy});
    let (single, dual) = ("SingleStack", "PreferDualStack");
    check(
        families(&["IPv4"], single),
        families(&["IPv6"], single),
        expect![[r#"
        spec.ipFamilies[0]: invalid: ["IPv6"]: may not change once set
    "#]],
    );
    check(
        families(&["IPv4"], single),
        families(&["IPv4", "IPv6"], dual),
        expect![""],
    );
    check(
        families(&["IPv4", "IPv6"], dual),
        families(&["IPv4"], single),
        expect![""],
    );
    check(
        families(&["IPv4", "IPv6"], dual),
        families(&["IPv4"], dual),
        expect![[r#"
        spec.ipFamilyPolicy: invalid: "PreferDualStack": must be SingleStack to release the secondary family
    "#]],
    );
    // Of a headless Service they may change.
    let headless = |families: &[&str]| json!({"clusterIP": "None", "ipFamilies": families});
    check(headless(&["IPv4"]), headless(&["IPv6"]), expect![""]);
}

#[test]
fn b348_b365_stored_values_keep_their_form_but_not_their_meaning() {
    let with = |ips: &[&str]| {
        let mut service = with_spec(json!({"externalIPs": ips}));
        default_service(&mut service);
        service
    };
    let before = with(&["010.0.0.1", "127.0.0.1"]);
    let errors = service_update(
        &before,
        &with(&["010.0.0.1", "127.0.0.1", "010.0.0.2"]),
        Allocation::Done,
    );
    expect![[r#"
        spec.externalIPs[1]: invalid: "127.0.0.1": must not be a loopback address (127.0.0.0/8, ::1)
        spec.externalIPs[2]: invalid: "010.0.0.2": must not have leading zeros, nor be an IPv4-mapped IPv6 address
    "#]]
    .assert_eq(&text(&errors));
}

#[test]
fn b350_a_stored_annotation_is_not_checked_again() {
    let key = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let with = |ranges: &str| {
        let mut service = patched(json!({
            "metadata": {"annotations": {key: ranges}},
            "spec": {"type": "LoadBalancer"},
        }));
        default_service(&mut service);
        service
    };
    assert_eq!(service_update(&with("x"), &with("x"), Allocation::Done), []);
    assert_eq!(
        service_update(&with("x"), &with("y"), Allocation::Done).len(),
        1
    );
}

#[test]
fn b352_the_class_stays_while_the_type_does() {
    let class = |class: &str| json!({"type": "LoadBalancer", "loadBalancerClass": class});
    check(
        class("a"),
        class("b"),
        expect![[r#"
        spec.loadBalancerClass: invalid: "b": may not change once set
    "#]],
    );
    check(json!({"type": "NodePort"}), class("b"), expect![""]);
}

#[test]
fn b354_the_health_check_port_stays_while_needed() {
    let local = |port: u16| json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": port});
    check(
        local(30001),
        local(30002),
        expect![[r#"
        spec.healthCheckNodePort: forbidden: may not change
    "#]],
    );
}

#[test]
fn b366_a_stored_name_is_not_checked_again() {
    let named = |name: &str| patched(json!({"metadata": {"name": name}}));
    let mut old = named("Old_Name");
    default_service(&mut old);
    assert_eq!(update(&old, &mut named("Old_Name")), Ok([].into()));
    let errors = update(&old, &mut named("new")).unwrap_err();
    expect![[r#"
        metadata.name: invalid: "new": may not change
    "#]]
    .assert_eq(&text(&errors));
}

#[test]
fn b367_fields_without_use_are_dropped_if_they_were_not_touched() {
    let balanced = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
        "allocateLoadBalancerNodePorts": true, "loadBalancerClass": "a",
        "clusterIP": "10.96.0.1", "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
        "ports": [{"port": 80, "nodePort": 30080}],
    });
    // As `kubectl edit` does: only the type differs.
    let with_type = |service_type: &str| {
        let mut after = balanced.clone();
        after["type"] = service_type.into();
        after
    };
    expect![[r#"{"type":"ClusterIP","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"protocol":"TCP","port":80,"targetPort":80}]}"#]]
        .assert_eq(&updated(balanced.clone(), with_type("ClusterIP")));
    expect![[r#"{"type":"NodePort","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"ipFamilies":["IPv4"],"ipFamilyPolicy":"SingleStack","ports":[{"protocol":"TCP","port":80,"targetPort":80,"nodePort":30080}],"externalTrafficPolicy":"Local"}"#]]
        .assert_eq(&updated(balanced.clone(), with_type("NodePort")));
    let mut external = with_type("ExternalName");
    external["externalName"] = "a.example".into();
    external["clusterIPs"] = json!(["10.96.0.1"]);
    expect![[r#"{"type":"ExternalName","ports":[{"protocol":"TCP","port":80,"targetPort":80}],"externalName":"a.example"}"#]]
        .assert_eq(&updated(balanced.clone(), external));
    // What was touched has to be right.
    let mut touched = with_type("ClusterIP");
    touched["ports"][0]["nodePort"] = 30081.into();
    check(
        balanced,
        touched,
        expect![[r#"
        spec.ports[0].nodePort: forbidden: not of type ClusterIP
    "#]],
    );
}

#[test]
fn b367_the_ingress_status_goes_with_the_type() {
    let with = |service_type: &str| {
        patched(json!({
            "spec": {"type": service_type},
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}},
        }))
    };
    let mut after = with("NodePort");
    update(&with("LoadBalancer"), &mut after).unwrap();
    assert_eq!(serde_json::to_string(&after.status).unwrap(), "{}");
}

#[test]
fn b368_cluster_ip_and_cluster_ips_are_linked() {
    // An old client sends the single field alone.
    let dual = ips(&["10.96.0.1", "fd00::1"], "PreferDualStack");
    let single = json!({"clusterIP": "10.96.0.1", "ipFamilyPolicy": "PreferDualStack"});
    assert!(updated(dual.clone(), single).contains(r#""clusterIPs":["10.96.0.1","fd00::1"]"#));
    // One that changes it changes the other: and that is refused.
    let mut changed = ips(&["10.96.0.1"], "SingleStack");
    changed["clusterIP"] = "10.96.0.9".into();
    check(
        ips(&["10.96.0.1"], "SingleStack"),
        changed,
        expect![[r#"
        spec.clusterIPs[0]: invalid: ["10.96.0.9"]: may not change once set
    "#]],
    );
    // Clearing it clears the other, and then both are taken over (B-369).
    let mut cleared = dual.clone();
    cleared["clusterIP"] = "".into();
    assert!(updated(dual, cleared).contains(r#""clusterIPs":["10.96.0.1","fd00::1"]"#));
}

#[test]
fn b369_allocated_values_are_taken_over() {
    let before = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 30001,
        "clusterIP": "10.96.0.1",
        "ports": [{"name": "a", "port": 80, "nodePort": 30080}, {"name": "b", "port": 81, "nodePort": 30081}],
    });
    // The manifest as it was written.
    let after = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "a", "port": 8080}, {"name": "b", "port": 81}],
    });
    expect![[r#"{"type":"LoadBalancer","clusterIP":"10.96.0.1","clusterIPs":["10.96.0.1"],"ports":[{"name":"a","protocol":"TCP","port":8080,"targetPort":8080,"nodePort":30080},{"name":"b","protocol":"TCP","port":81,"targetPort":81,"nodePort":30081}],"allocateLoadBalancerNodePorts":true,"healthCheckNodePort":30001,"externalTrafficPolicy":"Local"}"#]]
        .assert_eq(&updated(before.clone(), after));
    // A number that the update gives to another port is not taken over.
    let swapped = json!({
        "type": "LoadBalancer", "externalTrafficPolicy": "Local",
        "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 81, "nodePort": 30080}],
    });
    let text = updated(before, swapped);
    assert!(
        text.contains(r#"{"name":"a","protocol":"TCP","port":80,"targetPort":80}"#),
        "{text}"
    );
}
