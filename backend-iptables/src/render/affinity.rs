//! Where the clients of each service port with affinity are remembered.

use std::collections::BTreeMap;

use svc_core::{ClientIpAffinity, Ruleset, ServicePortName};

use crate::balance::{Sticky, Store};
use crate::config::{AffinityBy, MOST_RECENT};
use crate::key::{Key, Value};
use crate::name::{Anchor, ChainKind, ChainName};
use crate::rule::Match;

/// A store per service port. It stays while the service port has affinity, so that clients are
/// not forgotten because other Services come and go.
#[derive(Clone, Debug)]
pub(super) struct Stores {
    by: AffinityBy,
    given: BTreeMap<ServicePortName, Store>,
    /// What an earlier run gave, by the chain of the cluster list.
    learned: BTreeMap<ChainName, Store>,
    /// How many of both are lists.
    recent: usize,
}

impl Stores {
    pub(super) fn new(by: AffinityBy) -> Self {
        Self {
            by,
            given: BTreeMap::new(),
            learned: BTreeMap::new(),
            recent: 0,
        }
    }

    /// How the clients of a service port are remembered.
    pub(super) fn sticky(
        &mut self,
        name: &ServicePortName,
        anchor: &Anchor,
        affinity: Option<ClientIpAffinity>,
    ) -> Option<Sticky> {
        let Some(affinity) = affinity else {
            self.forget(name);
            return None;
        };
        let learned = self.learned.remove(&anchor.chain(ChainKind::Cluster, None));
        self.count_out(learned);
        let given = self.given.remove(name);
        self.count_out(given);
        let store = match (self.by, given.or(learned)) {
            (AffinityBy::Nothing, _) => return None,
            (AffinityBy::Recent, _) => Store::Recent,
            (AffinityBy::Sets, _) => Store::Sets,
            (AffinityBy::RecentThenSets, Some(store)) => store,
            (AffinityBy::RecentThenSets, None) => match self.recent < MOST_RECENT {
                true => Store::Recent,
                false => Store::Sets,
            },
        };
        self.given.insert(name.clone(), store);
        self.recent += usize::from(store == Store::Recent);
        Some(Sticky {
            store,
            seconds: affinity.timeout_seconds,
        })
    }

    pub(super) fn forget(&mut self, name: &ServicePortName) {
        let given = self.given.remove(name);
        self.count_out(given);
    }

    /// Sees from its rules how each service port remembers.
    pub(super) fn learn(&mut self, held: &Ruleset<Key, Value>) {
        self.learned.clear();
        for (key, value) in held {
            let (Key::Chain(_, name), Value::Rules(rules)) = (key, value) else {
                continue;
            };
            let store = rules.iter().flat_map(|rule| rule.matches()).find_map(store);
            if let (Some(store), Some(chain)) = (store, name.cluster_chain()) {
                self.learned.insert(chain, store);
            }
        }
        let all = self.given.values().chain(self.learned.values());
        self.recent = all.filter(|store| **store == Store::Recent).count();
    }

    fn count_out(&mut self, store: Option<Store>) {
        self.recent -= usize::from(store == Some(Store::Recent)).min(self.recent);
    }
}

fn store(condition: &Match) -> Option<Store> {
    match condition {
        Match::Remember(_) | Match::Remembered(..) => Some(Store::Recent),
        Match::InSet(_) => Some(Store::Sets),
        Match::Source(..)
        | Match::Destination(..)
        | Match::Interface(..)
        | Match::Protocol(_)
        | Match::Ports(..)
        | Match::Mark(..)
        | Match::States(..)
        | Match::SourceIsLocal
        | Match::DestinationIsLocal
        | Match::Random(_)
        | Match::SameAddress(_)
        | Match::Comment(_)
        | Match::Opaque(_) => None,
    }
}
