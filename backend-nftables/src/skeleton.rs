//! The objects that exist once: table, sets, chains, and what the node decides.

use svc_core::{ClientIpAffinity, IpNet, LocalDetector, NodePlan, Ruleset, Unserved};

use crate::bytes::{address, host, interval, port, words};
use crate::key::{ChainBody, ChainId, ElementValue, Key, SetId, Value};
use crate::policy;
use crate::pools::PoolNumber;
use crate::registers::{Registers, compare, goto, load, lookup, meta, verdict};
use crate::rule::{
    BaseChain, Bytes, Chain, ChainType, CmpOp, CtKey, DynsetOp, Expr, Found, Hook, MetaKey,
    NatFlags, Policy, Register, Rule, Table, TableName, TableState, Verdict, priority,
};
use crate::schema;

/// Class of pools with endpoints and without affinity.
pub(crate) const PLAIN: u32 = 0;
/// Class of [`PoolNumber::REJECT`].
pub(crate) const REJECT: u32 = 1;
/// Class of [`PoolNumber::DROP`].
pub(crate) const DROP: u32 = 2;
/// Classes of pools with affinity start here: the class is this plus the timeout in seconds.
pub(crate) const STICKY: u32 = 16;
/// Endpoint counts whose rows of `slots` always exist.
pub(crate) const COUNTS: u16 = 16;
/// Longest affinity timeout, seconds; the API server allows a day.
const MAX_AFFINITY: u32 = 1 << 30;
/// The default timeout of ClientIP affinity, whose chains always exist.
const DEFAULT_AFFINITY: u32 = 10_800;

/// Everything that exists whatever Services there are.
pub(crate) fn skeleton(table: &TableName, regs: Registers, node: &NodePlan) -> Ruleset<Key, Value> {
    let mut rules = Ruleset::new();
    rules.insert(Key::Table, Value::Table(Box::new(self::table(table, regs))));
    for id in SetId::FIXED.into_iter().chain([SetId::ClusterIps]) {
        rules.extend(
            schema::set(&id, regs.family).map(|set| (Key::Set(id), Value::Set(Box::new(set)))),
        );
    }
    for (id, chain) in chains(regs, node) {
        let key = match chain.chain.base {
            Some(_) => Key::BaseChain(id),
            None => Key::Chain(id),
        };
        rules.insert(key, Value::Chain(Box::new(chain)));
    }
    rules.extend(affinity_chains(regs, DEFAULT_AFFINITY));
    rules.extend((1..=COUNTS).flat_map(slots));
    rules.extend(elements(node));
    rules
}

/// The table itself.
pub(crate) fn table(name: &TableName, regs: Registers) -> Table {
    Table {
        family: regs.table_family(),
        name: name.clone(),
        comment: Some("Kubernetes Services; see the maps frontends, pools and endpoints".into()),
        state: TableState::Active,
    }
}

/// Chain `firewall` without the rules that let sources in.
pub(crate) fn firewall_body() -> ChainBody {
    chain(ChainId::Firewall, [vec![verdict(Verdict::Drop)]]).1
}

/// The rows of `slots` for an endpoint count: equal shares of the random range.
pub(crate) fn slots(count: u16) -> impl Iterator<Item = (Key, Value)> {
    let range = crate::registers::RANDOM_RANGE;
    let start = move |slot: u16| u32::from(slot) * range / u32::from(count.max(1));
    (0..count).map(move |slot| {
        let bound = |random: u32| {
            let random = u16::try_from(random).unwrap_or(u16::MAX);
            words(&[port(count), port(random)])
        };
        let last = if slot + 1 == count {
            range
        } else {
            start(slot + 1)
        } - 1;
        let data = words(&[[0; 4], port(slot)]);
        let value = ElementValue::data(data).with_key_end(bound(last));
        (
            Key::Element(SetId::Slots, bound(start(slot))),
            Value::Element(value),
        )
    })
}

/// The affinity timeout that stands for one, seconds.
pub(crate) fn affinity_seconds(affinity: ClientIpAffinity) -> u32 {
    affinity.timeout_seconds.clamp(1, MAX_AFFINITY)
}

/// Chains and classes of one affinity timeout.
pub(crate) fn affinity_chains(regs: Registers, seconds: u32) -> Vec<(Key, Value)> {
    let pairs = [
        (SetId::Frontends, SetId::Classes, ChainId::Affinity(seconds)),
        (
            SetId::LocalFrontends,
            SetId::LocalClasses,
            ChainId::LocalAffinity(seconds),
        ),
    ];
    let mut objects = Vec::new();
    for (frontends, classes, id) in pairs {
        let element = ElementValue::data(Verdict::Goto(id.name()));
        objects.push((
            Key::Element(classes, host(STICKY + seconds)),
            Value::Element(element),
        ));
        let body = affinity_chain(regs, &id, &frontends, seconds);
        objects.push((Key::Chain(id), Value::Chain(Box::new(body))));
    }
    objects
}

/// Elements that the node decides.
fn elements(node: &NodePlan) -> Vec<(Key, Value)> {
    let element = |set, key, value| (Key::Element(set, key), Value::Element(value));
    let mut elements = Vec::new();
    let range = |set, net: &IpNet| {
        let (first, last) = interval(net);
        element(set, first, ElementValue::present().with_key_end(last))
    };
    elements.extend(
        node.service_cidrs
            .iter()
            .map(|net| range(SetId::ServiceCidrs, net)),
    );
    if let LocalDetector::Cidr(net) = &node.local_detector {
        elements.push(range(SetId::PodCidrs, net));
    }
    for ip in &node.node_ports.addresses {
        elements.push(element(
            SetId::Addresses,
            address(*ip),
            ElementValue::present(),
        ));
    }
    for (pool, class) in [(PoolNumber::REJECT, REJECT), (PoolNumber::DROP, DROP)] {
        let data = words(&[[0; 4], class.to_ne_bytes(), port(0)]);
        elements.push(element(
            SetId::Pools,
            pool.bytes().into(),
            ElementValue::data(data),
        ));
    }
    for classes in [SetId::Classes, SetId::LocalClasses] {
        let reject = ElementValue::data(Verdict::Goto(ChainId::Reject.name()));
        elements.push(element(classes.clone(), host(REJECT), reject));
        elements.push(element(
            classes,
            host(DROP),
            ElementValue::data(Verdict::Drop),
        ));
    }
    elements.extend((1..policy::COUNT).map(|policy| {
        let goto = ElementValue::data(Verdict::Goto(ChainId::Masquerade(policy).name()));
        element(SetId::MasqueradePolicies, host(policy.into()), goto)
    }));
    elements
}

fn chains(regs: Registers, node: &NodePlan) -> Vec<(ChainId, ChainBody)> {
    let mut chains = vec![
        chain(ChainId::Reject, [vec![regs.reject()]]),
        (ChainId::Firewall, firewall_body()),
        services(regs, node),
        outside_local(regs),
        outgoing(regs),
        from_outside(regs, node),
        chain(
            ChainId::FromNode,
            [firewall(regs), vec![goto(&ChainId::Services)]],
        ),
        entry(
            regs,
            ChainId::Prerouting,
            Hook::Prerouting,
            &ChainId::FromOutside,
        ),
        entry(regs, ChainId::Output, Hook::Output, &ChainId::FromNode),
        postrouting(regs),
    ];
    chains.extend(free(regs, node, ChainId::FreePrerouting, Hook::Prerouting));
    chains.extend(free(regs, node, ChainId::FreeOutput, Hook::Output));
    chains.extend((1..policy::COUNT).map(|policy| masquerade(regs, node, policy)));
    chains
}

/// The chain of a hook: packets to front ends go on.
fn entry(regs: Registers, id: ChainId, hook: Hook, next: &ChainId) -> (ChainId, ChainBody) {
    let addressed = |set, then| {
        let known = lookup(&set, Register::R0, Found::Continue);
        vec![regs.destination(), known, then]
    };
    // Packets to other front ends come back if there is none at the port, and pass.
    let rules = vec![
        addressed(SetId::ClusterIps, goto(next)),
        addressed(SetId::Addresses, verdict(Verdict::Jump(next.name()))),
    ];
    base_chain(id, hook, priority::DSTNAT, rules)
}

/// The chain of a hook that ends packets to free service addresses (B-033).
///
/// Why not the entry: another agent may serve an address of the service range (B-004), and of two chains
/// of one priority the kernel asks the younger first. Once one has translated a connection, none is asked.
fn free(regs: Registers, node: &NodePlan, id: ChainId, hook: Hook) -> Option<(ChainId, ChainBody)> {
    let test = vec![
        regs.destination(),
        lookup(&SetId::ServiceCidrs, Register::R0, Found::Continue),
        regs.destination(),
        lookup(&SetId::ClusterIps, Register::R0, Found::Break),
    ];
    let rule = unserved(regs, test, node.unallocated)?;
    Some(base_chain(id, hook, priority::AFTER_DSTNAT, vec![rule]))
}

fn from_outside(regs: Registers, node: &NodePlan) -> (ChainId, ChainBody) {
    let mut local = regs.frontend(&SetId::LocalFrontends);
    local.extend(from_pod(regs, node, Test::Fails).unwrap_or_default());
    local.push(goto(&ChainId::OutsideLocal));
    let rules = [firewall(regs), local, vec![goto(&ChainId::Services)]];
    chain(ChainId::FromOutside, rules)
}

fn services(regs: Registers, node: &NodePlan) -> (ChainId, ChainBody) {
    let mut rules = dispatch(regs, &SetId::Frontends, &SetId::Classes);
    let known = lookup(&SetId::ClusterIps, Register::R0, Found::Continue);
    rules.extend(unserved(
        regs,
        vec![regs.destination(), known],
        node.unknown_port,
    ));
    chain(ChainId::Services, rules)
}

fn outside_local(regs: Registers) -> (ChainId, ChainBody) {
    chain(
        ChainId::OutsideLocal,
        dispatch(regs, &SetId::LocalFrontends, &SetId::LocalClasses),
    )
}

/// From front end to endpoint.
fn dispatch(regs: Registers, frontends: &SetId, classes: &SetId) -> Vec<Vec<Expr>> {
    let plain = [
        regs.frontend(frontends),
        regs.pool_lookup(),
        vec![regs.is_plain()],
        regs.slot_lookup(),
        regs.endpoint(),
    ];
    let other = [
        regs.frontend(frontends),
        regs.pool_lookup(),
        vec![lookup(classes, regs.class(), Found::Verdict)],
    ];
    // The count was read just before the last slot went: slot 0 is there as long as any is.
    let missed = [regs.frontend(frontends), regs.first_endpoint()];
    vec![plain.concat(), other.concat(), missed.concat()]
}

fn affinity_chain(regs: Registers, id: &ChainId, frontends: &SetId, seconds: u32) -> ChainBody {
    let pinned = [
        regs.frontend(frontends),
        regs.row_stand_ins(),
        vec![regs.client()],
        regs.pinned(),
    ]
    .concat();
    let chosen = [
        regs.frontend(frontends),
        regs.row_stand_ins(),
        regs.pool_lookup(),
        regs.slot_lookup(),
        regs.sticky(),
    ]
    .concat();
    let change = |op, timeout| Expr::Dynset {
        op,
        set: SetId::Affinity.name(),
        key: regs.pool(),
        data: Some(Register::R0),
        timeout,
    };
    let pin = change(DynsetOp::Update, Some(u64::from(seconds) * 1000));
    let live = |found| lookup(&SetId::Live, Register::R0, found);
    // The pin that won: another packet of the client may have pinned another endpoint meanwhile.
    let won = load(&SetId::Affinity, regs.pool(), Register::R0);
    let first = [
        regs.frontend(frontends),
        regs.row_stand_ins(),
        regs.first_sticky(),
    ]
    .concat();
    let rules = [
        [
            pinned.clone(),
            vec![live(Found::Continue), pin.clone(), regs.dnat_row()],
        ]
        .concat(),
        [
            pinned,
            vec![live(Found::Break), change(DynsetOp::Delete, None)],
        ]
        .concat(),
        [
            chosen.clone(),
            vec![regs.client(), pin, won, regs.dnat_row()],
        ]
        .concat(),
        [chosen, vec![regs.dnat_row()]].concat(),
        [first, vec![regs.dnat_row()]].concat(),
        vec![goto(&ChainId::Reject)],
    ];
    chain(id.clone(), rules).1
}

/// Sends packets to front ends with source ranges to their check.
fn firewall(regs: Registers) -> Vec<Expr> {
    let mut exprs = regs.frontend_key();
    exprs.push(lookup(&SetId::Firewalled, Register::R0, Found::Continue));
    exprs.push(verdict(Verdict::Jump(ChainId::Firewall.name())));
    exprs
}

/// The rule of chain `firewall` for sources of one prefix length.
pub(crate) fn source_rule(regs: Registers, length: u8) -> Rule {
    let mut exprs = regs.frontend_key();
    exprs.extend(regs.masked_source(length));
    exprs.push(lookup(
        &SetId::Sources(length),
        Register::R0,
        Found::Continue,
    ));
    exprs.push(verdict(Verdict::Return));
    Rule {
        chain: ChainId::Firewall.name(),
        exprs,
        comment: Some(source_comment(length).as_str().into()),
    }
}

/// The comment by which [`source_rule`] is known.
fn source_comment(length: u8) -> String {
    format!("sources /{length}")
}

fn postrouting(regs: Registers) -> (ChainId, ChainBody) {
    let not_translated = vec![
        Expr::Ct {
            key: CtKey::Status,
            direction: None,
            dreg: Register::R0,
        },
        Expr::Bitwise {
            sreg: Register::R0,
            dreg: Register::R0,
            len: 4,
            mask: host(IPS_DST_NAT),
            xor: host(0),
        },
        compare(CmpOp::Eq, Register::R0, [0; 4]),
        verdict(Verdict::Return),
    ];
    let mut hairpin = regs.hairpin_key();
    hairpin.push(lookup(&SetId::Hairpin, Register::R0, Found::Continue));
    hairpin.push(to_node_address());
    let rules = vec![not_translated, hairpin, vec![goto(&ChainId::Outgoing)]];
    base_chain(
        ChainId::Postrouting,
        Hook::Postrouting,
        priority::SRCNAT,
        rules,
    )
}

/// Masquerades by the front end that the connection was made to.
///
/// Why a chain of its own: the kernel walks a map when a rule comes that reads it. The hooks come
/// last, when the map is full, and nobody is to wait for that.
fn outgoing(regs: Registers) -> (ChainId, ChainBody) {
    let mut policy = regs.original_frontend();
    policy.push(lookup(
        &SetId::MasqueradePolicies,
        regs.policy(),
        Found::Verdict,
    ));
    chain(ChainId::Outgoing, [policy])
}

/// Connection status bit: the destination was translated.
const IPS_DST_NAT: u32 = 1 << 5;

/// Masquerades packets of some origins: pods are told first, then the node (B-108).
fn masquerade(regs: Registers, node: &NodePlan, policy: u8) -> (ChainId, ChainBody) {
    let act = |bit| match policy & bit {
        0 => verdict(Verdict::Return),
        _ => to_node_address(),
    };
    let mut rules = Vec::new();
    if let Some(mut test) = from_pod(regs, node, Test::Holds) {
        test.push(act(policy::POD));
        rules.push(test);
    }
    let mut of_node = regs.source_is_local();
    of_node.push(act(policy::NODE));
    rules.extend([of_node, vec![act(policy::EXTERNAL)]]);
    chain(ChainId::Masquerade(policy), rules)
}

fn to_node_address() -> Expr {
    Expr::Masquerade {
        flags: NatFlags::FULLY_RANDOM,
    }
}

/// Whether a rule goes on when a test holds or when it fails.
#[derive(Clone, Copy)]
enum Test {
    Holds,
    Fails,
}

/// Tests whether a packet comes from a pod; `None` when no packet is known to.
fn from_pod(regs: Registers, node: &NodePlan, test: Test) -> Option<Vec<Expr>> {
    let (found, op) = match test {
        Test::Holds => (Found::Continue, CmpOp::Eq),
        Test::Fails => (Found::Break, CmpOp::Ne),
    };
    let interface = |name: &[u8]| {
        let loaded = meta(MetaKey::Iifname, Register::R0);
        let name = Bytes::new(name).unwrap_or_default();
        vec![loaded, compare(op, Register::R0, name)]
    };
    match &node.local_detector {
        LocalDetector::None => None,
        LocalDetector::Cidr(_) => {
            let known = lookup(&SetId::PodCidrs, Register::R0, found);
            Some(vec![regs.source(), known])
        }
        // No interface has such a name.
        LocalDetector::Bridge(name) | LocalDetector::InterfacePrefix(name)
            if name.len() >= IFNAMSIZ =>
        {
            None
        }
        LocalDetector::Bridge(name) if name.is_empty() => None,
        LocalDetector::Bridge(name) => {
            let mut padded = [0; IFNAMSIZ];
            padded[..name.len()].copy_from_slice(name.as_bytes());
            Some(interface(&padded))
        }
        // Every interface has a name; packets of the node have none.
        LocalDetector::InterfacePrefix(prefix) if prefix.is_empty() => {
            let any = match test {
                Test::Holds => CmpOp::Ne,
                Test::Fails => CmpOp::Eq,
            };
            let loaded = meta(MetaKey::Iifname, Register::R0);
            Some(vec![loaded, compare(any, Register::R0, [0; 4])])
        }
        LocalDetector::InterfacePrefix(prefix) => Some(interface(prefix.as_bytes())),
    }
}

/// Bytes of an interface name with its end.
const IFNAMSIZ: usize = 16;

/// What is done with packets that no front end takes, unless the node has the address.
fn unserved(regs: Registers, mut test: Vec<Expr>, what: Unserved) -> Option<Vec<Expr>> {
    let end = match what {
        Unserved::Pass => return None,
        Unserved::Reject => goto(&ChainId::Reject),
        Unserved::Drop => verdict(Verdict::Drop),
    };
    test.extend(regs.destination_is_local(CmpOp::Ne));
    test.push(end);
    Some(test)
}

fn chain(id: ChainId, rules: impl IntoIterator<Item = Vec<Expr>>) -> (ChainId, ChainBody) {
    let body = body(&id, None, rules);
    (id, body)
}

fn base_chain(
    id: ChainId,
    hook: Hook,
    priority: i32,
    rules: Vec<Vec<Expr>>,
) -> (ChainId, ChainBody) {
    let base = BaseChain {
        kind: ChainType::Nat,
        hook,
        priority,
        policy: Policy::Accept,
    };
    let body = body(&id, Some(base), rules);
    (id, body)
}

fn body(
    id: &ChainId,
    base: Option<BaseChain>,
    rules: impl IntoIterator<Item = Vec<Expr>>,
) -> ChainBody {
    let name = id.name();
    let rules = rules.into_iter().map(|exprs| Rule {
        chain: name.clone(),
        exprs,
        comment: None,
    });
    ChainBody {
        rules: rules.collect(),
        chain: Chain {
            name: name.clone(),
            base,
            comment: None,
        },
    }
}
