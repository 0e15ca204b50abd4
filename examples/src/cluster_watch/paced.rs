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
use super::timely::is_watch;
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
    /// When the last watch was asked for, if there was one: a request that fails is tried again after a wait
    /// of [`follow`](super::follow) already.
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
    fn ask(&mut self) -> Duration {
        let last = self.last.take();
        if last.is_some_and(|last| last.elapsed() < self.short_watch) {
            return self.retry.wait();
        }
        self.retry.reset();
        Duration::ZERO
    }

    /// The server watches since it was asked then.
    fn began(&mut self, asked: Instant) {
        self.last = Some(asked);
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
        let is_watch = is_watch(&request);
        Box::pin(async move {
            let lock = || pace.lock().unwrap_or_else(PoisonError::into_inner);
            if is_watch {
                let wait = lock().ask();
                if !wait.is_zero() {
                    tokio::time::sleep(wait).await;
                }
            }
            let asked = Instant::now();
            let response = client.send(request).await?;
            if response.status().is_success() {
                if is_watch {
                    lock().began(asked);
                }
                output.link(kind, Link::Up);
            }
            Ok(response)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_wait_for_those_that_ended_too_soon_and_not_for_requests_that_failed() {
        let second = Duration::from_secs(1);
        let mut pace = Pace {
            retry: Retry::new(second, second * 60),
            short_watch: second * 3600,
            last: None,
        };
        // Nothing began: who asks waits by itself.
        for _ in 0..9 {
            assert_eq!(pace.ask(), Duration::ZERO);
        }
        pace.began(Instant::now());
        let first = pace.ask();
        pace.began(Instant::now());
        let second_time = pace.ask();
        assert!(first > Duration::ZERO && first <= second, "{first:?}");
        assert!(second_time >= second, "{second_time:?}");
        // One that fails in between begins anew.
        assert_eq!(pace.ask(), Duration::ZERO);
        pace.began(Instant::now());
        assert!(pace.ask() <= second);
    }
}
