//! Events of Kubernetes: what the owner of an object should see beside it.

use http::Request;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value as Json, json};
use svc_core::ObjectKind;
use tokio::sync::mpsc::Receiver;

use super::Posting;

/// Postings that wait; more are dropped, as they are a courtesy.
pub(super) const WAITING: usize = 100;

/// Bytes of a note that servers take.
const MAX_NOTE: usize = 1024;

/// Bytes of the name of an object in that of its Event, which has 253 with a time behind it.
const MAX_NAME: usize = 253 - 1 - 16;

/// Posts until nobody can post any more. What cannot be posted is dropped: a server that is away has
/// other sorrows when it comes back.
pub(super) async fn post(client: Client, mut postings: Receiver<Posting>) {
    while let Some(posting) = postings.recv().await {
        let uid = uid(&client, &posting).await;
        let path = format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            posting.object.namespace
        );
        let event = event(&posting, uid, Timestamp::now());
        let request = Request::post(path)
            .header("Content-Type", "application/json")
            .body(event.to_string().into_bytes());
        if let Ok(request) = request {
            let _ = client.request_text(request).await;
        }
    }
    // The watches go on without.
    std::future::pending().await
}

/// The identifier of the object, by which `kubectl describe` looks for its Events; `None` if the object
/// is gone or is not shown. A list of one takes no more rights than watching does.
async fn uid(client: &Client, posting: &Posting) -> Option<String> {
    let (plural, scope) = resource(posting.kind)?;
    let version = api_version(posting.kind);
    let group = if version.contains('/') { "apis" } else { "api" };
    let namespace = match scope {
        Scope::Cluster => String::new(),
        Scope::Namespaced => format!("namespaces/{}/", posting.object.namespace),
    };
    let name = &posting.object.name;
    let request = Request::get(format!(
        "/{group}/{version}/{namespace}{plural}?fieldSelector=metadata.name%3D{name}&limit=1"
    ));
    // Metadata is enough; servers that do not know how to leave out the rest send all of it.
    let request = request.header(
        "Accept",
        "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json",
    );
    let list: Json = client.request(request.body(Vec::new()).ok()?).await.ok()?;
    let uid = list.pointer("/items/0/metadata/uid")?.as_str()?;
    Some(uid.to_owned())
}

fn event(posting: &Posting, uid: Option<String>, now: Timestamp) -> Json {
    let object = &posting.object;
    let kind = format!("{:?}", posting.kind);
    let note = cut(&posting.message, MAX_NOTE);
    let name = cut(&object.name, MAX_NAME).trim_end_matches(['-', '.']);
    let mut event = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{name}.{:x}", now.as_nanosecond()),
            "namespace": &*object.namespace,
        },
        "eventTime": format!("{now:.6}"),
        "reportingController": "service-proxy",
        "reportingInstance": posting.reporter,
        "action": "Sync",
        "reason": posting.reason,
        "type": posting.importance.text(),
        "note": note,
        "regarding": {
            "apiVersion": api_version(posting.kind),
            "kind": kind,
            "namespace": &*object.namespace,
            "name": &*object.name,
        },
    });
    if let Some(uid) = uid {
        event["regarding"]["uid"] = uid.into();
    }
    event
}

/// As much of a text as fits into so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let mut ends = (0..=most.min(text.len())).rev();
    ends.find_map(|end| text.get(..end)).unwrap_or_default()
}

enum Scope {
    Cluster,
    Namespaced,
}

/// What a kind is called in paths; `None` for what is no object of a cluster.
fn resource(kind: ObjectKind) -> Option<(&'static str, Scope)> {
    Some(match kind {
        ObjectKind::Service => ("services", Scope::Namespaced),
        ObjectKind::Node => ("nodes", Scope::Cluster),
        ObjectKind::Pod => ("pods", Scope::Namespaced),
        ObjectKind::Namespace => ("namespaces", Scope::Cluster),
        ObjectKind::Endpoints => ("endpoints", Scope::Namespaced),
        ObjectKind::EndpointSlice => ("endpointslices", Scope::Namespaced),
        ObjectKind::ServiceCIDR => ("servicecidrs", Scope::Cluster),
        ObjectKind::Deployment => ("deployments", Scope::Namespaced),
        ObjectKind::DaemonSet => ("daemonsets", Scope::Namespaced),
        ObjectKind::ReplicaSet => ("replicasets", Scope::Namespaced),
        ObjectKind::StatefulSet => ("statefulsets", Scope::Namespaced),
        ObjectKind::KubeProxyConfiguration => return None,
    })
}

fn api_version(kind: ObjectKind) -> &'static str {
    match kind {
        ObjectKind::Service
        | ObjectKind::Node
        | ObjectKind::Pod
        | ObjectKind::Namespace
        | ObjectKind::Endpoints => "v1",
        ObjectKind::EndpointSlice => "discovery.k8s.io/v1",
        ObjectKind::ServiceCIDR => "networking.k8s.io/v1",
        ObjectKind::Deployment
        | ObjectKind::DaemonSet
        | ObjectKind::ReplicaSet
        | ObjectKind::StatefulSet => "apps/v1",
        ObjectKind::KubeProxyConfiguration => "kubeproxy.config.k8s.io/v1alpha1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("Grüße", 5), "Grü");
        assert_eq!(cut("Grüße", 4), "Grü");
        assert_eq!(cut("Grüße", 3), "Gr");
        assert_eq!(cut("Grüße", 99), "Grüße");
        assert_eq!(cut("ü", 1), "");
    }
}
