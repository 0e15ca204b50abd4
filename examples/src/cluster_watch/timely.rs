//! Requests that end: by an answer, or by an error when there is none for too long.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use tokio::time::timeout;
use tower_service::Service;

/// A client beneath a client.
///
/// A server may take a request, as its system does for it, and die with it: TCP has nothing left to send
/// that would fail, and the client waits for ever. The watcher of kube-runtime has a limit for events of a
/// watch, and none for answers.
struct Timely {
    client: Client,
    most: Duration,
}

/// Why a request ended without an answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {most:?}")]
struct Unanswered {
    most: Duration,
}

/// A client whose requests are answered within a time: those for a watch up to its first event, all others
/// as a whole.
pub(super) fn timely(client: Client, most: Duration) -> Client {
    let namespace = client.default_namespace().to_owned();
    Client::new(Timely { client, most }, namespace)
}

/// Whether a request is for a watch, whose answer has no end.
pub(super) fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| pair == "watch=true")
}

/// Sends a request; an answer that has an end is read up to it, as every reader of one does in any case.
async fn answer(
    client: &Client,
    request: Request<Body>,
    endless: bool,
) -> Result<Response<Body>, kube::Error> {
    let response = client.send(request).await?;
    // The reason for which a watch is refused has an end too.
    if endless && response.status().is_success() {
        return Ok(response);
    }
    let (head, body) = response.into_parts();
    let body = body.collect_bytes().await?;
    Ok(Response::from_parts(head, body.into()))
}

impl Service<Request<Body>> for Timely {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, most) = (self.client.clone(), self.most);
        Box::pin(async move {
            let endless = is_watch(&request);
            // What is dropped takes its connection with it: HTTP/1.1 has one answer at a time.
            match timeout(most, answer(&client, request, endless)).await {
                Ok(answered) => answered,
                Err(_) => Err(kube::Error::Service(Box::new(Unanswered { most }))),
            }
        })
    }
}
