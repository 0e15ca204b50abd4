//! What is deployed may do what the program asks for, and nothing else.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use examples::cluster_watch::Interest;
use serde_json::Value as Json;

fn documents() -> Vec<Json> {
    let text = include_str!("../../deploy/daemonset.yaml");
    let documents = text.split("\n---\n");
    documents
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

fn of_kind(kind: &str) -> Json {
    let mut found = documents()
        .into_iter()
        .filter(|document| document["kind"] == kind);
    let first = found.next().unwrap();
    assert!(found.next().is_none(), "two of kind {kind}");
    first
}

fn texts(list: &Json) -> BTreeSet<&str> {
    list.as_array()
        .unwrap()
        .iter()
        .map(|text| text.as_str().unwrap())
        .collect()
}

fn pod() -> Json {
    of_kind("DaemonSet")["spec"]["template"]["spec"].clone()
}

fn container() -> Json {
    let pod = pod();
    let containers = pod["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1);
    containers[0].clone()
}

#[test]
fn the_role_allows_just_what_the_watches_ask_for() {
    let role = of_kind("ClusterRole");
    let mut allowed = BTreeSet::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                for verb in texts(&rule["verbs"]) {
                    allowed.insert(format!("{verb} {group}/{resource}"));
                }
            }
        }
    }
    let node = "node-1".into();
    let mut needed = BTreeSet::from(["create events.k8s.io/events".to_owned()]);
    for subject in (Interest::Proxy { node }).subjects() {
        for verb in ["list", "watch"] {
            let resource = subject.resource;
            needed.insert(format!("{verb} {}/{}", resource.group(), resource.plural()));
        }
    }
    assert_eq!(allowed, needed);
}

#[test]
fn the_role_is_bound_to_the_account_of_the_pods() {
    let account = of_kind("ServiceAccount");
    let binding = of_kind("ClusterRoleBinding");
    assert_eq!(
        binding["roleRef"]["name"],
        of_kind("ClusterRole")["metadata"]["name"]
    );
    let subjects = binding["subjects"].as_array().unwrap();
    assert_eq!(subjects.len(), 1);
    assert_eq!(subjects[0]["name"], account["metadata"]["name"]);
    assert_eq!(subjects[0]["namespace"], account["metadata"]["namespace"]);
    assert_eq!(pod()["serviceAccountName"], account["metadata"]["name"]);
    let set = of_kind("DaemonSet");
    assert_eq!(
        set["metadata"]["namespace"],
        account["metadata"]["namespace"]
    );
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    assert_eq!(set["spec"]["selector"]["matchLabels"], *labels);
}

#[test]
fn the_container_has_one_capability_and_is_not_privileged() {
    let security = container()["securityContext"].clone();
    assert_eq!(security["privileged"], false);
    assert_eq!(security["allowPrivilegeEscalation"], false);
    assert_eq!(security["readOnlyRootFilesystem"], true);
    assert_eq!(
        texts(&security["capabilities"]["drop"]),
        BTreeSet::from(["ALL"])
    );
    assert_eq!(
        texts(&security["capabilities"]["add"]),
        BTreeSet::from(["NET_ADMIN"])
    );
    assert_eq!(pod()["hostNetwork"], true);
}

#[test]
fn probes_ask_where_the_program_answers_b_209() {
    let container = container();
    let port = &container["ports"][0];
    assert_eq!(port["containerPort"], 10256);
    for (probe, path) in [("livenessProbe", "/livez"), ("readinessProbe", "/healthz")] {
        let get = &container[probe]["httpGet"];
        assert_eq!(get["path"], path);
        assert_eq!(get["port"], port["name"]);
    }
    assert!(texts(&container["args"]).contains("--healthz-bind-address=0.0.0.0:10256"));
}

#[test]
fn files_that_are_named_are_mounted() {
    let (pod, container) = (pod(), container());
    let mounts: Vec<&Json> = container["volumeMounts"]
        .as_array()
        .unwrap()
        .iter()
        .collect();
    let volumes = texts_of(&pod["volumes"], "name");
    for mount in &mounts {
        assert!(volumes.contains(mount["name"].as_str().unwrap()));
    }
    let paths: Vec<&str> = mounts
        .iter()
        .map(|m| m["mountPath"].as_str().unwrap())
        .collect();
    let files = texts(&container["args"])
        .into_iter()
        .filter_map(|argument| {
            argument
                .split_once("=/")
                .map(|(_, path)| format!("/{path}"))
        });
    for file in files {
        assert!(paths.iter().any(|path| file.starts_with(path)), "{file}");
    }
}

fn texts_of<'a>(list: &'a Json, field: &str) -> BTreeSet<&'a str> {
    let members = list.as_array().unwrap().iter();
    members
        .map(|member| member[field].as_str().unwrap())
        .collect()
}

#[test]
fn the_images_hold_the_programs_that_the_manifest_starts() {
    let recipe = include_str!("../../deploy/Dockerfile");
    let program = container()["command"][0]
        .as_str()
        .unwrap()
        .trim_start_matches('/')
        .to_owned();
    let (_, small) = recipe.split_once("FROM scratch AS proxy").unwrap();
    assert!(small.contains(&format!("/out/{program}")));
    for program in ["nftables-proxy", "ipvs-proxy", "iptables-proxy"] {
        assert!(recipe.contains(&format!("--bin {program}")));
    }
}
