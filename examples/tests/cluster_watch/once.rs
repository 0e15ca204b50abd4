//! Everything listed once, as manifests would have it.

use examples::api_server::{ApiServer, Fault, On, Store, Transport};
use examples::cluster_watch::{Access, Error, Interest, Subject};
use examples::manifest::{Manifests, Reading};
use serde_json::json;

use crate::rig::*;

fn list(access: &Access) -> Result<Manifests, Error> {
    let mut reading = Reading::default();
    examples::cluster_watch::list(access, &Subject::everything(), &mut reading)?;
    Ok(reading.finish())
}

#[test]
fn a_list_of_everything_is_what_manifests_would_be() {
    let (store, _asked) = Store::new();
    for number in 0..1200 {
        store.put("services", service(&format!("web-{number}")));
    }
    store.put(
        "services",
        labelled("headless", "service.kubernetes.io/headless"),
    );
    store.put("endpointslices", slice("web-0", "web-0-1", "10.64.1.1"));
    store.put("nodes", node("node-1"));
    store.put("namespaces", json!({"metadata": {"name": "shop"}}));
    let selector = json!({"matchLabels": {"app": "web"}});
    store.put(
        "deployments",
        json!({"metadata": {"name": "web", "namespace": "shop"}, "spec": {"selector": selector}}),
    );
    store.refuse("servicecidrs", 404);
    store.refuse("pods", 403);
    let mut bad = service("bad");
    bad["spec"]["ports"] = json!([{"port": 70_000}]);
    store.put("services", bad);
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let access = Access {
        kubeconfig: Some(file.path.clone()),
    };
    let manifests = list(&access).unwrap();
    assert_eq!(manifests.services.len(), 1202);
    assert_eq!(manifests.wire_services.len(), 1202);
    assert_eq!(manifests.endpoint_slices.len(), 1);
    assert_eq!(manifests.nodes.len(), 1);
    assert_eq!(manifests.namespaces.len(), 1);
    assert_eq!(manifests.workloads.len(), 1);
    let problems: Vec<String> = manifests.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems, ["/api/v1/pods: 403 Forbidden: made by the test"]);
    let remarks: Vec<String> = manifests
        .diagnostics
        .iter()
        .map(|(origin, d)| format!("{origin}: {d}"))
        .collect();
    assert_eq!(remarks.len(), 1, "{remarks:#?}");
    assert!(remarks[0].starts_with("/api/v1/services: Service shop/bad: spec.ports[0].port"));
}

#[test]
fn a_server_that_is_overloaded_for_a_moment_is_asked_again() {
    let (store, _asked) = Store::new();
    store.put("services", service("web"));
    for code in [429, 503] {
        store.fail("services", On::List, Fault::Status(code));
    }
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let access = Access {
        kubeconfig: Some(file.path.clone()),
    };
    let manifests = list(&access).unwrap();
    assert_eq!(manifests.problems, []);
    assert_eq!(manifests.services.len(), 1);
}

#[test]
fn a_server_that_shows_nothing_is_an_error() {
    let (store, _asked) = Store::new();
    for subject in Subject::everything() {
        store.refuse(subject.resource.plural(), 403);
    }
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let access = Access {
        kubeconfig: Some(file.path.clone()),
    };
    let error = list(&access).unwrap_err().to_string();
    assert_eq!(error, "the API server: 403 Forbidden: made by the test");
}

#[test]
fn a_proxy_lists_what_it_would_watch_and_nothing_else() {
    let (store, asked) = Store::new();
    store.put("services", service("web"));
    for label in ["service-proxy-name", "headless"] {
        let label = format!("service.kubernetes.io/{label}");
        store.put("services", labelled(&label.replace('/', "-"), &label));
    }
    store.put("endpointslices", slice("web", "web-1", "10.64.1.1"));
    store.put("nodes", node("node-1"));
    store.put("nodes", node("node-2"));
    store.refuse("servicecidrs", 404);
    let server = ApiServer::start(&store, Transport::Plain).unwrap();
    let file = TempFile::new(&server.kubeconfig());
    let access = Access {
        kubeconfig: Some(file.path.clone()),
    };
    let mut reading = Reading::default();
    let node = "node-1".into();
    let subjects = Interest::Proxy { node }.subjects();
    examples::cluster_watch::list(&access, &subjects, &mut reading).unwrap();
    let manifests = reading.finish();
    assert_eq!(manifests.problems, []);
    let names = |names: Vec<&str>| names.join(" ");
    let services = manifests.services.iter().map(|one| &*one.name.name);
    assert_eq!(names(services.collect()), "web");
    let nodes = manifests.nodes.iter().map(|one| &*one.name);
    assert_eq!(names(nodes.collect()), "node-1");
    assert_eq!(manifests.endpoint_slices.len(), 1);
    let paths: Vec<String> = asked.try_iter().map(|one| one.path).collect();
    let wanted: Vec<String> = subjects.iter().map(|one| one.resource.path()).collect();
    assert_eq!(paths, wanted);
}

#[test]
fn a_kubeconfig_that_is_not_there_or_is_none_is_named() {
    for (path, text) in [("/nonexistent/config", None), ("", Some("no: kubeconfig"))] {
        let file = text.map(TempFile::new);
        let path = file.as_ref().map_or(path.into(), |file| file.path.clone());
        let error = list(&Access {
            kubeconfig: Some(path.clone()),
        })
        .unwrap_err();
        assert!(matches!(error, Error::Kubeconfig { .. }), "{error:?}");
        assert!(error.to_string().contains(path.to_str().unwrap()));
        let watch =
            examples::cluster_watch::start(options(&path), |_| std::ops::ControlFlow::Continue(()));
        assert!(matches!(watch, Err(Error::Kubeconfig { .. })));
    }
}
