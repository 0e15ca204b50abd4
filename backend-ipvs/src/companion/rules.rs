//! The objects that exist once: table, sets, chains, and what the node decides.

use std::net::IpAddr;

use backend_nftables::rule::{
    BaseChain, Bytes, Chain, ChainName, ChainType, CmpOp, Expr, Hook, Policy, Rule, Table,
    TableName, TableState, Verdict, priority,
};
use svc_core::{
    Edit, IpFamily, IpNet, LocalDetector, Masquerade, NodePlan, PerOrigin, Protocol, Route,
    Ruleset, Unserved,
};

use super::expr::{
    Exprs, frontend_key, goto, interface, is_established, is_protocol, join, jump, known,
    mark_from, masquerade, octets, verdict, verdict_of,
};
use super::{ChainBody, ElementValue, Key, SetId, Value, schema};

/// The chain that refuses.
const REJECT_CHAIN: &str = "reject";
/// The chain that lets through sources in range.
const FIREWALL: &str = "firewall";
/// The chain of packets from pods and the node.
const INNER: &str = "inner";
/// The chain that tells whether a front end has the port.
const KNOWN: &str = "known";

/// Just before IPVS looks at packets that come in, at 98, and after the firewall of the host.
const INPUT: i32 = 90;
/// Before IPVS looks at packets of the node, at -98, and before anything is translated.
const OUTPUT: i32 = -150;

/// The verdict that refuses.
pub(crate) fn reject() -> Verdict {
    Verdict::Goto(ChainName::from(REJECT_CHAIN))
}

/// What remembers the value of a setting; the table may be there already.
pub(crate) fn saving(
    table: &TableName,
    family: IpFamily,
    number: u32,
    value: u32,
) -> Vec<Edit<Key, Value>> {
    let element = ElementValue::data(Bytes::host_u32(value));
    let set = schema::set(&SetId::Saved, family);
    let mut objects = vec![(Key::Table, head(table, family))];
    objects.extend(set.map(|set| (Key::Set(SetId::Saved), Value::Set(Box::new(set)))));
    let key = Key::Element(SetId::Saved, Bytes::host_u32(number));
    objects.push((key, Value::Element(element)));
    let objects = objects.into_iter();
    let edits = objects.map(|(key, value)| Edit {
        key,
        before: None,
        after: Some(value),
    });
    edits.collect()
}

fn head(table: &TableName, family: IpFamily) -> Value {
    Value::Table(Box::new(Table {
        family: Exprs { family }.table_family(),
        name: table.clone(),
        comment: Some("Kubernetes Services beside IPVS".into()),
        state: TableState::Active,
    }))
}

/// Everything that exists whatever Services there are.
pub(crate) fn skeleton(
    table: &TableName,
    family: IpFamily,
    node: &NodePlan,
) -> Ruleset<Key, Value> {
    let exprs = Exprs { family };
    let mut rules = Ruleset::new();
    rules.insert(Key::Table, head(table, family));
    for id in SetId::FIXED {
        let set = schema::set(&id, family);
        rules.extend(set.map(|set| (Key::Set(id), Value::Set(Box::new(set)))));
    }
    let mut chains = vec![
        chain(REJECT_CHAIN, vec![vec![exprs.reject()]]),
        firewall(exprs),
        inner(exprs),
        known_ports(exprs, node),
        input(exprs, node),
        hook(
            "forward",
            Hook::Forward,
            priority::FILTER,
            unallocated(exprs, node),
        ),
        output(exprs, node),
        postrouting(exprs),
    ];
    chains.extend((1..POLICIES).map(|policy| masquerade_by(exprs, node, policy)));
    for body in chains {
        let name = body.chain.name.clone();
        let key = match body.chain.base {
            Some(_) => Key::BaseChain(name),
            None => Key::Chain(name),
        };
        rules.insert(key, Value::Chain(Box::new(body)));
    }
    rules
}

/// Only sources in range come back.
fn firewall(exprs: Exprs) -> ChainBody {
    let mut allowed = exprs.frontend_and_source();
    allowed.extend([known(&SetId::Sources), verdict(Verdict::Return)]);
    chain(FIREWALL, vec![allowed, vec![verdict(Verdict::Drop)]])
}

fn inner(exprs: Exprs) -> ChainBody {
    // Of every packet: IPVS may have forgotten a connection that conntrack remembers.
    let mut mark = exprs.frontend();
    mark.extend(mark_from(&SetId::Marks));
    let mut rules = vec![mark];
    rules.extend(checks(exprs, &SetId::Inside));
    chain(INNER, rules)
}

/// What new connections must pass; established ones have passed.
fn checks(exprs: Exprs, refusals: &SetId) -> [Vec<Expr>; 4] {
    let mut established = is_established();
    established.push(verdict(Verdict::Accept));
    let mut ranges = exprs.frontend();
    ranges.extend([known(&SetId::Firewalled), jump(FIREWALL)]);
    let mut refused = exprs.frontend();
    refused.push(verdict_of(refusals));
    [established, ranges, refused, vec![goto(KNOWN)]]
}

/// An address on our link has no port but those of front ends (B-303): else clients could reach
/// the host's own servers there.
fn known_ports(exprs: Exprs, node: &NodePlan) -> ChainBody {
    let mut frontend = exprs.frontend();
    frontend.extend([known(&SetId::Frontends), verdict(Verdict::Accept)]);
    let mut rules = vec![frontend];
    if let Some(end) = unserved(node.unknown_port) {
        for protocol in Protocol::ALL {
            let mut other = vec![exprs.destination(), known(&SetId::Addresses)];
            other.extend(is_protocol(protocol));
            other.push(end.clone());
            rules.push(other);
        }
    }
    chain(KNOWN, rules)
}

fn input(exprs: Exprs, node: &NodePlan) -> ChainBody {
    // Packets of the node have passed `output`.
    let mut own = interface(CmpOp::Eq, b"lo\0");
    own.push(verdict(Verdict::Accept));
    let mut rules = vec![own];
    if let Some(mut pod) = from_pod(exprs, node, CmpOp::Eq) {
        pod.push(goto(INNER));
        rules.push(pod);
    }
    rules.extend(checks(exprs, &SetId::Outside));
    hook("input", Hook::Input, INPUT, rules)
}

fn output(exprs: Exprs, node: &NodePlan) -> ChainBody {
    let mut rules = unallocated(exprs, node);
    rules.push(vec![goto(INNER)]);
    hook("output", Hook::Output, OUTPUT, rules)
}

/// Packets to addresses of the service range that nobody has.
fn unallocated(exprs: Exprs, node: &NodePlan) -> Vec<Vec<Expr>> {
    let Some(end) = unserved(node.unallocated) else {
        return Vec::new();
    };
    let rule = |net: &IpNet| {
        let mut rule = exprs.destination_inside(net);
        rule.extend(exprs.destination_is_not_local());
        rule.push(end.clone());
        rule
    };
    node.service_cidrs.iter().map(rule).collect()
}

fn unserved(what: Unserved) -> Option<Expr> {
    match what {
        Unserved::Pass => None,
        Unserved::Reject => Some(goto(REJECT_CHAIN)),
        Unserved::Drop => Some(verdict(Verdict::Drop)),
    }
}

fn postrouting(exprs: Exprs) -> ChainBody {
    let mut hairpin = exprs.hairpin();
    hairpin.extend([known(&SetId::Hairpin), masquerade()]);
    // The node picks the address on our link itself when it connects to it, and no answer would
    // find its way back to that.
    let own = vec![exprs.source(), known(&SetId::Addresses), masquerade()];
    let mut policy = exprs.original_frontend();
    policy.push(verdict_of(&SetId::Masquerade));
    let base = BaseChain {
        kind: ChainType::Nat,
        hook: Hook::Postrouting,
        priority: priority::SRCNAT,
        policy: Policy::Accept,
    };
    body("postrouting", Some(base), vec![hairpin, own, policy])
}

/// Bit of packets from pods.
const POD: u8 = 1;
/// Bit of packets from the node itself.
const NODE: u8 = 2;
/// Bit of all other packets.
const EXTERNAL: u8 = 4;
/// Number of sets of origins.
const POLICIES: u8 = 8;

/// The chain that masquerades packets of the origins that routes ask for, if they ask for any.
pub(crate) fn masquerade_chain(routes: &PerOrigin<Route>) -> Option<Verdict> {
    let bit = |route: &Route, bit| match route {
        Route::Forward {
            masquerade: Masquerade::Always,
            ..
        } => bit,
        Route::Forward {
            masquerade: Masquerade::Never,
            ..
        }
        | Route::Reject
        | Route::Drop => 0,
    };
    let policy = bit(&routes.pod, POD) | bit(&routes.node, NODE) | bit(&routes.external, EXTERNAL);
    (policy != 0).then(|| Verdict::Goto(policy_name(policy).as_str().into()))
}

fn policy_name(policy: u8) -> String {
    let named = [(POD, "pods"), (NODE, "node"), (EXTERNAL, "outside")];
    let named = named.into_iter().filter(|(bit, _)| policy & bit != 0);
    let named: Vec<_> = named.map(|(_, name)| name).collect();
    format!("masquerade-{}", named.join("-"))
}

/// Masquerades packets of some origins: pods are told first, then the node (B-108).
fn masquerade_by(exprs: Exprs, node: &NodePlan, policy: u8) -> ChainBody {
    let act = |bit| match policy & bit {
        0 => verdict(Verdict::Return),
        _ => masquerade(),
    };
    let mut rules = Vec::new();
    if let Some(mut pod) = from_pod(exprs, node, CmpOp::Eq) {
        pod.push(act(POD));
        rules.push(pod);
    }
    let mut of_node = exprs.source_is_local();
    of_node.push(act(NODE));
    rules.extend([of_node, vec![act(EXTERNAL)]]);
    chain(&policy_name(policy), rules)
}

/// Tests whether a packet comes from a pod; `None` when no packet is known to (B-166).
fn from_pod(exprs: Exprs, node: &NodePlan, op: CmpOp) -> Option<Vec<Expr>> {
    match &node.local_detector {
        LocalDetector::None => None,
        LocalDetector::Cidr(net) => Some(exprs.source_inside(net, op)),
        LocalDetector::Bridge(name) => {
            let mut padded = [0; IFNAMSIZ];
            let len = name.len().min(IFNAMSIZ - 1);
            padded[..len].copy_from_slice(&name.as_bytes()[..len]);
            Some(interface(op, &padded))
        }
        LocalDetector::InterfacePrefix(prefix) => {
            let prefix = prefix.as_bytes();
            Some(interface(op, &prefix[..prefix.len().min(IFNAMSIZ - 1)]))
        }
    }
}

/// Bytes of an interface name with its end.
const IFNAMSIZ: usize = 16;

/// The element that lets an endpoint reach itself.
pub(crate) fn hairpin_key(ip: IpAddr, protocol: Protocol, port: u16) -> Bytes {
    let ip = octets(ip);
    join(&[&ip, &ip, &[protocol.number()], &port.to_be_bytes()])
}

/// The element that lets sources of a range use a front end.
pub(crate) fn source_range(
    ip: IpAddr,
    protocol: Protocol,
    port: u16,
    range: &IpNet,
) -> (Bytes, ElementValue) {
    let front = frontend_key(ip, protocol, port);
    let value = ElementValue {
        key_end: Some(join(&[&front, &octets(range.broadcast())])),
        ..ElementValue::default()
    };
    (join(&[&front, &octets(range.network())]), value)
}

fn chain(name: &str, rules: Vec<Vec<Expr>>) -> ChainBody {
    body(name, None, rules)
}

fn hook(name: &str, hook: Hook, priority: i32, rules: Vec<Vec<Expr>>) -> ChainBody {
    let base = BaseChain {
        kind: ChainType::Filter,
        hook,
        priority,
        policy: Policy::Accept,
    };
    body(name, Some(base), rules)
}

fn body(name: &str, base: Option<BaseChain>, rules: Vec<Vec<Expr>>) -> ChainBody {
    let rules = rules.into_iter().map(|exprs| Rule {
        chain: name.into(),
        exprs,
        comment: None,
    });
    ChainBody {
        rules: rules.collect(),
        chain: Chain {
            name: name.into(),
            base,
            comment: None,
        },
    }
}
