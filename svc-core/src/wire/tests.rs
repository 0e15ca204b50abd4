//! Documents, and conversion of whatever a document may hold.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proptest::prelude::*;
use serde::Deserialize as _;
use serde_json::json;

use super::*;

#[test]
fn a_list_is_unpacked_and_a_bad_item_costs_only_itself() {
    let document = read(json!({
        "apiVersion": "v1",
        "items": [
            {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": 7},
            "text",
            null,
            {"kind": "Service"},
            {"apiVersion": "v1"},
            {"apiVersion": "v1", "kind": "List", "items": [
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}},
                [],
            ]},
            {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}},
        ],
        "kind": "List",
    }));
    let found: Vec<String> = document.objects.iter().map(words).collect();
    assert_eq!(
        found,
        [
            "Service",
            "items[1]: must be a Kubernetes object, is \"text\"",
            "items[2]: must be a Kubernetes object, is null",
            "items[3]: the object has no apiVersion",
            "items[4]: the object has no kind",
            "Pod",
            "items[5]: items[1]: must be a Kubernetes object, is a list",
            "v1 ConfigMap c",
        ]
    );
}

#[test]
fn items_of_a_list_of_one_kind_need_not_repeat_it() {
    let document = read(json!({
        "items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}],
        "kind": "EndpointSliceList",
        "apiVersion": "discovery.k8s.io/v1",
    }));
    let found: Vec<String> = document.objects.iter().map(words).collect();
    assert_eq!(found, ["EndpointSlice", "EndpointSlice"]);
}

#[test]
fn another_group_may_have_a_kind_of_the_same_name() {
    let document = read(json!({
        "apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": {"name": "k"},
    }));
    assert_eq!(
        words(&document.objects[0]),
        "serving.knative.dev/v1 Service k"
    );
    let document = read(json!({"apiVersion": "x/v1", "kind": "IPAllowList", "spec": {}}));
    assert_eq!(words(&document.objects[0]), "x/v1 IPAllowList ");
}

#[test]
fn an_empty_document_has_no_object() {
    assert_eq!(read(json!(null)).objects, []);
    assert_eq!(
        read(json!({"apiVersion": "v1", "kind": "List"})).objects,
        []
    );
    assert_eq!(
        read(json!({"apiVersion": "v1", "kind": "List", "items": null})).objects,
        []
    );
}

#[test]
fn a_service_is_written_as_it_was_read() {
    let json = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "clusterIPs": ["10.96.0.41"],
            "ports": [
                {"name": "a", "port": 80, "targetPort": "http"},
                {"name": "b", "port": 81, "targetPort": 8081},
            ],
        },
    });
    let service: Service = serde_json::from_value(json.clone()).unwrap();
    assert_eq!(serde_json::to_value(service).unwrap(), json);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn conversion_never_panics(document in documents()) {
        let streamed = Document::deserialize(document.clone()).unwrap();
        let unpacked = Document::from_value(document);
        prop_assert_eq!(&streamed, &unpacked);
        let mut conversion = Conversion::default();
        for object in unpacked.objects.into_iter().flatten() {
            for diagnostic in convert(&mut conversion, &object) {
                prop_assert!(!diagnostic.field.is_empty());
                prop_assert!(diagnostic.message.chars().count() < 512, "{}", diagnostic);
            }
        }
    }

    #[test]
    fn a_conversion_that_has_seen_others_gives_the_same(first in documents(), second in documents()) {
        let mut used = Conversion::default();
        for object in Document::from_value(first).objects.into_iter().flatten() {
            convert(&mut used, &object);
        }
        for object in Document::from_value(second).objects.into_iter().flatten() {
            let fresh = convert(&mut Conversion::default(), &object);
            prop_assert_eq!(convert(&mut used, &object), fresh);
        }
    }
}

fn convert(conversion: &mut Conversion, object: &Object) -> Vec<crate::Diagnostic> {
    match object {
        Object::Service(wire) => conversion.service(wire).1,
        Object::EndpointSlice(wire) => conversion.endpoint_slice(wire).1,
        Object::Node(wire) => conversion.node(wire).1,
        Object::Pod(wire) => conversion.pod(wire).1,
        Object::Namespace(wire) => conversion.namespace(wire).1,
        Object::Endpoints(wire) => conversion.endpoints(wire).1,
        Object::Workload(kind, wire) => conversion.workload(*kind, wire).1,
        Object::ServiceCidr(wire) => conversion.service_cidr(wire).1,
        Object::Unknown { .. } => Vec::new(),
    }
}

/// Objects of known kinds with known fields, each field with any value.
fn documents() -> impl Strategy<Value = Value> {
    let text = |text: &str| Value::Text(text.into());
    let heads = prop::sample::select(alloc::vec![
        ("v1", "Service"),
        ("v1", "Service"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("discovery.k8s.io/v1", "EndpointSlice"),
        ("v1", "Node"),
        ("v1", "Pod"),
        ("v1", "Namespace"),
        ("v1", "Endpoints"),
        ("apps/v1", "Deployment"),
        ("networking.k8s.io/v1", "ServiceCIDR"),
        ("v1", "List"),
    ]);
    (heads, entries(values())).prop_map(move |((version, kind), mut entries)| {
        entries.retain(|(key, _)| key != "kind" && key != "apiVersion");
        let has_metadata = entries.iter().any(|(key, _)| key == "metadata");
        entries.push(("kind".to_string(), text(kind)));
        entries.push(("apiVersion".to_string(), text(version)));
        if !has_metadata {
            let labels = [("kubernetes.io/service-name".to_string(), text("s"))];
            let metadata = [
                ("name".to_string(), text("x")),
                ("labels".to_string(), Value::Map(labels.into())),
            ];
            entries.push(("metadata".to_string(), Value::Map(metadata.into())));
        }
        Value::Map(entries)
    })
}

fn values() -> impl Strategy<Value = Value> {
    let texts = prop::sample::select(alloc::vec![
        "",
        " ",
        "None",
        "10.96.0.1",
        "10.0.0.0/8",
        "fd00::1",
        "::/0",
        "a",
        "TCP",
        "udp",
        "IPv4",
        "IPv6",
        "LoadBalancer",
        "ExternalName",
        "ClientIP",
        "Local",
        "Ready",
        "InternalIP",
        "True",
        "Pod",
        "1e3",
        "9999999999999999999",
        "2026-01-05T08:00:00Z",
    ]);
    let scalars = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        (-1i64..70_000).prop_map(Value::Integer),
        (-1e20f64..1e20).prop_map(Value::Float),
        texts.prop_map(|text| Value::Text(text.into())),
        ".{0,80}".prop_map(Value::Text),
    ];
    scalars.prop_recursive(6, 96, 6, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
            3 => entries(inner).prop_map(Value::Map),
        ]
    })
}

fn entries(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Vec<(String, Value)>> {
    let keys = prop::sample::select(KEYS.to_vec()).prop_map(String::from);
    prop::collection::btree_map(keys, value, 0..8).prop_map(|map| map.into_iter().collect())
}

#[rustfmt::skip]
const KEYS: &[&str] = &[
    "metadata", "name", "namespace", "labels", "annotations", "creationTimestamp", "spec", "status",
    "items", "kind", "apiVersion", "type", "clusterIP", "clusterIPs", "ipFamilies", "ports", "port",
    "targetPort", "nodePort", "protocol", "selector", "externalIPs", "externalName",
    "loadBalancerSourceRanges", "sessionAffinity", "sessionAffinityConfig", "clientIP",
    "timeoutSeconds", "loadBalancer", "ingress", "ip", "ipMode", "addressType", "endpoints",
    "addresses", "conditions", "ready", "hints", "forZones", "targetRef", "nodeName", "podCIDRs",
    "taints", "allocatable", "cpu", "containers", "containerPort", "podIPs", "subsets", "cidrs",
    "replicas", "template", "matchLabels", "kubernetes.io/service-name",
];

fn read(json: serde_json::Value) -> Document {
    serde_json::from_value(json).unwrap()
}

fn words(object: &Result<Object, NotAnObject>) -> String {
    match object {
        Ok(Object::Unknown {
            api_version,
            kind,
            name,
        }) => format!("{api_version} {kind} {name}"),
        Ok(object) => {
            let debug = format!("{object:?}");
            debug.split('(').next().unwrap_or_default().into()
        }
        Err(error) => error.to_string(),
    }
}
