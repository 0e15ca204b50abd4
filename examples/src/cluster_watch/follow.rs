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
use tokio::time::{sleep, timeout};

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
            self.retry.reset();
        }
        self.output.event(event, self.since);
    }

    /// Does about an error what is to be done; tells when that ends the watcher.
    async fn act<W: WireKind>(&mut self, answer: Answer, error: &watcher::Error) -> Option<Ended> {
        match answer {
            Answer::Page => Some(Ended::NotStreamed),
            Answer::Resume => {
                self.pause::<W>(error).await;
                None
            }
            Answer::List => {
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
        let wait = self.retry.wait();
        let error = words(error);
        let retry_in = Duration::from_millis(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        self.output.link(W::KIND, Link::Down { error, retry_in });
        sleep(wait).await;
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
        410 => Answer::List,
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
