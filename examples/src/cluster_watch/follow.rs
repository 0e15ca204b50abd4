//! One kind, followed for as long as the program runs.

use std::pin::pin;
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use kube::core::Status;
use kube::runtime::watcher;
use kube::{Api, Client};
use svc_core::WatchEvent;
use svc_core::kube::{Watched, WireKind};
use svc_core::wire::Shape;
use tokio::time::{Instant, sleep, timeout};

use super::output::Output;
use super::paced::paced;
use super::retry::Retry;
use super::{Link, Missing, Notice, Subject, Tuning};
use crate::cli::one_line;

/// How a complete list is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lists {
    /// As the start of a watch: no list is ever in memory as a whole, here or in the server.
    Streamed,
    /// In pages.
    Paged,
}

/// Why a watcher is given up for a new one.
enum Ended {
    /// The server does not stream lists.
    NotStreamed,
    /// Something is lost: only a new list can tell what.
    Lost,
}

/// What to do about an error.
enum Answer {
    /// The watcher takes up where it was, after a wait.
    Resume,
    /// Pages, at once.
    Page,
    /// A new list, after a wait.
    List,
    /// The same: the server answers, and has a list where it has no history.
    ListAnew,
    /// Try again much later: it can be done without.
    Tolerate,
}

/// Follows one kind; never returns.
pub(super) async fn follow<W>(client: Client, subject: Subject, tuning: &Tuning, output: Output)
where
    W: WireKind + Shape,
    Notice: From<WatchEvent<W::Object, W::Key>>,
{
    let client = paced(client, W::KIND, output.clone(), tuning);
    let mut following = Following {
        subject,
        tuning,
        output,
        retry: Retry::new(tuning.retry_first, tuning.retry_most),
        is_gone: false,
        woken: false,
        paused: None,
        since: 0,
    };
    let mut lists = Lists::Streamed;
    loop {
        let config = following.config(lists);
        let watcher = watcher(Api::<Watched<W>>::all(client.clone()), config);
        lists = match following.run(pin!(watcher), lists).await {
            Ended::NotStreamed => Lists::Paged,
            // The server may be a newer one by now.
            Ended::Lost => Lists::Streamed,
        };
    }
}

struct Following<'a> {
    subject: Subject,
    tuning: &'a Tuning,
    output: Output,
    retry: Retry,
    /// The last error said that a version is gone.
    is_gone: bool,
    /// A wait ended early since something worked, or watches that all fail would wake each other.
    woken: bool,
    /// When the last wait was over.
    paused: Option<Instant>,
    /// The list that is being read, or was read last.
    since: u64,
}

impl Following<'_> {
    fn config(&self, lists: Lists) -> watcher::Config {
        let mut config = watcher::Config::default().page_size(self.tuning.page_size);
        if !self.subject.labels.is_empty() {
            config = config.labels(self.subject.labels);
        }
        if !self.subject.fields.is_empty() {
            config = config.fields(&self.subject.fields);
        }
        match lists {
            Lists::Streamed => config.streaming_lists(),
            Lists::Paged => config,
        }
    }

    /// Hands on the events of a watcher until it has to be given up.
    async fn run<W>(
        &mut self,
        mut events: impl Stream<Item = watcher::Result<watcher::Event<Watched<W>>>> + Unpin,
        lists: Lists,
    ) -> Ended
    where
        W: WireKind,
        Notice: From<WatchEvent<W::Object, W::Key>>,
    {
        let mut listing = true;
        loop {
            let next = match (listing, lists) {
                (true, Lists::Streamed) => match timeout(self.tuning.patience, events.next()).await
                {
                    Ok(next) => next,
                    Err(_) => return Ended::NotStreamed,
                },
                (true, Lists::Paged) | (false, Lists::Streamed | Lists::Paged) => {
                    events.next().await
                }
            };
            match next {
                // A watcher has no end.
                None => return Ended::Lost,
                Some(Ok(event)) => {
                    match event {
                        watcher::Event::Init => listing = true,
                        watcher::Event::InitDone => listing = false,
                        watcher::Event::InitApply(_)
                        | watcher::Event::Apply(_)
                        | watcher::Event::Delete(_) => {}
                    }
                    self.hand_on(event, listing);
                }
                Some(Err(error)) => {
                    let answer = answer(&error, &self.subject, listing, lists);
                    if let Some(ended) = self.act::<W>(answer, &error).await {
                        return ended;
                    }
                }
            }
        }
    }

    fn hand_on<W>(&mut self, event: watcher::Event<Watched<W>>, listing: bool)
    where
        W: WireKind,
        Notice: From<WatchEvent<W::Object, W::Key>>,
    {
        if let watcher::Event::Init = event {
            self.since = self.output.list_starts();
        }
        if !listing {
            self.works();
        }
        self.output.event(event, self.since);
    }

    fn works(&mut self) {
        self.retry.reset();
        self.is_gone = false;
        self.woken = false;
    }

    /// Does about an error what is to be done; tells when that ends the watcher.
    async fn act<W: WireKind>(&mut self, answer: Answer, error: &watcher::Error) -> Option<Ended> {
        let is_gone = matches!(answer, Answer::ListAnew);
        if is_gone && !self.is_gone {
            // A server that restarts refuses every version from before: the waits that grew while it
            // was away are over.
            self.retry.reset();
        }
        self.is_gone = is_gone;
        match answer {
            Answer::Page => Some(Ended::NotStreamed),
            Answer::Resume => {
                self.pause::<W>(error).await;
                None
            }
            Answer::List | Answer::ListAnew => {
                self.pause::<W>(error).await;
                Some(Ended::Lost)
            }
            Answer::Tolerate => {
                let error = words(error);
                self.output.link(W::KIND, Link::Absent { error });
                sleep(self.tuning.retry_absent).await;
                Some(Ended::Lost)
            }
        }
    }

    async fn pause<W: WireKind>(&mut self, error: &watcher::Error) {
        // A watch on which nothing happens tells of no success.
        if self
            .paused
            .is_some_and(|at| at.elapsed() >= self.tuning.retry_most)
        {
            self.works();
        }
        let wait = self.retry.wait();
        let error = words(error);
        let retry_in = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.output.link(W::KIND, Link::Down { error, retry_in });
        match self.woken {
            true => sleep(wait).await,
            // Where one watch comes about, others may too: the server is back.
            false => self.woken = timeout(wait, self.output.any_is_back()).await.is_ok(),
        }
        self.paused = Some(Instant::now());
    }
}

fn answer(error: &watcher::Error, subject: &Subject, listing: bool, lists: Lists) -> Answer {
    let status = match error {
        watcher::Error::NoResourceVersion => return Answer::List,
        watcher::Error::WatchError(status) => Some(&**status),
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => {
            // A line that cannot be read is an object that is missing from now on.
            if let kube::Error::SerdeError(_) = cause {
                return Answer::List;
            }
            api_status(cause)
        }
    };
    let code = status.map_or(0, |status| status.code);
    match code {
        // The watcher itself starts again after a 410 within a stream, but not after one that is
        // the answer to its request: it would ask for the same version forever.
        410 => Answer::ListAnew,
        403 | 404 if subject.missing == Missing::Tolerated => Answer::Tolerate,
        // What servers say to a parameter that they know and do not serve, or do not know.
        400 | 405 | 406 | 415 | 422 | 501 if listing && lists == Lists::Streamed => Answer::Page,
        _ => Answer::Resume,
    }
}

/// An error in one line, without the wrappers that say nothing to a reader.
pub(super) fn words(error: &watcher::Error) -> String {
    match error {
        watcher::Error::WatchError(status) => status_words(status),
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => client_words(cause),
        watcher::Error::NoResourceVersion => one_line(error),
    }
}

/// The same for an error of a client.
pub(super) fn client_words(error: &kube::Error) -> String {
    if let kube::Error::Service(cause) = error {
        return one_line(&**cause);
    }
    api_status(error).map_or_else(|| one_line(error), status_words)
}

/// What the server says, if it is the server that says something.
fn api_status(error: &kube::Error) -> Option<&Status> {
    if let kube::Error::Api(status) = error {
        return Some(status);
    }
    None
}

fn status_words(status: &Status) -> String {
    match status.reason.is_empty() {
        true => format!("{} {}", status.code, status.message),
        false => format!("{} {}: {}", status.code, status.reason, status.message),
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::ops::ControlFlow;
    use std::sync::Arc;
    use std::task::{Context, Poll, Waker};

    use svc_core::ObjectKind;
    use svc_core::wire::{PodNames, Service};
    use tokio::sync::Notify;

    use super::super::Resource;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().build().unwrap()
    }

    fn following(tuning: &Tuning) -> Following<'_> {
        let sink = Box::new(|_| ControlFlow::Continue(()));
        Following {
            subject: Subject {
                resource: Resource::Services,
                labels: "",
                fields: String::new(),
                missing: Missing::Fails,
            },
            tuning,
            output: Output::new(sink, PodNames::default(), [], Arc::new(Notify::new())),
            retry: Retry::new(HOUR, HOUR * 9),
            is_gone: false,
            woken: false,
            paused: None,
            since: 0,
        }
    }

    #[test]
    fn a_watch_that_is_back_brings_back_the_others_but_once() {
        let runtime = runtime();
        let _inside = runtime.enter();
        let tuning = Tuning::default();
        let mut following = following(&tuning);
        let output = following.output.clone();
        let nodes = |link| output.link(ObjectKind::Node, link);
        let down = || Link::Down {
            error: String::new(),
            retry_in: HOUR,
        };
        for expected in [Poll::Ready(()), Poll::Pending] {
            let mut pause = pin!(following.pause::<Service>(&watcher::Error::NoResourceVersion));
            let mut poll = || pause.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(poll(), Poll::Pending);
            nodes(down());
            assert_eq!(poll(), Poll::Pending);
            nodes(Link::Up);
            assert_eq!(poll(), expected);
        }
    }

    #[test]
    fn a_failure_long_after_the_last_one_is_the_first_again() {
        let runtime = runtime();
        let _inside = runtime.enter();
        for (retry_most, starts_again) in [(Duration::ZERO, true), (HOUR, false)] {
            let tuning = Tuning {
                retry_most,
                ..Tuning::default()
            };
            let mut following = following(&tuning);
            following.retry.wait();
            following.paused = Some(Instant::now());
            following.woken = true;
            {
                let error = watcher::Error::NoResourceVersion;
                let mut pause = pin!(following.pause::<Service>(&error));
                let mut context = Context::from_waker(Waker::noop());
                assert_eq!(pause.as_mut().poll(&mut context), Poll::Pending);
            }
            assert_eq!(following.woken, !starts_again);
            // The third wait, or the second.
            let next = following.retry.wait();
            assert_eq!(next <= HOUR * 2, starts_again, "{next:?}");
        }
    }
}
