//! The chains that choose an endpoint.

use std::sync::Arc;

use svc_core::{Endpoint, Protocol};

use crate::key::{Key, Table, Value};
use crate::name::{Anchor, ChainKind, ChainName, group_of};
use crate::rule::{Match, Probability, Rule, Target};

/// More endpoints are chosen in two steps, so that a packet is compared with tens of rules and a
/// change rewrites one group.
const FLAT: usize = 64;

/// Endpoints that a group has on average, at least; at most twice as many.
const GROUP: usize = 16;

/// Most groups: their number has two hexadecimal digits.
const MAX_GROUPS: usize = 256;

/// Longest time that a set remembers a client, in seconds; longer ones become this.
const MAX_SET_SECONDS: u32 = 2_147_483;

/// How clients of a service port are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// In lists of `-m recent`.
    Recent,
    /// In sets.
    Sets,
}

/// ClientIP affinity of a service port (B-157).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sticky {
    pub(crate) store: Store,
    pub(crate) seconds: u32,
}

/// Chooses among the endpoints of one service port.
pub(crate) struct Balancer {
    pub(crate) anchor: Anchor,
    pub(crate) protocol: Protocol,
    pub(crate) sticky: Option<Sticky>,
}

impl Balancer {
    /// The chains that choose among a list, and the sets they need.
    ///
    /// Both lists of a service port have the same pins: which front end a client uses does not
    /// matter (B-157).
    pub(crate) fn chains(&self, kind: ChainKind, endpoints: &[Endpoint]) -> Vec<(Key, Value)> {
        let mut objects = Vec::new();
        let mut rules: Vec<Rule> = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            rules.extend(self.remembered(endpoint));
            self.pin(endpoint, &mut objects);
        }
        if endpoints.len() <= FLAT {
            rules.extend(self.choose(endpoints));
        } else {
            let groups = groups(endpoints);
            let mut rest = endpoints.len();
            for (index, group) in groups {
                let chain = self.anchor.chain(kind, Some(index));
                let chance = Probability::of(group.len(), rest).map(Match::Random);
                rules.push(Rule::new(chance, Target::Goto(chain)));
                rest -= group.len();
                objects.push(chain_object(chain, self.choose(&group)));
            }
        }
        objects.push(chain_object(self.anchor.chain(kind, None), rules));
        objects
    }

    /// Each endpoint has the same chance (B-040).
    fn choose(&self, endpoints: &[Endpoint]) -> Vec<Rule> {
        let shares = shares(endpoints);
        let choose = |(endpoint, chance): (&Endpoint, _)| self.take(endpoint, chance);
        shares.map(choose).collect()
    }

    /// Sends to an endpoint, and remembers the client.
    fn take(&self, endpoint: &Endpoint, chance: Option<Match>) -> Rule {
        let protocol = Match::Protocol(self.protocol);
        let pin = || self.anchor.pin(endpoint.socket());
        match self.sticky.map(|sticky| sticky.store) {
            None => Rule::new([protocol].into_iter().chain(chance), dnat(endpoint)),
            // The chance goes first, or clients are remembered that go elsewhere.
            Some(Store::Recent) => {
                let matches = [protocol].into_iter().chain(chance);
                let remember = Match::Remember(pin());
                Rule::new(matches.chain([remember]), dnat(endpoint))
            }
            Some(Store::Sets) => Rule::new(chance, Target::Goto(pin())),
        }
    }

    /// Sends a client to the endpoint where it was before, the first one if there are several
    /// (B-161), and remembers it anew (B-158).
    fn remembered(&self, endpoint: &Endpoint) -> Option<Rule> {
        let Sticky { store, seconds } = self.sticky?;
        let pin = self.anchor.pin(endpoint.socket());
        let protocol = Match::Protocol(self.protocol);
        Some(match store {
            Store::Recent => {
                let remembered = Match::Remembered(pin, seconds.max(1));
                Rule::new([protocol, remembered], dnat(endpoint))
            }
            Store::Sets => Rule::new([Match::InSet(pin)], Target::Goto(pin)),
        })
    }

    /// The set of an endpoint and the chain that fills it.
    fn pin(&self, endpoint: &Endpoint, objects: &mut Vec<(Key, Value)>) {
        let Some(Sticky { store, seconds }) = self.sticky else {
            return;
        };
        if store == Store::Recent {
            return;
        }
        let pin = self.anchor.pin(endpoint.socket());
        let seconds = seconds.clamp(1, MAX_SET_SECONDS);
        let rules = vec![
            Rule::always(Target::AddToSet(pin, seconds)),
            Rule::new([Match::Protocol(self.protocol)], dnat(endpoint)),
        ];
        objects.push((Key::Set(pin), Value::Present));
        objects.push(chain_object(pin, rules));
    }
}

/// Each of a list with the chance that the rule for it must have, if those before did not match.
pub(crate) fn shares<T>(list: &[T]) -> impl Iterator<Item = (&T, Option<Match>)> {
    let share = |(index, item)| {
        let chance = Probability::of(1, list.len() - index).map(Match::Random);
        (item, chance)
    };
    list.iter().enumerate().map(share)
}

fn dnat(endpoint: &Endpoint) -> Target {
    Target::Dnat(endpoint.socket())
}

/// A chain of table nat.
pub(crate) fn chain_object(name: ChainName, rules: Vec<Rule>) -> (Key, Value) {
    let key = Key::Chain(Table::Nat, name);
    (key, Value::Rules(Arc::from(rules)))
}

/// Groups that are not empty, by number.
///
/// Members are found by a hash, not by their place in the list: an endpoint that comes or goes
/// changes its own group, until the number of groups doubles.
fn groups(endpoints: &[Endpoint]) -> Vec<(u8, Vec<Endpoint>)> {
    let count = (endpoints.len() / (2 * GROUP)).next_power_of_two();
    let count = count.min(MAX_GROUPS);
    let mut groups = vec![Vec::new(); count];
    for endpoint in endpoints {
        let number = group_of(endpoint.socket(), count as u64);
        if let Some(group) = groups.get_mut(number as usize) {
            group.push(*endpoint);
        }
    }
    (0..=u8::MAX)
        .zip(groups)
        .filter(|(_, group)| !group.is_empty())
        .collect()
}
