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

/// Posts until nobody can post any more. What cannot be posted is dropped: a server that is away has
/// other sorrows when it comes back.
pub(super) async fn post(client: Client, mut postings: Receiver<Posting>) {
    while let Some(posting) = postings.recv().await {
        let path = format!(
            "/apis/events.k8s.io/v1/namespaces/{}/events",
            posting.object.namespace
        );
        let request = Request::post(path)
            .header("Content-Type", "application/json")
            .body(event(&posting, Timestamp::now()).to_string().into_bytes());
        if let Ok(request) = request {
            let _ = client.request_text(request).await;
        }
    }
    // The watches go on without.
    std::future::pending().await
}

fn event(posting: &Posting, now: Timestamp) -> Json {
    let object = &posting.object;
    let kind = format!("{:?}", posting.kind);
    let mut note = posting.message.clone();
    let end = (0..=MAX_NOTE).rev().find(|at| note.is_char_boundary(*at));
    note.truncate(end.unwrap_or(0));
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {
            "name": format!("{}.{:x}", object.name, now.as_nanosecond()),
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
