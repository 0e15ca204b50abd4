//! Who owns an address and port when several Services ask for it (B-020).
//!
//! A ClusterIP, which the API server hands out once, goes before an address that a person or a
//! load balancer wrote into a Service; then the older Service wins, then the smaller name. The
//! others are told. When the owner lets go, the next one takes over.

use alloc::boxed::Box;
use alloc::collections::btree_map::Entry;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::IpAddr;

use ipnet::IpNet;

use crate::name::NamespacedName;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::{NodeConfig, NodePlan};
use crate::object::{IpMode, Service, ServicePort};
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

impl ClaimKey {
    pub(crate) fn family(&self) -> IpFamily {
        match self {
            Self::Ip(ip, _, _) => IpFamily::of(*ip),
            Self::NodePort(family, _, _) => *family,
        }
    }
}

/// One wish of one service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wish {
    /// Index in `spec.ports`.
    pub(crate) port: usize,
    pub(crate) key: ClaimKey,
    pub(crate) kind: FrontendKind,
}

/// What one Service wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Each key once, sorted by port and key.
    pub(crate) own: Vec<Wish>,
    /// What an earlier port of the same Service has already.
    pub(crate) repeated: Vec<Repeated>,
    /// Addresses that no Service may have, by the configuration.
    pub(crate) forbidden: BTreeSet<(FrontendKind, IpAddr)>,
}

/// A port that asks for what an earlier port of its Service has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Repeated {
    /// Index in `spec.ports`.
    pub(crate) port: usize,
    /// Index of the earlier port.
    pub(crate) first: usize,
    /// The wish, or `None` when name and protocol are repeated: the port is not planned at all.
    pub(crate) wish: Option<Wish>,
}

/// A wish that was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owned {
    pub(crate) wish: Wish,
    /// Of a node port: node addresses at which an ip:port front end goes before it (B-116, B-117).
    pub(crate) shadowed: Box<[IpAddr]>,
}

/// Which addresses from outside of the cluster Services may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExternalIps {
    /// Whether external IPs are served (B-019).
    served: Served,
    /// Where they and load-balancer addresses have to be; anywhere when unset.
    allowed: Option<Vec<IpNet>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Served {
    Yes,
    No,
}

impl ExternalIps {
    pub(crate) fn of(config: &NodeConfig) -> Self {
        let served = match config.proxy.feature_gates.get("AllowServiceExternalIPs") {
            Some(false) => Served::No,
            Some(true) | None => Served::Yes,
        };
        let allowed = config.external_addresses.clone();
        Self { served, allowed }
    }

    fn allows(&self, ip: IpAddr) -> bool {
        let allowed = self.allowed.as_ref();
        allowed.is_none_or(|nets| nets.iter().any(|net| net.contains(&ip)))
    }
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
    Several(BTreeSet<Claimant>),
}

impl Claims {
    /// The owner of a key.
    pub(crate) fn owner(&self, key: &ClaimKey) -> Option<&Claimant> {
        match self.claimants.get(key)? {
            Claimants::One(claimant) => Some(claimant),
            Claimants::Several(claimants) => claimants.first(),
        }
    }

    /// Every Service that wants a key.
    pub(crate) fn all(&self, key: &ClaimKey) -> impl Iterator<Item = &Claimant> {
        let (one, several) = match self.claimants.get(key) {
            None => (None, None),
            Some(Claimants::One(claimant)) => (Some(claimant), None),
            Some(Claimants::Several(claimants)) => (None, Some(claimants)),
        };
        one.into_iter().chain(several.into_iter().flatten())
    }

    pub(crate) fn insert(&mut self, key: ClaimKey, claimant: Claimant) {
        match self.claimants.entry(key) {
            Entry::Vacant(free) => {
                free.insert(Claimants::One(claimant));
            }
            Entry::Occupied(mut held) => match held.get_mut() {
                Claimants::One(first) => {
                    let both = BTreeSet::from([first.clone(), claimant]);
                    held.insert(Claimants::Several(both));
                }
                Claimants::Several(all) => {
                    all.insert(claimant);
                }
            },
        }
    }

    pub(crate) fn remove(&mut self, key: &ClaimKey, claimant: &Claimant) {
        let left = match self.claimants.get_mut(key) {
            None => return,
            Some(Claimants::One(held)) if held == claimant => None,
            Some(Claimants::One(_)) => return,
            Some(Claimants::Several(all)) => {
                all.remove(claimant);
                if all.len() > 1 {
                    return;
                }
                all.pop_first()
            }
        };
        match left {
            Some(last) => self.claimants.insert(*key, Claimants::One(last)),
            None => self.claimants.remove(key),
        };
    }

    /// The wishes that are granted, in their order; `node` is the node in the family of a wish.
    pub(crate) fn grant<'a>(
        &self,
        wishes: &[Wish],
        id: ServiceId,
        node: impl Fn(IpFamily) -> Option<&'a NodePlan>,
    ) -> Vec<Owned> {
        let mut granted = Vec::with_capacity(wishes.len());
        for wish in wishes {
            let Some(node) = node(wish.key.family()) else {
                continue;
            };
            if self.owner(&wish.key).is_some_and(|owner| owner.id == id) {
                let shadowed = self.shadowed(node, &wish.key);
                granted.push(Owned {
                    wish: *wish,
                    shadowed,
                });
            }
        }
        granted
    }

    fn shadowed(&self, node: &NodePlan, key: &ClaimKey) -> Box<[IpAddr]> {
        match key {
            ClaimKey::Ip(..) => Box::default(),
            ClaimKey::NodePort(_, protocol, port) => {
                let taken =
                    |ip: &&IpAddr| self.owner(&ClaimKey::Ip(**ip, *protocol, *port)).is_some();
                node.addresses.iter().filter(taken).copied().collect()
            }
        }
    }
}

/// What a Service wants, each key once: the first port that asks for it, and of the kinds of one
/// address ClusterIP before load balancer before external IP (B-021).
pub(crate) fn wishes(service: &Service, external: &ExternalIps) -> Wishes {
    let mut wishes = Wishes::default();
    if !service.proxied() {
        return wishes;
    }
    let mut names = BTreeMap::new();
    for (index, port) in service.ports.iter().enumerate() {
        // A second port of the same name and protocol is not planned, so it owns nothing.
        let first: usize = match service.ports.len() {
            1 => index,
            _ => *names.entry((&port.name, port.protocol)).or_insert(index),
        };
        if port.port == 0 {
            // Conversion leaves it out; whoever builds a Service by hand may not.
        } else if first == index {
            port_wishes(service, external, index, port, &mut wishes);
        } else {
            wishes.repeated.push(Repeated {
                port: index,
                first,
                wish: None,
            });
        }
    }
    let repeated = &mut wishes.repeated;
    wishes
        .own
        .sort_unstable_by_key(|wish| (wish.key, wish.port, wish.kind));
    wishes.own.dedup_by(|later, first| {
        let same = later.key == first.key;
        if same && later.port != first.port {
            repeated.push(Repeated {
                port: later.port,
                first: first.port,
                wish: Some(*later),
            });
        }
        same
    });
    wishes
        .own
        .sort_unstable_by_key(|wish| (wish.port, wish.key));
    wishes
}

fn port_wishes(
    service: &Service,
    external: &ExternalIps,
    index: usize,
    port: &ServicePort,
    wishes: &mut Wishes,
) {
    let Wishes { own, forbidden, .. } = wishes;
    let mut wish = |key, kind| {
        own.push(Wish {
            port: index,
            key,
            kind,
        });
    };
    for family in IpFamily::ALL {
        let Some(cluster_ip) = service.cluster_ip(family) else {
            continue;
        };
        let at = |ip| ClaimKey::Ip(ip, port.protocol, port.port);
        wish(at(cluster_ip), FrontendKind::ClusterIp);
        let mut outside = |ip, kind| match external.allows(ip) {
            true => wish(at(ip), kind),
            false => drop(forbidden.insert((kind, ip))),
        };
        for ip in load_balancer_ips(service, family) {
            outside(ip, FrontendKind::LoadBalancerIp);
        }
        match external.served {
            Served::Yes => {
                for ip in external_ips(service, family) {
                    outside(ip, FrontendKind::ExternalIp);
                }
            }
            Served::No => {}
        }
        if let Some(node_port) = port.node_port.filter(|port| *port > 0) {
            let key = ClaimKey::NodePort(family, port.protocol, node_port);
            wish(key, FrontendKind::NodePort);
        }
    }
}

/// What one port got.
pub(crate) fn of_port(owned: &[Owned], port: usize) -> &[Owned] {
    let start = owned.partition_point(|owned| owned.wish.port < port);
    let rest = owned.get(start..).unwrap_or_default();
    let end = rest.partition_point(|owned| owned.wish.port == port);
    rest.get(..end).unwrap_or_default()
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
fn external_ips(service: &Service, family: IpFamily) -> impl Iterator<Item = IpAddr> {
    let ips = service.external_ips.iter().copied();
    ips.filter(move |ip| IpFamily::of(*ip) == family)
}
