//! From the watches of `kube` to events: nothing of an object is lost, and no object loses another.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

use k8s_openapi::api::core::v1 as api;
use kube::core::ObjectList;
use kube::runtime::watcher;
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};
use svc_core::kube::{Source, Translated, Watched, translate};
use svc_core::wire::{self, Conversion};
use svc_core::{Event, NamespacedName, ObjectKind, WatchEvent};

fn read<T: DeserializeOwned>(json: &Json) -> T {
    serde_json::from_str(&json.to_string()).unwrap()
}

fn apply<S: Source>(source: S) -> Translated<S::Object, S::Key> {
    translate(&mut Conversion::default(), watcher::Event::Apply(source))
}

fn service(name: &str, port: Json) -> Json {
    json!({
        "metadata": {"name": name, "namespace": "shop", "resourceVersion": "7", "uid": "u"},
        "spec": {"clusterIP": "10.96.0.1", "ports": [{"port": port}]},
    })
}

#[test]
fn paths_are_those_of_the_api() {
    let all = |path: String| path;
    let paths = [
        all(Watched::<wire::Service>::url_path(&(), None)),
        all(Watched::<wire::EndpointSlice>::url_path(&(), None)),
        all(Watched::<wire::Node>::url_path(&(), None)),
        all(Watched::<wire::Pod>::url_path(&(), Some("shop"))),
        all(Watched::<wire::Namespace>::url_path(&(), None)),
        all(Watched::<wire::ServiceCidr>::url_path(&(), None)),
    ];
    let wanted = [
        "/api/v1/services",
        "/apis/discovery.k8s.io/v1/endpointslices",
        "/api/v1/nodes",
        "/api/v1/namespaces/shop/pods",
        "/api/v1/namespaces",
        "/apis/networking.k8s.io/v1/servicecidrs",
    ];
    assert_eq!(paths, wanted);
}

#[test]
fn an_object_of_the_wire_and_one_of_k8s_openapi_give_the_same_event() {
    let json = service("web", json!(80));
    let wire = apply(read::<Watched<wire::Service>>(&json));
    let typed = apply(read::<api::Service>(&json));
    assert!(matches!(wire.event, Some(WatchEvent::Apply(_))));
    assert_eq!(wire.event, typed.event);
    assert_eq!(wire.object, typed.object);
    assert!(wire.diagnostics.is_empty() && typed.diagnostics.is_empty());
}

#[test]
fn a_watcher_finds_the_resource_version() {
    let object: Watched<wire::Service> = read(&service("web", json!(80)));
    assert_eq!(object.resource_version().as_deref(), Some("7"));
    assert_eq!(object.name_any(), "web");
}

#[test]
fn a_list_is_read_whatever_stands_in_it() {
    let items = [
        service("good", json!(80)),
        service("port", json!("http")),
        json!({"metadata": {"name": ["no", "text"]}, "spec": 7}),
        json!("no object"),
        Json::Null,
        json!({"metadata": {"name": "spec", "namespace": "shop"}, "spec": []}),
        service("last", json!(81)),
    ];
    let list = json!({"metadata": {"resourceVersion": "9"}, "items": items});
    let list: ObjectList<Watched<wire::Service>> = read(&list);
    let mut conversion = Conversion::default();
    let mut names = Vec::new();
    let mut remarks = Vec::new();
    for item in list.items {
        let done = translate(&mut conversion, watcher::Event::InitApply(item));
        if let Some(WatchEvent::InitApply(service)) = done.event {
            names.push(service.name.name.to_string());
        }
        remarks.extend(done.diagnostics.iter().map(ToString::to_string));
    }
    assert_eq!(names, ["good", "port", "spec", "last"]);
    let about = |word: &str| remarks.iter().any(|remark| remark.contains(word));
    assert!(
        about("shop/port: spec.ports[0].port") && about("shop/spec: spec"),
        "{remarks:#?}"
    );
    assert!(about("metadata.name"), "{remarks:#?}");
    // The very same list in the types of k8s-openapi is lost as a whole.
    let list = json!({"metadata": {}, "items": [service("port", json!("http"))]});
    assert!(serde_json::from_value::<ObjectList<api::Service>>(list).is_err());
}

#[test]
fn an_object_that_becomes_unusable_is_as_good_as_deleted() {
    let slice = json!({
        "metadata": {"name": "web-1", "namespace": "shop", "resourceVersion": "8"},
        "addressType": "Smoke", "endpoints": [], "ports": [],
    });
    let done = apply(read::<Watched<wire::EndpointSlice>>(&slice));
    let name = NamespacedName::new("shop", "web-1");
    assert_eq!(done.event, Some(WatchEvent::Delete(name.clone())));
    assert_eq!(done.object, Some(name));
    assert_eq!(done.diagnostics[0].kind, ObjectKind::EndpointSlice);
    // In a list it is just not there: the end of the list takes away what was known.
    let slice = watcher::Event::InitApply(read::<Watched<wire::EndpointSlice>>(&slice));
    assert!(translate(&mut Conversion::default(), slice).event.is_none());
}

#[test]
fn what_is_deleted_needs_a_name_and_nothing_else() {
    let node: Watched<wire::Node> = read(&json!({"metadata": {"name": "node-1"}, "spec": 7}));
    let done = translate(&mut Conversion::default(), watcher::Event::Delete(node));
    let event = done.event.map(Event::from);
    assert_eq!(
        event,
        Some(Event::Node(WatchEvent::Delete("node-1".into())))
    );
    assert!(done.diagnostics.is_empty());
    let nameless: Watched<wire::Node> = read(&json!({}));
    let done = translate(&mut Conversion::default(), watcher::Event::Delete(nameless));
    assert!(done.event.is_none() && done.object.is_none());
}
