//! The requests of one watch: seen when they succeed, spaced when watches end too soon.

use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use svc_core::ObjectKind;
use tower_service::Service;

use super::output::Output;
use super::retry::Retry;
use super::{Link, Tuning};

/// A client beneath a client.
///
/// The watcher of kube-runtime takes up a watch that ended without an error at once and without
/// telling anybody: only here can it be made to wait, and only here is it seen that a watch on
/// which nothing happens is connected again.
struct Paced {
    client: Client,
    kind: ObjectKind,
    output: Output,
    pace: Arc<Mutex<Pace>>,
}

struct Pace {
    retry: Retry,
    short_watch: Duration,
    /// When the last watch was asked for.
    last: Option<Instant>,
}

/// A client for the watch of one kind.
pub(super) fn paced(client: Client, kind: ObjectKind, output: Output, tuning: &Tuning) -> Client {
    let namespace = client.default_namespace().to_owned();
    let pace = Pace {
        retry: Retry::new(tuning.retry_first, tuning.retry_most),
        short_watch: tuning.short_watch,
        last: None,
    };
    let service = Paced {
        client,
        kind,
        output,
        pace: Arc::new(Mutex::new(pace)),
    };
    Client::new(service, namespace)
}

impl Pace {
    /// How long a watch has to wait that is asked for now.
    fn wait(&mut self) -> Duration {
        let short = self
            .last
            .is_some_and(|last| last.elapsed() < self.short_watch);
        if !short {
            self.retry.reset();
        }
        if short {
            self.retry.wait()
        } else {
            Duration::ZERO
        }
    }
}

impl Service<Request<Body>> for Paced {
    type Response = Response<Body>;
    type Error = kube::Error;
    type Future = BoxFuture<'static, Result<Response<Body>, kube::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), kube::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (client, kind) = (self.client.clone(), self.kind);
        let (output, pace) = (self.output.clone(), self.pace.clone());
        let query = request.uri().query().unwrap_or_default();
        let is_watch = query.split('&').any(|pair| pair == "watch=true");
        Box::pin(async move {
            if is_watch {
                let lock = || pace.lock().unwrap_or_else(PoisonError::into_inner);
                let wait = lock().wait();
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
                lock().last = Some(Instant::now());
            }
            let response = client.send(request).await?;
            if response.status().is_success() {
                output.link(kind, Link::Up);
            }
            Ok(response)
        })
    }
}
