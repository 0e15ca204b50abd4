//! `svcctl expose`.

use expect_test::expect;
use serde_json::{Value, json};

use super::{MANIFESTS, check, folder, stderr, stdout, svcctl};

/// The expected texts are those of kubectl 1.32 for the same files and flags.
#[test]
fn expose_prints_what_kubectl_prints() {
    let folder = folder("expose", &[("a.yaml", MANIFESTS)]);
    let every = ["expose", "deploy/web", "-n", "demo"];
    check(
        &every,
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          labels:
            app: web
            tier: "1"
          name: web
          namespace: demo
        spec:
          ports:
          - name: port-1
            port: 8080
            protocol: TCP
            targetPort: 8080
          - name: port-2-udp
            port: 53
            protocol: UDP
            targetPort: 53
          - name: port-2-tcp
            port: 53
            protocol: TCP
            targetPort: 53
          selector:
            app: web
        status:
          loadBalancer: {}
    "#]],
    );
    let flags = [
        "expose",
        "deploy/web",
        "-n",
        "demo",
        "--port=80",
        "--type=LoadBalancer",
        "--load-balancer-ip=1.2.3.4",
        "--external-ip=5.6.7.8",
        "--session-affinity=ClientIP",
        "--cluster-ip=10.96.0.9",
        "--name=x",
        "-l",
        "a=b,c=1",
        "--selector=q=true",
        "--protocol=UDP",
        "--target-port=http",
    ];
    check(
        &flags,
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          labels:
            a: b
            c: "1"
          name: x
          namespace: demo
        spec:
          clusterIP: 10.96.0.9
          externalIPs:
          - 5.6.7.8
          loadBalancerIP: 1.2.3.4
          ports:
          - port: 80
            protocol: UDP
            targetPort: http
          selector:
            q: "true"
          sessionAffinity: ClientIP
          type: LoadBalancer
        status:
          loadBalancer: {}
    "#]],
    );
    let service = ["expose", "svc/web", "-n", "demo", "--name=web2"];
    check(
        &service,
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          labels:
            app: web
            tier: front
          name: web2
          namespace: demo
        spec:
          ports:
          - name: port-1
            port: 80
            protocol: TCP
            targetPort: 80
          - name: port-2
            port: 53
            protocol: UDP
            targetPort: 53
          selector:
            app: web
        status:
          loadBalancer: {}
    "#]],
    );
    let pod = ["expose", "po/web-1", "-n", "demo"];
    check(
        &pod,
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          labels:
            app: web
          name: web-1
          namespace: demo
        spec:
          ports:
          - port: 8080
            protocol: TCP
            targetPort: 8080
          selector:
            app: web
        status:
          loadBalancer: {}
    "#]],
    );
}

#[test]
fn expose_takes_the_kinds_that_kubectl_refuses() {
    for (kind, short) in [
        ("DaemonSet", "ds"),
        ("StatefulSet", "sts"),
        ("ReplicaSet", "rs"),
    ] {
        let text = MANIFESTS.replace("kind: Deployment", &format!("kind: {kind}"));
        let folder = folder(short, &[("a.yaml", &text)]);
        let output = svcctl(&["expose", &format!("{short}/web"), "--port=80"], &folder);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = stdout(&output);
        let service: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(service["spec"]["selector"], json!({ "app": "web" }));
        assert_eq!(service["metadata"]["namespace"], "demo");
    }
}

#[test]
fn expose_leaves_out_the_ports_of_sidecars() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      initContainers: [{name: mesh, restartPolicy: Always, ports: [{containerPort: 15090}]}]
      containers: [{name: c, ports: [{containerPort: 80}]}]
";
    let folder = folder("sidecar", &[("a.yaml", text)]);
    check(
        &["expose", "deploy/web"],
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          name: web
        spec:
          ports:
          - port: 80
            protocol: TCP
            targetPort: 80
          selector:
            app: web
        status:
          loadBalancer: {}
    "#]],
    );
}

#[test]
fn expose_makes_headless_services_without_ports() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c}]}}
";
    let folder = folder("portless", &[("a.yaml", text)]);
    check(
        &["expose", "deploy/web", "--cluster-ip=None"],
        &folder,
        expect![[r#"
        apiVersion: v1
        kind: Service
        metadata:
          creationTimestamp: null
          name: web
        spec:
          clusterIP: None
          selector:
            app: web
        status:
          loadBalancer: {}
    "#]],
    );
    let output = svcctl(&["expose", "deploy/web"], &folder);
    assert!(!output.status.success());
    assert!(stderr(&output).contains("--port"), "{}", stderr(&output));
}

#[test]
fn expose_says_what_is_missing_or_refused() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: bare}\nspec: {}\n";
    let folder = folder("refused", &[("a.yaml", MANIFESTS), ("pod.yaml", pod)]);
    for (arguments, word) in [
        (&["expose", "po/bare", "--port=80"][..], "--selector"),
        (&["expose", "po/bare", "--selector=a=b"], "--port"),
        (
            &["expose", "deploy/web", "--port=80", "--type=Other"],
            "spec.type",
        ),
        (
            &["expose", "deploy/web", "--port=80", "--cluster-ip=1.2.3"],
            "spec.clusterIP",
        ),
    ] {
        let output = svcctl(arguments, &folder);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).contains(word), "{}", stderr(&output));
    }
}
