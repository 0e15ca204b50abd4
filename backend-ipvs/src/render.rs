//! From the plan of a service port to virtual servers and what is beside them.

use std::net::{IpAddr, SocketAddr};

use backend_nftables::rule::{Bytes, Data, TableName, Verdict};
use svc_core::{
    Fragment, Frontend, FrontendAddress, FrontendKind, Hairpin, IpFamily, IpNet, NodePlan,
    RefusedAt, Render, Route, Ruleset, Scope, ServicePortName, ServicePortPlan, SourceRanges,
};

use crate::companion::{self, ElementValue, SetId};
use crate::drain::DrainPolicy;
use crate::key::{Destination, Key, Persistence, Server, ServerId, Value};
use crate::marks::{Marked, Marks};
use crate::scheduler::Scheduler;

/// Names and choices of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Name of the companion table, in the families ip and ip6.
    pub table: TableName,
    /// Start of the names of the dummy links; IPv4 adds `4`, IPv6 adds `6`. At most 14 bytes.
    pub link: String,
    /// How virtual servers choose.
    pub scheduler: Scheduler,
    /// Marks for packets from pods and the node.
    pub marks: Marks,
    /// How long destinations are kept for their connections.
    pub drain: DrainPolicy,
}

impl Settings {
    /// The name of the dummy link of a family.
    pub fn link(&self, family: IpFamily) -> String {
        let digit = match family {
            IpFamily::V4 => '4',
            IpFamily::V6 => '6',
        };
        let start: String = self.link.chars().take(LINK_LEN).collect();
        format!("{start}{digit}")
    }
}

impl Default for Settings {
    /// Table and links `svc-ipvs`, round robin.
    fn default() -> Self {
        Self {
            table: "svc-ipvs".into(),
            link: "svc-ipvs".into(),
            scheduler: Scheduler::default(),
            marks: Marks::default(),
            drain: DrainPolicy::default(),
        }
    }
}

/// Longest start of the name of a link: the kernel takes 15 bytes.
const LINK_LEN: usize = 14;

/// Says a plan as virtual servers, bound addresses and a companion table.
#[derive(Clone, Debug)]
pub struct Renderer {
    settings: Settings,
    family: IpFamily,
    marked: Marked,
}

impl Renderer {
    /// A renderer for one family.
    pub fn new(settings: Settings, family: IpFamily) -> Self {
        Self {
            marked: Marked::new(settings.marks),
            settings,
            family,
        }
    }
}

impl Render for Renderer {
    type Key = Key;
    type Value = Value;

    fn skeleton(&mut self, node: &NodePlan) -> Ruleset<Key, Value> {
        let table = companion::skeleton(&self.settings.table, self.family, node);
        let table = table.into_iter();
        let mut ruleset: Ruleset<Key, Value> = table
            .map(|(key, value)| (Key::Companion(key), Value::Companion(value)))
            .collect();
        ruleset.insert(Key::Link, Value::Link);
        ruleset
    }

    fn service_port(
        &mut self,
        node: &NodePlan,
        name: &ServicePortName,
        plan: &ServicePortPlan,
    ) -> Fragment<Key, Value> {
        let mut port = Port {
            scheduler: self.settings.scheduler,
            family: self.family,
            node,
            name,
            plan,
            mark: None,
        };
        let split = port.split_frontends();
        if !split.is_empty() {
            port.mark = self.marked.mark(name, split.into_iter());
        }
        port.fragment()
    }

    fn is_shared(key: &Key) -> bool {
        match key {
            Key::Address(_) => true,
            Key::Link | Key::Server(_) | Key::Destination(..) => false,
            Key::Companion(key) => match key {
                companion::Key::Element(SetId::Addresses | SetId::Hairpin, _) => true,
                companion::Key::Element(..)
                | companion::Key::Table
                | companion::Key::Set(_)
                | companion::Key::Chain(_)
                | companion::Key::BaseChain(_) => false,
            },
        }
    }

    fn learn(&mut self, held: &Ruleset<Key, Value>) {
        let from = companion::Key::Element(SetId::Marks, Bytes::default());
        let marks = held.range(Key::Companion(from)..);
        let marks = marks.map_while(|(key, value)| match (key, value) {
            (
                Key::Companion(companion::Key::Element(SetId::Marks, key)),
                Value::Companion(companion::Value::Element(value)),
            ) => Some((key.clone(), read_mark(value)?)),
            (
                Key::Companion(_)
                | Key::Link
                | Key::Address(_)
                | Key::Server(_)
                | Key::Destination(..),
                _,
            ) => None,
        });
        self.marked.learn(marks);
    }

    fn forget(&mut self, name: &ServicePortName) {
        self.marked.forget(name);
    }
}

/// Where the packets of some origins go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lead {
    Forward(Scope),
    Reject,
    Drop,
}

impl Lead {
    fn refusal(self) -> Option<Verdict> {
        match self {
            Self::Forward(_) => None,
            Self::Reject => Some(companion::reject()),
            Self::Drop => Some(Verdict::Drop),
        }
    }

    fn scope(self) -> Option<Scope> {
        match self {
            Self::Forward(scope) => Some(scope),
            Self::Reject | Self::Drop => None,
        }
    }
}

/// Where a front end leads pods and the node, and where all others. Pods and the node always go
/// the same way.
fn leads(plan: &ServicePortPlan, frontend: &Frontend) -> [Lead; 2] {
    [&frontend.routes.pod, &frontend.routes.external].map(|route| match route {
        Route::Reject => Lead::Reject,
        Route::Drop => Lead::Drop,
        Route::Forward { to, .. } if plan.endpoints(*to).is_empty() => Lead::Reject,
        Route::Forward { to, .. } => Lead::Forward(*to),
    })
}

/// The list of pods and the node, if clients from outside have another or none by their policy.
///
/// Whether a policy has endpoints just now does not count, as far as the plan tells the policy: the
/// virtual servers stay, and with them the connections to destinations that are being drained.
fn insiders(plan: &ServicePortPlan, frontend: &Frontend) -> Option<Scope> {
    let [inner, outer] = leads(plan, frontend);
    match (inner, outer) {
        (Lead::Forward(inner), Lead::Forward(outer)) => (inner != outer).then_some(inner),
        (Lead::Forward(Scope::Cluster), Lead::Drop) => Some(Scope::Cluster),
        (Lead::Reject, Lead::Reject) => {
            let local = plan.hairpin == Hairpin::AllEndpoints;
            let external = frontend.kind != FrontendKind::ClusterIp;
            (local && external).then_some(Scope::Cluster)
        }
        (Lead::Forward(_) | Lead::Reject | Lead::Drop, _) => None,
    }
}

/// One service port on its way to objects.
struct Port<'a> {
    scheduler: Scheduler,
    family: IpFamily,
    node: &'a NodePlan,
    name: &'a ServicePortName,
    plan: &'a ServicePortPlan,
    mark: Option<u32>,
}

impl Port<'_> {
    fn fragment(&self) -> Fragment<Key, Value> {
        let endpoints = self.plan.cluster.len() + self.plan.local.len();
        let mut objects = Vec::with_capacity(8 + 2 * endpoints);
        let protocol = self.name.protocol;
        for endpoint in self.plan.reachable() {
            if self.plan.masquerades_hairpin(endpoint) {
                let key = companion::hairpin_key(endpoint.ip, protocol, endpoint.port);
                objects.push(element(SetId::Hairpin, key, ElementValue::default()));
            }
        }
        let comment = self.name.to_string();
        for frontend in &self.plan.frontends {
            let [inner, outer] = leads(self.plan, frontend);
            match frontend.at {
                FrontendAddress::Ip(at) => {
                    self.frontend_at(frontend, at.ip(), [inner, outer], &comment, &mut objects);
                    self.bind(at.ip(), &mut objects);
                }
                FrontendAddress::NodePort(_) => {
                    let open = |ip: &&IpAddr| !frontend.shadowed.contains(ip);
                    for ip in self.node.node_ports.addresses.iter().filter(open) {
                        self.frontend_at(frontend, *ip, [inner, outer], &comment, &mut objects);
                    }
                    for ip in self.refusing(frontend).filter(open) {
                        self.frontend_at(frontend, *ip, [outer, outer], &comment, &mut objects);
                    }
                }
            }
        }
        // Two front ends may be split, or have one address.
        objects.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        objects.dedup_by(|a, b| a.0 == b.0);
        objects
    }

    /// The keys of front ends where pods and the node have destinations of their own; all of them
    /// share these.
    fn split_frontends(&self) -> Vec<Bytes> {
        let frontends = self.plan.frontends.iter();
        let frontends = frontends.filter(|frontend| insiders(self.plan, frontend).is_some());
        let mut keys = Vec::new();
        for frontend in frontends {
            let key = |ip| companion::frontend_key(ip, self.name.protocol, frontend.at.port());
            match frontend.at {
                FrontendAddress::Ip(at) => keys.push(key(at.ip())),
                FrontendAddress::NodePort(_) => {
                    // Where another front end shadows it, the mark is that one's.
                    let open = |ip: &&IpAddr| !frontend.shadowed.contains(ip);
                    let served = self.node.node_ports.addresses.iter().filter(open);
                    keys.extend(served.map(|ip| key(*ip)));
                }
            }
        }
        keys
    }

    /// Puts the address on our link, unless the node has it already (B-284).
    fn bind(&self, ip: IpAddr, objects: &mut Fragment<Key, Value>) {
        if !self.node.is_local(ip) {
            objects.push((Key::Address(ip), Value::Address));
            objects.push(element(
                SetId::Addresses,
                octets(ip),
                ElementValue::default(),
            ));
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

    fn frontend_at(
        &self,
        frontend: &Frontend,
        ip: IpAddr,
        [inner, outer]: [Lead; 2],
        comment: &str,
        objects: &mut Fragment<Key, Value>,
    ) {
        let (protocol, port) = (self.name.protocol, frontend.at.port());
        let key = companion::frontend_key(ip, protocol, port);
        let mut push = |set, value| objects.push(element(set, key.clone(), value));
        push(
            SetId::Frontends,
            ElementValue::default().with_comment(comment),
        );
        for (set, lead) in [(SetId::Inside, inner), (SetId::Outside, outer)] {
            if let Some(refusal) = lead.refusal() {
                push(set, ElementValue::data(refusal));
            }
        }
        if let Some(chain) = companion::masquerade_chain(&frontend.routes) {
            push(SetId::Masquerade, ElementValue::data(chain));
        }
        if let SourceRanges::Only(ranges) = &frontend.sources {
            push(SetId::Firewalled, ElementValue::default());
            for range in disjoint(ranges) {
                let (key, value) = companion::source_range(ip, protocol, port, &range);
                objects.push(element(SetId::Sources, key, value));
            }
        }
        let at = SocketAddr::new(ip, port);
        self.servers(frontend, at, [inner, outer], comment, objects);
    }

    /// The virtual servers of one address: that of clients from outside goes by the address, that
    /// of pods and the node too unless their destinations are others. One without destinations
    /// stays for those that are being drained (B-302).
    fn servers(
        &self,
        frontend: &Frontend,
        at: SocketAddr,
        [inner, outer]: [Lead; 2],
        comment: &str,
        objects: &mut Fragment<Key, Value>,
    ) {
        let protocol = self.name.protocol;
        let insiders = insiders(self.plan, frontend);
        let list = match insiders {
            Some(_) => outer.scope(),
            None => outer.scope().or(inner.scope()),
        };
        let mut server = Server::new(self.scheduler);
        server.persistence = self
            .plan
            .affinity
            .map(|affinity| Persistence::of_clients(affinity.timeout_seconds, self.family));
        self.server(ServerId::At(protocol, at), server, list, objects);
        if let (Some(_), Some(mark)) = (insiders, self.mark) {
            let key = companion::frontend_key(at.ip(), protocol, at.port());
            let value = ElementValue::data(Bytes::host_u32(mark)).with_comment(comment);
            objects.push(element(SetId::Marks, key, value));
            // A marked virtual server with persistence would not change the port.
            let mut server = Server::new(self.scheduler);
            if self.plan.affinity.is_some() {
                server.scheduler = Scheduler::Maglev.name().into();
                server.flags = 0;
            }
            let id = ServerId::Marked(protocol, mark);
            self.server(id, server, inner.scope(), objects);
        }
    }

    fn server(
        &self,
        id: ServerId,
        server: Server,
        list: Option<Scope>,
        objects: &mut Fragment<Key, Value>,
    ) {
        objects.push((Key::Server(id), Value::Server(server)));
        let endpoints = list.map_or(&[][..], |scope| self.plan.endpoints(scope));
        objects.extend(endpoints.iter().map(|endpoint| {
            let key = Key::Destination(id, endpoint.socket());
            (key, Value::Destination(Destination::SERVING))
        }));
    }
}

/// The same sources in ranges that do not overlap, which the kernel would refuse.
fn disjoint(ranges: &[IpNet]) -> Vec<IpNet> {
    IpNet::aggregate(&ranges.to_vec())
}

fn element(set: SetId, key: Bytes, value: ElementValue) -> (Key, Value) {
    (
        Key::Companion(companion::Key::Element(set, key)),
        Value::Companion(companion::Value::Element(value)),
    )
}

fn octets(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::from(ip.octets()),
        IpAddr::V6(ip) => Bytes::from(ip.octets()),
    }
}

/// The mark that an element of `marks` tells.
pub(crate) fn read_mark(value: &ElementValue) -> Option<u32> {
    match value.data.as_ref()? {
        Data::Value(mark) => Some(u32::from_ne_bytes(mark.as_slice().try_into().ok()?)),
        Data::Verdict(_) => None,
    }
}
