//! Where all watches of a program end: conversion, remarks by object, and the caller's sink.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use k8s_openapi::jiff::Timestamp;
use kube::runtime::watcher;
use svc_core::kube::{Source, Translated, translate};
use svc_core::wire::{Conversion, PodNames};
use svc_core::{Diagnostic, NamespacedName, ObjectKind, WatchEvent};
use tokio::sync::Notify;

use super::{Link, Notice};

/// Annotation of an EndpointSlice.
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// Takes what the caller wants to know.
pub(super) type Sink = Box<dyn FnMut(Notice) -> ControlFlow<()> + Send>;

/// The end of all watches; cheap to clone. Only the thread of the watches locks it.
#[derive(Clone)]
pub(super) struct Output {
    shared: Arc<Mutex<Shared>>,
    closed: Arc<Notify>,
    /// Told when a watch that was down is up.
    back: Arc<Notify>,
}

struct Shared {
    sink: Sink,
    conversion: Conversion,
    /// Objects with remarks, and the list or change in which they were made.
    noted: BTreeMap<(ObjectKind, NamespacedName), u64>,
    links: BTreeMap<ObjectKind, Link>,
    /// Counts lists, to know which remarks are about objects that a later one does not have.
    lists: u64,
    /// Kinds whose first list is not complete.
    incomplete: BTreeSet<ObjectKind>,
}

impl Output {
    pub(super) fn new(
        sink: Sink,
        pod_names: PodNames,
        kinds: impl IntoIterator<Item = ObjectKind>,
        closed: Arc<Notify>,
    ) -> Self {
        let shared = Shared {
            sink,
            incomplete: kinds.into_iter().collect(),
            conversion: Conversion::new(pod_names),
            noted: BTreeMap::new(),
            links: BTreeMap::new(),
            lists: 0,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
            closed,
            back: Arc::new(Notify::new()),
        }
    }

    /// Hands on an event; in a list, `since` is what [`Output::list_starts`] returned.
    pub(super) fn event<S: Source>(&self, event: watcher::Event<S>, since: u64)
    where
        Notice: From<WatchEvent<S::Object, S::Key>>,
    {
        self.with(|shared| {
            if let Some(at) = triggered(&event) {
                (shared.sink)(Notice::Triggered(at))?;
            }
            let Translated {
                event,
                object,
                diagnostics,
            } = translate(&mut shared.conversion, event);
            if let Some(object) = object {
                shared.remark(S::KIND, object, diagnostics)?;
            }
            let Some(event) = event else {
                return ControlFlow::Continue(());
            };
            let ends_list = matches!(event, WatchEvent::InitDone);
            (shared.sink)(Notice::from(event))?;
            match ends_list {
                true => {
                    shared.conversion.forget_unused_names();
                    shared.forget_before(S::KIND, since)?;
                    shared.listed(S::KIND)
                }
                false => ControlFlow::Continue(()),
            }
        });
    }

    /// Starts a list: remarks that are not made again until it ends are about objects that are gone.
    pub(super) fn list_starts(&self) -> u64 {
        let mut at = 0;
        self.with(|shared| {
            shared.lists += 1;
            at = shared.lists;
            ControlFlow::Continue(())
        });
        at
    }

    /// Says how the watch of a kind is connected, if that is news.
    pub(super) fn link(&self, kind: ObjectKind, link: Link) {
        self.with(|shared| {
            if shared.links.get(&kind) == Some(&link) {
                return ControlFlow::Continue(());
            }
            let was = shared.links.insert(kind, link.clone());
            if let (Some(Link::Down { .. }), Link::Up) = (was, &link) {
                self.back.notify_waiters();
            }
            let is_absent = matches!(link, Link::Absent { .. });
            (shared.sink)(Notice::Link { kind, link })?;
            match is_absent {
                true => shared.listed(kind),
                false => ControlFlow::Continue(()),
            }
        });
    }

    /// Waits until the watch of any kind is connected again.
    pub(super) async fn any_is_back(&self) {
        self.back.notified().await;
    }

    fn with(&self, act: impl FnOnce(&mut Shared) -> ControlFlow<()>) {
        // A sink that panicked ended the thread; nobody is there to care for what it left.
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        match act(&mut shared) {
            ControlFlow::Continue(()) => {}
            ControlFlow::Break(()) => self.closed.notify_one(),
        }
    }
}

/// When the change happened that a changed EndpointSlice is the consequence of. Slices of a list say
/// nothing about how long anything took.
fn triggered<S: Source>(event: &watcher::Event<S>) -> Option<SystemTime> {
    let watcher::Event::Apply(source) = event else {
        return None;
    };
    if S::KIND != ObjectKind::EndpointSlice {
        return None;
    }
    let time: Timestamp = source.annotation(TRIGGER_TIME)?.parse().ok()?;
    Some(time.into())
}

impl Shared {
    /// The first list of a kind is there, or will not come.
    fn listed(&mut self, kind: ObjectKind) -> ControlFlow<()> {
        match self.incomplete.remove(&kind) && self.incomplete.is_empty() {
            true => (self.sink)(Notice::Complete),
            false => ControlFlow::Continue(()),
        }
    }

    fn remark(
        &mut self,
        kind: ObjectKind,
        object: NamespacedName,
        diagnostics: Vec<Diagnostic>,
    ) -> ControlFlow<()> {
        let key = (kind, object);
        let was_noted = match diagnostics.is_empty() {
            true => self.noted.remove(&key).is_some(),
            false => self.noted.insert(key.clone(), self.lists).is_some(),
        };
        if !was_noted && diagnostics.is_empty() {
            return ControlFlow::Continue(());
        }
        let (kind, object) = key;
        (self.sink)(Notice::Remarks {
            kind,
            object,
            diagnostics,
        })
    }

    fn forget_before(&mut self, kind: ObjectKind, since: u64) -> ControlFlow<()> {
        let of_kind = self.noted.iter().filter(|((k, _), _)| *k == kind);
        let gone: Vec<NamespacedName> = of_kind
            .filter(|(_, at)| **at < since)
            .map(|((_, object), _)| object.clone())
            .collect();
        for object in gone {
            self.remark(kind, object, Vec::new())?;
        }
        ControlFlow::Continue(())
    }
}
