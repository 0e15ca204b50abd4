//! What is worth an Event of Kubernetes, and who posts it.

use std::collections::BTreeSet;

use svc_core::{Diagnostic, NamespacedName, ObjectKind, Severity};

/// Something that the owner of an object should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Announcement {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// The object.
    pub object: NamespacedName,
    /// How much it matters.
    pub severity: Severity,
    /// In one word, from a closed set: that of [`svc_core::DiagnosticReason`],
    /// `RefusedByKernel` and `FailedToStartServiceHealthcheck` (B-204).
    pub reason: String,
    /// In words.
    pub message: String,
}

/// Who posts announcements; a watch of a cluster, for one.
pub trait EventSink: Send {
    /// Posts one, or drops it, without waiting. The same is not announced twice in a row.
    fn post(&mut self, announcement: &Announcement);
}

impl From<&Diagnostic> for Announcement {
    fn from(diagnostic: &Diagnostic) -> Self {
        Self {
            kind: diagnostic.kind,
            object: diagnostic.object.clone(),
            severity: diagnostic.severity,
            reason: format!("{:?}", diagnostic.reason),
            message: format!("{}: {}", diagnostic.field, diagnostic.message),
        }
    }
}

/// Announces what is new.
pub(super) struct Announcer {
    sink: Option<Box<dyn EventSink>>,
    standing: BTreeSet<Announcement>,
}

impl Announcer {
    pub(super) fn new(sink: Option<Box<dyn EventSink>>) -> Self {
        Self {
            sink,
            standing: BTreeSet::new(),
        }
    }

    /// Takes what is true now; returns what was not true before, after handing it to the sink.
    pub(super) fn update(&mut self, now: BTreeSet<Announcement>) -> Vec<Announcement> {
        let fresh: Vec<_> = now.difference(&self.standing).cloned().collect();
        if let Some(sink) = &mut self.sink {
            fresh
                .iter()
                .for_each(|announcement| sink.post(announcement));
        }
        self.standing = now;
        fresh
    }
}
