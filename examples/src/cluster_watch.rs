//! Objects from a cluster's API server: watched for as long as a program runs, or listed once.
//!
//! ```text
//!  thread "cluster-watch", one tokio runtime                      thread of the caller
//!  ┌───────────────────────────────────────────────────┐
//!  │ follow(Services)       ─┐                          │
//!  │ follow(EndpointSlices) ─┼─► Output ─► sink(Notice) ─┼──► a channel ──► Planner, ClusterState
//!  │ follow(Node), …        ─┘   compact objects,        │
//!  │      ▲                      remarks by object      │
//!  └──────┼────────────────────────────────────────────┘
//!     API server: streaming list or pages, then a watch with bookmarks
//! ```
//!
//! Nothing here ends because of what a server does. A lost connection is taken up where it ended;
//! a version that the server no longer has (410) leads to a new list, during which everything known
//! stays known; attempts are spaced with jitter. An object that cannot be used is named in
//! [`Notice::Remarks`], and all others arrive.
//!
//! The lists of Services and EndpointSlices are complete once `InitDone` of both was handed on, which
//! [`svc_core::ClusterState::is_complete`] says: before that nothing may be written to a kernel.
//!
//! Without the feature `cluster` the types are there, and [`start`] and [`list`] fail with
//! [`Error::NotBuilt`].

#[cfg(feature = "cluster")]
mod access;
mod error;
#[cfg(feature = "cluster")]
mod follow;
#[cfg(feature = "cluster")]
mod list;
mod notice;
#[cfg(feature = "cluster")]
mod output;
#[cfg(feature = "cluster")]
mod paced;
#[cfg(feature = "cluster")]
mod post;
#[cfg(feature = "cluster")]
mod retry;
mod subject;
#[cfg(feature = "cluster")]
mod thread;
#[cfg(feature = "cluster")]
mod timely;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use svc_core::wire::PodNames;
use svc_core::{NamespacedName, ObjectKind};

pub use error::Error;
pub use notice::{Link, Notice};
pub use subject::{Interest, Missing, Pods, Resource, Subject};

use crate::manifest::Reading;

/// Which cluster, and as whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// A file; when unset those of `KUBECONFIG`, and without that the ServiceAccount of the pod.
    pub kubeconfig: Option<PathBuf>,
}

/// Reads the argument of `--kubeconfig`.
///
/// # Errors
/// Without the feature `cluster`, in the words of [`Error::NotBuilt`].
pub fn kubeconfig(argument: &str) -> Result<PathBuf, Error> {
    match cfg!(feature = "cluster") {
        true => Ok(argument.into()),
        false => Err(Error::NotBuilt),
    }
}

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which cluster.
    pub access: Access,
    /// Which objects.
    pub interest: Interest,
    /// Whether endpoints keep the names of their Pods.
    pub pod_names: PodNames,
    /// Times and sizes.
    pub tuning: Tuning,
}

/// Times and sizes of watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Wait before the first new attempt after a failure; doubled for each one after it.
    pub retry_first: Duration,
    /// Longest wait between attempts.
    pub retry_most: Duration,
    /// Wait between attempts for a resource that the server does not have or does not show.
    pub retry_absent: Duration,
    /// How long a streaming list may be silent before pages are tried: servers before 1.27 take
    /// the request and never say that the list is complete.
    pub patience: Duration,
    /// How long the server may take to answer: up to the start of the events of a watch, and for all of
    /// a page. What takes longer counts as a failure.
    pub answer: Duration,
    /// A watch that ends sooner than this counts as a failure, so that a server that closes each
    /// one at once is not asked again without pause.
    pub short_watch: Duration,
    /// Objects in one page of a list.
    pub page_size: u32,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            retry_first: Duration::from_millis(200),
            retry_most: Duration::from_secs(30),
            retry_absent: Duration::from_secs(600),
            patience: Duration::from_secs(15),
            // API servers give a request up after 60 s themselves, unless they are told otherwise.
            answer: Duration::from_secs(60),
            short_watch: Duration::from_secs(1),
            page_size: 500,
        }
    }
}

/// Something that the owner of an object should see, as an Event of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Posting {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// The object; the Event is in its namespace.
    pub object: NamespacedName,
    /// Whether something is wrong.
    pub importance: Importance,
    /// In one word, from a closed set.
    pub reason: String,
    /// In words.
    pub message: String,
    /// Who says so: the name of the node.
    pub reporter: String,
}

/// Types of Events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Importance {
    Normal,
    Warning,
}

impl Importance {
    /// As the API writes it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// Posts Events of Kubernetes on the thread of the watches; cheap to clone.
#[derive(Clone, Debug)]
pub struct Poster {
    #[cfg(feature = "cluster")]
    sender: tokio::sync::mpsc::Sender<Posting>,
}

impl Poster {
    /// Posts, or drops what cannot be posted soon, without waiting.
    #[cfg(feature = "cluster")]
    pub fn post(&self, posting: Posting) {
        // A courtesy: nothing depends on it.
        let _ = self.sender.try_send(posting);
    }

    /// Drops it: without the feature there is no cluster.
    #[cfg(not(feature = "cluster"))]
    pub fn post(&self, _: Posting) {}
}

/// Watches that go on until this is dropped, or the sink breaks.
#[derive(Debug)]
pub struct ClusterWatch {
    #[cfg(feature = "cluster")]
    thread: thread::Thread,
}

impl ClusterWatch {
    /// What posts Events to the same cluster.
    #[cfg(feature = "cluster")]
    pub fn poster(&self) -> Poster {
        Poster {
            sender: self.thread.postings(),
        }
    }

    /// Without the feature there is never a value to call this on.
    #[cfg(not(feature = "cluster"))]
    pub fn poster(&self) -> Poster {
        Poster {}
    }
}

/// Starts to watch. The sink is called on a thread of its own and should hand on quickly.
///
/// # Errors
/// When it is not known which cluster, or its credentials cannot be read. That the server cannot be
/// reached is no error: it is tried again until it can.
#[cfg(feature = "cluster")]
pub fn start(
    options: Options,
    sink: impl FnMut(Notice) -> ControlFlow<()> + Send + 'static,
) -> Result<ClusterWatch, Error> {
    let thread = thread::Thread::start(options, Box::new(sink))?;
    Ok(ClusterWatch { thread })
}

/// Fails: see the feature `cluster`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
pub fn start(
    _: Options,
    _: impl FnMut(Notice) -> ControlFlow<()> + Send + 'static,
) -> Result<ClusterWatch, Error> {
    Err(Error::NotBuilt)
}

/// Lists objects once, as manifests would have them: those of an [`Interest`], or
/// [`Subject::everything`].
///
/// A resource that cannot be listed is a problem of the reading, unless it can be done without; the
/// rest is there.
///
/// # Errors
/// As [`start`], and when no resource at all can be listed.
#[cfg(feature = "cluster")]
pub fn list(access: &Access, subjects: &[Subject], reading: &mut Reading) -> Result<(), Error> {
    list::list(access, subjects, reading, Tuning::default().answer)
}

/// Fails: see the feature `cluster`.
///
/// # Errors
/// Always.
#[cfg(not(feature = "cluster"))]
pub fn list(_: &Access, _: &[Subject], _: &mut Reading) -> Result<(), Error> {
    Err(Error::NotBuilt)
}
