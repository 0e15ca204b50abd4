//! Destinations that keep their connections and get no new ones. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use svc_core::Protocol;

use crate::key::ServerId;

/// How long destinations are kept for their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainPolicy {
    /// Time between two looks at the connections.
    pub interval: Duration,
    /// Time after which a destination is deleted whatever connections it has.
    pub limit: Duration,
}

impl Default for DrainPolicy {
    /// A look every minute (B-294), an end after 15: the kernel keeps an idle connection so long.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(60),
            limit: Duration::from_secs(15 * 60),
        }
    }
}

/// A destination of a virtual server.
pub(crate) type Place = (ServerId, SocketAddr);

/// Destinations that are being drained, with the time of their end.
#[derive(Clone, Debug)]
pub(crate) struct Drains {
    policy: DrainPolicy,
    ends: BTreeMap<Place, Duration>,
    next_look: Option<Duration>,
}

/// Whether the connections of a protocol are worth waiting for (B-294, B-295).
pub(crate) fn drains(protocol: Protocol) -> bool {
    match protocol {
        Protocol::Tcp => true,
        Protocol::Udp | Protocol::Sctp => false,
    }
}

impl Drains {
    pub(crate) fn new(policy: DrainPolicy) -> Self {
        Self {
            policy,
            ends: BTreeMap::new(),
            next_look: None,
        }
    }

    /// A destination has weight 0 from now on.
    pub(crate) fn start(&mut self, place: Place, now: Duration) {
        let end = now.saturating_add(self.policy.limit);
        self.ends.entry(place).or_insert(end);
        let look = now.saturating_add(self.policy.interval);
        self.next_look.get_or_insert(look);
    }

    /// A destination is wanted again, or gone; whether it was being drained.
    pub(crate) fn stop(&mut self, place: &Place) -> bool {
        let was = self.ends.remove(place).is_some();
        self.settle();
        was
    }

    /// A virtual server is gone, and its destinations with it (B-298).
    pub(crate) fn stop_server(&mut self, server: ServerId) {
        self.ends.retain(|(of, _), _| *of != server);
        self.settle();
    }

    pub(crate) fn is_draining(&self, place: &Place) -> bool {
        self.ends.contains_key(place)
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    /// When to look at the connections next.
    pub(crate) fn timeout(&self) -> Option<Duration> {
        self.next_look
    }

    /// The virtual servers to look at now; none before the time has come.
    pub(crate) fn due(&mut self, now: Duration) -> BTreeSet<ServerId> {
        if self.next_look.is_none_or(|look| look > now) {
            return BTreeSet::new();
        }
        self.next_look = Some(now.saturating_add(self.policy.interval));
        self.ends.keys().map(|(server, _)| *server).collect()
    }

    /// The destinations of a virtual server to delete now, as their connections are gone or their
    /// time is up. `connections` tells those of each destination that exists.
    pub(crate) fn finished(
        &mut self,
        server: ServerId,
        connections: &BTreeMap<SocketAddr, u32>,
        now: Duration,
    ) -> Vec<SocketAddr> {
        let mut finished = Vec::new();
        self.ends.retain(|(of, at), end| {
            if *of != server {
                return true;
            }
            match connections.get(at) {
                // Somebody else deleted it.
                None => false,
                Some(0) => {
                    finished.push(*at);
                    true
                }
                Some(_) if *end <= now => {
                    finished.push(*at);
                    true
                }
                Some(_) => true,
            }
        });
        self.settle();
        finished
    }

    fn settle(&mut self) {
        if self.ends.is_empty() {
            self.next_look = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: ServerId = ServerId::Marked(Protocol::Tcp, 1);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn at(port: u16) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], port))
    }

    #[test]
    fn a_destination_ends_with_its_connections_or_its_time() {
        let mut drains = Drains::new(DrainPolicy::default());
        assert_eq!(drains.timeout(), None);
        drains.start((SERVER, at(1)), seconds(10));
        drains.start((SERVER, at(2)), seconds(20));
        assert_eq!(drains.timeout(), Some(seconds(70)));
        assert!(drains.due(seconds(69)).is_empty());
        assert_eq!(drains.due(seconds(70)), BTreeSet::from([SERVER]));
        assert_eq!(drains.timeout(), Some(seconds(130)));

        let busy = BTreeMap::from([(at(1), 1), (at(2), 1)]);
        assert!(drains.finished(SERVER, &busy, seconds(70)).is_empty());
        let done = BTreeMap::from([(at(1), 1), (at(2), 0)]);
        assert_eq!(drains.finished(SERVER, &done, seconds(130)), [at(2)]);
        drains.stop(&(SERVER, at(2)));
        assert!(drains.finished(SERVER, &busy, seconds(909)).is_empty());
        assert_eq!(drains.finished(SERVER, &busy, seconds(910)), [at(1)]);
        drains.stop(&(SERVER, at(1)));
        assert_eq!(drains.timeout(), None);
    }

    #[test]
    fn starting_again_does_not_prolong_and_stopping_ends_it() {
        let mut drains = Drains::new(DrainPolicy::default());
        drains.start((SERVER, at(1)), seconds(0));
        drains.start((SERVER, at(1)), seconds(800));
        let busy = BTreeMap::from([(at(1), 3)]);
        assert_eq!(drains.finished(SERVER, &busy, seconds(900)), [at(1)]);
        assert!(drains.stop(&(SERVER, at(1))));
        assert!(!drains.stop(&(SERVER, at(1))));
        drains.start((SERVER, at(2)), seconds(1));
        drains.stop_server(SERVER);
        assert_eq!(drains.len(), 0);
    }

    #[test]
    fn what_is_gone_is_forgotten() {
        let mut drains = Drains::new(DrainPolicy::default());
        drains.start((SERVER, at(1)), seconds(0));
        let none = BTreeMap::new();
        assert!(drains.finished(SERVER, &none, seconds(60)).is_empty());
        assert!(!drains.is_draining(&(SERVER, at(1))));
    }
}
