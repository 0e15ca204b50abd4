//! Command lines with bad input: one line for each thing that is wrong, the rest still works, and
//! the exit code says so.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value as Json;

const GOOD: &str = "\
apiVersion: v1
kind: Service
metadata: {name: good, namespace: demo}
spec:
  clusterIP: 10.96.0.10
  ports: [{name: http, port: 80}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: good-a, namespace: demo, labels: {kubernetes.io/service-name: good}}
addressType: IPv4
ports: [{name: http, port: 8080, protocol: TCP}]
endpoints: [{addresses: [10.64.1.1]}]
";

#[test]
fn what_is_good_needs_no_word() {
    let output = explain(&folder("good", &[("a.yaml", GOOD)]));
    assert_eq!(stderr(&output), "");
    assert!(output.status.success());
    assert!(answers(&output));
}

/// A second file that is bad in one way, and what the one line about it says.
#[test]
fn each_bad_object_gets_one_line_and_the_rest_works() {
    let service = |spec: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: bad, namespace: demo}}\nspec:\n{spec}"
        )
    };
    let cases: &[(&str, String, &[&str])] = &[
        (
            "not YAML",
            "kind: [Service\n  nope".into(),
            &["bad.yaml:", "error"],
        ),
        (
            "no ports",
            service("  clusterIP: 10.96.0.11\n"),
            &["demo/bad", "spec.ports"],
        ),
        (
            "unknown protocol",
            service("  clusterIP: 10.96.0.11\n  ports: [{port: 80, protocol: ICMP}]\n"),
            &["demo/bad", "spec.ports[0].protocol", "ICMP"],
        ),
        (
            "an IP that is none",
            service("  clusterIP: 10.96.0.300\n  ports: [{port: 80}]\n"),
            &["demo/bad", "spec.clusterIP", "10.96.0.300"],
        ),
        (
            "port 0",
            service(
                "  clusterIP: 10.96.0.11\n  ports: [{name: one, port: 0}, {name: two, port: 81}]\n",
            ),
            &["demo/bad", "spec.ports[0].port", "0"],
        ),
        (
            "port 70000",
            service(
                "  clusterIP: 10.96.0.11\n  ports: [{name: one, port: 70000}, {name: two, port: 81}]\n",
            ),
            &["demo/bad", "spec.ports[0].port", "70000"],
        ),
    ];
    for (what, text, words) in cases {
        let folder = folder(what, &[("a.yaml", GOOD), ("bad.yaml", text)]);
        let output = explain(&folder);
        let lines = stderr(&output);
        assert_eq!(lines.lines().count(), 1, "{what}: {lines}");
        for word in *words {
            assert!(lines.contains(word), "{what}: no {word:?} in {lines}");
        }
        assert_eq!(output.status.code(), Some(1), "{what}: {lines}");
        assert!(answers(&output), "{what}: the good Service works");
    }
}

#[test]
fn two_services_with_one_node_port_have_one_winner() {
    let service = |name: &str, ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: demo}}\nspec:\n  \
             type: NodePort\n  clusterIP: {ip}\n  ports: [{{port: 80, nodePort: 30080}}]\n---\n"
        )
    };
    let text = service("a", "10.96.0.21") + &service("b", "10.96.0.22");
    let output = explain(&folder("node-port", &[("a.yaml", GOOD), ("b.yaml", &text)]));
    let lines = stderr(&output);
    assert!(
        lines.contains("demo/b") && lines.contains("30080"),
        "{lines}"
    );
    assert_eq!(output.status.code(), Some(1), "{lines}");
    assert!(answers(&output));
}

#[test]
fn folders_and_files_that_cannot_be_read_are_named() {
    let empty = folder("empty", &[]);
    let missing = empty.join("missing.yaml");
    for path in [&empty, &missing] {
        let output = explain(path);
        let lines = stderr(&output);
        assert_eq!(lines.lines().count(), 1, "{lines}");
        assert!(lines.contains(&*path.to_string_lossy()), "{lines}");
        assert_eq!(output.status.code(), Some(1), "{lines}");
    }
}

/// The virtual servers of a plan, with the scheduler of the configuration; one that the kernel does
/// not know is named.
#[test]
fn plans_in_the_words_of_ipvsadm() {
    let folder = folder("ipvsadm", &[("a.yaml", GOOD)]);
    let plan = |scheduler: &str| {
        let config = folder.with_extension(scheduler);
        let text = format!(
            "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
             ipvs: {{scheduler: {scheduler}}}\n"
        );
        fs::write(&config, text).unwrap();
        let mut command = svcctl();
        command.args(["plan", "-o", "ipvsadm", "--manifests"]);
        command
            .arg(&folder)
            .arg("--config")
            .arg(config)
            .output()
            .unwrap()
    };
    let output = plan("mh");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "-A -t 10.96.0.10:80 -s mh -b mh-port\n\
         -a -t 10.96.0.10:80 -r 10.64.1.1:8080 -m -w 1\n"
    );
    assert!(output.status.success());
    let output = plan("best");
    let lines = stderr(&output);
    assert!(
        lines.contains("no scheduler \"best\": must be one of rr,"),
        "{lines}"
    );
    assert_eq!((output.status.code(), output.stdout), (Some(1), Vec::new()));
}

#[test]
fn wrong_usage_ends_with_64() {
    for arguments in [
        &["explain"][..],
        &[
            "explain",
            "--manifests",
            "-",
            "--from",
            "10.0.0.1",
            "--to",
            "10.0.0.2",
        ],
        &[
            "explain",
            "--manifests",
            "-",
            "--from",
            "nobody",
            "--to",
            "10.0.0.2:80/tcp",
        ],
        &["nonsense"],
    ] {
        let output = svcctl()
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(64),
            "{arguments:?}: {}",
            stderr(&output)
        );
    }
}

#[cfg(not(feature = "cluster"))]
#[test]
fn a_cluster_cannot_be_read_by_a_program_that_was_built_without() {
    let arguments = ["plan", "--kubeconfig", "config", "--node", "n1"];
    let output = svcctl().args(arguments).output().unwrap();
    let lines = stderr(&output);
    assert!(
        lines.contains("built without the feature `cluster`"),
        "{lines}"
    );
    assert_eq!(output.status.code(), Some(64), "{lines}");
    assert!(output.stdout.is_empty());
}

#[test]
fn standard_input_is_read_once() {
    let mut child = svcctl()
        .args(["plan", "-o", "json", "--manifests", "-", "--node", "n1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), GOOD.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let plan: Json = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        plan["plans"][0]["servicePorts"][0]["service"],
        "demo/good:http"
    );
}

/// An init container of kube-proxy's would be waited for.
#[test]
fn a_proxy_that_is_to_do_what_takes_more_privileges_ends_at_once() {
    let output = Command::new(env!("CARGO_BIN_EXE_nftables-proxy"))
        .args(["--manifests", "/nonexistent", "--init-only"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).contains("--init-only"));
}

/// The format is part of the command line in every build; one without its feature says so.
#[test]
fn nft_json_is_printed_or_its_feature_named() {
    let folder = folder("nft-json", &[("a.yaml", GOOD)]);
    let output = svcctl()
        .args(["plan", "-o", "nft-json", "--node", "n1", "--manifests"])
        .arg(&folder)
        .output()
        .unwrap();
    if cfg!(feature = "nft-json") {
        let ruleset: Json = serde_json::from_slice(&output.stdout).unwrap();
        let first = &ruleset["nftables"][0]["table"];
        assert_eq!(first["family"], "ip", "{ruleset}");
        assert!(output.status.success());
    } else {
        let lines = stderr(&output);
        assert!(lines.contains("without the feature `nft-json`"), "{lines}");
        assert_eq!(output.status.code(), Some(64));
        assert!(output.stdout.is_empty());
    }
}

fn explain(manifests: &Path) -> Output {
    svcctl()
        .args([
            "explain",
            "--from",
            "10.64.1.9",
            "--to",
            "10.96.0.10:80/tcp",
            "-o",
            "json",
        ])
        .arg("--manifests")
        .arg(manifests)
        .output()
        .unwrap()
}

/// Whether the good Service still has its endpoint.
fn answers(output: &Output) -> bool {
    let answer: Json = serde_json::from_slice(&output.stdout).unwrap();
    answer["verdict"] == "forward" && answer["endpoints"][0]["address"] == "10.64.1.1:8080"
}

fn svcctl() -> Command {
    Command::new(env!("CARGO_BIN_EXE_svcctl"))
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn folder(name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("cli")
        .join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for (file, text) in files {
        fs::write(folder.join(file), text).unwrap();
    }
    folder
}
