//! Watches.

use std::io::{self, Write};
use std::sync::atomic::Ordering;

use super::fault::{End, Fault, On, status};
use super::http::{end_chunks, start_chunks, write_answer, write_chunk};
use super::selector::Selector;
use super::serve::{More, kind, write_pieces};
use super::store::{Entry, Expired, Streaming, What};
use super::{Asked, Shared};

/// Bytes of events that are sent at once.
const BATCH: usize = 64 * 1024;

/// Where a watch starts.
struct Start {
    /// Events of the list that comes first.
    initial: String,
    /// The next entry of the log.
    next: usize,
    /// Marks and ends before this entry were for others.
    born: usize,
}

pub(super) fn answer(
    stream: &mut impl Write,
    asked: &Asked,
    resource: &str,
    selector: &Selector,
    shared: &Shared,
) -> io::Result<More> {
    let fault = shared.store.fault(resource, On::Watch);
    let started = match fault {
        Some(Fault::Status(code)) => Err(Refusal::Status(code)),
        Some(Fault::Error(code)) => Err(Refusal::Event(code)),
        Some(Fault::Empty) => {
            start_chunks(stream)?;
            end_chunks(stream)?;
            return Ok(More::Requests);
        }
        Some(Fault::Unanswered) => return Ok(More::Requests),
        Some(Fault::Cut(_) | Fault::Silent | Fault::Slow) | None => {
            start(asked, resource, selector, shared)
        }
    };
    let start = match started {
        Ok(start) => start,
        Err(refusal) => return refuse(stream, &refusal),
    };
    start_chunks(stream)?;
    match fault {
        Some(Fault::Cut(count)) => {
            let bytes = start.initial.as_bytes();
            write_chunk(stream, &bytes[..count.min(bytes.len())])?;
            return Ok(More::Nothing);
        }
        Some(Fault::Silent) => {}
        Some(
            Fault::Status(_) | Fault::Error(_) | Fault::Empty | Fault::Unanswered | Fault::Slow,
        )
        | None => {
            write_pieces(stream, &start.initial, fault)?;
        }
    }
    let watch = Watch {
        resource,
        selector,
        shared,
        next: start.next,
        born: start.born,
        bookmarks: match asked.parameter("allowWatchBookmarks") {
            "true" => Bookmarks::Asked,
            _ => Bookmarks::NotAsked,
        },
    };
    watch.follow(stream, fault)
}

fn refuse(stream: &mut impl Write, refusal: &Refusal) -> io::Result<More> {
    match *refusal {
        Refusal::Status(code) => write_answer(stream, code, &status(code))?,
        Refusal::Event(code) => {
            start_chunks(stream)?;
            write_chunk(stream, error_event(code).as_bytes())?;
            end_chunks(stream)?;
        }
    }
    Ok(More::Requests)
}

enum Refusal {
    Status(u16),
    Event(u16),
}

fn start(
    asked: &Asked,
    resource: &str,
    selector: &Selector,
    shared: &Shared,
) -> Result<Start, Refusal> {
    let inner = shared.store.lock();
    let born = inner.log.len();
    let streamed = asked.parameter("sendInitialEvents") == "true";
    let from_start = matches!(asked.parameter("resourceVersion"), "" | "0");
    if streamed && inner.streaming == Streaming::Refused {
        return Err(Refusal::Status(422));
    }
    if !from_start {
        let version: u64 = asked.parameter("resourceVersion").parse().unwrap_or(0);
        if version < inner.oldest {
            return Err(match inner.expired {
                Expired::ByEvent => Refusal::Event(410),
                Expired::ByStatus => Refusal::Status(410),
            });
        }
        let next = inner.log.partition_point(|entry| entry.version <= version);
        return Ok(Start {
            initial: String::new(),
            next,
            born,
        });
    }
    let mut initial = String::new();
    for object in inner.list(resource) {
        if selector.takes(&object) {
            initial.push_str(&event("ADDED", &object.json));
        }
    }
    if streamed && inner.streaming == Streaming::Served {
        initial.push_str(&bookmark(
            resource,
            inner.version,
            r#","annotations":{"k8s.io/initial-events-end":"true"}"#,
        ));
    }
    Ok(Start {
        initial,
        next: born,
        born,
    })
}

/// The part of the log that one client sees.
struct Watch<'a> {
    resource: &'a str,
    selector: &'a Selector,
    shared: &'a Shared,
    /// The next entry of the log.
    next: usize,
    born: usize,
    bookmarks: Bookmarks,
}

#[derive(PartialEq, Eq)]
enum Bookmarks {
    Asked,
    NotAsked,
}

/// What is sent at once, and how the watch ends after it.
struct Batch {
    text: String,
    end: Option<End>,
}

impl Watch<'_> {
    /// Sends what happens until the watch ends.
    fn follow(mut self, stream: &mut impl Write, fault: Option<Fault>) -> io::Result<More> {
        while let Some(batch) = self.batch() {
            if fault != Some(Fault::Silent) {
                write_pieces(stream, &batch.text, fault)?;
            }
            if let Some(how) = batch.end
                && let Some(more) = end(stream, how)?
            {
                return Ok(more);
            }
        }
        Ok(More::Nothing)
    }

    /// Waits for entries of the log; none when the server stops.
    fn batch(&mut self) -> Option<Batch> {
        let mut batch = Batch {
            text: String::new(),
            end: None,
        };
        let stopped = || self.shared.stopped.load(Ordering::SeqCst);
        let mut inner = self.shared.store.lock();
        while self.next >= inner.log.len() && !stopped() {
            inner = self.shared.store.wait(inner);
        }
        if stopped() {
            return None;
        }
        while let Some(entry) = inner.log.get(self.next)
            && batch.end.is_none()
            && batch.text.len() < BATCH
        {
            self.next += 1;
            if entry.resource == self.resource {
                self.add(&mut batch, entry);
            }
        }
        Some(batch)
    }

    fn add(&self, batch: &mut Batch, entry: &Entry) {
        match (&entry.what, self.next > self.born) {
            (What::End(how), true) => batch.end = Some(*how),
            (What::Bookmark, true) if self.bookmarks == Bookmarks::Asked => {
                let text = bookmark(self.resource, entry.version, "");
                batch.text.push_str(&text);
            }
            (What::Bookmark | What::End(_), _) => {}
            (What::Changed { .. } | What::Deleted(_), _) => {
                batch.text.push_str(&change(entry, self.selector));
            }
        }
    }
}

/// Ends a watch in a way; none when it goes on after all.
fn end(stream: &mut impl Write, how: End) -> io::Result<Option<More>> {
    match how {
        End::Clean => {
            end_chunks(stream)?;
            Ok(Some(More::Requests))
        }
        End::Cut => {
            write_chunk(stream, br#"{"type":"MODIFIED","object":{"metadata":{"na"#)?;
            Ok(Some(More::Nothing))
        }
        End::Error(code) => {
            write_chunk(stream, error_event(code).as_bytes())?;
            end_chunks(stream)?;
            Ok(Some(More::Requests))
        }
        End::Garbage => {
            write_chunk(stream, b"this is no JSON\n")?;
            Ok(None)
        }
    }
}

/// A change as somebody with a selector sees it: an object may enter or leave by its labels.
fn change(entry: &Entry, selector: &Selector) -> String {
    match &entry.what {
        What::Changed { before, after } => {
            let was = before.as_ref().is_some_and(|before| selector.takes(before));
            match (was, selector.takes(after)) {
                (false, false) => String::new(),
                (false, true) => event("ADDED", &after.json),
                (true, true) => event("MODIFIED", &after.json),
                (true, false) => event("DELETED", &after.json),
            }
        }
        What::Deleted(object) if selector.takes(object) => event("DELETED", &object.json),
        What::Deleted(_) | What::Bookmark | What::End(_) => String::new(),
    }
}

fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn error_event(code: u16) -> String {
    event("ERROR", &status(code))
}

fn bookmark(resource: &str, version: u64, annotations: &str) -> String {
    let (api_version, kind) = kind(resource);
    let object = format!(
        r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{version}"{annotations}}}}}"#
    );
    event("BOOKMARK", &object)
}
