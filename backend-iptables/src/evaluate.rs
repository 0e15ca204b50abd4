//! The meaning of rules: what happens to the first packet of a connection.
//!
//! The packet takes the way it takes in the kernel: nat before routing, filter, nat after
//! routing. Where chance decides, every outcome is followed. Lists and sets of clients are taken
//! to be empty.

use std::net::{IpAddr, SocketAddr};

use svc_core::{Flow, IpFamily, Masquerade, Name, Protocol, Verdict};

use crate::key::{Hook, Table};
use crate::program::{Host, Program};
use crate::rule::{Mark, Match, Rule, Sense, States, Target};

/// Deepest nesting that is followed; the kernel refuses loops, so no real ruleset gets there.
const MAX_DEPTH: u32 = 64;

/// One thing that may happen to a packet, and how likely it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// From 0 to 1.
    pub probability: f64,
    /// What happens; a forwarded packet has exactly one target.
    pub verdict: Verdict,
}

impl Program {
    /// What the rules do with the first packet of a connection.
    ///
    /// Outcomes that forward are put together into one verdict; whether they are equally likely
    /// is told by [`Program::outcomes`].
    pub fn evaluate(&self, host: &Host, flow: &Flow) -> Verdict {
        let mut targets = Vec::new();
        let mut other = Verdict::Pass;
        for outcome in self.outcomes(host, flow) {
            match outcome.verdict {
                Verdict::Forward(to) => targets.extend(to),
                verdict @ (Verdict::Reject | Verdict::Drop | Verdict::Pass) => other = verdict,
            }
        }
        targets.sort_unstable();
        targets.dedup();
        match targets.is_empty() {
            true => other,
            false => Verdict::Forward(targets),
        }
    }

    /// Everything that may happen to the first packet of a connection, likeliest first.
    pub fn outcomes(&self, host: &Host, flow: &Flow) -> Vec<Outcome> {
        let family = IpFamily::of(flow.destination.ip());
        if family != host.family || IpFamily::of(flow.source) != host.family {
            return vec![Outcome {
                probability: 1.0,
                verdict: Verdict::Pass,
            }];
        }
        let walk = Walk {
            program: self,
            host,
        };
        let packet = Packet {
            source: flow.source,
            destination: flow.destination,
            protocol: flow.protocol,
            interface: flow.interface.clone(),
            mark: 0,
            rewritten: false,
            masquerade: Masquerade::Never,
        };
        let sent = flow.interface.is_none() && host.is_local(flow.source);
        let mut outcomes: Vec<Outcome> = Vec::new();
        for (probability, verdict) in walk.way(packet, sent) {
            match outcomes.iter_mut().find(|o| o.verdict == verdict) {
                Some(same) => same.probability += probability,
                None => outcomes.push(Outcome {
                    probability,
                    verdict,
                }),
            }
        }
        outcomes.sort_by(|a, b| {
            let likelier = b.probability.total_cmp(&a.probability);
            likelier.then_with(|| a.verdict.cmp(&b.verdict))
        });
        outcomes
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Packet {
    source: IpAddr,
    destination: SocketAddr,
    protocol: Protocol,
    interface: Option<Name>,
    mark: u32,
    rewritten: bool,
    masquerade: Masquerade,
}

/// How a packet leaves a chain.
#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Accepted,
    Dropped,
    Rejected,
    /// It comes back to the chain that jumped here.
    Returned,
}

/// A packet that chance led here.
#[derive(Clone, Debug)]
struct Live {
    probability: f64,
    packet: Packet,
}

struct Walk<'a> {
    program: &'a Program,
    host: &'a Host,
}

impl Walk<'_> {
    fn way(&self, packet: Packet, sent: bool) -> Vec<(f64, Verdict)> {
        let first = if sent { Hook::Output } else { Hook::Prerouting };
        let start = Live {
            probability: 1.0,
            packet,
        };
        let mut ends = Vec::new();
        let routed = self.hook(Table::Nat, first, vec![start], &mut ends);
        let mut left = Vec::new();
        for live in routed {
            let stays = self.host.is_local(live.packet.destination.ip());
            // What the host sends to itself passes all but PREROUTING, whose rewriting is done.
            let way: &[(Table, Hook)] = match (sent, stays) {
                (false, true) => &[(Table::Filter, Hook::Input)],
                (false, false) => &[
                    (Table::Filter, Hook::Forward),
                    (Table::Nat, Hook::Postrouting),
                ],
                (true, false) => &[
                    (Table::Filter, Hook::Output),
                    (Table::Nat, Hook::Postrouting),
                ],
                (true, true) => &[
                    (Table::Filter, Hook::Output),
                    (Table::Nat, Hook::Postrouting),
                    (Table::Filter, Hook::Input),
                ],
            };
            let mut packets = vec![live];
            for (table, hook) in way {
                packets = self.hook(*table, *hook, packets, &mut ends);
            }
            left.extend(packets);
        }
        ends.extend(left.into_iter().map(|live| {
            let packet = live.packet;
            // A packet whose source alone is rewritten is not left alone either.
            let untouched = !packet.rewritten && packet.masquerade == Masquerade::Never;
            let verdict = match untouched {
                true => Verdict::Pass,
                false => Verdict::Forward(vec![svc_core::Target {
                    endpoint: packet.destination,
                    masquerade: packet.masquerade,
                }]),
            };
            (live.probability, verdict)
        }));
        ends
    }

    /// Lets packets through a chain of the kernel, whose policy is to accept.
    fn hook(
        &self,
        table: Table,
        hook: Hook,
        packets: Vec<Live>,
        ends: &mut Vec<(f64, Verdict)>,
    ) -> Vec<Live> {
        let mut passed = Vec::new();
        for live in packets {
            for (end, live) in self.chain(table, hook.name(), live, 0) {
                match end {
                    End::Accepted | End::Returned => passed.push(live),
                    End::Dropped => ends.push((live.probability, Verdict::Drop)),
                    End::Rejected => ends.push((live.probability, Verdict::Reject)),
                }
            }
        }
        passed
    }

    fn chain(&self, table: Table, name: &str, live: Live, depth: u32) -> Vec<(End, Live)> {
        let rules = self.program.chains.get(&(table, name.to_owned()));
        let mut ends = Vec::new();
        let mut lives = vec![live];
        if depth < MAX_DEPTH {
            for rule in rules.into_iter().flatten() {
                let mut next = Vec::new();
                for live in lives {
                    self.rule(table, rule, live, depth, &mut next, &mut ends);
                }
                lives = next;
                if lives.is_empty() {
                    break;
                }
            }
        }
        ends.extend(lives.into_iter().map(|live| (End::Returned, live)));
        ends
    }

    fn rule(
        &self,
        table: Table,
        rule: &Rule,
        live: Live,
        depth: u32,
        next: &mut Vec<Live>,
        ends: &mut Vec<(End, Live)>,
    ) {
        let chance = self.chance(rule, &live.packet);
        if chance < 1.0 {
            next.push(Live {
                probability: live.probability * (1.0 - chance),
                packet: live.packet.clone(),
            });
        }
        if chance <= 0.0 {
            return;
        }
        let mut live = live;
        live.probability *= chance;
        let mut end = |end, live| ends.push((end, live));
        match rule.target() {
            Target::Continue | Target::AddToSet(..) | Target::Opaque(_) => next.push(live),
            Target::SetMark(Mark { value, mask }) => {
                live.packet.mark = (live.packet.mark & !mask) ^ value;
                next.push(live);
            }
            Target::Accept => end(End::Accepted, live),
            Target::Drop => end(End::Dropped, live),
            Target::Reject => end(End::Rejected, live),
            Target::Return => end(End::Returned, live),
            Target::Dnat(to) => {
                live.packet.destination = *to;
                live.packet.rewritten = true;
                end(End::Accepted, live);
            }
            Target::Masquerade(_) => {
                live.packet.masquerade = Masquerade::Always;
                end(End::Accepted, live);
            }
            Target::Jump(to) => {
                for (how, live) in self.chain(table, to.as_str(), live, depth + 1) {
                    match how {
                        End::Returned => next.push(live),
                        End::Accepted | End::Dropped | End::Rejected => end(how, live),
                    }
                }
            }
            Target::Goto(to) => {
                ends.extend(self.chain(table, to.as_str(), live, depth + 1));
            }
        }
    }

    /// How likely a packet matches a rule.
    fn chance(&self, rule: &Rule, packet: &Packet) -> f64 {
        let mut chance = 1.0;
        for condition in rule.matches() {
            if let Match::Random(probability) = condition {
                chance *= probability.value();
            } else if !self.matches(condition, packet) {
                return 0.0;
            }
        }
        chance
    }

    fn matches(&self, condition: &Match, packet: &Packet) -> bool {
        let is = |sense: &Sense, found: bool| match sense {
            Sense::Is => found,
            Sense::Not => !found,
        };
        let destination = packet.destination.ip();
        match condition {
            Match::Source(sense, net) => is(sense, net.contains(&packet.source)),
            Match::Destination(sense, net) => is(sense, net.contains(&destination)),
            Match::Interface(sense, name) => {
                // Outgoing packets have no such interface, which is the empty name.
                let held = packet.interface.as_deref().unwrap_or_default();
                let found = match name.strip_suffix('+') {
                    Some(prefix) => held.starts_with(prefix),
                    None => held == &**name,
                };
                is(sense, found)
            }
            Match::Protocol(protocol) => packet.protocol == *protocol,
            Match::Ports(protocol, first, last) => {
                let port = packet.destination.port();
                packet.protocol == *protocol && (*first..=*last).contains(&port)
            }
            Match::Mark(sense, mark) => is(sense, packet.mark & mark.mask == mark.value),
            Match::States(sense, states) => {
                let held = match packet.rewritten {
                    true => States::NEW.or(States::DNAT),
                    false => States::NEW,
                };
                is(sense, states.meets(held))
            }
            Match::SourceIsLocal => self.host.is_local(packet.source),
            Match::DestinationIsLocal => self.host.is_local(destination),
            Match::SameAddress(family) => {
                *family == self.host.family && packet.source == destination
            }
            Match::Comment(_) | Match::Remember(_) | Match::Random(_) => true,
            Match::Remembered(..) | Match::InSet(_) | Match::Opaque(_) => false,
        }
    }
}
