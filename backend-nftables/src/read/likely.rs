//! Where the elements of a large set are to be expected.
//!
//! The kernel lists the elements of a set in time quadratic in their number: a million take more
//! than a minute, and looking each of them up takes seconds. The keys need not be right: what was
//! found is all there is if the kernel says that the set has no more elements than that.

use std::collections::HashMap;

use crate::bytes::joined;
use crate::key::SetId;
use crate::pools::PoolNumber;
use crate::render::CLUSTER_IP;
use crate::rule::{Bytes, Data, Element};
use crate::skeleton::STICKY;

/// Elements from which on look-ups are quicker than a list.
pub(super) const MANY: usize = 50_000;

/// Of more keys for each element, most are looked up in vain.
pub(super) const KEYS_PER_ELEMENT: usize = 4;

/// Sets whose keys follow from what was read before, in an order in which that is so.
pub(super) const FOLLOWING: [SetId; 7] = [
    SetId::ClusterIps,
    SetId::Addresses,
    SetId::Pools,
    SetId::Endpoints,
    SetId::Sticky,
    SetId::Live,
    SetId::Hairpin,
];

/// What the keys of other sets follow from.
pub(super) struct Known<'a> {
    /// Elements of `frontends`.
    pub(super) frontends: &'a [Element],
    /// Elements of `local_frontends`.
    pub(super) local_frontends: &'a [Element],
    /// Elements of `pools`.
    pub(super) pools: &'a [Element],
    /// Elements of `endpoints`.
    pub(super) endpoints: &'a [Element],
    /// Elements of `sticky`.
    pub(super) sticky: &'a [Element],
}

impl Known<'_> {
    /// The keys that a set may have, each once.
    pub(super) fn keys(&self, id: &SetId) -> Vec<Bytes> {
        let mut keys = match id {
            SetId::ClusterIps => self.addresses(|kind| kind == CLUSTER_IP),
            SetId::Addresses => self.addresses(|kind| kind != CLUSTER_IP),
            SetId::Pools => self.pools(),
            SetId::Endpoints => self.slots(|class| class < STICKY),
            SetId::Sticky => self.slots(|class| class >= STICKY),
            SetId::Live => self.sticky.iter().filter_map(data).cloned().collect(),
            SetId::Hairpin => self.hairpins(),
            SetId::ServiceCidrs
            | SetId::PodCidrs
            | SetId::Slots
            | SetId::Affinity
            | SetId::Sources(_)
            | SetId::Firewalled
            | SetId::Classes
            | SetId::LocalClasses
            | SetId::MasqueradePolicies
            | SetId::LocalFrontends
            | SetId::Frontends
            | SetId::Foreign(_) => Vec::new(),
        };
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The addresses of the front ends of a kind.
    fn addresses(&self, of: impl Fn(u32) -> bool) -> Vec<Bytes> {
        let address = |element: &Element| {
            let kind = data(element)?.first_chunk().copied()?;
            // Behind the address come protocol and port.
            let key = &element.key;
            let address = key.get(..key.len().checked_sub(8)?)?;
            of(u32::from_ne_bytes(kind)).then_some(Bytes::new(address).ok()?)
        };
        self.frontends.iter().filter_map(address).collect()
    }

    /// The pools to which front ends lead.
    fn pools(&self) -> Vec<Bytes> {
        let rows = self.frontends.iter().chain(self.local_frontends);
        let pools = rows.filter_map(|row| pool_of(row).map(Bytes::from));
        // Always there.
        let fixed = [PoolNumber::REJECT, PoolNumber::DROP].map(|pool| pool.bytes().into());
        pools.chain(fixed).collect()
    }

    /// What every endpoint would have if it could reach itself.
    fn hairpins(&self) -> Vec<Bytes> {
        let rows = self.frontends.iter().chain(self.local_frontends);
        let protocols: HashMap<[u8; 4], [u8; 4]> = rows
            .filter_map(|row| Some((pool_of(row)?, row.key.get(..row.key.len().checked_sub(4)?)?)))
            .filter_map(|(pool, front)| Some((pool, *front.last_chunk()?)))
            .collect();
        let plain = self.endpoints.iter().map(|element| (element, 0));
        // Their rows begin with the pool.
        let sticky = self.sticky.iter().map(|element| (element, 4));
        let key = |(element, start): (&Element, usize)| {
            let protocol = protocols.get(element.key.first_chunk::<4>()?)?;
            let (ip, port) = data(element)?.get(start..)?.split_last_chunk::<4>()?;
            Some(joined(&[ip, ip, protocol, port]))
        };
        plain.chain(sticky).filter_map(key).collect()
    }

    /// The slots of the pools whose class passes.
    fn slots(&self, passes: impl Fn(u32) -> bool) -> Vec<Bytes> {
        let mut keys = Vec::new();
        for element in self.pools {
            let pool = element.key.first_chunk().copied();
            let row = data(element).and_then(|row| Some((row.get(4..8)?, row.get(8..10)?)));
            let (Some(pool), Some((class, count))) = (pool, row) else {
                continue;
            };
            let class = class.try_into().map_or(0, u32::from_ne_bytes);
            let count = count.try_into().map_or(0, u16::from_be_bytes);
            if passes(class) {
                let pool = PoolNumber::from_bytes(pool);
                keys.extend((0..count).map(|slot| pool.slot(slot)));
            }
        }
        keys
    }
}

/// The pool to which the row of a front end leads.
fn pool_of(row: &Element) -> Option<[u8; 4]> {
    Some(*data(row)?.get(8..)?.first_chunk()?)
}

fn data(element: &Element) -> Option<&Bytes> {
    match &element.data {
        Some(Data::Value(data)) => Some(data),
        Some(Data::Verdict(_)) | None => None,
    }
}

#[cfg(test)]
mod tests {
    use svc_core::testing::Scenario;
    use svc_core::{IpFamily, Render};

    use super::*;
    use crate::key::{Key, Value};
    use crate::render::Renderer;

    const CLUSTER: &str = "
        config mode=nftables cluster-cidr=10.64.0.0/11 cluster-cidr=fd10:64::/48
        node n1 198.18.0.10 2001:db8:a::10 pods=10.64.1.0/24
        service web type=NodePort ip=10.96.0.1 ip=fd10:96::1 port=a:80@30080 port=b:81@30081
        slice web-4 web port=a:8080 port=b:8081 10.64.1.1@n1 10.64.2.1@n2 10.64.2.2@n2
        slice web-6 web port=a:8080 port=b:8081 fd10:64:0:1::1@n1 fd10:64:0:2::1@n2
        service local type=LoadBalancer ip=10.96.0.3 port=80@30082 etp=Local vip=192.0.2.1
        slice local-4 local port=80 10.64.1.4@n1 10.64.2.4@n2
        service far type=LoadBalancer ip=10.96.0.4 port=80@30083 etp=Local itp=Local vip=192.0.2.2
        slice far-4 far port=80 10.64.2.5@n2
        service sticky ip=10.96.0.5 ip=fd10:96::5 port=80 external=192.0.2.3 external=2001:db8:f::3 affinity=600
        slice sticky-4 sticky port=80 10.64.1.6@n1 10.64.2.6@n2
        slice sticky-6 sticky port=80 fd10:64:0:1::6@n1 fd10:64:0:2::6@n2
        service empty ip=10.96.0.6 ip=fd10:96::6 port=80
    ";

    #[test]
    fn every_key_is_expected() {
        let scenario: Scenario = CLUSTER.parse().unwrap();
        for family in IpFamily::ALL {
            let plan = scenario.plan(family);
            let mut renderer = Renderer::new("svc", family);
            let mut objects: Vec<(Key, Value)> = Vec::new();
            for (name, port) in &plan.service_ports {
                objects.extend(renderer.service_port(&plan.node, name, port));
            }
            let elements = |of: SetId| -> Vec<Element> {
                let of = objects
                    .iter()
                    .filter_map(|(key, value)| match (key, value) {
                        (Key::Element(id, key), Value::Element(value)) if *id == of => {
                            let mut element = Element::new(key.clone());
                            element.data = value.data.clone();
                            Some(element)
                        }
                        _ => None,
                    });
                of.collect()
            };
            let (frontends, local_frontends) =
                (elements(SetId::Frontends), elements(SetId::LocalFrontends));
            let (pools, sticky) = (elements(SetId::Pools), elements(SetId::Sticky));
            let endpoints = elements(SetId::Endpoints);
            let known = Known {
                frontends: &frontends,
                local_frontends: &local_frontends,
                pools: &pools,
                endpoints: &endpoints,
                sticky: &sticky,
            };
            for id in FOLLOWING {
                let (keys, held) = (known.keys(&id), elements(id.clone()));
                assert!(!held.is_empty(), "{id:?}");
                let missed = held.iter().find(|held| !keys.contains(&held.key));
                assert_eq!(missed, None, "{id:?}");
                assert!(keys.is_sorted_by(|a, b| a < b), "{id:?}");
            }
        }
    }
}
