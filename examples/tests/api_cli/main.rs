//! Commands that show what the API server and the controllers would do, on a folder of manifests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod expose;
mod unreadable;
mod yaml;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use examples::manifest::{self, Source};
use expect_test::{Expect, expect};
use serde_json::{Value, json};

const MANIFESTS: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: demo, labels: {app: web, tier: \"1\"}}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: c
        image: nginx
        ports: [{name: http, containerPort: 8080}, {containerPort: 53, protocol: UDP}, {containerPort: 53}]
---
apiVersion: v1
kind: Service
metadata:
  name: web
  namespace: demo
  labels: {app: web, tier: front}
  annotations: {example.com/note: \"80\"}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.10
  selector: {app: web}
  sessionAffinity: ClientIP
  externalTrafficPolicy: Local
  healthCheckNodePort: 30099
  ports:
  - {name: http, port: 80, targetPort: http, nodePort: 30080}
  - {name: dns, port: 53, protocol: UDP, nodePort: 30053}
status: {loadBalancer: {ingress: [{ip: 203.0.113.7}]}}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: demo}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: away, namespace: demo}
spec: {type: ExternalName, externalName: example.com}
---
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: z1}}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
---
apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: demo, labels: {app: web}}
spec: {nodeName: n1, containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {phase: Running, podIP: 10.64.1.1, podIPs: [{ip: 10.64.1.1}], conditions: [{type: Ready, status: \"True\"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web-2, namespace: demo, labels: {app: web}}
spec: {nodeName: n2, containers: [{name: c, ports: [{name: http, containerPort: 8081}]}]}
status: {phase: Running, podIP: 10.64.2.1, podIPs: [{ip: 10.64.2.1}], conditions: [{type: Ready, status: \"False\"}]}
";

#[test]
fn validate_tells_every_error_and_warning() {
    let bad = "apiVersion: v1
kind: Service
metadata: {name: Bad, namespace: demo}
spec: {type: Other, sessionAffinity: Sticky, ports: [{port: 0}, {port: 80, protocol: ICMP}]}
";
    let folder = folder("validate", &[("a.yaml", MANIFESTS), ("bad.yaml", bad)]);
    let output = svcctl(&["validate"], &folder);
    assert_eq!(stderr(&output), "");
    assert_eq!(output.status.code(), Some(1));
    expect![[r#"
        demo/Bad: 8 errors
          error: metadata.name: invalid: "Bad": a DNS label: at most 63 lower-case letters, digits and hyphens, no hyphen at either end
          error: spec.ports[0].name: required: a name, as there are several ports
          error: spec.ports[0].port: invalid: 0: between 1 and 65535
          error: spec.ports[0].targetPort: invalid: 0: between 1 and 65535
          error: spec.ports[1].name: required: a name, as there are several ports
          error: spec.ports[1].protocol: not supported: "ICMP": one of SCTP, TCP, UDP
          error: spec.sessionAffinity: not supported: "Sticky": one of ClientIP, None
          error: spec.type: not supported: "Other": one of ClusterIP, ExternalName, LoadBalancer, NodePort
        demo/away: valid
        demo/none: valid
        demo/web: valid
    "#]].assert_eq(&stdout(&output));
    let output = svcctl(&["validate", "-o", "json"], &folder);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["services"][0]["service"], "demo/Bad");
    assert_eq!(list["services"][0]["valid"], false);
    assert_eq!(list["services"][1]["errors"], json!([]));
}

#[test]
fn validate_of_good_services_ends_well() {
    let output = svcctl(&["validate"], &folder("valid", &[("a.yaml", MANIFESTS)]));
    assert!(output.status.success());
    assert_eq!(
        stdout(&output),
        "demo/away: valid\ndemo/none: valid\ndemo/web: valid\n"
    );
}

#[test]
fn validate_lets_pass_what_an_api_server_does_not_look_at() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, loadBalancerIP: any, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: x}]}}
";
    let output = svcctl(&["validate"], &folder("passes", &[("a.yaml", text)]));
    assert_eq!(stdout(&output), "default/web: valid\n");
    let told = stderr(&output);
    assert_eq!(told.lines().count(), 2, "{told}");
    assert!(
        told.lines().all(|line| line.starts_with("warning: ")),
        "{told}"
    );
    assert!(output.status.success());
}

#[test]
fn endpoints_prints_slices_that_read_back() {
    let folder = folder("endpoints", &[("a.yaml", MANIFESTS)]);
    let output = check(
        &["endpoints", "demo/web"],
        &folder,
        expect![[r#"
        addressType: IPv4
        apiVersion: discovery.k8s.io/v1
        endpoints:
        - addresses:
          - 10.64.1.1
          conditions:
            ready: true
            serving: true
            terminating: false
          nodeName: n1
          targetRef:
            kind: Pod
            name: web-1
            namespace: demo
          zone: z1
        kind: EndpointSlice
        metadata:
          labels:
            app: web
            endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
            kubernetes.io/service-name: web
            tier: front
          name: web-ipv4-00000
          namespace: demo
        ports:
        - name: http
          port: 8080
          protocol: TCP
        - name: dns
          port: 53
          protocol: UDP
        ---
        addressType: IPv4
        apiVersion: discovery.k8s.io/v1
        endpoints:
        - addresses:
          - 10.64.2.1
          conditions:
            ready: false
            serving: false
            terminating: false
          nodeName: n2
          targetRef:
            kind: Pod
            name: web-2
            namespace: demo
        kind: EndpointSlice
        metadata:
          labels:
            app: web
            endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
            kubernetes.io/service-name: web
            tier: front
          name: web-ipv4-00001
          namespace: demo
        ports:
        - name: http
          port: 8081
          protocol: TCP
        - name: dns
          port: 53
          protocol: UDP
    "#]],
    );
    let text = stdout(&output);
    let mut input = text.as_bytes();
    let read = manifest::read_with_stdin(&[Source::Stdin], &mut input);
    assert_eq!((read.problems, read.diagnostics), (vec![], vec![]));
    assert_eq!(read.endpoint_slices.len(), 2);
    let output = svcctl(&["endpoints", "-o", "json"], &folder);
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(list["kind"], "List");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(4));
}

#[test]
fn b407_without_nodes_pods_are_endpoints_all_the_same() {
    let objects = MANIFESTS.split("---\n");
    let objects: Vec<&str> = objects
        .filter(|one| !one.contains("kind: Node\n"))
        .collect();
    let folder = folder("nodeless", &[("a.yaml", &objects.join("---\n"))]);
    let output = svcctl(
        &["get", "endpointslices", "-n", "demo", "-o", "wide"],
        &folder,
    );
    assert_eq!(stderr(&output), "");
    let text = stdout(&output);
    assert_eq!(text.matches("10.64.1.1").count(), 2, "{text}");
    assert_eq!(text.matches("10.64.2.1").count(), 2, "{text}");
    let output = svcctl(&["describe", "service", "web", "-n", "demo"], &folder);
    let text = stdout(&output);
    assert!(text.contains("10.64.1.1:8080\n"), "{text}");
    assert!(!text.contains("until Node"), "{text}");
}

#[test]
fn endpoints_mirrors_what_was_made_by_hand() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: db}
spec: {ports: [{port: 5432}]}
---
apiVersion: v1
kind: Endpoints
metadata: {name: db}
subsets: [{addresses: [{ip: 192.0.2.5}], ports: [{port: 5432}]}]
";
    let output = svcctl(
        &["endpoints", "-o", "json"],
        &folder("mirror", &[("a.yaml", text)]),
    );
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        list["items"][0]["endpoints"][0]["addresses"],
        json!(["192.0.2.5"])
    );
    assert_eq!(list["items"][0]["ports"][0]["port"], 5432);
}

#[test]
fn describe_prints_what_a_service_is() {
    let folder = folder("describe", &[("a.yaml", MANIFESTS)]);
    check(
        &["describe", "service", "demo/web"],
        &folder,
        expect![[r#"
        Name:                     web
        Namespace:                demo
        Labels:                   app=web
                                  tier=front
        Annotations:              example.com/note: 80
        Selector:                 app=web
        Type:                     LoadBalancer
        IP Family Policy:         SingleStack
        IP Families:              IPv4
        IP:                       10.96.0.10
        IPs:                      10.96.0.10
        LoadBalancer Ingress:     203.0.113.7 (VIP)
        Port:                     http  80/TCP
        TargetPort:               http/TCP
        NodePort:                 http  30080/TCP
        Endpoints:                10.64.1.1:8080
        Port:                     dns  53/UDP
        TargetPort:               53/UDP
        NodePort:                 dns  30053/UDP
        Endpoints:                10.64.1.1:53
        Session Affinity:         ClientIP
        Affinity Timeout:         10800 s
        External Traffic Policy:  Local
        Internal Traffic Policy:  Cluster
        HealthCheck NodePort:     30099
        Events:                   <none>
    "#]],
    );
}

#[test]
fn describe_shows_diagnostics_as_events() {
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: web-3, namespace: demo, labels: {app: web}}
spec: {nodeName: n3}
status: {phase: Running, podIP: 10.64.3.1}
";
    let folder = folder("events", &[("a.yaml", MANIFESTS), ("pod.yaml", pod)]);
    let output = svcctl(&["describe", "svc", "web", "-n", "demo"], &folder);
    let text = stdout(&output);
    let events = text.find("Events:").map_or("", |at| &text[at..]);
    expect![[r#"
        Events:
          Type      Reason    Message
          ----      ------    -------
          Warning   Invalid   Pod demo/web-3: spec.nodeName: no endpoint of Service demo/web until Node "n3" exists
    "#]].assert_eq(events);
}

#[test]
fn get_prints_tables() {
    let folder = folder("get", &[("a.yaml", MANIFESTS)]);
    check(
        &["get", "pods", "-o", "wide"],
        &folder,
        expect![[r#"
        NAMESPACE   NAME    READY   STATUS    IP          NODE
        demo        web-1   True    Running   10.64.1.1   n1
        demo        web-2   False   Running   10.64.2.1   n2
    "#]],
    );
    check(
        &["get", "pods", "-n", "demo"],
        &folder,
        expect![[r#"
        NAME    READY   STATUS
        web-1   True    Running
        web-2   False   Running
    "#]],
    );
    check(
        &["get", "services", "-o", "wide"],
        &folder,
        expect![[r#"
        NAMESPACE   NAME   TYPE           CLUSTER-IP   EXTERNAL-IP   PORT(S)                     SELECTOR
        demo        away   ExternalName   <none>       example.com   <none>                      <none>
        demo        none   ClusterIP      None         <none>        80/TCP                      app=web
        demo        web    LoadBalancer   10.96.0.10   203.0.113.7   80:30080/TCP,53:30053/UDP   app=web
    "#]],
    );
    check(
        &["get", "endpointslices"],
        &folder,
        expect![[r#"
        NAMESPACE   NAME              ADDRESSTYPE   PORTS     ENDPOINTS
        demo        none-ipv4-00000   IPv4          8080      10.64.1.1
        demo        none-ipv4-00001   IPv4          8081      10.64.2.1
        demo        web-ipv4-00000    IPv4          8080,53   10.64.1.1
        demo        web-ipv4-00001    IPv4          8081,53   10.64.2.1
    "#]],
    );
    check(
        &["get", "endpointslices", "-o", "wide"],
        &folder,
        expect![[r#"
            NAMESPACE   NAME              ADDRESSTYPE   PORTS     ENDPOINTS   SERVICE   NODES
            demo        none-ipv4-00000   IPv4          8080      10.64.1.1   none      n1
            demo        none-ipv4-00001   IPv4          8081      10.64.2.1   none      n2
            demo        web-ipv4-00000    IPv4          8080,53   10.64.1.1   web       n1
            demo        web-ipv4-00001    IPv4          8081,53   10.64.2.1   web       n2
        "#]],
    );
}

#[test]
fn load_balancers_may_have_names_for_addresses() {
    let text = "apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  {type: LoadBalancer, clusterIP: 10.96.0.9, selector: {app: web}, ports: [{port: 80, nodePort: 30080}]}
status:
  loadBalancer:
    ingress: [{ip: 192.0.2.1, hostname: one.example}, {hostname: lb-7.eu.example}]
";
    let folder = folder("names", &[("a.yaml", text)]);
    check(
        &["get", "services"],
        &folder,
        expect![[r#"
        NAMESPACE   NAME   TYPE           CLUSTER-IP   EXTERNAL-IP                 PORT(S)
        default     web    LoadBalancer   10.96.0.9    192.0.2.1,lb-7.eu.example   80:30080/TCP
    "#]],
    );
    let output = svcctl(&["describe", "service", "web"], &folder);
    let line = "LoadBalancer Ingress:     192.0.2.1 (VIP), lb-7.eu.example\n";
    assert!(stdout(&output).contains(line), "{}", stdout(&output));
}

#[test]
fn what_does_not_exist_is_named_in_one_line() {
    let folder = folder("unknown", &[("a.yaml", MANIFESTS)]);
    for (arguments, name) in [
        (
            &["expose", "deploy/nope", "--port=80"][..],
            "Deployment nope",
        ),
        (
            &["expose", "deploy/web", "-n", "other"],
            "Deployment other/web",
        ),
        (&["describe", "svc", "demo/nope"], "Service demo/nope"),
        (&["endpoints", "demo/nope"], "Service demo/nope"),
    ] {
        let output = svcctl(arguments, &folder);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let expected = format!("error: there is no {name} in the manifests\n");
        assert_eq!(stderr(&output), expected);
        assert_eq!(stdout(&output), "");
    }
}

#[test]
fn files_that_cannot_be_read_are_one_line_and_fail() {
    let folder = folder(
        "broken",
        &[("a.yaml", MANIFESTS), ("b.yaml", "kind: [Service\n  nope")],
    );
    for arguments in [
        &["validate"][..],
        &["endpoints"],
        &["describe", "svc", "demo/web"],
        &["get", "pods"],
        &["expose", "deploy/web", "--port=80"],
    ] {
        let output = svcctl(arguments, &folder);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
        assert!(stderr(&output).contains("b.yaml:"), "{}", stderr(&output));
        assert!(!stdout(&output).is_empty(), "{arguments:?}: the rest works");
    }
}

fn check(arguments: &[&str], folder: &Path, expected: Expect) -> Output {
    let output = svcctl(arguments, folder);
    assert_eq!(stderr(&output), "", "{arguments:?}");
    assert!(output.status.success(), "{arguments:?}");
    expected.assert_eq(&stdout(&output));
    output
}

fn svcctl(arguments: &[&str], manifests: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_svcctl"))
        .args(arguments)
        .arg("--manifests")
        .arg(manifests)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let folder = root.join("api_cli").join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        fs::write(folder.join(file), text).unwrap();
    }
    folder
}
