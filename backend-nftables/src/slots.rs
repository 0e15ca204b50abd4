//! Which endpoint of a pool has which slot.
//!
//! A pool's slots are numbered without gaps. If an endpoint goes, the last one takes its slot, and a
//! new one comes last: whatever the number of endpoints, one change writes one or two slots. So the
//! slots depend on what was there before. They are those of the sorted list as long as nothing went
//! and nothing else is known, and only other orders are remembered. A restart learns them from the
//! kernel.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use svc_core::{Endpoint, IpFamily, Ruleset};

use crate::key::{Key, SetId, Value};
use crate::pools::PoolNumber;
use crate::rule::{Bytes, Data};

/// The orders of all pools.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    /// Pools whose order is not that of the sorted list. Looked up, never iterated.
    orders: HashMap<PoolNumber, Box<[SocketAddr]>>,
    /// The orders of the pools rendered last: a change renders what was just before what will be.
    latest: Vec<(PoolNumber, Box<[SocketAddr]>)>,
}

impl Slots {
    /// Brings the sorted endpoints of a pool into the order of their slots.
    pub(crate) fn order<'e>(
        &mut self,
        pool: PoolNumber,
        endpoints: &'e [Endpoint],
    ) -> Vec<&'e Endpoint> {
        let latest = self.latest.iter().position(|(number, _)| *number == pool);
        let previous = match latest {
            Some(index) => Some(&*self.latest[index].1),
            None => self.orders.get(&pool).map(|order| &**order),
        };
        let ordered: Vec<&Endpoint> = match previous {
            None => endpoints.iter().collect(),
            Some(previous) => keep(previous, endpoints),
        };
        let order: Box<[SocketAddr]> = ordered.iter().map(|endpoint| endpoint.socket()).collect();
        if !order.is_sorted() {
            self.orders.insert(pool, order.clone());
        } else if !self.orders.is_empty() {
            self.orders.remove(&pool);
        }
        match latest {
            Some(index) => self.latest[index].1 = order,
            None => {
                // One service port has two pools.
                if self.latest.len() >= 2 {
                    self.latest.remove(0);
                }
                self.latest.push((pool, order));
            }
        }
        ordered
    }

    /// Takes over the orders that the kernel holds, and forgets all others.
    pub(crate) fn learn(&mut self, family: IpFamily, held: &Ruleset<Key, Value>) {
        self.orders.clear();
        self.latest.clear();
        for id in [SetId::Endpoints, SetId::Sticky] {
            let from = Key::Element(id.clone(), Bytes::default());
            let mut pool = None;
            let mut order = Vec::new();
            for (key, value) in held.range(from..) {
                let (Key::Element(set, key), Value::Element(value)) = (key, value) else {
                    break;
                };
                if *set != id {
                    break;
                }
                let Some((number, slot, socket)) = slot(family, &id, key, value.data.as_ref())
                else {
                    continue;
                };
                if pool != Some(number) {
                    self.remember(pool.replace(number), &mut order);
                }
                order.resize(slot.max(order.len()), nobody());
                order.insert(slot, socket);
            }
            self.remember(pool, &mut order);
        }
    }

    /// Forgets a pool.
    pub(crate) fn forget(&mut self, pool: PoolNumber) {
        self.orders.remove(&pool);
        self.latest.retain(|(number, _)| *number != pool);
    }

    fn remember(&mut self, pool: Option<PoolNumber>, order: &mut Vec<SocketAddr>) {
        let order = std::mem::take(order);
        if let (Some(pool), false) = (pool, order.is_sorted()) {
            self.orders.insert(pool, order.into());
        }
    }
}

/// Leaves endpoints in their slots where that leaves no gap.
fn keep<'e>(previous: &[SocketAddr], endpoints: &'e [Endpoint]) -> Vec<&'e Endpoint> {
    let mut slots: Vec<Option<&Endpoint>> = vec![None; endpoints.len()];
    let mut placed = vec![false; endpoints.len()];
    for (slot, socket) in slots.iter_mut().zip(previous) {
        let found = endpoints
            .binary_search_by_key(socket, Endpoint::socket)
            .ok();
        if let Some(index) = found.filter(|index| !placed[*index]) {
            *slot = Some(&endpoints[index]);
            placed[index] = true;
        }
    }
    let mut rest = endpoints
        .iter()
        .zip(&placed)
        .filter(|(_, placed)| !**placed);
    slots
        .into_iter()
        .filter_map(|slot| slot.or_else(|| rest.next().map(|(endpoint, _)| endpoint)))
        .collect()
}

/// What an element of `endpoints` or `sticky` says.
fn slot(
    family: IpFamily,
    id: &SetId,
    key: &[u8],
    data: Option<&Data>,
) -> Option<(PoolNumber, usize, SocketAddr)> {
    let Some(Data::Value(data)) = data else {
        return None;
    };
    let pool = PoolNumber::from_bytes(key.get(..4)?.try_into().ok()?);
    let slot = u16::from_be_bytes(key.get(4..6)?.try_into().ok()?);
    let row = match *id == SetId::Sticky {
        true => data.get(4..)?,
        false => data,
    };
    let (ip, port) = match family {
        IpFamily::V4 => (IpAddr::from(*row.first_chunk::<4>()?), row.get(4..6)?),
        IpFamily::V6 => (IpAddr::from(*row.first_chunk::<16>()?), row.get(16..18)?),
    };
    let port = u16::from_be_bytes(port.try_into().ok()?);
    Some((pool, slot.into(), SocketAddr::new(ip, port)))
}

/// Stands in a slot that is missing.
fn nobody() -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0)
}

#[cfg(test)]
mod tests {
    use svc_core::Locality;

    use super::*;

    const POOL: PoolNumber = PoolNumber::REJECT;

    fn endpoints(last: &[u8]) -> Vec<Endpoint> {
        let endpoint = |last: &u8| Endpoint {
            ip: IpAddr::from([10, 0, 0, *last]),
            port: 80,
            locality: Locality::Local,
        };
        last.iter().map(endpoint).collect()
    }

    fn order(slots: &mut Slots, last: &[u8]) -> Vec<u8> {
        let endpoints = endpoints(last);
        let ordered = slots.order(POOL, &endpoints);
        let last = ordered.into_iter().map(|endpoint| match endpoint.ip {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        });
        last.collect()
    }

    #[test]
    fn one_change_moves_one_endpoint() {
        let mut slots = Slots::default();
        assert_eq!(order(&mut slots, &[1, 2, 3, 4]), [1, 2, 3, 4]);
        assert_eq!(order(&mut slots, &[2, 3, 4]), [4, 2, 3]);
        assert_eq!(order(&mut slots, &[1, 2, 3, 4]), [4, 2, 3, 1]);
        assert_eq!(order(&mut slots, &[1, 2, 3, 5]), [5, 2, 3, 1]);
        // The same again, also when another pool came between.
        slots.latest.clear();
        assert_eq!(order(&mut slots, &[1, 2, 3, 5]), [5, 2, 3, 1]);
        assert_eq!(order(&mut slots, &[]), [0; 0]);
        assert!(slots.orders.is_empty());
    }

    #[test]
    fn a_port_that_appears_twice_gets_two_slots() {
        let mut slots = Slots::default();
        let twice = endpoints(&[1, 1]);
        assert_eq!(slots.order(POOL, &twice).len(), 2);
        assert_eq!(slots.order(POOL, &twice).len(), 2);
    }
}
