//! What watches have to say.

use std::time::{Duration, SystemTime};

use svc_core::object::{EndpointSlice, Node, Pod, Service, ServiceCidr};
use svc_core::{Diagnostic, Event, Name, NamespacedName, ObjectKind, WatchEvent};

/// One message of the watches; those about one kind come in the order of the API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// For [`svc_core::Planner::handle`] or [`svc_core::ClusterState::apply`], as it is.
    Event(Event),
    /// For [`svc_core::dns::Zone::apply_pod`]; only for DNS.
    Pod(WatchEvent<Pod, NamespacedName>),
    /// For [`svc_core::dns::Zone::apply_namespace`]; only for DNS.
    Namespace(WatchEvent<Name, Name>),
    /// The first lists of everything that is watched were handed on; said once. What the server does
    /// not show and what can be done without does not count.
    Complete,
    /// All that is wrong with an object now: takes the place of what was said before about it.
    Remarks {
        /// Its kind.
        kind: ObjectKind,
        /// Its name; the namespace is `default` for kinds that have none.
        object: NamespacedName,
        /// Nothing when the object is fine again, or gone.
        diagnostics: Vec<Diagnostic>,
    },
    /// When that happened which the next event, of an EndpointSlice, is the consequence of: for the
    /// latency of network programming (B-310).
    Triggered(SystemTime),
    /// The connection for a kind came or went.
    Link {
        /// The kind.
        kind: ObjectKind,
        /// How it is now.
        link: Link,
    },
}

/// How the watch of one kind is connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Link {
    /// The server answers.
    Up,
    /// It does not, or says something that cannot be used; what is known stays.
    Down {
        /// Why, in one line.
        error: String,
        /// Shortest time until the next attempt.
        retry_in: Duration,
    },
    /// The server does not have the resource or does not show it, and it can be done without.
    Absent {
        /// Why, in one line.
        error: String,
    },
}

impl From<WatchEvent<Service, NamespacedName>> for Notice {
    fn from(event: WatchEvent<Service, NamespacedName>) -> Self {
        Self::Event(Event::Service(event))
    }
}

impl From<WatchEvent<EndpointSlice, NamespacedName>> for Notice {
    fn from(event: WatchEvent<EndpointSlice, NamespacedName>) -> Self {
        Self::Event(Event::EndpointSlice(event))
    }
}

impl From<WatchEvent<Node, Name>> for Notice {
    fn from(event: WatchEvent<Node, Name>) -> Self {
        Self::Event(Event::Node(event))
    }
}

impl From<WatchEvent<ServiceCidr, Name>> for Notice {
    fn from(event: WatchEvent<ServiceCidr, Name>) -> Self {
        Self::Event(Event::ServiceCidr(event))
    }
}

impl From<WatchEvent<Pod, NamespacedName>> for Notice {
    fn from(event: WatchEvent<Pod, NamespacedName>) -> Self {
        Self::Pod(event)
    }
}

impl From<WatchEvent<Name, Name>> for Notice {
    fn from(event: WatchEvent<Name, Name>) -> Self {
        Self::Namespace(event)
    }
}
