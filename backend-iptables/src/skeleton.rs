//! The chains that exist whatever Services there are, and the jumps to them.
//!
//! Nothing in table filter depends on a Service: nat marks what is refused or dropped, and these
//! rules answer. A refused packet never becomes a connection, so each of its kind passes nat.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use svc_core::{
    ClusterIpMasquerade, IpFamily, IpNet, Ipv4Net, LocalDetector, NodePlan, Protocol, Ruleset,
};

use crate::config::{Config, HairpinBy, InvalidPackets};
use crate::key::{Hook, Jump, Key, Table, Value};
use crate::name::{self, ChainName};
use crate::rule::{Mark, Match, Rule, Sense, States, Target};

/// The jumps from the hooks, one for each, at the head of the chain as kube-proxy's are.
pub(crate) const JUMPS: [Jump; 6] = [
    jump(Table::Filter, Hook::Input, name::INPUT),
    jump(Table::Filter, Hook::Forward, name::FORWARD),
    jump(Table::Filter, Hook::Output, name::OUTPUT),
    jump(Table::Nat, Hook::Prerouting, name::SERVICES),
    jump(Table::Nat, Hook::Output, name::SERVICES),
    jump(Table::Nat, Hook::Postrouting, name::POSTROUTING),
];

const fn jump(table: Table, from: Hook, to: ChainName) -> Jump {
    Jump { table, from, to }
}

/// The fixed chains and jumps.
pub(crate) fn skeleton(config: &Config, node: &NodePlan) -> Ruleset<Key, Value> {
    let mut ruleset = Ruleset::new();
    let mut add = |table, name, rules: Vec<Rule>| {
        ruleset.insert(Key::Chain(table, name), Value::Rules(Arc::from(rules)));
    };
    add(Table::Filter, name::INPUT, input(config, node));
    add(Table::Filter, name::HEALTH_CHECKS, Vec::new());
    add(Table::Filter, name::FORWARD, forward(config));
    add(Table::Filter, name::OUTPUT, answers(config));
    let marks = config.marks;
    let set = |target| vec![Rule::always(target)];
    add(Table::Nat, name::REJECT, set(marks.set_reject()));
    add(Table::Nat, name::DROP, set(marks.set_drop()));
    add(Table::Nat, name::CLUSTER, cluster(config, node));
    add(Table::Nat, name::NODE_PORTS, node_ports(config, node));
    add(Table::Nat, name::POSTROUTING, postrouting(config));
    let masquerade = vec![
        // A packet that comes by again is not masqueraded again (B-171).
        Rule::always(marks.flip_masquerade()),
        config.masquerade_rule(),
    ];
    add(Table::Nat, name::MASQUERADE, masquerade);
    if config.features.hairpin == HairpinBy::Tree {
        add(Table::Nat, name::HAIRPINNED, vec![config.masquerade_rule()]);
    }
    for jump in JUMPS {
        ruleset.insert(Key::Jump(jump), Value::Copies(1));
    }
    if node.node_ports.localhost && config.family == IpFamily::V4 {
        ruleset.insert(Key::RouteLocalnet, Value::Present);
    }
    ruleset
}

/// Answers what nat marked, on new connections only (B-146).
fn answers(config: &Config) -> Vec<Rule> {
    let marks = config.marks;
    let answer = |value, target| {
        let mark = Mark {
            value,
            mask: marks.both(),
        };
        let matches = [
            Match::Mark(Sense::Is, mark),
            Match::States(Sense::Is, States::NEW),
        ];
        Rule::new(matches, target)
    };
    vec![
        answer(marks.both(), Target::Drop),
        answer(marks.unserved(), Target::Reject),
    ]
}

fn input(config: &Config, node: &NodePlan) -> Vec<Rule> {
    let mut rules = answers(config);
    if node.node_ports.localhost && config.family == IpFamily::V4 {
        // With route_localnet anybody on the link could reach services of the loopback interface
        // (CVE-2020-8558, B-126).
        let known = States::RELATED.or(States::ESTABLISHED).or(States::DNAT);
        rules.push(Rule::new(
            [
                Match::Source(Sense::Not, loopback()),
                Match::Destination(Sense::Is, loopback()),
                Match::States(Sense::Not, known),
            ],
            Target::Drop,
        ));
    }
    rules.push(Rule::always(Target::Jump(name::HEALTH_CHECKS)));
    rules
}

/// Lets health checks in where the policy of INPUT is DROP (B-207). No plan of a service port
/// has them, so the kernel is told apart; as an object the chain counts as empty.
pub(crate) fn health_checks(ports: &BTreeSet<u16>) -> Vec<Rule> {
    let tcp = Protocol::Tcp;
    let admit = |port: &u16| {
        let matches = [Match::Protocol(tcp), Match::Ports(tcp, *port, *port)];
        Rule::new(matches, Target::Accept)
    };
    ports.iter().map(admit).collect()
}

/// Lets the packets of Services pass where the policy of FORWARD is DROP (B-175).
fn forward(config: &Config) -> Vec<Rule> {
    let marks = config.marks;
    let mut rules = answers(config);
    let states = |states| Match::States(Sense::Is, states);
    if config.invalid == InvalidPackets::Drop {
        rules.push(Rule::new([states(States::INVALID)], Target::Drop));
    }
    let masqueraded = Mark {
        value: marks.masquerade(),
        mask: marks.both(),
    };
    rules.push(Rule::new(
        [Match::Mark(Sense::Is, masqueraded)],
        Target::Accept,
    ));
    let known = States::RELATED.or(States::ESTABLISHED);
    rules.push(Rule::new([states(known)], Target::Accept));
    if config.features.hairpin == HairpinBy::Bpf {
        // They are masqueraded without a mark.
        let hairpin = [states(States::DNAT), config.hairpin_match()];
        rules.push(Rule::new(hairpin, Target::Accept));
    }
    rules
}

/// Marks what is masqueraded (B-097 to B-099) once for all Services, and takes the mark off again
/// if no Service has the address.
fn cluster(config: &Config, node: &NodePlan) -> Vec<Rule> {
    let marks = config.marks;
    let mark = match node.cluster_ip_masquerade {
        ClusterIpMasquerade::Never => None,
        ClusterIpMasquerade::Always => Some(Rule::always(marks.set_masquerade())),
        ClusterIpMasquerade::NotFromPods => match from_pods(&node.local_detector, Sense::Not) {
            Condition::Never => None,
            Condition::Always => Some(Rule::always(marks.set_masquerade())),
            Condition::When(condition) => Some(Rule::new([condition], marks.set_masquerade())),
        },
    };
    let search = Rule::always(Target::Jump(name::CLUSTER_IPS));
    let Some(mark) = mark else {
        return vec![search];
    };
    let undecided = Mark {
        value: marks.unserved(),
        mask: marks.unserved(),
    };
    let missed = Rule::new(
        [Match::Mark(Sense::Not, undecided)],
        marks.clear_masquerade(),
    );
    vec![mark, search, missed]
}

/// B-118 to B-129.
fn node_ports(config: &Config, node: &NodePlan) -> Vec<Rule> {
    let ports = &node.node_ports;
    let at = |net: IpNet, to| Rule::new([Match::Destination(Sense::Is, net)], Target::Goto(to));
    let rest = |to| Rule::always(Target::Goto(to));
    let host_loopback = match config.family {
        IpFamily::V4 => loopback(),
        IpFamily::V6 => IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    };
    let serves_loopback = ports.localhost && config.family == IpFamily::V4;
    // Other hosts get to loopback addresses by a route of their own, also where node ports are for
    // the node alone (B-126).
    let from_elsewhere = [
        Match::Source(Sense::Not, loopback()),
        Match::Destination(Sense::Is, loopback()),
    ];
    let guard = Rule::new(from_elsewhere, Target::Return);
    match (ports.every_local_address, serves_loopback) {
        (true, true) => vec![guard, rest(name::PORTS)],
        (true, false) => vec![at(host_loopback, name::BESIDE), rest(name::PORTS)],
        (false, _) => {
            let loopback = serves_loopback.then_some(host_loopback);
            let nets = ports.addresses.iter().copied().map(IpNet::from);
            let served = nets.chain(loopback).map(|net| at(net, name::PORTS));
            let guard = serves_loopback.then_some(guard);
            let rules = guard.into_iter().chain(served);
            rules.chain([rest(name::BESIDE)]).collect()
        }
    }
}

/// The mark goes first: it decides alone, and a packet with it has it taken off.
fn postrouting(config: &Config) -> Vec<Rule> {
    let bit = config.marks.masquerade();
    let mark = Mark {
        value: bit,
        mask: bit,
    };
    let marked = Rule::new(
        [Match::Mark(Sense::Is, mark)],
        Target::Goto(name::MASQUERADE),
    );
    // Without the state, plain traffic of a pod to itself would be masqueraded (B-155).
    let rewritten = Match::States(Sense::Is, States::DNAT);
    let hairpin = match config.features.hairpin {
        HairpinBy::Bpf => Rule::new([rewritten, config.hairpin_match()], config.masquerade()),
        HairpinBy::Tree => Rule::new([rewritten], Target::Jump(name::HAIRPIN)),
    };
    vec![marked, hairpin]
}

/// When a packet comes from a pod.
pub(crate) enum Condition {
    /// No packet does.
    Never,
    /// Every packet does.
    Always,
    /// One that matches does.
    When(Match),
}

/// Packets that do, or do not, come from a pod (B-166).
pub(crate) fn from_pods(detector: &LocalDetector, sense: Sense) -> Condition {
    let (never, always) = match sense {
        Sense::Is => (Condition::Never, Condition::Always),
        Sense::Not => (Condition::Always, Condition::Never),
    };
    match detector {
        LocalDetector::None => never,
        // iptables drops a match of everything, and cannot turn it round.
        LocalDetector::Cidr(net) if net.prefix_len() == 0 => always,
        LocalDetector::Cidr(net) => Condition::When(Match::Source(sense, net.trunc())),
        LocalDetector::Bridge(name) => Condition::When(Match::Interface(sense, (&**name).into())),
        LocalDetector::InterfacePrefix(prefix) => {
            Condition::When(Match::Interface(sense, format!("{prefix}+").into()))
        }
    }
}

fn loopback() -> IpNet {
    IpNet::V4(Ipv4Net::new_assert([127, 0, 0, 0].into(), 8))
}
