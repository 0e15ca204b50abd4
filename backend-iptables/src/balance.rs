//! The chains that choose an endpoint.

use std::sync::Arc;

use svc_core::{Endpoint, Protocol};

use crate::key::{Key, Table, Value};
use crate::name::{Anchor, ChainKind, ChainName, group_of};
use crate::rule::{Match, Probability, Rule, Target};

/// More endpoints are chosen in two steps or three, so that a packet is compared with few rules and
/// a change rewrites one group.
const FLAT: usize = 64;

/// Endpoints that a group has on average, at least; at most twice as many.
const GROUP: usize = 8;

/// More groups are chosen in two steps: of a thousand endpoints a packet is compared with 17 rules
/// instead of the 33 of groups of 16 in one step, and each of them draws a number. Measured with
/// iptables-nft, a connection then takes 5.5 instead of 6.3 µs more than with one DNAT rule.
const FEW_GROUPS: usize = 8;

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
            rules.extend(self.choose_group(kind, endpoints, &mut objects));
        }
        objects.push(chain_object(self.anchor.chain(kind, None), rules));
        objects
    }

    /// The rules that lead to groups of endpoints, and the chains of these.
    fn choose_group(
        &self,
        kind: ChainKind,
        endpoints: &[Endpoint],
        objects: &mut Vec<(Key, Value)>,
    ) -> Vec<Rule> {
        let count = group_count(endpoints.len());
        let mut parts = Vec::new();
        for (index, group) in groups(endpoints, count) {
            let chain = self.anchor.chain(kind, Some(index));
            objects.push(chain_object(chain, self.choose(&group)));
            parts.push((index, chain, group.len()));
        }
        if count <= FEW_GROUPS {
            return lead(parts.iter().map(|(_, chain, size)| (*chain, *size)));
        }
        // As many groups in each half of a number's bits, and at most sixteen.
        let low = count.trailing_zeros() / 2;
        let mut halves = Vec::new();
        for run in parts.chunk_by(|(a, ..), (b, ..)| a >> low == b >> low) {
            let Some((index, ..)) = run.first() else {
                continue;
            };
            let chain = self.anchor.outer_chain(kind, index >> low);
            let inner = run.iter().map(|(_, chain, size)| (*chain, *size));
            objects.push(chain_object(chain, lead(inner)));
            halves.push((chain, run.iter().map(|(_, _, size)| size).sum()));
        }
        lead(halves.into_iter())
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

/// Leads to each chain as often as it has endpoints.
fn lead(parts: impl Iterator<Item = (ChainName, usize)> + Clone) -> Vec<Rule> {
    let mut rest: usize = parts.clone().map(|(_, size)| size).sum();
    let lead = |(chain, size)| {
        let chance = Probability::of(size, rest).map(Match::Random);
        rest -= size;
        Rule::new(chance, Target::Goto(chain))
    };
    parts.map(lead).collect()
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

/// How many groups so many endpoints have, a power of two.
fn group_count(endpoints: usize) -> usize {
    let count = (endpoints / (2 * GROUP)).next_power_of_two();
    count.min(MAX_GROUPS)
}

/// Groups that are not empty, by number.
///
/// Members are found by a hash, not by their place in the list: an endpoint that comes or goes
/// changes its own group, until the number of groups doubles.
fn groups(endpoints: &[Endpoint], count: usize) -> Vec<(u8, Vec<Endpoint>)> {
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
