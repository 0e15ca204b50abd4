//! Which endpoints of a service port take new connections, and why the others do not.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::IpAddr;

use crate::name::Name;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::NodePlan;
use crate::object::{EndpointPort, EndpointSlice, ServicePort, SliceEndpoint};
use crate::plan::{Endpoint, Locality, Scope};

/// One address and port that the EndpointSlices list for a service port.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Address, port and locality.
    pub endpoint: Endpoint,
    /// The entry of the slice.
    pub source: &'a SliceEndpoint,
}

/// What [`select`] found for one service port of one family.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// Every distinct address and port, sorted (B-229, B-230).
    pub candidates: Vec<Candidate<'a>>,
    /// How the list for [`Scope::Cluster`] was chosen.
    pub cluster: Choice,
    /// How the list for [`Scope::Local`] was chosen.
    pub local: Choice,
}

/// How a list of endpoints was chosen (B-062).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Ready endpoints, as far as topology hints allow.
    Ready(Topology),
    /// No endpoint is ready: the serving ones among those that shut down (B-062, B-085).
    ServingTerminating,
    /// There is no usable endpoint.
    Nothing,
}

/// Which topology hints count (B-075 to B-079).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// None: every ready endpoint is used.
    Anywhere,
    /// Endpoints hinted for the zone of the node.
    SameZone,
    /// Endpoints hinted for the node.
    SameNode,
}

/// Why an endpoint gets no new connections; a closed set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum LeftOutReason {
    /// It is not ready and does not shut down (B-063).
    NotReady,
    /// It shuts down and does not serve any more (B-064).
    NotServing,
    /// It shuts down, and others are ready (B-065).
    Terminating,
    /// Hints prefer endpoints for the zone of the node (B-076).
    OtherZone,
    /// Hints prefer endpoints for the node itself (B-075).
    OtherNode,
    /// The policy wants endpoints of this node (B-092, B-104).
    NotOnThisNode,
}

/// Chooses the endpoints of the service port `(port, protocol)` from the slices of its Service.
///
/// Slices of another family are passed over (B-043), and so are slice ports whose name and
/// protocol are not the service port's (B-025, B-031).
pub fn select<'a>(
    slices: impl IntoIterator<Item = &'a EndpointSlice>,
    family: IpFamily,
    port: &str,
    protocol: Protocol,
    node: &NodePlan,
) -> Selection<'a> {
    let slices = slices.into_iter().filter(|slice| usable(slice, family));
    choose_from(
        candidates(
            slices.flat_map(|slice| {
                let ports = slice.ports.iter();
                let ports = ports.filter(|p| p.protocol == protocol && &*p.name == port);
                ports.map(move |port| (slice, port.port))
            }),
            &node.name,
        ),
        node,
    )
}

fn usable(slice: &EndpointSlice, family: IpFamily) -> bool {
    slice.family == family && !slice.headless
}

/// The slices of one Service, ready to be searched for each of its ports.
pub(crate) enum SlicePorts<'a> {
    /// Searched one by one: nearly every Service has few ports and few slices.
    Plain(&'a [Arc<EndpointSlice>]),
    /// By family, port name and protocol: a search per port would be quadratic.
    Sorted(BTreeMap<PortKey<'a>, Vec<(&'a EndpointSlice, u16)>>),
}

type PortKey<'a> = (IpFamily, &'a str, Protocol);

impl<'a> SlicePorts<'a> {
    /// The slices of a Service with that many ports.
    pub(crate) fn of(slices: &'a [Arc<EndpointSlice>], service_ports: usize) -> Self {
        if service_ports <= 8 {
            return Self::Plain(slices);
        }
        let mut sorted: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for slice in slices.iter().filter(|slice| !slice.headless) {
            for EndpointPort {
                name,
                protocol,
                port,
                ..
            } in &slice.ports
            {
                let key = (slice.family, &**name, *protocol);
                sorted.entry(key).or_default().push((&**slice, *port));
            }
        }
        Self::Sorted(sorted)
    }

    /// As [`select`].
    pub(crate) fn select(
        &self,
        family: IpFamily,
        port: &ServicePort,
        node: &NodePlan,
    ) -> Selection<'a> {
        let (name, protocol) = (&*port.name, port.protocol);
        match self {
            Self::Plain(slices) => {
                let slices = slices.iter().map(|slice| &**slice);
                select(slices, family, name, protocol, node)
            }
            Self::Sorted(sorted) => {
                let found = sorted.get(&(family, name, protocol)).into_iter().flatten();
                choose_from(candidates(found.copied(), &node.name), node)
            }
        }
    }
}

fn choose_from<'a>(candidates: Vec<Candidate<'a>>, node: &NodePlan) -> Selection<'a> {
    let cluster = choose(&candidates, |_| true, || topology(&candidates, node));
    let local = choose(
        &candidates,
        |candidate| candidate.endpoint.locality == Locality::Local,
        // Hints never filter the local list (B-086).
        || Topology::Anywhere,
    );
    Selection {
        candidates,
        cluster,
        local,
    }
}

impl<'a> Selection<'a> {
    /// Whether any endpoint is usable, on any node (B-070): separates drop from reject.
    pub fn has_any(&self) -> bool {
        self.cluster != Choice::Nothing
    }

    /// The endpoints of a list.
    pub fn endpoints(&self, scope: Scope, node: &NodePlan) -> Box<[Endpoint]> {
        self.candidates
            .iter()
            .filter(|candidate| self.left_out(candidate, scope, node).is_none())
            .map(|candidate| candidate.endpoint)
            .collect()
    }

    /// The endpoints whose established connections are left alone (B-184).
    pub fn serving(&self) -> Box<[Endpoint]> {
        self.candidates
            .iter()
            .filter(|candidate| {
                candidate.source.conditions.serving || candidate.source.conditions.ready
            })
            .map(|candidate| candidate.endpoint)
            .collect()
    }

    /// Why a candidate is not in a list, or `None` if it is.
    pub fn left_out(
        &self,
        candidate: &Candidate<'a>,
        scope: Scope,
        node: &NodePlan,
    ) -> Option<LeftOutReason> {
        let choice = match scope {
            Scope::Cluster => self.cluster,
            Scope::Local if candidate.endpoint.locality == Locality::Remote => {
                return Some(unusable(candidate).unwrap_or(LeftOutReason::NotOnThisNode));
            }
            Scope::Local => self.local,
        };
        if let Some(reason) = unusable(candidate) {
            return Some(reason);
        }
        let ready = candidate.source.conditions.ready;
        match choice {
            Choice::Ready(_) if !ready => Some(LeftOutReason::Terminating),
            Choice::Ready(Topology::SameNode) => {
                (!hinted(candidate.source.node_hints(), &node.name))
                    .then_some(LeftOutReason::OtherNode)
            }
            Choice::Ready(Topology::SameZone) => {
                let zone = node.zone.as_deref().unwrap_or_default();
                (!hinted(candidate.source.zone_hints(), zone)).then_some(LeftOutReason::OtherZone)
            }
            Choice::Ready(Topology::Anywhere) | Choice::ServingTerminating => None,
            Choice::Nothing => Some(LeftOutReason::NotReady),
        }
    }
}

/// The endpoints of slices, each with the number of the port in that slice.
fn candidates<'a>(
    slices: impl Iterator<Item = (&'a EndpointSlice, u16)>,
    node: &str,
) -> Vec<Candidate<'a>> {
    let mut found = Vec::new();
    for (slice, port) in slices.filter(|(_, port)| *port > 0) {
        found.reserve(slice.endpoints.len());
        // Conversion leaves other addresses out; whoever builds a slice by hand may not.
        let own = slice.endpoints.iter();
        let own = own.filter(|source| IpFamily::of(source.address) == slice.family);
        found.extend(own.map(|source| Candidate {
            endpoint: Endpoint {
                ip: source.address,
                port,
                locality: locality(source, node),
            },
            source,
        }));
    }
    // The best of those that share address and port comes first and stays (B-230).
    found.sort_unstable_by(|a, b| {
        let order = key(a).cmp(&key(b)).then_with(|| rank(a).cmp(&rank(b)));
        // Equal in all that matters but hints: which one is used must not depend on the sort.
        order.then_with(|| a.source.extra.cmp(&b.source.extra))
    });
    found.dedup_by_key(|candidate| key(candidate));
    found
}

fn key(candidate: &Candidate<'_>) -> (IpAddr, u16) {
    (candidate.endpoint.ip, candidate.endpoint.port)
}

/// Non-terminating before terminating (B-230), then ready, serving, local: nothing is undefined.
fn rank(candidate: &Candidate<'_>) -> (bool, bool, bool, Locality) {
    let conditions = candidate.source.conditions;
    (
        conditions.terminating,
        !conditions.ready,
        !conditions.serving,
        candidate.endpoint.locality,
    )
}

fn locality(endpoint: &SliceEndpoint, node: &str) -> Locality {
    let here = !node.is_empty() && endpoint.node.as_deref() == Some(node);
    match here {
        true => Locality::Local,
        false => Locality::Remote,
    }
}

fn choose(
    candidates: &[Candidate<'_>],
    belongs: impl Fn(&Candidate<'_>) -> bool,
    topology: impl FnOnce() -> Topology,
) -> Choice {
    let mut fallback = Choice::Nothing;
    for candidate in candidates.iter().filter(|candidate| belongs(candidate)) {
        let conditions = candidate.source.conditions;
        if conditions.ready {
            return Choice::Ready(topology());
        }
        if conditions.serving && conditions.terminating {
            fallback = Choice::ServingTerminating;
        }
    }
    fallback
}

/// Why no list ever holds the endpoint, whatever else there is.
fn unusable(candidate: &Candidate<'_>) -> Option<LeftOutReason> {
    let conditions = candidate.source.conditions;
    if conditions.ready || (conditions.serving && conditions.terminating) {
        None
    } else if conditions.terminating {
        Some(LeftOutReason::NotServing)
    } else {
        Some(LeftOutReason::NotReady)
    }
}

fn topology(candidates: &[Candidate<'_>], node: &NodePlan) -> Topology {
    if candidates.iter().all(|c| c.source.extra.is_none()) {
        return Topology::Anywhere;
    }
    let zone = node.zone.as_deref().unwrap_or_default();
    if every_ready_is_hinted(candidates, SliceEndpoint::node_hints, &node.name) {
        Topology::SameNode
    } else if every_ready_is_hinted(candidates, SliceEndpoint::zone_hints, zone) {
        Topology::SameZone
    } else {
        Topology::Anywhere
    }
}

/// Whether each ready endpoint has hints and one of them names `wanted` (B-075, B-076, B-079).
fn every_ready_is_hinted(
    candidates: &[Candidate<'_>],
    hints: fn(&SliceEndpoint) -> &[Name],
    wanted: &str,
) -> bool {
    let mut ready = candidates
        .iter()
        .filter(|candidate| candidate.source.conditions.ready)
        .map(|candidate| hints(candidate.source))
        .peekable();
    let mut names_wanted = false;
    !wanted.is_empty()
        && ready.all(|hints| {
            names_wanted |= hinted(hints, wanted);
            !hints.is_empty()
        })
        && names_wanted
}

fn hinted(hints: &[Name], wanted: &str) -> bool {
    hints.iter().any(|hint| &**hint == wanted)
}
