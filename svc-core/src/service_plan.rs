//! The plan of one Service: a function of the Service, its slices, the node and who owns what.

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::SocketAddr;

use ipnet::IpNet;

use crate::claims::{ClaimKey, Claims, Owned, Repeated, Wish, Wishes, load_balancer_ips, of_port};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::ServicePortName;
use crate::net::{IpFamily, Protocol};
use crate::node_plan::{ClusterIpMasquerade, EmptySourceRanges, LocalDetector, NodePlan};
use crate::object::{Service, ServicePort, ServiceType, TrafficPolicy};
use crate::plan::{
    ClientIpAffinity, Frontend, FrontendAddress, FrontendKind, Hairpin, HealthCheck, Locality,
    Masquerade, PerOrigin, Route, Scope, ServicePortPlan, SourceRanges,
};
use crate::select::SlicePorts;
use crate::state::ServiceId;

/// A planned service port.
pub(crate) type PlannedPort = (ServicePortName, Arc<ServicePortPlan>);

/// What planning one Service reads.
pub(crate) struct Inputs<'a> {
    pub(crate) service: &'a Service,
    pub(crate) slices: &'a SlicePorts<'a>,
    /// What the Service got of what it wants.
    pub(crate) owned: &'a [Owned],
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
        if let Some(plan) = plan_port(inputs, node, family, index, port) {
            let name = ServicePortName {
                service: service.name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            };
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
    let own = |wish: &Wish| wish.key.family() == family;
    let granted = of_port(inputs.owned, index);
    let granted = granted.iter().filter(|owned| own(&owned.wish));
    // Without a front end there is nothing to plan, and of two ports of one name only the first
    // has any.
    granted.clone().next()?;
    let policy = Policy::of(service, granted.clone());
    let selection = inputs.slices.select(family, port, node);
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
    Some(ServicePortPlan {
        cluster: list(Scope::Cluster, policy.uses_cluster()),
        local,
        serving: match port.protocol {
            Protocol::Udp => selection.serving(),
            Protocol::Tcp | Protocol::Sctp => Box::default(),
        },
        affinity: service
            .client_ip_affinity_seconds
            // Conversion knows no 0; it would mean that nobody is kept.
            .filter(|seconds| *seconds > 0)
            .map(|timeout_seconds| ClientIpAffinity { timeout_seconds }),
        frontends: frontends(service, &routes, family, granted),
        hairpin: policy.hairpin(node),
    })
}

/// The traffic policies, as far as they count.
struct Policy {
    internal: TrafficPolicy,
    /// `None` when the port has no external front end of its own (B-017, B-018).
    external: Option<TrafficPolicy>,
}

impl Policy {
    fn of<'a>(service: &Service, mut granted: impl Iterator<Item = &'a Owned>) -> Self {
        let external = granted.any(|owned| owned.wish.kind != FrontendKind::ClusterIp);
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

fn frontends<'a>(
    service: &Service,
    routes: &Routes<'_>,
    family: IpFamily,
    granted: impl Iterator<Item = &'a Owned>,
) -> Box<[Frontend]> {
    let frontend = |owned: &Owned| Frontend {
        at: match owned.wish.key {
            ClaimKey::Ip(ip, _, port) => FrontendAddress::Ip(SocketAddr::new(ip, port)),
            ClaimKey::NodePort(_, _, port) => FrontendAddress::NodePort(port),
        },
        kind: owned.wish.kind,
        sources: match owned.wish.kind {
            FrontendKind::LoadBalancerIp => sources(service, routes, family),
            FrontendKind::ClusterIp | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                SourceRanges::All
            }
        },
        routes: match owned.wish.kind {
            FrontendKind::ClusterIp => routes.internal(),
            FrontendKind::LoadBalancerIp | FrontendKind::ExternalIp | FrontendKind::NodePort => {
                routes.external()
            }
        },
        shadowed: owned.shadowed.clone(),
    };
    let mut frontends: Vec<Frontend> = granted.map(frontend).collect();
    frontends.sort_unstable_by_key(|frontend| frontend.at);
    frontends.into_boxed_slice()
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
    // No backend has to know what to do with one range inside another.
    let mut ranges = IpNet::aggregate(&ranges);
    ranges.sort_unstable();
    SourceRanges::Only(ranges.into_boxed_slice())
}

/// The health check of a Service, if it needs one (B-191, B-192, B-198, B-199).
pub(crate) fn health_check(
    service: &Service,
    slices: &SlicePorts<'_>,
    node: &NodePlan,
    family: IpFamily,
) -> Option<HealthCheck> {
    let port = needs_health_check(service)
        .then_some(service.health_check_node_port)
        .flatten()?;
    service.cluster_ip(family)?;
    let mut local = BTreeSet::new();
    for service_port in &service.ports {
        let selection = slices.select(family, service_port, node);
        let ready = selection.candidates.iter().filter(|candidate| {
            candidate.endpoint.locality == Locality::Local && candidate.source.conditions.ready
        });
        local.extend(ready.map(|candidate| candidate.endpoint.ip));
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

/// What is wrong with a Service, alone and in the company of the others.
pub(crate) fn diagnose(
    service: &Service,
    id: ServiceId,
    wishes: &Wishes,
    claims: &Claims,
) -> Vec<Diagnostic> {
    let mut diagnostics = Vec::new();
    let mut error = |field: String, reason, message: String| {
        let (kind, name) = (ObjectKind::Service, &service.name);
        diagnostics.push(Diagnostic::error(kind, name, field, reason, message));
    };
    for wish in &wishes.own {
        if let Some(owner) = claims.owner(&wish.key).filter(|owner| owner.id != id) {
            let message = format!("{} is held by Service {}", key_text(&wish.key), owner.name);
            error(
                field_of(wish.kind, wish.port),
                DiagnosticReason::Claimed,
                message,
            );
        }
    }
    for (kind, ip) in &wishes.forbidden {
        let message = format!("{ip} is outside of the addresses that the configuration allows");
        error(field_of(*kind, 0), DiagnosticReason::Forbidden, message);
    }
    for repeated in &wishes.repeated {
        let (field, what) = repetition(service, repeated);
        let message = format!("{what} is spec.ports[{}] already", repeated.first);
        error(field, DiagnosticReason::Duplicate, message);
    }
    if needs_health_check(service) && service.health_check_node_port.is_none() {
        error(
            "spec.healthCheckNodePort".into(),
            DiagnosticReason::Required,
            "not allocated: load balancers cannot tell which nodes have endpoints".into(),
        );
    }
    diagnostics.sort_unstable();
    diagnostics
}

fn key_text(key: &ClaimKey) -> String {
    match key {
        ClaimKey::Ip(ip, protocol, port) => {
            crate::plan::address_text(SocketAddr::new(*ip, *port), *protocol)
        }
        ClaimKey::NodePort(family, protocol, port) => {
            format!("{family} node port {port}/{}", protocol.lower())
        }
    }
}

fn field_of(kind: FrontendKind, port: usize) -> String {
    match kind {
        FrontendKind::ClusterIp => "spec.clusterIPs".into(),
        FrontendKind::LoadBalancerIp => "status.loadBalancer.ingress".into(),
        FrontendKind::ExternalIp => "spec.externalIPs".into(),
        FrontendKind::NodePort => format!("spec.ports[{port}].nodePort"),
    }
}

/// The field that repeats, and its value.
fn repetition(service: &Service, repeated: &Repeated) -> (String, String) {
    let at = repeated.port;
    match &repeated.wish {
        None => {
            let port = service.ports.get(at);
            let what = port.map(|p| format!("{:?}/{}", p.name, p.protocol.lower()));
            (format!("spec.ports[{at}].name"), what.unwrap_or_default())
        }
        Some(wish) => {
            let field = match wish.key {
                ClaimKey::Ip(..) => "port",
                ClaimKey::NodePort(..) => "nodePort",
            };
            (format!("spec.ports[{at}].{field}"), key_text(&wish.key))
        }
    }
}
