//! `svcctl validate` on Services with a field that cannot be read.

use crate::{folder, stderr, stdout, svcctl};

/// Nothing that reading finds goes lost because the check is silent about it, and nothing is said twice.
#[test]
fn validate_is_not_silent_about_what_cannot_be_read() {
    for (wrong, field) in UNREADABLE {
        let wrong = wrong.replace("PORTS", "ports: [{port: 80}]");
        let text = format!("apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\n{wrong}\n");
        let output = svcctl(&["validate"], &folder("read", &[("a.yaml", &text)]));
        assert_eq!(stderr(&output), "", "{wrong}: said twice");
        assert_eq!(output.status.code(), Some(1), "{wrong}");
        let told = format!("  error: {field}: ");
        assert!(
            stdout(&output).contains(&told),
            "{wrong}: {}",
            stdout(&output)
        );
    }
    for metadata in [
        "creationTimestamp: yesterday",
        "labels: {a: 5}",
        "annotations: {a: 5}",
        "annotations: 5",
    ] {
        let text = format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, {metadata}}}\nspec: {{ports: [{{port: 80}}]}}\n"
        );
        let output = svcctl(&["validate"], &folder("read", &[("a.yaml", &text)]));
        assert_eq!(stderr(&output), "", "{metadata}: said twice");
        assert_eq!(output.status.code(), Some(1), "{metadata}");
    }
}

/// What is wrong in a Service, and the field that has to be named.
const UNREADABLE: [(&str, &str); 28] = [
    (
        "spec: {publishNotReadyAddresses: \"true\", PORTS}",
        "spec.publishNotReadyAddresses",
    ),
    (
        "spec: {type: NodePort, ports: [{port: 80, nodePort: 70000}]}",
        "spec.ports[0].nodePort",
    ),
    (
        "spec: {type: NodePort, ports: [{port: 80, nodePort: -1}]}",
        "spec.ports[0].nodePort",
    ),
    ("spec: {clusterIP: 10.96.0, PORTS}", "spec.clusterIPs[0]"),
    (
        "spec: {clusterIPs: [10.96.0.1, x], clusterIP: 10.96.0.1, PORTS}",
        "spec.clusterIPs[1]",
    ),
    ("spec: {externalIPs: [x], PORTS}", "spec.externalIPs[0]"),
    ("spec: {ipFamilies: [IPv5], PORTS}", "spec.ipFamilies[0]"),
    ("spec: {ipFamilyPolicy: Both, PORTS}", "spec.ipFamilyPolicy"),
    (
        "spec: {ports: [null, {port: 80, name: b}]}",
        "spec.ports[0].port",
    ),
    ("spec: {ports: [{}]}", "spec.ports[0].port"),
    (
        "spec: {ports: [{port: 80, targetPort: 70000}]}",
        "spec.ports[0].targetPort",
    ),
    (
        "spec: {ports: [{port: 80, appProtocol: 5}]}",
        "spec.ports[0].appProtocol",
    ),
    ("spec: {ports: {port: 80}}", "spec.ports"),
    ("spec: {selector: {a: 5}, PORTS}", "spec.selector[a]"),
    ("spec: {sessionAffinity: 5, PORTS}", "spec.sessionAffinity"),
    (
        "spec: {sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, PORTS}",
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
    ),
    (
        "spec: {internalTrafficPolicy: All, PORTS}",
        "spec.internalTrafficPolicy",
    ),
    (
        "spec: {type: NodePort, externalTrafficPolicy: All, PORTS}",
        "spec.externalTrafficPolicy",
    ),
    (
        "spec: {trafficDistribution: Near, PORTS}",
        "spec.trafficDistribution",
    ),
    (
        "spec: {type: LoadBalancer, allocateLoadBalancerNodePorts: 1, PORTS}",
        "spec.allocateLoadBalancerNodePorts",
    ),
    (
        "spec: {type: LoadBalancer, loadBalancerClass: 1, PORTS}",
        "spec.loadBalancerClass",
    ),
    (
        "spec: {type: LoadBalancer, loadBalancerSourceRanges: [x], PORTS}",
        "spec.loadBalancerSourceRanges[0]",
    ),
    (
        "spec: {type: LoadBalancer, loadBalancerIP: 5, PORTS}",
        "spec.loadBalancerIP",
    ),
    (
        "spec: {type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 70000, PORTS}",
        "spec.healthCheckNodePort",
    ),
    ("spec: {type: ExternalName}", "spec.externalName"),
    ("spec: 5", "spec"),
    ("spec: {PORTS}\nstatus: 5", "status"),
    (
        "spec: {PORTS}\nstatus: {loadBalancer: {ingress: [{ip: 5}]}}",
        "status.loadBalancer.ingress[0].ip",
    ),
];
