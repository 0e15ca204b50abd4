//! From the plan of a service port to its elements.

use std::net::IpAddr;

use svc_core::{
    Fragment, Frontend, FrontendAddress, FrontendKind, NodePlan, Protocol, RefusedAt, Render,
    Route, Ruleset, Scope, ServicePortName, ServicePortPlan, SourceRanges,
};

use crate::bytes::{address, joined, port, protocol, words};
use crate::key::{ElementValue, Key, SetId, Value};
use crate::policy;
use crate::pools::{PoolNumber, Pools};
use crate::registers::Registers;
use crate::rule::{Bytes, Data, TableName};
use crate::schema;
use crate::skeleton::{
    COUNTS, PLAIN, STICKY, affinity_chains, affinity_seconds, skeleton, slots, source_rule,
};
use crate::slots::Slots;

/// Says a plan as maps of one nf_tables table.
#[derive(Clone, Debug)]
pub struct Renderer {
    table: TableName,
    regs: Registers,
    pools: Pools,
    slots: Slots,
    ports_at_once: usize,
}

/// Service ports of one transaction of a first load: two or three batches, which stay in the caches.
const PORTS_AT_ONCE: usize = 512;

/// The kind of front ends that are ClusterIPs, in the rows of front ends.
pub(crate) const CLUSTER_IP: u32 = 1;

/// More endpoints than this take no part: a slot number has 16 bits.
pub const MAX_ENDPOINTS: usize = u16::MAX as usize;

impl Renderer {
    /// A renderer for a table of this name in the family `ip` or `ip6`.
    pub fn new(table: impl Into<TableName>, family: svc_core::IpFamily) -> Self {
        Self {
            table: table.into(),
            regs: Registers::new(family),
            pools: Pools::default(),
            slots: Slots::default(),
            ports_at_once: PORTS_AT_ONCE,
        }
    }

    /// The same with another number of service ports in each transaction of a first load.
    #[must_use]
    pub fn with_ports_at_once(self, ports_at_once: usize) -> Self {
        Self {
            // None at all would be a load without an end.
            ports_at_once: ports_at_once.max(1),
            ..self
        }
    }
}

impl Render for Renderer {
    type Key = Key;
    type Value = Value;

    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<Key, Value> {
        skeleton(&self.table, self.regs, node)
    }

    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<Key, Value> {
        let number = self
            .pools
            .number(name, frontend_keys(node, name.protocol, plan));
        let port = Port {
            regs: self.regs,
            node,
            name,
            plan,
            number,
        };
        port.fragment(&mut self.slots)
    }

    fn is_shared(key: &Key) -> bool {
        match key {
            Key::Table | Key::BaseChain(_) => false,
            Key::SourceRule(_) | Key::Chain(_) => true,
            Key::Set(id) => matches!(id, SetId::Sources(_)),
            Key::Element(id, _) => match id {
                SetId::Slots
                | SetId::Hairpin
                | SetId::Classes
                | SetId::LocalClasses
                | SetId::Addresses
                | SetId::ClusterIps => true,
                SetId::ServiceCidrs
                | SetId::PodCidrs
                | SetId::Endpoints
                | SetId::Sticky
                | SetId::Live
                | SetId::Affinity
                | SetId::Sources(_)
                | SetId::Firewalled
                | SetId::Pools
                | SetId::MasqueradePolicies
                | SetId::LocalFrontends
                | SetId::Frontends
                | SetId::Foreign(_) => false,
            },
        }
    }

    fn outlives_users(key: &Key) -> bool {
        match key {
            // Rows cost a clone of the whole map, and the kernel may be slow about it.
            Key::Element(SetId::Slots, _) => true,
            // A rule is deleted by its handle, which only a read could tell.
            Key::SourceRule(_) | Key::Set(SetId::Sources(_)) => true,
            Key::Table | Key::BaseChain(_) | Key::Chain(_) | Key::Set(_) | Key::Element(..) => {
                false
            }
        }
    }

    fn puts_to_use(key: &Key) -> bool {
        matches!(key, Key::BaseChain(_))
    }

    fn ports_at_once(&self) -> usize {
        self.ports_at_once
    }

    fn learn(&mut self, held: &Ruleset<Key, Value>) {
        let from = Key::Element(SetId::LocalFrontends, Bytes::default());
        let numbers = held.range(from..).filter_map(|(key, value)| {
            let Key::Element(SetId::LocalFrontends | SetId::Frontends, key) = key else {
                return None;
            };
            Some((key.clone(), pool_of(value)?.owner()?.0))
        });
        self.pools.learn(numbers);
        self.slots.learn(self.regs.family, held);
    }

    fn forget(&mut self, name: &ServicePortName) {
        if let Some(number) = self.pools.forget(name) {
            for scope in [Scope::Cluster, Scope::Local] {
                self.slots.forget(PoolNumber::of(number, scope));
            }
        }
    }
}

/// One service port on its way to elements.
struct Port<'a> {
    regs: Registers,
    node: &'a NodePlan,
    name: &'a ServicePortName,
    plan: &'a ServicePortPlan,
    number: u32,
}

impl Port<'_> {
    fn fragment(&self, slots: &mut Slots) -> Fragment<Key, Value> {
        let endpoints = self.plan.cluster.len() + self.plan.local.len();
        let mut objects = Vec::with_capacity(8 + 2 * endpoints);
        let comment = self.name.to_string();
        for frontend in &self.plan.frontends {
            self.frontend(frontend, &comment, &mut objects);
        }
        // A pool without a front end would be nobody's after a restart.
        for scope in [Scope::Cluster, Scope::Local] {
            let pool = PoolNumber::of(self.number, scope);
            if objects
                .iter()
                .any(|(_, value)| pool_of(value) == Some(pool))
            {
                self.pool(scope, slots, &mut objects);
            }
        }
        for endpoint in self.plan.reachable() {
            if self.plan.masquerades_hairpin(endpoint) {
                let ip = address(endpoint.ip);
                let port = port(endpoint.port);
                let key = joined(&[&ip, &ip, &protocol(self.name.protocol), &port]);
                objects.push(present(SetId::Hairpin, key));
            }
        }
        // Two node ports, or two load-balancer addresses, may need the same shared object.
        objects.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        objects.dedup_by(|a, b| a.0 == b.0);
        objects
    }

    /// The pool of a list that a front end leads to.
    fn pool(&self, scope: Scope, orders: &mut Slots, objects: &mut Fragment<Key, Value>) {
        let endpoints = self.plan.endpoints(scope);
        let endpoints = endpoints.get(..MAX_ENDPOINTS).unwrap_or(endpoints);
        let pool = PoolNumber::of(self.number, scope);
        let number = pool.bytes();
        let class = match self.plan.affinity {
            Some(affinity) => STICKY + affinity_seconds(affinity),
            None => PLAIN,
        };
        let count = u16::try_from(endpoints.len()).unwrap_or(u16::MAX);
        for (slot, endpoint) in (0u16..).zip(orders.order(pool, endpoints)) {
            let ip = address(endpoint.ip);
            let at = port(endpoint.port);
            let key = pool.slot(slot);
            if self.plan.affinity.is_some() {
                let row = joined(&[&number, &ip, &at]);
                objects.push(present(SetId::Live, row.clone()));
                objects.push(element(SetId::Sticky, key, ElementValue::data(row)));
            } else {
                let data = ElementValue::data(joined(&[&ip, &at]));
                objects.push(element(SetId::Endpoints, key, data));
            }
        }
        let data = joined(&[&[0; 4], &class.to_ne_bytes(), &port(count)]);
        objects.push(element(
            SetId::Pools,
            number.into(),
            ElementValue::data(data),
        ));
        if count > COUNTS {
            objects.extend(slots(count));
        }
        if let Some(affinity) = self.plan.affinity {
            objects.extend(affinity_chains(self.regs, affinity_seconds(affinity)));
        }
    }

    fn frontend(&self, frontend: &Frontend, comment: &str, objects: &mut Fragment<Key, Value>) {
        match frontend.at {
            FrontendAddress::Ip(at) => {
                self.frontend_at(frontend, at.ip(), &frontend.routes.pod, comment, objects);
                let addresses = match frontend.kind {
                    FrontendKind::ClusterIp => SetId::ClusterIps,
                    FrontendKind::LoadBalancerIp
                    | FrontendKind::ExternalIp
                    | FrontendKind::NodePort => SetId::Addresses,
                };
                objects.push(present(addresses, address(at.ip())));
            }
            FrontendAddress::NodePort(_) => {
                let served = &self.node.node_ports.addresses;
                let open = |ip: &&IpAddr| !frontend.shadowed.contains(ip);
                for ip in served.iter().filter(open) {
                    self.frontend_at(frontend, *ip, &frontend.routes.pod, comment, objects);
                }
                for ip in self.refusing(frontend).filter(open) {
                    let route = &frontend.routes.external;
                    self.frontend_at(frontend, *ip, route, comment, objects);
                    objects.push(present(SetId::Addresses, address(*ip)));
                }
            }
        }
    }

    /// Node addresses that do not serve node ports and refuse all the same (B-129).
    fn refusing(&self, frontend: &Frontend) -> impl Iterator<Item = &IpAddr> {
        let refused = match (self.node.node_ports.refused_at, frontend.routes.external) {
            (RefusedAt::EveryLocalAddress, Route::Reject | Route::Drop) => &self.node.addresses[..],
            (RefusedAt::EveryLocalAddress, Route::Forward { .. })
            | (RefusedAt::NodePortAddresses, _) => &[],
        };
        let serves = |ip: &&IpAddr| self.node.node_ports.addresses.binary_search(ip).is_ok();
        refused.iter().filter(move |ip| !serves(ip))
    }

    /// The elements of one address: `inner` is the route of pods and of the node.
    fn frontend_at(
        &self,
        frontend: &Frontend,
        ip: IpAddr,
        inner: &Route,
        comment: &str,
        objects: &mut Fragment<Key, Value>,
    ) {
        let key = frontend_key(ip, self.name.protocol, frontend.at.port());
        let (inner, outer) = (
            self.leads_to(inner),
            self.leads_to(&frontend.routes.external),
        );
        let row = |pool: PoolNumber| {
            let policy = u32::from(policy::of(&frontend.routes));
            let kind = match frontend.kind {
                FrontendKind::ClusterIp => CLUSTER_IP,
                FrontendKind::LoadBalancerIp
                | FrontendKind::ExternalIp
                | FrontendKind::NodePort => 2,
            };
            let data = words(&[kind.to_ne_bytes(), policy.to_ne_bytes(), pool.bytes()]);
            ElementValue::data(data).with_comment(comment)
        };
        if inner != outer {
            objects.push(element(SetId::LocalFrontends, key.clone(), row(outer)));
        }
        if let SourceRanges::Only(ranges) = &frontend.sources {
            objects.push(present(SetId::Firewalled, key.clone()));
            for range in ranges {
                let length = range.prefix_len();
                let source = address(range.network());
                let key = joined(&[&key, &source]);
                objects.push(present(SetId::Sources(length), key));
                let set = schema::set(&SetId::Sources(length), self.regs.family);
                let set =
                    set.map(|set| (Key::Set(SetId::Sources(length)), Value::Set(Box::new(set))));
                objects.extend(set);
                let rule = source_rule(self.regs, length);
                objects.push((Key::SourceRule(length), Value::Rule(Box::new(rule))));
            }
        }
        objects.push(element(SetId::Frontends, key, row(inner)));
    }

    /// The pool that a route leads to.
    fn leads_to(&self, route: &Route) -> PoolNumber {
        match route {
            Route::Reject => PoolNumber::REJECT,
            Route::Drop => PoolNumber::DROP,
            Route::Forward { to, .. } if self.plan.endpoints(*to).is_empty() => PoolNumber::REJECT,
            Route::Forward { to, .. } => PoolNumber::of(self.number, *to),
        }
    }
}

fn element(set: SetId, key: Bytes, value: ElementValue) -> (Key, Value) {
    (Key::Element(set, key), Value::Element(value))
}

fn present(set: SetId, key: Bytes) -> (Key, Value) {
    element(set, key, ElementValue::present())
}

/// The keys of the front ends of a service port.
fn frontend_keys(
    node: &NodePlan,
    protocol: Protocol,
    plan: &ServicePortPlan,
) -> impl Iterator<Item = Bytes> {
    plan.frontends.iter().flat_map(move |frontend| {
        let (ip, ips) = match &frontend.at {
            FrontendAddress::Ip(at) => (Some(at.ip()), &[][..]),
            FrontendAddress::NodePort(_) => (None, &node.node_ports.addresses[..]),
        };
        let port = frontend.at.port();
        // The key of a shadowed address is somebody else's.
        let own = ips.iter().filter(|ip| !frontend.shadowed.contains(ip));
        let ips = ip.into_iter().chain(own.copied());
        ips.map(move |ip| frontend_key(ip, protocol, port))
    })
}

fn frontend_key(ip: IpAddr, transport: Protocol, number: u16) -> Bytes {
    joined(&[&address(ip), &protocol(transport), &port(number)])
}

/// The pool that a front end leads to.
pub(crate) fn pool_of(value: &Value) -> Option<PoolNumber> {
    let Value::Element(ElementValue {
        data: Some(Data::Value(data)),
        ..
    }) = value
    else {
        return None;
    };
    let pool = data.get(8..12)?.try_into().ok()?;
    Some(PoolNumber::from_bytes(pool))
}
