//! From the plan of a service port to its chains and entries.

mod affinity;

use std::collections::BTreeSet;

use svc_core::{
    ClusterIpMasquerade, Endpoint, Fragment, Frontend, FrontendAddress, FrontendKind, IpFamily,
    IpNet, Masquerade, NodePlan, Origin, PerOrigin, RefusedAt, Render, Route, Ruleset, Scope,
    ServicePortName, ServicePortPlan, SourceRanges, unspecified,
};

use crate::balance::{Balancer, chain_object};
use crate::config::{Config, HairpinBy};
use crate::key::{Entry, Goal, Key, Tree, Value};
use crate::name::{self, Anchor, ChainKind, ChainName};
use crate::rule::{Match, Rule, Sense, Target};
use crate::skeleton::{Condition, from_pods, skeleton};
use affinity::Stores;

/// Most endpoints that stand in a tree without a chain of their own.
///
/// A packet to another front end is compared with each of them, and a change of one front end of a
/// leaf rewrites all. Measured with 8 for Services of six endpoints: iptables-legacy restores by a
/// sixth faster, iptables-nft does not, and takes a quarter longer for a change of one endpoint and
/// four times as long for one of a hundred.
const MOST_IN_TREE: usize = 4;

/// Says a plan as iptables chains.
#[derive(Clone, Debug)]
pub struct Renderer {
    config: Config,
    stores: Stores,
}

impl Renderer {
    /// A renderer for one family.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            stores: Stores::new(config.features.affinity),
        }
    }

    /// What the ruleset depends on beside the plan.
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Render for Renderer {
    type Key = Key;
    type Value = Value;

    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<Key, Value> {
        skeleton(&self.config, node)
    }

    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<Key, Value> {
        let Some(anchor) = Anchor::of(name.protocol, plan) else {
            return Fragment::new();
        };
        let sticky = self.stores.sticky(name, &anchor, plan.affinity);
        let mut port = Port {
            config: &self.config,
            node,
            plan,
            anchor,
            balancer: Balancer {
                anchor,
                protocol: name.protocol,
                sticky,
            },
            scopes: BTreeSet::new(),
            routes: Vec::new(),
            sources: Vec::new(),
            objects: Vec::new(),
        };
        for frontend in &plan.frontends {
            port.frontend(frontend);
        }
        port.hairpin();
        let mut objects = port.objects;
        // The two lists may share pins.
        objects.sort_by(|(a, _), (b, _)| a.cmp(b));
        objects.dedup_by(|(a, _), (b, _)| a == b);
        objects
    }

    fn is_shared(key: &Key) -> bool {
        matches!(key, Key::Entry(entry) if entry.tree == Tree::Hairpin)
    }

    fn learn(&mut self, held: &Ruleset<Key, Value>) {
        self.stores.learn(held);
    }

    fn forget(&mut self, name: &ServicePortName) {
        self.stores.forget(name);
    }
}

/// A service port on its way to a fragment.
struct Port<'a> {
    config: &'a Config,
    node: &'a NodePlan,
    plan: &'a ServicePortPlan,
    anchor: Anchor,
    balancer: Balancer,
    /// Lists that have their chains.
    scopes: BTreeSet<Scope>,
    /// Routes that have a chain; all front ends with the same routes share one.
    routes: Vec<(PerOrigin<Route>, ChainName)>,
    /// Source ranges in front of a chain that have a chain.
    sources: Vec<(SourceRanges, ChainName, ChainName)>,
    objects: Vec<(Key, Value)>,
}

impl Port<'_> {
    fn frontend(&mut self, frontend: &Frontend) {
        let plain = frontend.sources == SourceRanges::All;
        let (tree, ip, to) = match frontend.at {
            FrontendAddress::Ip(socket) => match plain.then(|| self.inside(frontend)).flatten() {
                Some(goal) => (Tree::Cluster, socket.ip(), goal),
                None => {
                    let to = self.chain(&frontend.routes);
                    let to = self.behind(&frontend.sources, to);
                    (Tree::External, socket.ip(), Goal::Chain(to))
                }
            },
            FrontendAddress::NodePort(_) => {
                let to = Goal::Chain(self.chain(&frontend.routes));
                self.beside(frontend);
                (Tree::NodePort, unspecified(self.config.family), to)
            }
        };
        self.entry(tree, ip, frontend.at.port(), to);
    }

    fn entry(&mut self, tree: Tree, ip: std::net::IpAddr, port: u16, to: Goal) {
        let entry = Entry {
            tree,
            ip,
            protocol: self.balancer.protocol,
            port,
        };
        self.objects.push((Key::Entry(entry), Value::To(to)));
    }

    /// Where a ClusterIP leads, if [`name::CLUSTER`] marks for it as its routes say.
    fn inside(&mut self, frontend: &Frontend) -> Option<Goal> {
        if frontend.kind != FrontendKind::ClusterIp {
            return None;
        }
        let PerOrigin {
            pod,
            node,
            external,
        } = frontend.routes;
        if pod == node && node == external && !matches!(pod, Route::Forward { .. }) {
            return Some(Goal::Chain(self.chain(&frontend.routes)));
        }
        let (pods, others) = match self.node.cluster_ip_masquerade {
            ClusterIpMasquerade::Never => (Masquerade::Never, Masquerade::Never),
            ClusterIpMasquerade::NotFromPods => (Masquerade::Never, Masquerade::Always),
            ClusterIpMasquerade::Always => (Masquerade::Always, Masquerade::Always),
        };
        let Route::Forward { to, .. } = pod else {
            return None;
        };
        let forward = |masquerade| Route::Forward { to, masquerade };
        let usual = (pod, node, external) == (forward(pods), forward(others), forward(others));
        usual.then(|| self.goal(to))
    }

    /// The list that a ClusterIP leads to: a chain, unless nothing but this front end needs it.
    fn goal(&mut self, scope: Scope) -> Goal {
        let endpoints = self.plan.endpoints(scope);
        let alone = self.plan.frontends.len() == 1 && self.balancer.sticky.is_none();
        match alone && (1..=MOST_IN_TREE).contains(&endpoints.len()) {
            true => Goal::Endpoints(endpoints.iter().map(Endpoint::socket).collect()),
            false => Goal::Chain(self.scope(scope)),
        }
    }

    /// The chain that decides by the origin of a packet. Packets come without a mark.
    fn chain(&mut self, routes: &PerOrigin<Route>) -> ChainName {
        let external = routes.external;
        let alike = routes.pod == external && routes.node == external;
        match external {
            Route::Reject if alike => return name::REJECT,
            Route::Drop if alike => return name::DROP,
            Route::Forward {
                to,
                masquerade: Masquerade::Never,
            } if alike => return self.scope(to),
            Route::Reject | Route::Drop | Route::Forward { .. } => {}
        }
        if let Some((_, chain)) = self.routes.iter().find(|(held, _)| held == routes) {
            return *chain;
        }
        let chain = self.anchor.chain(ChainKind::Routes, index(&self.routes));
        let mut rules = Vec::new();
        if !alike {
            match from_pods(&self.node.local_detector, Sense::Is) {
                Condition::Never => {}
                Condition::Always => self.route(*routes.at(Origin::Pod), None, &mut rules),
                Condition::When(pods) => {
                    self.route(*routes.at(Origin::Pod), Some(pods), &mut rules);
                }
            }
            if routes.node != external {
                let node = Some(Match::SourceIsLocal);
                self.route(*routes.at(Origin::Node), node, &mut rules);
            }
        }
        self.route(external, None, &mut rules);
        self.objects.push(chain_object(chain, rules));
        self.routes.push((*routes, chain));
        chain
    }

    fn route(&mut self, route: Route, when: Option<Match>, rules: &mut Vec<Rule>) {
        let to = match route {
            Route::Reject => name::REJECT,
            Route::Drop => name::DROP,
            Route::Forward { to, masquerade } => {
                if masquerade == Masquerade::Always {
                    let mark = self.config.marks.set_masquerade();
                    rules.push(Rule::new(when.clone(), mark));
                }
                self.scope(to)
            }
        };
        rules.push(Rule::new(when, Target::Goto(to)));
    }

    /// The chain that lets only some sources go on (B-137).
    fn behind(&mut self, sources: &SourceRanges, to: ChainName) -> ChainName {
        let SourceRanges::Only(ranges) = sources else {
            return to;
        };
        let same = |(held, behind, _): &&(SourceRanges, ChainName, ChainName)| {
            held == sources && *behind == to
        };
        if let Some((_, _, chain)) = self.sources.iter().find(same) {
            return *chain;
        }
        let chain = self.anchor.chain(ChainKind::Sources, index(&self.sources));
        let allowed = |net: &IpNet| {
            let inside = (net.prefix_len() > 0).then(|| Match::Source(Sense::Is, net.trunc()));
            Rule::new(inside, Target::Goto(to))
        };
        let mut rules: Vec<Rule> = ranges.iter().map(allowed).collect();
        rules.push(Rule::always(self.config.marks.set_drop()));
        self.objects.push(chain_object(chain, rules));
        self.sources.push((sources.clone(), to, chain));
        chain
    }

    /// The chain that chooses an endpoint of a list.
    fn scope(&mut self, scope: Scope) -> ChainName {
        let kind = match scope {
            Scope::Cluster => ChainKind::Cluster,
            Scope::Local => ChainKind::Local,
        };
        if self.scopes.insert(scope) {
            let chains = self.balancer.chains(kind, self.plan.endpoints(scope));
            self.objects.extend(chains);
        }
        self.anchor.chain(kind, None)
    }

    /// A node port that refuses at local addresses which do not serve node ports (B-129).
    fn beside(&mut self, frontend: &Frontend) {
        let ports = &self.node.node_ports;
        let everywhere =
            ports.every_local_address && ports.localhost && self.config.family == IpFamily::V4;
        if ports.refused_at == RefusedAt::NodePortAddresses || everywhere {
            return;
        }
        let to = match frontend.routes.external {
            Route::Reject => name::REJECT,
            Route::Drop => name::DROP,
            Route::Forward { .. } => return,
        };
        let ip = unspecified(self.config.family);
        self.entry(Tree::Beside, ip, frontend.at.port(), Goal::Chain(to));
    }

    /// Endpoints that may reach themselves, where one rule cannot find them all.
    fn hairpin(&mut self) {
        if self.config.features.hairpin == HairpinBy::Bpf {
            return;
        }
        let mut ips = BTreeSet::new();
        for endpoint in self.plan.reachable() {
            if self.plan.masquerades_hairpin(endpoint) {
                ips.insert(endpoint.ip);
            }
        }
        for ip in ips {
            let entry = Entry {
                tree: Tree::Hairpin,
                ip,
                protocol: svc_core::Protocol::Tcp,
                port: 0,
            };
            let to = Value::To(Goal::Chain(name::HAIRPINNED));
            self.objects.push((Key::Entry(entry), to));
        }
    }
}

/// What tells the next of several chains of a kind apart; the first needs nothing.
fn index<T>(held: &[T]) -> Option<u8> {
    // More than 256 kinds of routes or source ranges cannot be: there are few of either.
    (!held.is_empty()).then(|| u8::try_from(held.len()).unwrap_or(u8::MAX))
}
