//! Who owns an address and port when several Services ask for it (B-020).
//!
//! A ClusterIP, which the API server hands out once, goes before an address that a person or a
//! load balancer wrote into a Service; then the older Service wins, then the smaller name. The
//! others are told. When the owner lets go, the next one takes over.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::name::NamespacedName;
use crate::net::{IpFamily, Protocol};
use crate::object::{IpMode, Service};
use crate::plan::FrontendKind;
use crate::state::ServiceId;

/// What can be owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClaimKey {
    /// An address, protocol and port.
    Ip(IpAddr, Protocol, u16),
    /// A node port of a family.
    NodePort(IpFamily, Protocol, u16),
}

/// One wish of one service port.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) key: ClaimKey,
    pub(crate) kind: FrontendKind,
    /// Index in `spec.ports`.
    pub(crate) port: usize,
}

/// A Service that wants a key; the order is that of precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claimant {
    rank: Rank,
    created: i64,
    pub(crate) name: NamespacedName,
    pub(crate) id: ServiceId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Allocated,
    Written,
}

impl Claimant {
    pub(crate) fn new(service: &Service, id: ServiceId, kind: FrontendKind) -> Self {
        Self {
            rank: match kind {
                FrontendKind::ClusterIp => Rank::Allocated,
                FrontendKind::LoadBalancerIp
                | FrontendKind::ExternalIp
                | FrontendKind::NodePort => Rank::Written,
            },
            created: service.created,
            name: service.name.clone(),
            id,
        }
    }
}

/// All wishes of all Services, sorted by precedence for each key.
#[derive(Clone, Debug, Default)]
pub(crate) struct Claims {
    claimants: BTreeMap<ClaimKey, Claimants>,
}

/// Nearly always one.
#[derive(Clone, Debug)]
enum Claimants {
    One(Claimant),
    Several(Vec<Claimant>),
}

impl Claimants {
    fn as_slice(&self) -> &[Claimant] {
        match self {
            Self::One(claimant) => core::slice::from_ref(claimant),
            Self::Several(claimants) => claimants,
        }
    }
}

impl Claims {
    /// The owner of a key.
    pub(crate) fn owner(&self, key: &ClaimKey) -> Option<&Claimant> {
        self.claimants.get(key).and_then(|c| c.as_slice().first())
    }

    /// Every Service that wants a key.
    pub(crate) fn all(&self, key: &ClaimKey) -> &[Claimant] {
        self.claimants.get(key).map_or(&[], Claimants::as_slice)
    }

    pub(crate) fn insert(&mut self, key: ClaimKey, claimant: Claimant) {
        let Some(held) = self.claimants.get_mut(&key) else {
            self.claimants.insert(key, Claimants::One(claimant));
            return;
        };
        let mut all = held.as_slice().to_vec();
        if let Err(at) = all.binary_search(&claimant) {
            all.insert(at, claimant);
        }
        *held = Claimants::Several(all);
    }

    pub(crate) fn remove(&mut self, key: &ClaimKey, id: ServiceId) {
        let Some(held) = self.claimants.get_mut(key) else {
            return;
        };
        let mut rest: Vec<_> = held
            .as_slice()
            .iter()
            .filter(|c| c.id != id)
            .cloned()
            .collect();
        match (rest.len(), rest.pop()) {
            (1, Some(last)) => *held = Claimants::One(last),
            (_, Some(last)) => {
                rest.push(last);
                *held = Claimants::Several(rest);
            }
            (_, None) => {
                self.claimants.remove(key);
            }
        }
    }
}

/// What a Service wants, each key once: the first port that asks for it, and of the kinds of one
/// address ClusterIP before load balancer before external IP (B-021).
pub(crate) fn wishes(service: &Service) -> Vec<Wish> {
    let mut wishes = Vec::new();
    if !service.proxied() {
        return wishes;
    }
    for (index, port) in service.ports.iter().enumerate() {
        // An invalid second port of the same name and protocol is not planned, so it owns nothing.
        let earlier = service.ports.iter().take(index);
        if earlier
            .into_iter()
            .any(|p| p.name == port.name && p.protocol == port.protocol)
        {
            continue;
        }
        let mut wish = |key, kind| {
            wishes.push(Wish {
                key,
                kind,
                port: index,
            })
        };
        for family in IpFamily::ALL {
            let Some(cluster_ip) = service.cluster_ip(family) else {
                continue;
            };
            let at = |ip| ClaimKey::Ip(ip, port.protocol, port.port);
            wish(at(cluster_ip), FrontendKind::ClusterIp);
            for ip in load_balancer_ips(service, family) {
                wish(at(ip), FrontendKind::LoadBalancerIp);
            }
            for ip in external_ips(service, family) {
                wish(at(ip), FrontendKind::ExternalIp);
            }
            if let Some(node_port) = port.node_port {
                let key = ClaimKey::NodePort(family, port.protocol, node_port);
                wish(key, FrontendKind::NodePort);
            }
        }
    }
    wishes.sort_by_key(|wish| (wish.key, wish.port, wish.kind));
    wishes.dedup_by_key(|wish| wish.key);
    wishes
}

/// Load-balancer addresses of a family that the node captures (B-133, B-134).
pub(crate) fn load_balancer_ips(
    service: &Service,
    family: IpFamily,
) -> impl Iterator<Item = IpAddr> {
    service
        .ingress
        .iter()
        .filter(move |ingress| ingress.mode == IpMode::Vip && IpFamily::of(ingress.ip) == family)
        .map(|ingress| ingress.ip)
}

/// External addresses of a family.
pub(crate) fn external_ips(service: &Service, family: IpFamily) -> impl Iterator<Item = IpAddr> {
    let ips = service.external_ips.iter().copied();
    ips.filter(move |ip| IpFamily::of(*ip) == family)
}
