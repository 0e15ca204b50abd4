//! What a loop is told, and the channel that it is told through.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Instant, SystemTime};

use svc_core::{Diagnostic, Event, Flow, IpFamily, NamespacedName, ObjectKind};

/// What a loop is told.
#[derive(Debug)]
pub enum Input {
    /// An object changed.
    Event(Event),
    /// Objects changed together, such as a page of a list: all are taken in before the next sync.
    Events(Vec<Event>),
    /// Everything that is now odd about one object; nothing if it is gone or fine again.
    Remarks {
        /// Kind of the object.
        kind: ObjectKind,
        /// The object.
        object: NamespacedName,
        /// What is odd.
        diagnostics: Vec<Diagnostic>,
    },
    /// How a source of objects of one kind is doing.
    Link {
        /// Kind of the objects.
        kind: ObjectKind,
        /// How it is doing.
        link: SourceLink,
    },
    /// The first lists of everything that matters were told; whoever knows says so, and the loop
    /// finds out by itself otherwise.
    Complete,
    /// When that happened which the next event of an EndpointSlice is the consequence of, as the
    /// control plane noted it (B-234).
    Triggered(SystemTime),
    /// Somebody else may have changed what a family holds in the kernel; both if it is not known.
    Disturbed(Option<IpFamily>),
    /// Addresses of the host may have come or gone.
    Addresses,
    /// Somebody wants to know what happens to a packet.
    Explain(Flow, Sender<String>),
    /// The end, for this reason; the rules stay.
    Stop(&'static str),
    /// The configuration changed: the end, to be started again with it (B-333).
    Reconfigured,
}

/// How a source of objects is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceLink {
    /// Events arrive.
    Up,
    /// They do not, for this reason; the source tries again by itself.
    Down(String),
    /// There are none of this kind, for this reason.
    Absent(String),
}

/// The end of a channel that tells a loop; any number may be held.
#[derive(Clone, Debug)]
pub struct Feed(Sender<Told>);

/// The loop has ended: nobody listens any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the loop has ended")]
pub struct Stopped;

/// An input, and when it was sent.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) at: Instant,
    pub(super) input: Input,
}

impl Feed {
    /// Tells the loop; never waits.
    ///
    /// # Errors
    /// [`Stopped`]: the sender should end too.
    pub fn send(&self, input: Input) -> Result<(), Stopped> {
        let at = Instant::now();
        self.0.send(Told { at, input }).map_err(|_| Stopped)
    }
}

/// A channel to a loop.
pub(super) fn feed() -> (Feed, Receiver<Told>) {
    let (sender, receiver) = channel();
    (Feed(sender), receiver)
}
