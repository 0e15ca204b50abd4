//! The plan of one Service: a function of the Service, its slices, the node and who owns what.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::claims::{ClaimKey, Claims, Wish, external_ips, load_balancer_ips, wishes};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::ServicePortName;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::{ClusterIpMasquerade, EmptySourceRanges, LocalDetector, NodePlan};
use crate::object::{EndpointSlice, Service, ServicePort, ServiceType, TrafficPolicy};
use crate::plan::{
    ClientIpAffinity, Endpoint, Frontend, FrontendAddress, FrontendKind, Hairpin, HealthCheck,
    Locality, Masquerade, PerOrigin, Route, Scope, ServicePortPlan, SourceRanges,
};
use crate::select::{Selection, select};
use crate::state::ServiceId;

/// A planned service port.
pub(crate) type PlannedPort = (ServicePortName, Arc<ServicePortPlan>);

/// What planning one Service reads.
pub(crate) struct Inputs<'a> {
    pub(crate) id: ServiceId,
    pub(crate) service: &'a Service,
    pub(crate) slices: &'a [Arc<EndpointSlice>],
    pub(crate) claims: &'a Claims,
    /// What the Service wants, as [`wishes`] says.
    pub(crate) wishes: &'a [Wish],
}

/// Plans the ports of one Service in one family, in the order of their names.
pub(crate) fn plan_ports(
    inputs: &Inputs<'_>,
    node: &NodePlan,
    family: IpFamily,
) -> Vec<PlannedPort> {
    let service = inputs.service;
    let mut planned: Vec<PlannedPort> = Vec::with_capacity(service.ports.len());
    if !service.proxied() || service.cluster_ip(family).is_none() {
        return planned;
    }
    for (index, port) in service.ports.iter().enumerate() {
        let name = ServicePortName {
            service: service.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        };
        if let Some(plan) = plan_port(inputs, node, family, index, port)
            && planned.iter().all(|(other, _)| *other != name)
        {
            planned.push((name, Arc::new(plan)));
        }
    }
    planned.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    planned
}

fn plan_port(
    inputs: &Inputs<'_>,
    node: &NodePlan,
    family: IpFamily,
    index: usize,
    port: &ServicePort,
) -> Option<ServicePortPlan> {
    let service = inputs.service;
    let slices = inputs.slices.iter().map(|slice| &**slice);
    let selection = select(slices, family, &port.name, port.protocol, node);
    let policy = Policy::of(service, port, family);
    let list = |scope, wanted| match wanted {
        true => selection.endpoints(scope, node),
        false => Box::default(),
    };
    let local = list(Scope::Local, policy.uses_local());
    let routes = Routes {
        node,
        policy: &policy,
        any: selection.has_any(),
        any_local: !local.is_empty(),
    };
    let frontends = frontends(inputs, &routes, family, index, port);
    if frontends.is_empty() {
        return None;
    }
    Some(ServicePortPlan {
        cluster: list(Scope::Cluster, policy.uses_cluster()),
        local,
        serving: match port.protocol {
            Protocol::Udp => selection.serving(),
            Protocol::Tcp | Protocol::Sctp => Box::default(),
        },
        affinity: service
            .client_ip_affinity_seconds
            .map(|timeout_seconds| ClientIpAffinity { timeout_seconds }),
        frontends,
        hairpin: policy.hairpin(node),
    })
}

/// The traffic policies, as far as they count.
struct Policy {
    internal: TrafficPolicy,
    /// `None` when the port has no external front end (B-017, B-018).
    external: Option<TrafficPolicy>,
}

impl Policy {
    fn of(service: &Service, port: &ServicePort, family: IpFamily) -> Self {
        let external = port.node_port.is_some()
            || load_balancer_ips(service, family).next().is_some()
            || external_ips(service, family).next().is_some();
        Self {
            internal: service.internal_traffic_policy,
            external: external.then_some(service.external_traffic_policy),
        }
    }

    /// B-068.
    fn uses_cluster(&self) -> bool {
        self.internal == TrafficPolicy::Cluster || self.external.is_some()
    }

    /// B-069.
    fn uses_local(&self) -> bool {
        self.internal == TrafficPolicy::Local || self.external == Some(TrafficPolicy::Local)
    }

    /// Pods of other nodes come by unmasqueraded only where they short-circuit (B-105) and only
    /// if the detector takes them for pods of this cluster (B-113).
    fn hairpin(&self, node: &NodePlan) -> Hairpin {
        match node.local_detector {
            LocalDetector::Cidr(_) if self.external == Some(TrafficPolicy::Local) => {
                Hairpin::AllEndpoints
            }
            LocalDetector::None
            | LocalDetector::Cidr(_)
            | LocalDetector::Bridge(_)
            | LocalDetector::InterfacePrefix(_) => Hairpin::LocalEndpoints,
        }
    }
}

/// What decides the routes of a service port.
struct Routes<'a> {
    node: &'a NodePlan,
    policy: &'a Policy,
    /// Whether any endpoint is usable, on any node (B-070).
    any: bool,
    any_local: bool,
}

impl Routes<'_> {
    /// B-091 to B-100.
    fn internal(&self) -> PerOrigin<Route> {
        let to = match self.policy.internal {
            _ if !self.any => return PerOrigin::same(Route::Reject),
            TrafficPolicy::Cluster => Scope::Cluster,
            TrafficPolicy::Local if !self.any_local => return PerOrigin::same(Route::Drop),
            TrafficPolicy::Local => Scope::Local,
        };
        let (pods, others) = match self.node.cluster_ip_masquerade {
            ClusterIpMasquerade::Never => (Masquerade::Never, Masquerade::Never),
            ClusterIpMasquerade::NotFromPods => (Masquerade::Never, Masquerade::Always),
            ClusterIpMasquerade::Always => (Masquerade::Always, Masquerade::Always),
        };
        let forward = |masquerade| Route::Forward { to, masquerade };
        PerOrigin {
            pod: forward(pods),
            node: forward(others),
            external: forward(others),
        }
    }

    /// B-103 to B-112.
    fn external(&self) -> PerOrigin<Route> {
        if !self.any {
            return PerOrigin::same(Route::Reject);
        }
        let cluster = |masquerade| Route::Forward {
            to: Scope::Cluster,
            masquerade,
        };
        match self.policy.external.unwrap_or_default() {
            TrafficPolicy::Cluster => PerOrigin::same(cluster(Masquerade::Always)),
            TrafficPolicy::Local => PerOrigin {
                pod: cluster(Masquerade::Never),
                node: cluster(Masquerade::Always),
                external: match self.any_local {
                    true => Route::Forward {
                        to: Scope::Local,
                        masquerade: Masquerade::Never,
                    },
                    false => Route::Drop,
                },
            },
        }
    }
}

fn frontends(
    inputs: &Inputs<'_>,
    routes: &Routes<'_>,
    family: IpFamily,
    index: usize,
    port: &ServicePort,
) -> Box<[Frontend]> {
    let own = |wish: &&Wish| {
        let family_of_key = match wish.key {
            ClaimKey::Ip(ip, _, _) => IpFamily::of(ip),
            ClaimKey::NodePort(family, _, _) => family,
        };
        let owner = inputs.claims.owner(&wish.key);
        wish.port == index
            && family_of_key == family
            && owner.is_some_and(|owner| owner.id == inputs.id)
    };
    let wishes = inputs.wishes.iter().filter(own);
    let frontend = |wish: &Wish| Frontend {
        at: match wish.key {
            ClaimKey::Ip(ip, _, port) => FrontendAddress::Ip(SocketAddr::new(ip, port)),
            ClaimKey::NodePort(_, _, port) => FrontendAddress::NodePort(port),
        },
        kind: wish.kind,
        sources: match wish.kind {
            FrontendKind::LoadBalancerIp => sources(inputs.service, routes, family),
            FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                SourceRanges::All
            }
        },
        routes: match wish.kind {
            FrontendKind::ClusterIp => routes.internal(),
            FrontendKind::LoadBalancerIp | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                routes.external()
            }
        },
        shadowed: shadowed(inputs.claims, routes.node, port.protocol, &wish.key),
    };
    let mut frontends: Vec<Frontend> = wishes.map(frontend).collect();
    frontends.sort_unstable_by_key(|frontend| frontend.at);
    frontends.into_boxed_slice()
}

/// Node addresses at which an ip:port front end goes before the node port (B-116, B-117).
fn shadowed(claims: &Claims, node: &NodePlan, protocol: Protocol, key: &ClaimKey) -> Box<[IpAddr]> {
    match key {
        ClaimKey::Ip(..) => Box::default(),
        ClaimKey::NodePort(_, _, port) => {
            let taken = |ip: &&IpAddr| claims.owner(&ClaimKey::Ip(**ip, protocol, *port)).is_some();
            node.addresses.iter().filter(taken).copied().collect()
        }
    }
}

/// The source ranges of a load-balancer address (B-047 to B-049, B-137, B-138).
fn sources(service: &Service, routes: &Routes<'_>, family: IpFamily) -> SourceRanges {
    let own = service.load_balancer_source_ranges.iter();
    let mut ranges: Vec<IpNet> = own
        .filter(|net| IpFamily::of_net(net) == family)
        .copied()
        .collect();
    let ignored = !routes.any && routes.node.empty_source_ranges == EmptySourceRanges::Ignored;
    if ranges.is_empty() || ignored || ranges.iter().any(|net| net.prefix_len() == 0) {
        return SourceRanges::All;
    }
    // A node that may come in may do so with the balancer's address as its own (B-138).
    let node_may = routes
        .node
        .primary
        .is_some_and(|ip| ranges.iter().any(|n| n.contains(&ip)));
    if node_may {
        ranges.extend(load_balancer_ips(service, family).map(IpNet::from));
    }
    ranges.sort_unstable();
    ranges.dedup();
    SourceRanges::Only(ranges.into_boxed_slice())
}

/// The health check of a Service, if it needs one (B-191, B-192, B-198, B-199).
pub(crate) fn health_check(
    service: &Service,
    slices: &[Arc<EndpointSlice>],
    node: &NodePlan,
    family: IpFamily,
) -> Option<HealthCheck> {
    let port = needs_health_check(service)
        .then_some(service.health_check_node_port)
        .flatten()?;
    service.cluster_ip(family)?;
    let mut local = BTreeSet::new();
    for service_port in &service.ports {
        let slices = slices.iter().map(|slice| &**slice);
        let selection: Selection<'_> = select(
            slices,
            family,
            &service_port.name,
            service_port.protocol,
            node,
        );
        let ready = selection.candidates.iter().filter(|candidate| {
            candidate.endpoint.locality == Locality::Local && candidate.source.conditions.ready
        });
        local.extend(ready.map(|candidate: &_| Endpoint::clone(&candidate.endpoint).ip));
    }
    Some(HealthCheck {
        port,
        local_endpoints: u32::try_from(local.len()).unwrap_or(u32::MAX),
    })
}

fn needs_health_check(service: &Service) -> bool {
    service.proxied()
        && service.service_type == ServiceType::LoadBalancer
        && service.external_traffic_policy == TrafficPolicy::Local
}

/// What is wrong with a Service in the company of the others.
pub(crate) fn diagnose(inputs: &Inputs<'_>) -> Vec<Diagnostic> {
    let service = inputs.service;
    let mut diagnostics = Vec::new();
    for wish in inputs.wishes {
        let Some(owner) = inputs.claims.owner(&wish.key).filter(|o| o.id != inputs.id) else {
            continue;
        };
        let (what, field) = match wish.key {
            ClaimKey::Ip(ip, protocol, port) => {
                let what = crate::plan::address_text(SocketAddr::new(ip, port), protocol);
                (what, field_of(wish))
            }
            ClaimKey::NodePort(family, protocol, port) => (
                format!("{family} node port {port}/{}", protocol.lower()),
                field_of(wish),
            ),
        };
        diagnostics.push(Diagnostic::error(
            ObjectKind::Service,
            &service.name,
            field,
            DiagnosticReason::Claimed,
            format!("{what} is held by Service {}", owner.name),
        ));
    }
    if needs_health_check(service) && service.health_check_node_port.is_none() {
        diagnostics.push(Diagnostic::error(
            ObjectKind::Service,
            &service.name,
            "spec.healthCheckNodePort",
            DiagnosticReason::Required,
            "not allocated: load balancers cannot tell which nodes have endpoints",
        ));
    }
    diagnostics.sort_unstable();
    diagnostics
}

fn field_of(wish: &Wish) -> alloc::string::String {
    match wish.kind {
        FrontendKind::ClusterIp => "spec.clusterIPs".into(),
        FrontendKind::LoadBalancerIp => "status.loadBalancer.ingress".into(),
        FrontendKind::ExternalIp => "spec.externalIPs".into(),
        FrontendKind::NodePort => format!("spec.ports[{}].nodePort", wish.port),
    }
}

/// [`wishes`] of an optional Service.
pub(crate) fn wishes_of(service: Option<&Arc<Service>>) -> Vec<Wish> {
    service.map(|service| wishes(service)).unwrap_or_default()
}
