//! The rules of new Services.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::fixture::{
    check, check_valid, check_warnings, defaulted, patched, read, text, with_spec,
};
use super::*;
use crate::wire::{Field, Service};

#[test]
fn b334_defaults() {
    expect![[r#"{"type":"ClusterIP","ports":[{"protocol":"TCP","port":80,"targetPort":80}],"selector":{"app":"web"},"sessionAffinity":"None","internalTrafficPolicy":"Cluster"}"#]]
        .assert_eq(&defaulted(json!({})));
    expect![[r#"{"type":"LoadBalancer","ports":[{"protocol":"UDP","port":53,"targetPort":"dns"}],"selector":{"app":"web"},"sessionAffinity":"None","internalTrafficPolicy":"Cluster","externalTrafficPolicy":"Cluster","allocateLoadBalancerNodePorts":true}"#]]
        .assert_eq(&defaulted(json!({
            "type": "LoadBalancer",
            "ports": [{"port": 53, "protocol": "UDP", "targetPort": "dns"}],
        })));
    expect![[r#"{"type":"ExternalName","ports":[{"protocol":"TCP","port":80,"targetPort":80}],"selector":{"app":"web"},"externalName":"a.example","sessionAffinity":"None"}"#]]
        .assert_eq(&defaulted(json!({"type": "ExternalName", "externalName": "a.example"})));
    // External addresses make a ClusterIP Service externally accessible.
    assert!(
        defaulted(json!({"externalIPs": ["192.0.2.1"]}))
            .contains(r#""externalTrafficPolicy":"Cluster""#)
    );
    // Empty target ports are unset ones.
    for target_port in [json!(0), json!("")] {
        let text = defaulted(json!({"ports": [{"port": 80, "targetPort": target_port}]}));
        assert!(text.contains(r#""targetPort":80"#), "{text}");
    }
}

#[test]
fn b334_client_ip_affinity_lasts_three_hours() {
    for config in [Value::Null, json!({}), json!({"clientIP": {}})] {
        let spec = json!({"sessionAffinity": "ClientIP", "sessionAffinityConfig": config});
        let text = defaulted(spec);
        assert!(
            text.contains(r#"{"clientIP":{"timeoutSeconds":10800}}"#),
            "{text}"
        );
    }
    let spec = json!({
        "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}},
    });
    assert!(defaulted(spec).contains(r#""timeoutSeconds":5"#));
}

#[test]
fn b334_ingress_addresses_are_virtual() {
    let mut service = patched(json!({
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}, {"hostname": "a.example"}]}},
    }));
    default_service(&mut service);
    let text = serde_json::to_string(&service.status).unwrap();
    expect![[r#"{"loadBalancer":{"ingress":[{"ip":"192.0.2.1","ipMode":"VIP"},{"hostname":"a.example"}]}}"#]]
        .assert_eq(&text);
}

#[test]
fn b335_configuration_without_affinity_is_dropped() {
    let spec = json!({"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 5}}});
    assert!(!defaulted(spec.clone()).contains("sessionAffinityConfig"));
    check_valid(spec);
}

#[test]
fn b336_ports_are_needed_unless_headless_or_external_name() {
    check(
        json!({"ports": null}),
        expect![[r#"
        spec.ports: required: at least one port
    "#]],
    );
    check_valid(json!({"ports": null, "clusterIP": "None"}));
    check_valid(json!({"ports": null, "type": "ExternalName", "externalName": "a.example"}));
}

#[test]
fn b337_headless_is_of_type_cluster_ip() {
    check(
        json!({"type": "LoadBalancer", "clusterIP": "None"}),
        expect![[r#"
        spec.clusterIPs[0]: invalid: "None": not None of type LoadBalancer or NodePort
    "#]],
    );
    check(
        json!({"type": "NodePort", "clusterIP": "None"}),
        expect![[r#"
        spec.clusterIPs[0]: invalid: "None": not None of type LoadBalancer or NodePort
    "#]],
    );
}

#[test]
fn b338_external_name_has_no_addresses() {
    let spec = json!({
        "type": "ExternalName", "externalName": "a.example", "clusterIP": "None",
        "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
    });
    check(
        spec,
        expect![[r#"
        spec.clusterIPs: forbidden: not of type ExternalName
        spec.ipFamilies: forbidden: not of type ExternalName
        spec.ipFamilyPolicy: forbidden: not of type ExternalName
    "#]],
    );
}

#[test]
fn b339_external_names() {
    for name in ["a.example", "a.example.", "a"] {
        check_valid(json!({"type": "ExternalName", "externalName": name}));
    }
    for name in ["", "."] {
        check(
            json!({"type": "ExternalName", "externalName": name}),
            expect![[r#"
            spec.externalName: required: a DNS name
        "#]],
        );
    }
    check(
        json!({"type": "ExternalName", "externalName": "a.example.."}),
        expect![[r#"
        spec.externalName: invalid: "a.example.": a DNS subdomain: at most 253 characters, parts of lower-case letters, digits and hyphens between dots, no hyphen at either end of a part
    "#]],
    );
}

#[test]
fn b340_port_names() {
    check(
        json!({"ports": [{"port": 1}, {"port": 2, "name": "A"}, {"port": 3, "name": "a"}, {"port": 4, "name": "a"}]}),
        expect![[r#"
        spec.ports[0].name: required: a name, as there are several ports
        spec.ports[1].name: invalid: "A": a DNS label: at most 63 lower-case letters, digits and hyphens, no hyphen at either end
        spec.ports[3].name: duplicate: "a"
    "#]],
    );
    check_valid(json!({"ports": [{"port": 1, "name": ""}]}));
}

#[test]
fn b341_port_numbers_and_protocols() {
    check_valid(
        json!({"ports": [{"port": 1, "name": "a", "protocol": "SCTP"}, {"port": 65535, "name": "b", "protocol": "UDP"}]}),
    );
    check(
        json!({"ports": [{"port": 65536, "targetPort": 1, "name": "a"}, {"port": -1, "targetPort": 1, "name": "b", "protocol": "tcp"}]}),
        expect![[r#"
        spec.ports[0].port: invalid: 65536: between 1 and 65535
        spec.ports[1].port: invalid: -1: between 1 and 65535
        spec.ports[1].protocol: not supported: "tcp": one of SCTP, TCP, UDP
    "#]],
    );
    check(
        json!({"ports": [{}]}),
        expect![[r#"
        spec.ports[0].port: invalid: 0: between 1 and 65535
        spec.ports[0].targetPort: invalid: 0: between 1 and 65535
    "#]],
    );
}

#[test]
fn b342_target_ports() {
    check_valid(json!({"ports": [{"port": 80, "targetPort": "http-alt"}]}));
    check(
        json!({"ports": [{"port": 80, "targetPort": 70000}]}),
        expect![[r#"
        spec.ports[0].targetPort: invalid: 70000: between 1 and 65535
    "#]],
    );
    check(
        json!({"ports": [{"port": 80, "targetPort": "8080"}]}),
        expect![[r#"
        spec.ports[0].targetPort: invalid: "8080": a port name: at most 15 lower-case letters, digits and single hyphens, at least one letter, no hyphen at either end
    "#]],
    );
}

#[test]
fn b343_app_protocol() {
    check_valid(json!({"ports": [{"port": 80, "appProtocol": "kubernetes.io/h2c"}]}));
    check(
        json!({"ports": [{"port": 80, "appProtocol": "h2 c"}]}),
        expect![[r#"
        spec.ports[0].appProtocol: invalid: "h2 c": a qualified name: an optional DNS subdomain and a slash, then at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end
    "#]],
    );
}

#[test]
fn b344_ports_stand_once_per_protocol() {
    let port = |name: &str, protocol: &str, node_port: u16| json!({"name": name, "port": 53, "protocol": protocol, "nodePort": node_port});
    let ports = [port("a", "TCP", 30053), port("b", "UDP", 30053)];
    check_valid(json!({"type": "NodePort", "ports": ports}));
    let ports = [port("a", "TCP", 30053), port("b", "TCP", 30053)];
    check(
        json!({"type": "NodePort", "ports": ports}),
        expect![[r#"
        spec.ports[1].nodePort: duplicate: 30053
        spec.ports[1]: duplicate: "53/TCP"
    "#]],
    );
}

#[test]
fn b345_no_node_ports_of_type_cluster_ip() {
    check(
        json!({"ports": [{"port": 80, "nodePort": 30080}]}),
        expect![[r#"
        spec.ports[0].nodePort: forbidden: not of type ClusterIP
    "#]],
    );
}

#[test]
fn node_ports_are_port_numbers() {
    for (service_type, number) in [("NodePort", 70_000), ("LoadBalancer", -1)] {
        let mut service = with_spec(json!({
            "type": service_type,
            "ports": [{"port": 80, "nodePort": number}],
        }));
        let errors = create(&mut service).unwrap_err();
        assert_eq!(
            text(&errors),
            format!("spec.ports[0].nodePort: invalid: {number}: between 1 and 65535\n")
        );
    }
    // 0 asks for any, and an ExternalName never gets one.
    check_valid(json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": 0}]}));
    check_valid(json!({
        "type": "ExternalName", "externalName": "example.com",
        "ports": [{"port": 80, "nodePort": 70_000}],
    }));
}

/// What an API server cannot decode is no Service, also where no rule looks at the value.
#[test]
fn fields_without_a_rule_have_a_type_nevertheless() {
    let mut service = patched(json!({
        "metadata": {"creationTimestamp": "yesterday", "deletionTimestamp": 5, "uid": 1,
            "resourceVersion": 7},
        "spec": {"publishNotReadyAddresses": "true"},
        "status": {"loadBalancer": {"ingress": [{"ip": 1, "hostname": [], "ipMode": true}, 5]}},
    }));
    let errors = create(&mut service).unwrap_err();
    expect![[r#"
        metadata.uid: invalid: 1: must be a string
        metadata.resourceVersion: invalid: 7: must be a string
        metadata.creationTimestamp: invalid: "yesterday": a time such as 2026-01-05T08:00:00Z
        metadata.deletionTimestamp: invalid: 5: must be a string
        spec.publishNotReadyAddresses: invalid: "true": must be true or false
        status.loadBalancer.ingress[0].ip: invalid: 1: must be a string
        status.loadBalancer.ingress[0].hostname: invalid: a list: must be a string
        status.loadBalancer.ingress[0].ipMode: invalid: true: must be a string
        status.loadBalancer.ingress[1]: invalid: 5: must be an object
    "#]]
    .assert_eq(&text(&errors));
    let mut service = patched(json!({
        "metadata": {"creationTimestamp": "2026-01-05T08:00:00Z", "uid": "1"},
        "spec": {"publishNotReadyAddresses": true},
        "status": {"loadBalancer": {"ingress": [{"ip": "not an address"}]}},
    }));
    assert_eq!(create(&mut service), Ok([].into()));
}

#[test]
fn b346_selectors() {
    check(
        json!({"selector": {"a b": "c", "d": "-"}}),
        expect![[r#"
        spec.selector: invalid: "a b": a qualified name: an optional DNS subdomain and a slash, then at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end
        spec.selector: invalid: "-": a label value: empty, or at most 63 letters, digits, '-', '_' and '.', a letter or digit at either end
    "#]],
    );
}

#[test]
fn b358_cluster_ip_is_the_first_of_cluster_ips() {
    check_valid(json!({"clusterIP": "10.96.0.1"}));
    check_valid(json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.1"]}));
    check(
        json!({"clusterIP": "10.96.0.1", "clusterIPs": ["10.96.0.2"]}),
        expect![[r#"
        spec.clusterIPs: invalid: ["10.96.0.2"]: the first value must be that of clusterIP
    "#]],
    );
    check(
        json!({"clusterIPs": ["10.96.0.2"]}),
        expect![[r#"
        spec.clusterIPs: invalid: ["10.96.0.2"]: must be empty when clusterIP is
    "#]],
    );
    let errors = text(&service(
        &with_spec(json!({"clusterIP": "10.96.0.1"})),
        Allocation::Done,
    ));
    assert!(errors.contains("spec.clusterIPs: required"), "{errors}");
}

#[test]
fn b359_cluster_ips() {
    let ips = |ips: &[&str]| json!({"clusterIP": ips[0], "clusterIPs": ips});
    check_valid(ips(&["10.96.0.1", "fd00::1"]));
    check(
        ips(&["None", "10.96.0.1"]),
        expect![[r#"
        spec.clusterIPs: invalid: ["None", "10.96.0.1"]: None must be the only value
    "#]],
    );
    check(
        ips(&["10.96.0.1", "fd00::1", "fd00::2"]),
        expect![[r#"
        spec.clusterIPs: invalid: ["10.96.0.1", "fd00::1", "fd00::2"]: at most 2 values
    "#]],
    );
    check(
        ips(&["10.96.0.1", "10.96.0.2"]),
        expect![[r#"
        spec.clusterIPs: invalid: ["10.96.0.1", "10.96.0.2"]: at most one address of each family
    "#]],
    );
    // Malformed values stop the later checks.
    check(
        ips(&["10.96.0.1", "10.96.0"]),
        expect![[r#"
        spec.clusterIPs[1]: invalid: "10.96.0": must be an IP address, such as 10.9.8.7 or 2001:db8::ffff
    "#]],
    );
    check(
        json!({"clusterIP": "10.96.0.1", "ipFamilies": ["IPv6"]}),
        expect![[r#"
        spec.clusterIPs[0]: invalid: "10.96.0.1": must be IPv6, as the entry of ipFamilies says
    "#]],
    );
}

#[test]
fn b360_families_and_policy() {
    check(
        json!({"ipFamilies": ["IPv4", "IPv5", "IPv4"], "ipFamilyPolicy": "Dual"}),
        expect![[r#"
        spec.ipFamilies[1]: not supported: "IPv5": one of IPv4, IPv6
        spec.ipFamilies[2]: duplicate: "IPv4"
        spec.ipFamilyPolicy: not supported: "Dual": one of PreferDualStack, RequireDualStack, SingleStack
    "#]],
    );
    check_valid(json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack"}));
}

#[test]
fn b364_status() {
    let status = |service_type: &str, ingress: Value| {
        let service = patched(json!({
            "spec": {"type": service_type},
            "status": {"loadBalancer": {"ingress": ingress}},
        }));
        text(&service_status(&service))
    };
    let good = json!([{"ip": "192.0.2.1", "ipMode": "Proxy"}, {"hostname": "a.example"}]);
    assert_eq!(status("LoadBalancer", good.clone()), "");
    expect![[r#"
        status.loadBalancer.ingress: forbidden: only of type LoadBalancer
    "#]]
    .assert_eq(&status("NodePort", good));
    expect![[r#"
        status.loadBalancer.ingress[0].ipMode: required: VIP or Proxy
        status.loadBalancer.ingress[1].ipMode: forbidden: not without an ip
        status.loadBalancer.ingress[2].ip: invalid: "x": must be an IP address, such as 10.9.8.7 or 2001:db8::ffff
        status.loadBalancer.ingress[2].ipMode: not supported: "vip": one of Proxy, VIP
        status.loadBalancer.ingress[3].hostname: invalid: "192.0.2.1": must be a DNS name, not an address
    "#]]
    .assert_eq(&status(
        "LoadBalancer",
        json!([
            {"ip": "192.0.2.1"},
            {"ipMode": "VIP", "hostname": "a.example"},
            {"ip": "x", "ipMode": "vip"},
            {"hostname": "192.0.2.1"},
        ]),
    ));
}

#[test]
fn b366_names() {
    let named = |metadata: Value| {
        text(
            &create(&mut patched(json!({"metadata": metadata})))
                .err()
                .unwrap_or_default(),
        )
    };
    assert_eq!(named(json!({"name": "0web"})), "");
    assert_eq!(named(json!({"name": null, "generateName": "web-"})), "");
    assert!(named(json!({"name": "web.a"})).starts_with("metadata.name: invalid"));
    assert!(named(json!({"name": null})).starts_with("metadata.name: required"));
    assert!(named(json!({"namespace": "A"})).starts_with("metadata.namespace: invalid"));
    assert!(named(json!({"labels": {"a": "b c"}})).starts_with("metadata.labels: invalid"));
    assert!(
        named(json!({"annotations": {"a b": ""}})).starts_with("metadata.annotations: invalid")
    );
    assert_eq!(named(json!({"annotations": {"Example.com/a": "b c"}})), "");
    let long = "a".repeat(256 * 1024);
    assert!(
        named(json!({"annotations": {"a": long}})).starts_with("metadata.annotations: too many")
    );
}

#[test]
fn b370_warnings() {
    check_warnings(json!({}), expect![""]);
    check_warnings(
        json!({"externalIPs": ["192.0.2.1"], "trafficDistribution": "PreferClose", "externalName": "a"}),
        expect![[r#"
        spec.externalIPs: warning: deprecated, and not implemented in every cluster
        spec.externalName: warning: ignored of other types than ExternalName
        spec.trafficDistribution: warning: PreferClose is deprecated, use PreferSameZone
    "#]],
    );
    check_warnings(
        json!({"clusterIP": "None", "externalIPs": ["192.0.2.1"], "loadBalancerIP": "192.0.2.1", "sessionAffinity": "ClientIP"}),
        expect![[r#"
        spec.loadBalancerIP: warning: ignored of a headless Service
        spec.externalIPs: warning: ignored of a headless Service
        spec.sessionAffinity: warning: ignored of a headless Service
    "#]],
    );
    check_warnings(
        json!({"clusterIP": "FD00::1", "type": "LoadBalancer", "loadBalancerSourceRanges": ["FD00::/8"]}),
        expect![[r#"
        spec.clusterIPs[0]: warning: "FD00::1" should be written fd00::1
        spec.loadBalancerSourceRanges[0]: warning: "FD00::/8" should be written fd00::/8
    "#]],
    );
}

#[test]
fn every_error_is_reported_with_those_of_wrong_types() {
    let mut service: Service = read(json!({
        "metadata": {"name": 5, "labels": []},
        "spec": {"type": ["NodePort"], "ports": [{"port": "80"}, 7, null], "clusterIPs": "None", "selector": {"a": 1}},
    }));
    let errors = create(&mut service).unwrap_err();
    let fields: Vec<String> = errors.iter().map(ToString::to_string).collect();
    for expected in [
        "metadata.name: invalid: 5: must be a string",
        "spec.type: invalid: a list: must be a string",
        "spec.ports[0].port: invalid: \"80\": must be a whole number",
        "spec.ports[1]: invalid: 7: must be an object",
        "spec.clusterIPs: invalid: \"None\": must be a list",
        "spec.selector[a]: invalid: 1: must be a string",
    ] {
        assert!(
            fields.iter().any(|field| field == expected),
            "{expected}: {fields:#?}"
        );
    }
}

#[test]
fn nothing_panics_without_metadata_and_spec() {
    let mut nothing = Service::default();
    assert!(create(&mut nothing).is_err());
    let mut wrong = Service {
        spec: Field::Wrong("a list".into()),
        metadata: Field::Wrong("5".into()),
        ..Service::default()
    };
    let errors = text(&create(&mut wrong).unwrap_err());
    assert!(errors.contains("spec: invalid: a list"), "{errors}");
    assert!(update(&wrong, &mut nothing).is_err());
}

#[test]
fn b371_endpoint_slices() {
    let check = |patch: Value, expected: Expect| {
        let mut slice = json!({
            "metadata": {"name": "web-1"},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "", "port": 80, "protocol": "TCP"}],
        });
        for (key, value) in patch.as_object().unwrap() {
            slice[key] = value.clone();
        }
        expected.assert_eq(&text(&endpoint_slice(&read(slice))));
    };
    check(json!({}), expect![""]);
    check(
        json!({"addressType": "", "endpoints": []}),
        expect![[r#"
        addressType: required: a type of address
    "#]],
    );
    check(
        json!({"addressType": "IP"}),
        expect![[r#"
        addressType: not supported: "IP": one of FQDN, IPv4, IPv6
    "#]],
    );
    check(
        json!({"endpoints": [{"addresses": []}, {"addresses": ["127.0.0.1", "fd00::1"], "hostname": "A", "nodeName": "_"}]}),
        expect![[r#"
        endpoints[0].addresses: required: at least one address
        endpoints[1].addresses[0]: invalid: "127.0.0.1": must not be a loopback address (127.0.0.0/8, ::1)
        endpoints[1].addresses[1]: invalid: "fd00::1": must be an IPv4 address
        endpoints[1].nodeName: invalid: "_": a DNS subdomain: at most 253 characters, parts of lower-case letters, digits and hyphens between dots, no hyphen at either end of a part
        endpoints[1].hostname: invalid: "A": a DNS label: at most 63 lower-case letters, digits and hyphens, no hyphen at either end
    "#]],
    );
    check(
        json!({"addressType": "IPv6", "endpoints": [{"addresses": ["FD00::1"]}]}),
        expect![[r#"
        endpoints[0].addresses[0]: invalid: "FD00::1": must be an IPv6 address in its shortest form
    "#]],
    );
    check(
        json!({"addressType": "FQDN", "endpoints": [{"addresses": ["a.example."]}, {"addresses": ["a"]}]}),
        expect![[r#"
        endpoints[1].addresses[0]: invalid: "a": a DNS name of at least two parts
    "#]],
    );
    check(
        json!({"ports": [{"name": "a", "protocol": "TCP"}, {"name": "a"}, {"name": "B", "protocol": "tcp"}]}),
        expect![[r#"
        ports[1].name: duplicate: "a"
        ports[1].protocol: required: a protocol
        ports[2].name: invalid: "B": a DNS label: at most 63 lower-case letters, digits and hyphens, no hyphen at either end
        ports[2].protocol: not supported: "tcp": one of SCTP, TCP, UDP
    "#]],
    );
    let hint = |name: &str| json!({"name": name});
    let zones: Vec<Value> = (0..9).map(|i| hint(&format!("z{i}"))).collect();
    check(
        json!({"endpoints": [{"addresses": ["10.0.0.1"], "hints": {"forZones": zones, "forNodes": [hint("n"), hint("n")]}}]}),
        expect![[r#"
        endpoints[0].hints.forZones: too many: 9: at most 8
        endpoints[0].hints.forNodes[1].name: duplicate: "n"
    "#]],
    );
    let many: Vec<Value> = (0..1001)
        .map(|_| json!({"addresses": ["10.0.0.1"]}))
        .collect();
    check(
        json!({"endpoints": many}),
        expect![[r#"
        endpoints: too many: 1001: at most 1000
    "#]],
    );
    let before = read(json!({"metadata": {"name": "a"}, "addressType": "IPv4"}));
    let after = read(json!({"metadata": {"name": "a"}, "addressType": "IPv6"}));
    expect![[r#"
        addressType: invalid: "IPv6": may not change
    "#]]
    .assert_eq(&text(&endpoint_slice_update(&before, &after)));
}
