//! Plans of both families, kept up to date event by event.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem;

use crate::claims::{ClaimKey, Claimant, Claims, ExternalIps, Owned, Wishes, wishes};
use crate::delta::PlanDelta;
use crate::diagnostic::Diagnostic;
use crate::name::{NamespacedName, ServicePortName};
use crate::net::IpFamily;
use crate::node_plan::{NodeConfig, NodePlan};
use crate::object::Service;
use crate::plan::{HealthCheck, Plan, ServicePortPlan};
use crate::select::SlicePorts;
use crate::service_plan::{Inputs, PlannedPort, diagnose, health_check, plan_ports};
use crate::state::{Changes, ClusterState, Event, NodeChange, ServiceId};

/// Keeps the plans of both families of one node up to date.
///
/// An event costs what the Service it concerns costs, however many others there are. The law:
/// after any history, [`Planner::plan`] equals [`Plan::compute`] of [`Planner::state`].
///
/// ```
/// use svc_core::config::{ProxyConfig, ProxyMode};
/// use svc_core::object::{Service, ServicePort};
/// use svc_core::{Event, IpFamily, NamespacedName, NodeConfig, Planner, Protocol, WatchEvent};
///
/// let config = ProxyConfig::default_for(ProxyMode::Nftables);
/// let mut planner = Planner::new(NodeConfig::new("node-1", config));
/// // Nothing is said before both lists are complete.
/// for event in [WatchEvent::Init, WatchEvent::InitDone] {
///     planner.handle(Event::Service(event));
/// }
/// assert!(planner.delta().is_empty());
/// for event in [WatchEvent::Init, WatchEvent::InitDone] {
///     planner.handle(Event::EndpointSlice(event));
/// }
/// planner.delta();
///
/// let mut web = Service::named(NamespacedName::new("shop", "web"));
/// web.cluster_ips.push([10, 96, 0, 1].into());
/// web.ports.push(ServicePort::new("http", Protocol::Tcp, 80));
/// planner.handle(Event::Service(WatchEvent::Apply(web)));
/// let deltas = planner.delta();
/// assert_eq!(deltas[0].family, IpFamily::V4);
/// assert_eq!(deltas[0].service_ports[0].name.to_string(), "shop/web:http");
/// ```
#[derive(Clone, Debug)]
pub struct Planner {
    config: NodeConfig,
    state: ClusterState,
    node: PerFamily<Arc<NodePlan>>,
    /// Node plans of the latest [`Planner::delta`].
    reported_node: PerFamily<Option<Arc<NodePlan>>>,
    external_ips: ExternalIps,
    claims: Claims,
    planned: Vec<Planned>,
    dirty: Vec<ServiceId>,
    all_dirty: bool,
}

/// One value for each family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerFamily<T> {
    v4: T,
    v6: T,
}

impl<T> PerFamily<T> {
    fn build(mut value: impl FnMut(IpFamily) -> T) -> Self {
        Self {
            v4: value(IpFamily::V4),
            v6: value(IpFamily::V6),
        }
    }

    pub(crate) fn at(&self, family: IpFamily) -> &T {
        match family {
            IpFamily::V4 => &self.v4,
            IpFamily::V6 => &self.v6,
        }
    }

    pub(crate) fn at_mut(&mut self, family: IpFamily) -> &mut T {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

/// What is planned for one Service.
#[derive(Clone, Debug, Default)]
struct Planned {
    dirty: bool,
    /// Whether `owned` and `diagnostics` are out of date: an event of endpoints costs no look at
    /// the claims of the whole cluster.
    stale: bool,
    name: Option<NamespacedName>,
    /// The Service whose wishes are filed.
    service: Option<Arc<Service>>,
    wishes: Wishes,
    owned: Vec<Owned>,
    ports: PerFamily<Vec<PlannedPort>>,
    health: PerFamily<Option<HealthCheck>>,
    diagnostics: Vec<Diagnostic>,
}

impl Planner {
    /// A planner for a node, without any object.
    pub fn new(config: NodeConfig) -> Self {
        let state = ClusterState::new();
        let node = PerFamily::build(|family| Arc::new(resolve(&config, &state, family)));
        Self {
            external_ips: ExternalIps::of(&config),
            config,
            state,
            node,
            reported_node: PerFamily::default(),
            claims: Claims::default(),
            planned: Vec::new(),
            dirty: Vec::new(),
            all_dirty: false,
        }
    }

    /// The objects.
    pub fn state(&self) -> &ClusterState {
        &self.state
    }

    /// The node and its configuration.
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Takes in an event; the plans change with the next [`Planner::delta`].
    pub fn handle(&mut self, event: Event) -> Changes {
        let changes = self.state.apply(event);
        for id in &changes.services {
            self.mark(*id);
        }
        if changes.node == NodeChange::Changed {
            self.refresh_node();
        }
        changes
    }

    /// Replaces the configuration, such as when the addresses of the host change.
    pub fn configure(&mut self, config: NodeConfig) {
        let external_ips = ExternalIps::of(&config);
        if external_ips != self.external_ips {
            self.external_ips = external_ips;
            self.forget_claims();
        }
        self.config = config;
        self.refresh_node();
    }

    /// Brings the plans up to date and says what changed since the last call, for both families.
    ///
    /// Before [`ClusterState::is_complete`] there is nothing to say (B-237).
    pub fn delta(&mut self) -> Vec<PlanDelta> {
        if !self.state.is_complete() {
            return Vec::new();
        }
        let mut deltas = PerFamily::build(PlanDelta::empty);
        self.update(&mut deltas);
        for family in IpFamily::ALL {
            let node = self.node.at(family);
            let reported = self.reported_node.at_mut(family);
            if reported.as_ref() != Some(node) {
                *reported = Some(node.clone());
                deltas.at_mut(family).node = Some(node.clone());
            }
        }
        let PerFamily { v4, v6 } = deltas;
        [v4, v6]
            .into_iter()
            .filter(|delta| !delta.is_empty())
            .collect()
    }

    /// The plan of a family, as of the latest [`Planner::delta`].
    pub fn plan(&self, family: IpFamily) -> Plan {
        let node = self.node.at(family);
        let ports = self.planned.iter().flat_map(|p| p.ports.at(family));
        let health = self.planned.iter().filter_map(|planned| {
            let check = *planned.health.at(family);
            planned.name.clone().zip(check)
        });
        Plan {
            family,
            node: self
                .reported_node
                .at(family)
                .as_ref()
                .unwrap_or(node)
                .clone(),
            service_ports: ports.cloned().collect(),
            health_checks: health.collect(),
        }
    }

    /// What is wrong with Services in the company of the others, sorted.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<_> = self.planned.iter().flat_map(|p| &p.diagnostics).collect();
        all.sort_unstable();
        all
    }

    /// The planned ports of one Service, as of the latest [`Planner::delta`].
    pub fn service_ports(
        &self,
        name: &NamespacedName,
        family: IpFamily,
    ) -> &[(ServicePortName, Arc<ServicePortPlan>)] {
        let planned = self
            .state
            .id(name)
            .and_then(|id| self.planned.get(id.0 as usize));
        planned.map_or(&[], |planned| planned.ports.at(family))
    }

    /// The number of indices of [`Planner::walk`]: Services that are known, or were.
    pub fn indices(&self) -> usize {
        self.planned.len()
    }

    /// The planned ports of so many Services from an index on, and the index that follows; 0 after the
    /// last. For checks that take a few Services at a time: an index costs no search.
    pub fn walk(
        &self,
        family: IpFamily,
        from: usize,
        services: usize,
    ) -> (impl Iterator<Item = &ServicePortName>, usize) {
        let to = from.saturating_add(services);
        let next = if to < self.planned.len() { to } else { 0 };
        let taken = self.planned.iter().skip(from).take(services);
        let ports = taken.flat_map(move |planned| planned.ports.at(family));
        (ports.map(|(name, _)| name), next)
    }

    fn mark(&mut self, id: ServiceId) {
        let index = id.0 as usize;
        if index >= self.planned.len() {
            self.planned.resize_with(index + 1, Planned::default);
        }
        if !mem::replace(&mut self.planned[index].dirty, true) {
            self.dirty.push(id);
        }
    }

    /// Marks a Service whose claims, or whose node, may have changed.
    fn mark_stale(&mut self, id: ServiceId) {
        self.mark(id);
        self.planned[id.0 as usize].stale = true;
    }

    /// Files every wish anew at the next delta.
    fn forget_claims(&mut self) {
        self.claims = Claims::default();
        for planned in &mut self.planned {
            planned.service = None;
            planned.wishes = Wishes::default();
        }
        self.all_dirty = true;
    }

    fn refresh_node(&mut self) {
        let fresh = PerFamily::build(|family| resolve(&self.config, &self.state, family));
        for family in IpFamily::ALL {
            let held = self.node.at_mut(family);
            if **held != *fresh.at(family) {
                *held = Arc::new(fresh.at(family).clone());
                self.all_dirty = true;
            }
        }
    }

    fn update(&mut self, deltas: &mut PerFamily<PlanDelta>) {
        if mem::take(&mut self.all_dirty) {
            for id in self.state.ids() {
                self.mark_stale(id);
            }
        }
        // Claims first: who owns what decides the plans of other Services too.
        let mut next = 0;
        while let Some(id) = self.dirty.get(next).copied() {
            self.reclaim(id);
            next += 1;
        }
        for id in mem::take(&mut self.dirty) {
            self.replan(id, deltas);
        }
        for family in IpFamily::ALL {
            deltas.at_mut(family).sort();
        }
    }

    /// Files the wishes of a Service and marks every Service whose claims that changes.
    fn reclaim(&mut self, id: ServiceId) {
        let service = self.state.service_at(id).cloned();
        let planned = &mut self.planned[id.0 as usize];
        if same_object(planned.service.as_ref(), service.as_ref()) {
            return;
        }
        planned.stale = true;
        let fresh = wishes_of(service.as_ref(), &self.external_ips);
        let former = mem::replace(&mut planned.service, service.clone());
        let held = mem::replace(&mut planned.wishes, fresh.clone());
        let (former, service) = (former.as_deref(), service.as_deref());
        let precedence = |service: Option<&Service>| service.map(|s| (s.created, s.name.clone()));
        let same_precedence = precedence(former) == precedence(service);
        if held.own == fresh.own && same_precedence {
            return;
        }
        let mut keys: Vec<ClaimKey> = held.own.iter().chain(&fresh.own).map(|w| w.key).collect();
        keys.sort_unstable();
        keys.dedup();
        let owner = |claims: &Claims, key: &ClaimKey| claims.owner(key).map(|owner| owner.id);
        let owners: Vec<_> = keys.iter().map(|key| owner(&self.claims, key)).collect();
        for (former, wish) in former
            .iter()
            .flat_map(|f| held.own.iter().map(move |w| (f, w)))
        {
            let claimant = Claimant::new(former, id, wish.kind);
            self.claims.remove(&wish.key, &claimant);
        }
        for (service, wish) in service
            .iter()
            .flat_map(|s| fresh.own.iter().map(move |w| (s, w)))
        {
            let claimant = Claimant::new(service, id, wish.kind);
            self.claims.insert(wish.key, claimant);
        }
        let renamed = former.map(|s| &s.name) != service.map(|s| &s.name);
        for (key, before) in keys.iter().zip(owners) {
            let after = owner(&self.claims, key);
            // Losers are told the name of the owner.
            if before != after || (renamed && after == Some(id)) {
                self.mark_others(key, id);
            }
        }
    }

    /// Marks the other Services that want a key, or a node port that it shadows (B-116).
    fn mark_others(&mut self, key: &ClaimKey, id: ServiceId) {
        let mut others: Vec<ServiceId> = self.claims.all(key).map(|c| c.id).collect();
        if let ClaimKey::Ip(ip, protocol, port) = key {
            let family = IpFamily::of(*ip);
            if self.node.at(family).addresses.binary_search(ip).is_ok() {
                let node_port = ClaimKey::NodePort(family, *protocol, *port);
                others.extend(self.claims.all(&node_port).map(|c| c.id));
            }
        }
        for other in others.into_iter().filter(|other| *other != id) {
            self.mark_stale(other);
        }
    }

    fn replan(&mut self, id: ServiceId, deltas: &mut PerFamily<PlanDelta>) {
        let service = self.state.service_at(id);
        let planned = &mut self.planned[id.0 as usize];
        planned.dirty = false;
        if mem::take(&mut planned.stale) {
            let node = |family| Some(&**self.node.at(family));
            planned.owned = self.claims.grant(&planned.wishes.own, id, node);
            let diagnose = |service| diagnose(service, id, &planned.wishes, &self.claims);
            planned.diagnostics = service.map(|s| diagnose(s)).unwrap_or_default();
        }
        let former = planned.name.take();
        planned.name = service.map(|service| service.name.clone());
        let port_count = service.map_or(0, |service| service.ports.len());
        let slices = SlicePorts::of(self.state.slices_at(id), port_count);
        let inputs = service.map(|service| Inputs {
            service,
            slices: &slices,
            owned: &planned.owned,
        });
        for family in IpFamily::ALL {
            let node = self.node.at(family);
            let ports = inputs
                .as_ref()
                .map(|inputs| plan_ports(inputs, node, family));
            let health = service.and_then(|service| health_check(service, &slices, node, family));
            let delta = deltas.at_mut(family);
            let before = mem::take(planned.ports.at_mut(family));
            *planned.ports.at_mut(family) = delta.compare(before, ports.unwrap_or_default());
            let before = mem::replace(planned.health.at_mut(family), health);
            delta.compare_health(former.as_ref(), before, planned.name.as_ref(), health);
        }
    }
}

fn wishes_of(service: Option<&Arc<Service>>, external_ips: &ExternalIps) -> Wishes {
    let wishes = service.map(|service| wishes(service, external_ips));
    wishes.unwrap_or_default()
}

fn same_object<T: PartialEq>(a: Option<&Arc<T>>, b: Option<&Arc<T>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    }
}

fn resolve(config: &NodeConfig, state: &ClusterState, family: IpFamily) -> NodePlan {
    let node = state.node(&config.name).map(|node| &**node);
    let cidrs = state.service_cidrs().map(|cidr| &**cidr);
    NodePlan::resolve(config, node, cidrs, family)
}

impl Plan {
    /// The plan of a node, from scratch: the specification of [`Planner`].
    pub fn compute(state: &ClusterState, config: &NodeConfig, family: IpFamily) -> Self {
        let node = Arc::new(resolve(config, state, family));
        let external_ips = ExternalIps::of(config);
        let mut claims = Claims::default();
        let mut wanted = Vec::new();
        for id in state.ids() {
            let Some(service) = state.service_at(id) else {
                continue;
            };
            let wishes = wishes(service, &external_ips);
            for wish in &wishes.own {
                claims.insert(wish.key, Claimant::new(service, id, wish.kind));
            }
            wanted.push((id, service, wishes));
        }
        let mut service_ports = Vec::with_capacity(wanted.len());
        let mut health_checks = BTreeMap::new();
        for (id, service, wishes) in &wanted {
            let slices = SlicePorts::of(state.slices_at(*id), service.ports.len());
            let own = |other| (other == family).then_some(&*node);
            let inputs = Inputs {
                service,
                slices: &slices,
                owned: &claims.grant(&wishes.own, *id, own),
            };
            service_ports.extend(plan_ports(&inputs, &node, family));
            if let Some(check) = health_check(service, &slices, &node, family) {
                health_checks.insert(service.name.clone(), check);
            }
        }
        Self {
            family,
            node,
            service_ports: service_ports.into_iter().collect(),
            health_checks,
        }
    }
}
