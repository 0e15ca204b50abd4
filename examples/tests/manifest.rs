//! Manifests: files in; objects, problems and remarks out.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use examples::manifest::{Manifests, Source, read, read_value, read_with_stdin};
use expect_test::{Expect, expect};
use svc_core::config::{self, ModeChoice};

const SERVICE: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec: {clusterIP: 10.96.0.41, ports: [{port: 80}]}
";

#[test]
fn a_broken_document_costs_only_itself() {
    check(
        &format!("{SERVICE}---\na: [1, 2\n---\n{SERVICE}"),
        expect![[r#"
            1 service
            x.yaml:6:4: unclosed bracket '['
            x.yaml: Service demo/web: metadata.name: stands twice; the earlier one, in x.yaml, is not used
        "#]],
    );
}

#[test]
fn problems_name_line_and_column() {
    check(
        "kind: Service\nkind: Pod\n",
        expect![[r#"
            x.yaml:2:1: duplicate mapping key `kind` is not allowed here
        "#]],
    );
    check(
        "# comment\n---\nkind: Service\nmetadata:\n\tname: web\n",
        expect![[r#"
            x.yaml:5:2: tabs disallowed within this context (block indentation)
        "#]],
    );
    check(
        "kind: Service\nspec: a: b\n",
        expect![[r#"
            x.yaml:2:8: mapping values are not allowed in this context
        "#]],
    );
    check(
        "just text\n---\n- a\n---\n17\n",
        expect![[r#"
            x.yaml:1: must be a Kubernetes object, is "just text"
            x.yaml:3: must be a Kubernetes object, is a list
            x.yaml:5: must be a Kubernetes object, is 17.0
        "#]],
    );
    check(
        "metadata: {name: x}\n---\nkind: Service\n",
        expect![[r#"
            x.yaml:1: the object has no kind
            x.yaml:3: the object has no apiVersion
        "#]],
    );
    check(
        "a: *nope\n",
        expect![[r#"
            x.yaml:1:4: reference to unknown value
        "#]],
    );
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let mut bytes = SERVICE.as_bytes().to_vec();
    bytes.extend(b"---\nkind: \"\xff\"\n");
    check_bytes(
        "x.yaml",
        &bytes,
        expect![[r#"
            1 service
            x.yaml:6:8: is not UTF-8 text
        "#]],
    );
}

#[test]
fn forms_of_yaml_that_manifests_use() {
    check("", expect![""]);
    check("---\n---\n# nothing\n---\n", expect![""]);
    check(
        &format!("\u{feff}{}", SERVICE.replace('\n', "\r\n")),
        expect![[r#"
            1 service
        "#]],
    );
    check(
        &format!("%YAML 1.2\n--- # head\n{SERVICE}...\n# tail\n"),
        expect![[r#"
            1 service
        "#]],
    );
    check(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n  annotations:\n    a: |\n      ---\n      x\n",
        expect![[r#"
            1 node
        "#]],
    );
    let anchors = "\
x: &ports [{port: 80}]
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: None, ports: *ports}}
- {apiVersion: v1, kind: Service, metadata: {name: b}, spec: {clusterIP: None, ports: *ports}}
";
    check(
        anchors,
        expect![[r#"
            2 services
        "#]],
    );
}

#[test]
fn values_of_the_wrong_kind_cost_only_their_field() {
    check(
        "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: none, namespace: demo}
  spec: {clusterIP: 10.96.0.1}
- apiVersion: v1
  kind: Service
  metadata: {name: web, namespace: demo}
  spec:
    clusterIP: 10.96.0.400
    ports:
    - {name: zero, port: 0}
    - {name: high, port: 70000}
    - {name: icmp, port: 1, protocol: ICMP}
    - {name: good, port: 80}
- kind: Service
- apiVersion: v1
  kind: Pod
  metadata: web-0
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: web-1, namespace: demo, labels: {kubernetes.io/service-name: web}}
  addressType: IPv4
  ports: [{name: good, port: 80}]
  endpoints: [{addresses: [10.64.1.1]}, {addresses: [ten]}, {addresses: [\"fd00::1\"]}]
- {apiVersion: apps/v2, kind: Deployment, metadata: {name: later}}
",
        expect![[r#"
            2 services
            1 slice
            x.yaml: apps/v2 Deployment "later" has no part in Services
            x.yaml:1: items[2]: the object has no apiVersion
            x.yaml: Service demo/none: spec.ports: must have at least one entry
            x.yaml: Service demo/web: spec.clusterIP: must be an IP address, is "10.96.0.400"
            x.yaml: Service demo/web: spec.ports[0].port: must be 1 to 65535, is 0
            x.yaml: Service demo/web: spec.ports[1].port: must be 1 to 65535, is 70000
            x.yaml: Service demo/web: spec.ports[2].protocol: must be TCP, UDP or SCTP, is "ICMP"
            x.yaml: Pod default/: metadata: must be an object, is "web-0"
            x.yaml: Pod default/: metadata.name: must be set
            x.yaml: EndpointSlice demo/web-1: endpoints[1].addresses[0]: must be an IP address, is "ten"
            x.yaml: EndpointSlice demo/web-1: endpoints[2].addresses[0]: must be IPv4 as addressType says, is fd00::1
        "#]],
    );
}

#[test]
fn json_is_read_as_json() {
    let json = r#"{"apiVersion":"v1","kind":"Node","metadata":{"name":"n1"}}"#;
    check_bytes(
        "x.json",
        format!("{json}\n{json}").as_bytes(),
        expect![[r#"
            1 node
            x.json: Node default/n1: metadata.name: stands twice; the earlier one, in x.json, is not used
        "#]],
    );
    check_bytes(
        "x.json",
        b"{\n  \"kind\": \"Node\",\n}",
        expect![[r#"
            x.json:3:1: trailing comma
        "#]],
    );
    check_bytes(
        "x.json",
        b"{\"a\": 1,\n \"a\": 2}",
        expect![[r#"
            x.json:2:4: the key "a" stands twice in one object
        "#]],
    );
    check(
        json,
        expect![[r#"
            1 node
        "#]],
    );
    check(
        "{apiVersion: v1, kind: Node, metadata: {name: n1}}\n",
        expect![[r#"
            1 node
        "#]],
    );
}

#[test]
fn deep_nesting_is_refused_and_does_not_end_the_process() {
    for (name, text) in [
        ("x.yaml", "[".repeat(100_000)),
        ("x.json", "[".repeat(100_000)),
        ("x.yaml", "{\"a\":".repeat(100_000)),
        ("x.yaml", "- ".repeat(100_000)),
    ] {
        let folder = Folder::new();
        folder.write(name, text.as_bytes());
        let manifests = read(&[folder.file(name)]);
        assert_eq!(manifests.problems.len(), 1, "{name}");
    }
}

#[test]
fn an_alias_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let aliases = vec![format!("*a{}", i - 1); 10].join(", ");
        bomb += &format!("a{i}: &a{i} [{aliases}]\n");
    }
    let folder = Folder::new();
    folder.write("x.yaml", bomb.as_bytes());
    let manifests = read(&[folder.file("x.yaml")]);
    assert_eq!(manifests.problems.len(), 1);
    let message = &manifests.problems[0].message;
    assert!(message.chars().count() < 210, "{message}");
}

#[test]
fn a_directory_is_read_in_order_of_names() {
    let folder = Folder::new();
    folder.write("b.yml", SERVICE.replace("80", "82").as_bytes());
    folder.write("a.yaml", SERVICE.as_bytes());
    folder.write(
        "c.json",
        b"{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{\"name\":\"n1\"}}",
    );
    folder.write("notes.txt", b"not: [yaml");
    fs::create_dir(folder.0.join("sub.yaml")).unwrap();
    let manifests = read(&[Source::Path(folder.0.clone())]);
    assert_eq!(manifests.services[0].ports[0].port, 82);
    assert_eq!(
        folder.text(&manifests),
        "1 service\n1 node\nb.yml: Service demo/web: metadata.name: stands twice; the earlier one, \
         in a.yaml, is not used\n"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let folder = Folder::new();
    let manifests = read(&[folder.file("missing.yaml")]);
    assert_eq!(
        folder.text(&manifests),
        "missing.yaml: cannot read: no such file or directory\n"
    );
    let manifests = read(&[Source::Path(folder.0.clone())]);
    assert_eq!(manifests.problems.len(), 1);
    assert_eq!(
        manifests.problems[0].message,
        "the directory has no .yaml, .yml or .json file"
    );
    std::os::unix::fs::symlink("nowhere", folder.0.join("link.yaml")).unwrap();
    folder.write("web.yaml", SERVICE.as_bytes());
    let manifests = read(&[Source::Path(folder.0.clone())]);
    assert_eq!(
        folder.text(&manifests),
        "1 service\nlink.yaml: cannot read: no such file or directory\n"
    );
}

#[test]
fn a_directory_that_may_not_be_read_is_named() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    let closed = folder.0.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
    let source = Source::Path(closed);
    // Root may read everything, so the thread takes another identity for files.
    let reader = std::thread::spawn(move || {
        if nix::unistd::geteuid().is_root() {
            nix::unistd::setfsgid(nix::unistd::Gid::from_raw(65534));
            nix::unistd::setfsuid(nix::unistd::Uid::from_raw(65534));
        }
        read(&[source])
    });
    let manifests = reader.join().unwrap();
    assert_eq!(
        folder.text(&manifests),
        "closed: cannot read: permission denied\n"
    );
}

#[test]
fn standard_input_is_a_dash() {
    assert_eq!(Source::from_argument("-"), Source::Stdin);
    let manifests = read_with_stdin(&[Source::Stdin], &mut SERVICE.as_bytes());
    assert_eq!(manifests.services.len(), 1);
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
    }
    let manifests = read_with_stdin(&[Source::Stdin], &mut Broken);
    assert_eq!(
        manifests.problems[0].to_string(),
        "-: cannot read: broken pipe"
    );
}

#[test]
fn a_configuration_is_one_document() {
    let folder = Folder::new();
    let text = "\
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
nftables: {syncPeriod: 1m, masqueradeAll: yes please}
";
    folder.write("config.yaml", text.as_bytes());
    let value = read_value(&folder.0.join("config.yaml")).unwrap();
    let (config, remarks) = config::read(&value, ModeChoice::FromFile);
    assert_eq!(config.sync_period.as_secs(), 60);
    assert_eq!(remarks.len(), 1);
    folder.write("two.yaml", format!("{text}---\n{text}").as_bytes());
    let problem = read_value(&folder.0.join("two.yaml")).unwrap_err();
    assert_eq!((problem.line, problem.column), (Some(6), None));
    assert!(read_value(&folder.0.join("none.yaml")).is_err());
}

fn check(yaml: &str, expected: Expect) {
    check_bytes("x.yaml", yaml.as_bytes(), expected);
}

fn check_bytes(name: &str, bytes: &[u8], expected: Expect) {
    let folder = Folder::new();
    folder.write(name, bytes);
    let manifests = read(&[folder.file(name)]);
    expected.assert_eq(&folder.text(&manifests));
}

/// A directory that is gone after the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("svc-manifest-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.0.join(name), bytes).unwrap();
    }

    fn file(&self, name: &str) -> Source {
        Source::Path(self.0.join(name))
    }

    /// Everything that was found, without the path of the directory.
    fn text(&self, manifests: &Manifests) -> String {
        let mut text = String::new();
        for (count, noun) in [
            (manifests.services.len(), "service"),
            (manifests.endpoint_slices.len(), "slice"),
            (manifests.nodes.len(), "node"),
            (manifests.pods.len(), "pod"),
        ] {
            match count {
                0 => {}
                1 => text += &format!("1 {noun}\n"),
                many => text += &format!("{many} {noun}s\n"),
            }
        }
        for skipped in &manifests.skipped {
            text += &format!("{skipped}\n");
        }
        for problem in &manifests.problems {
            text += &format!("{problem}\n");
        }
        for (file, diagnostic) in &manifests.diagnostics {
            text += &format!("{file}: {diagnostic}\n");
        }
        text.replace(&format!("{}/", self.0.display()), "")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let closed: &Path = &self.0.join("closed");
        // It may not exist, and root can remove it as it is.
        let _ = fs::remove_dir(closed);
        fs::remove_dir_all(&self.0).unwrap();
    }
}
