//! The objects and configurations of the packet-flow cases are read without a remark.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;

use examples::manifest::{Source, read_with_stdin};
use serde_json::Value as Json;
use svc_core::config::{self, ModeChoice};
use svc_core::wire;

#[test]
fn every_fixture_is_read() {
    let flows = flows();
    let fixtures = flows["fixtures"].as_object().unwrap();
    assert!(fixtures.len() > 50, "{}", fixtures.len());
    for (name, objects) in fixtures {
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let text = serde_json::to_string(&list).unwrap();
        let manifests = read_with_stdin(&[Source::Stdin], &mut text.as_bytes());
        assert_eq!(manifests.problems, [], "{name}");
        assert_eq!(manifests.skipped, [], "{name}");
        let remarks: Vec<String> = manifests
            .diagnostics
            .iter()
            .map(|(_, diagnostic)| diagnostic.to_string())
            .collect();
        assert_eq!(remarks, Vec::<String>::new(), "{name}");
        let kept = manifests.services.len()
            + manifests.endpoint_slices.len()
            + manifests.nodes.len()
            + manifests.service_cidrs.len()
            + manifests.pods.len()
            + manifests.namespaces.len()
            + manifests.endpoints.len();
        assert_eq!(kept, objects.as_array().unwrap().len(), "{name}");
    }
}

#[test]
fn every_case_names_objects_that_are_read() {
    let flows = flows();
    for case in flows["cases"].as_array().unwrap() {
        let inline = case["objects"].as_array().unwrap().iter();
        let inline: Vec<&Json> = inline.filter(|object| object.is_object()).collect();
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": inline});
        let text = serde_json::to_string(&list).unwrap();
        let manifests = read_with_stdin(&[Source::Stdin], &mut text.as_bytes());
        assert_eq!(manifests.problems, [], "{}", case["id"]);
        assert_eq!(manifests.diagnostics, [], "{}", case["id"]);
    }
}

#[test]
fn every_configuration_is_read() {
    let flows = flows();
    let configs = flows["configs"].as_object().unwrap();
    assert!(configs.len() > 5);
    for (name, file) in configs {
        let value: wire::Value = serde_json::from_value(file.clone()).unwrap();
        let (config, remarks) = config::read(&value, ModeChoice::FromFile);
        assert_eq!(remarks, [], "{name}");
        if let Some(addresses) = file["nodePortAddresses"].as_array() {
            let words = format!("{:?}", config.node_port_addresses);
            assert!(!words.contains("Default"), "{name}: {addresses:?}");
        }
    }
}

fn flows() -> Json {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/flows.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}
