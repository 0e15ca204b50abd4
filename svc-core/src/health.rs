//! Health checks as pure logic: what to answer, not how to listen.
//!
//! Two kinds: the health-check node port of a Service, by which load balancers find nodes that have
//! endpoints, and the proxy's own `/healthz` and `/livez`. Both answer from what the kernel
//! holds, so callers pass in the plan that was *applied* (B-206). Time is an argument: the time since
//! any fixed moment, such as 1970, always the same one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::SocketAddr;
use core::time::Duration;

use crate::name::{Name, NamespacedName};
use crate::net::{IpFamily, unspecified};
use crate::node_plan::NodePlan;
use crate::object::{Node, NodeEligibility};
use crate::plan::{HealthCheck, Plan};

/// Header that tells load balancers the number of local endpoints (B-196).
pub const WEIGHT_HEADER: &str = "X-Load-Balancing-Endpoint-Weight";
/// Headers of every answer, names and values (B-196, B-219).
pub const HEADERS: [(&str, &str); 2] = [
    ("Content-Type", "application/json"),
    ("X-Content-Type-Options", "nosniff"),
];

/// Whether the kernel is up to date, in the eyes of load balancers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataPlane {
    /// No change waits longer than it should.
    UpToDate,
    /// A change could not be applied in time.
    Late,
}

/// The answer of the health-check node port of a Service, to any path and method (B-194).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceHealth {
    /// 200 or 503 (B-195).
    pub status: u16,
    /// Value of [`WEIGHT_HEADER`], also with 503 (B-196).
    pub weight: u32,
    /// What the body says.
    pub body: ServiceHealthBody,
}

/// Body of a [`ServiceHealth`], as JSON (B-197).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "camelCase"))]
pub struct ServiceHealthBody {
    /// Whose health check it is.
    pub service: ServiceReference,
    /// Number of distinct addresses of ready endpoints on this node.
    pub local_endpoints: u32,
    /// Whether the proxy itself is healthy.
    pub service_proxy_healthy: bool,
}

/// Names a Service in a body.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[allow(missing_docs)]
pub struct ServiceReference {
    pub namespace: Name,
    pub name: Name,
}

impl HealthCheck {
    /// The answer for a Service (B-195 to B-197).
    ///
    /// Taints of the node do not matter here (B-200).
    pub fn answer(&self, service: &NamespacedName, data_plane: DataPlane) -> ServiceHealth {
        let healthy = data_plane == DataPlane::UpToDate;
        ServiceHealth {
            status: status(healthy && self.local_endpoints > 0),
            weight: self.local_endpoints,
            body: ServiceHealthBody {
                service: ServiceReference {
                    namespace: service.namespace.clone(),
                    name: service.name.clone(),
                },
                local_endpoints: self.local_endpoints,
                service_proxy_healthy: healthy,
            },
        }
    }
}

/// Where the health-check node ports of a family listen (B-193): the wildcard address of the
/// family, or one socket for each node-port address.
pub fn listen_addresses(node: &NodePlan, family: IpFamily, port: u16) -> Vec<SocketAddr> {
    if node.node_ports.every_local_address {
        return Vec::from([SocketAddr::new(unspecified(family), port)]);
    }
    let addresses = node.node_ports.addresses.iter();
    addresses.map(|ip| SocketAddr::new(*ip, port)).collect()
}

/// What to do with one listener, after a plan was applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerChange {
    /// Nothing asks for it any more (B-201, B-203).
    Close(SocketAddr),
    /// It stays open, and answers for this Service from now on.
    HandOver(SocketAddr, NamespacedName),
    /// Listen for this Service (B-191).
    Open(SocketAddr, NamespacedName),
}

/// How to get from the listeners that are `open`, with the Service that each answers for, to those
/// that an applied plan asks for; sockets of the other family are passed over.
///
/// What is still asked for stays open without a gap (B-202), also when a port passes from one Service
/// to another, or when the addresses for node ports change but for this one. Closing comes first, as
/// the wildcard address and a single one exclude each other. Of several Services with one port the
/// first has it, and keeps it; to open it for another one fails, as long as that is so.
///
/// What could not be opened is asked for again the next time, as it is not in `open`.
pub fn listener_changes(
    open: &BTreeMap<SocketAddr, NamespacedName>,
    plan: &Plan,
) -> Vec<ListenerChange> {
    let mut wanted: BTreeMap<SocketAddr, Vec<&NamespacedName>> = BTreeMap::new();
    for (name, check) in &plan.health_checks {
        for at in listen_addresses(&plan.node, plan.family, check.port) {
            wanted.entry(at).or_default().push(name);
        }
    }
    let own = open
        .keys()
        .filter(|at| IpFamily::of(at.ip()) == plan.family);
    let gone = own.filter(|at| !wanted.contains_key(*at));
    let mut changes: Vec<_> = gone.copied().map(ListenerChange::Close).collect();
    let mut new = Vec::new();
    for (at, services) in wanted {
        let owner = open.get(&at);
        // Whoever has it keeps it.
        let keeps = services.iter().position(|name| Some(*name) == owner);
        let has = keeps.unwrap_or_default();
        for (place, name) in services.into_iter().enumerate() {
            match owner {
                Some(_) if place == has && keeps.is_some() => {}
                Some(_) if place == has => {
                    changes.push(ListenerChange::HandOver(at, name.clone()));
                }
                Some(_) | None => new.push(ListenerChange::Open(at, name.clone())),
            }
        }
    }
    changes.append(&mut new);
    changes
}

/// The proxy's own health (B-209 to B-220).
///
/// ```
/// use core::time::Duration;
/// use svc_core::IpFamily;
/// use svc_core::health::ProxyHealth;
///
/// let at = Duration::from_secs;
/// let mut health = ProxyHealth::new(at(30));
/// health.updated(IpFamily::V4, at(0));
/// health.queued_update(IpFamily::V4, at(100));
/// assert_eq!(health.livez(at(159)).status, 200);
/// // Twice the sync period, and the update is still not in the kernel.
/// assert_eq!(health.livez(at(160)).status, 503);
/// health.updated(IpFamily::V4, at(161));
/// assert_eq!(health.livez(at(9_999)).status, 200);
/// ```
#[derive(Clone, Debug)]
pub struct ProxyHealth {
    timeout: Duration,
    families: BTreeMap<IpFamily, FamilyTimes>,
}

#[derive(Clone, Copy, Debug, Default)]
struct FamilyTimes {
    /// When the oldest update that is not in the kernel was queued.
    queued: Option<Duration>,
    /// When the latest update got into the kernel.
    updated: Option<Duration>,
}

/// The answer of `/healthz` or `/livez`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyStatus {
    /// 200 or 503.
    pub status: u16,
    /// Whether the status is 200.
    pub healthy: bool,
    /// Now while healthy, else the time of the latest successful sync (B-218); `None` if there
    /// was none.
    pub last_updated: Option<Duration>,
    /// The time of the answer.
    pub current_time: Duration,
    /// The same for each family that has had an update.
    pub families: BTreeMap<IpFamily, FamilyStatus>,
    /// Whether load balancers may send traffic to the node; only of `/healthz` (B-211).
    pub node_eligible: Option<bool>,
}

/// The health of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyStatus {
    /// As [`ProxyStatus::last_updated`].
    pub last_updated: Option<Duration>,
    /// Whether no update waits too long.
    pub healthy: bool,
}

impl ProxyHealth {
    /// A proxy that has nothing to do yet; updates may wait twice the sync period (B-213).
    pub fn new(sync_period: Duration) -> Self {
        Self {
            timeout: sync_period.saturating_mul(2),
            families: BTreeMap::new(),
        }
    }

    /// A change waits to get into the kernel; while another one does, the earlier time counts
    /// (B-214).
    pub fn queued_update(&mut self, family: IpFamily, now: Duration) {
        let times = self.families.entry(family).or_default();
        times.queued.get_or_insert(now);
    }

    /// The kernel holds what was queued (B-214); also called once when the sync loop starts
    /// (B-216).
    pub fn updated(&mut self, family: IpFamily, now: Duration) {
        let times = self.families.entry(family).or_default();
        *times = FamilyTimes {
            queued: None,
            updated: Some(now),
        };
    }

    /// Whether the data plane is up to date: each family on its own, and none heals another
    /// (B-213, B-215).
    pub fn data_plane(&self, now: Duration) -> DataPlane {
        match self.families.values().all(|times| self.in_time(times, now)) {
            true => DataPlane::UpToDate,
            false => DataPlane::Late,
        }
    }

    /// The answer of `/livez`: the data plane alone (B-212).
    pub fn livez(&self, now: Duration) -> ProxyStatus {
        self.answer(now, None)
    }

    /// The answer of `/healthz`: the data plane and the node, `None` if its Node is not known
    /// (B-211, B-217).
    pub fn healthz(&self, now: Duration, node: Option<&Node>) -> ProxyStatus {
        let eligible = node.is_some_and(|node| node.eligibility == NodeEligibility::Eligible);
        self.answer(now, Some(eligible))
    }

    fn answer(&self, now: Duration, node_eligible: Option<bool>) -> ProxyStatus {
        let mut families = BTreeMap::new();
        for (family, times) in &self.families {
            let healthy = self.in_time(times, now);
            let last_updated = if healthy { Some(now) } else { times.updated };
            let status = FamilyStatus {
                last_updated,
                healthy,
            };
            families.insert(*family, status);
        }
        let up_to_date = families.values().all(|status| status.healthy);
        let healthy = up_to_date && node_eligible.unwrap_or(true);
        let latest = self
            .families
            .values()
            .filter_map(|times| times.updated)
            .max();
        ProxyStatus {
            status: status(healthy),
            healthy,
            last_updated: if up_to_date { Some(now) } else { latest },
            current_time: now,
            families,
            node_eligible,
        }
    }

    fn in_time(&self, times: &FamilyTimes, now: Duration) -> bool {
        let waits = |queued| now.saturating_sub(queued) < self.timeout;
        times.queued.is_none_or(waits)
    }
}

fn status(good: bool) -> u16 {
    if good { 200 } else { 503 }
}
