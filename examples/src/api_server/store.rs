//! Objects, their history, and what is to go wrong.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use serde_json::{Value, json};

use super::fault::{End, Fault, On};
use super::{Asked, lock};

/// Whether lists are streamed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Streaming {
    /// As servers do since 1.34.
    #[default]
    Served,
    /// Refused, as by servers that know them and have them switched off.
    Refused,
    /// Not known: a watch from the beginning without a mark at the end of the list.
    Unknown,
}

/// Objects by resource, such as `services`.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    changed: Condvar,
    asked: Mutex<Sender<Asked>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) version: u64,
    /// Watches from before this version are refused.
    pub(super) oldest: u64,
    pub(super) streaming: Streaming,
    pub(super) expired: Expired,
    pub(super) objects: BTreeMap<String, BTreeMap<(String, String), Arc<Stored>>>,
    pub(super) log: Vec<Entry>,
    /// Lists that are read in pages, by resource and version.
    pub(super) snapshots: BTreeMap<(String, u64), Vec<Arc<Stored>>>,
    faults: Vec<(String, On, Fault)>,
    /// Resources that answer with a status.
    refused: BTreeMap<String, u16>,
}

/// How a watch from a version that is gone is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Expired {
    #[default]
    ByEvent,
    ByStatus,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) json: String,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) resource: String,
    pub(super) version: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug)]
pub(super) enum What {
    Changed {
        before: Option<Arc<Stored>>,
        after: Arc<Stored>,
    },
    Deleted(Arc<Stored>),
    Bookmark,
    End(End),
}

impl Store {
    /// An empty store, and the requests that will be made.
    pub fn new() -> (Arc<Self>, Receiver<Asked>) {
        let (sender, asked) = channel();
        let store = Self {
            inner: Mutex::new(Inner {
                version: 1,
                ..Inner::default()
            }),
            changed: Condvar::new(),
            asked: Mutex::new(sender),
        };
        (Arc::new(store), asked)
    }

    /// Adds or replaces an object; its resource version.
    pub fn put(&self, resource: &str, mut object: Value) -> u64 {
        let mut inner = self.lock();
        inner.version += 1;
        let version = inner.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let stored = Arc::new(Stored::new(&object));
        let key = (stored.namespace.clone(), stored.name.clone());
        let objects = inner.objects.entry(resource.to_owned()).or_default();
        let before = objects.insert(key, stored.clone());
        inner.log(
            resource,
            What::Changed {
                before,
                after: stored,
            },
        );
        self.changed.notify_all();
        version
    }

    /// Deletes an object, if it is there.
    pub fn delete(&self, resource: &str, namespace: &str, name: &str) {
        let mut inner = self.lock();
        let key = (namespace.to_owned(), name.to_owned());
        let objects = inner.objects.entry(resource.to_owned()).or_default();
        let Some(object) = objects.remove(&key) else {
            return;
        };
        inner.version += 1;
        let version = inner.version.to_string();
        // A deletion has a version of its own.
        let mut json: Value = serde_json::from_str(&object.json).unwrap_or_default();
        json["metadata"]["resourceVersion"] = json!(version);
        inner.log(resource, What::Deleted(Arc::new(Stored::new(&json))));
        self.changed.notify_all();
    }

    /// Lets time pass without a change of these objects; the new version.
    pub fn advance(&self) -> u64 {
        let mut inner = self.lock();
        inner.version += 1;
        inner.version
    }

    /// Sends a bookmark to the watches of a resource; its version.
    pub fn bookmark(&self, resource: &str) -> u64 {
        let mut inner = self.lock();
        inner.log(resource, What::Bookmark);
        self.changed.notify_all();
        inner.version
    }

    /// Ends the watches of a resource that run.
    pub fn end_watches(&self, resource: &str, end: End) {
        self.lock().log(resource, What::End(end));
        self.changed.notify_all();
    }

    /// Forgets all history: watches that start at an older version are told so within the stream.
    pub fn forget_history(&self) {
        let mut inner = self.lock();
        inner.version += 1;
        inner.oldest = inner.version;
        inner.expired = Expired::ByEvent;
    }

    /// The same, but watches are told by the status of the answer.
    pub fn forget_history_by_status(&self) {
        self.forget_history();
        self.lock().expired = Expired::ByStatus;
    }

    /// Says whether lists are streamed.
    pub fn set_streaming(&self, streaming: Streaming) {
        self.lock().streaming = streaming;
    }

    /// Answers all requests for a resource with a status.
    pub fn refuse(&self, resource: &str, code: u16) {
        self.lock().refused.insert(resource.to_owned(), code);
    }

    /// Takes [`Store::refuse`] back.
    pub fn allow(&self, resource: &str) {
        self.lock().refused.remove(resource);
    }

    /// Lets the next request of a kind fail; several are used up in order.
    pub fn fail(&self, resource: &str, on: On, fault: Fault) {
        self.lock().faults.push((resource.to_owned(), on, fault));
    }

    pub(super) fn fault(&self, resource: &str, on: On) -> Option<Fault> {
        let mut inner = self.lock();
        if let Some(code) = inner.refused.get(resource) {
            return Some(Fault::Status(*code));
        }
        let fits = |(r, o, _): &(String, On, Fault)| r == resource && *o == on;
        let at = inner.faults.iter().position(fits)?;
        Some(inner.faults.remove(at).2)
    }

    pub(super) fn note(&self, asked: &Asked) {
        // A test that does not look at requests has dropped the other end.
        let _ = lock(&self.asked).send(asked.clone());
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        lock(&self.inner)
    }

    /// Waits for a change; the caller looks what it is.
    pub(super) fn wait<'a>(&self, inner: MutexGuard<'a, Inner>) -> MutexGuard<'a, Inner> {
        let waited = self.changed.wait(inner);
        waited.unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    pub(super) fn wake(&self) {
        let _inner = self.lock();
        self.changed.notify_all();
    }
}

impl Inner {
    fn log(&mut self, resource: &str, what: What) {
        let resource = resource.to_owned();
        let version = self.version;
        self.log.push(Entry {
            resource,
            version,
            what,
        });
    }

    /// All objects of a resource.
    pub(super) fn list(&self, resource: &str) -> Vec<Arc<Stored>> {
        let objects = self.objects.get(resource);
        objects.map_or_else(Vec::new, |objects| objects.values().cloned().collect())
    }
}

impl Stored {
    fn new(object: &Value) -> Self {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default().to_owned();
        let labels = metadata["labels"].as_object();
        let labels = labels.into_iter().flatten();
        Self {
            namespace: text("namespace"),
            name: text("name"),
            labels: labels
                .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
                .collect(),
            json: object.to_string(),
        }
    }
}
