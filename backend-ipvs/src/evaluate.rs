//! The meaning of a ruleset: what the kernel would do with the first packet of a connection.
//!
//! ```text
//!  of the node ──► output ──► IPVS ──────────────► postrouting ──► Verdict
//!  to the node ──► input ───► IPVS ─► destination ─┘
//!  past it ──────► forward
//! ```
//!
//! The rules of the companion table run as in the kernel; IPVS looks for a virtual server by mark
//! first and by address then, and every destination with a weight may be chosen.

mod machine;
mod packet;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use backend_nftables::rule::{ChainName, Hook, Set, SetName};
use svc_core::{Flow, IpFamily, Masquerade, NodePlan, Ruleset, Target, Verdict};

use crate::companion::{self, ChainBody, SetId};
use crate::key::{Key, ServerId, Value};
use machine::End;
use packet::Packet;

/// Why a ruleset has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A verdict leads to a chain that is not there.
    #[error("no chain {0}")]
    NoChain(ChainName),
    /// An expression names a set that is not there.
    #[error("no set {0}")]
    NoSet(SetName),
    /// The kernel refuses the expression, or this machine does not know it.
    #[error("chain {chain}: {what}")]
    Unsupported {
        /// The chain.
        chain: ChainName,
        /// The expression or what is wrong with it.
        what: String,
    },
    /// Jumps are nested deeper than the kernel takes, or gotos go in a circle.
    #[error("chain {0}: too many jumps or gotos")]
    TooDeep(ChainName),
}

/// What a ruleset does with a flow.
///
/// A packet is one of the node's own if no interface is named and its source is an address of the
/// node, those on our link included. Nobody is pinned yet.
///
/// A translated packet always passes postrouting here. In the kernel one that is delivered on the
/// node itself does not: nothing could see the masquerading that is decided all the same.
///
/// # Errors
/// See [`Fault`].
pub fn evaluate(
    ruleset: &Ruleset<Key, Value>,
    node: &NodePlan,
    family: IpFamily,
    flow: &Flow,
) -> Result<Verdict, Fault> {
    Evaluator::new(ruleset, node, family).verdict(flow)
}

/// A ruleset prepared for many flows.
#[derive(Clone, Debug)]
pub struct Evaluator<'r> {
    ruleset: &'r Ruleset<Key, Value>,
    family: IpFamily,
    addresses: BTreeSet<IpAddr>,
    chains: BTreeMap<ChainName, &'r ChainBody>,
    sets: BTreeMap<SetName, (SetId, &'r Set)>,
}

impl<'r> Evaluator<'r> {
    /// Prepares a ruleset of a node.
    pub fn new(ruleset: &'r Ruleset<Key, Value>, node: &NodePlan, family: IpFamily) -> Self {
        let mut prepared = Self {
            ruleset,
            family,
            addresses: node.addresses.iter().copied().collect(),
            chains: BTreeMap::new(),
            sets: BTreeMap::new(),
        };
        for (key, value) in ruleset {
            match (key, value) {
                (Key::Address(ip), _) => {
                    prepared.addresses.insert(*ip);
                }
                (
                    Key::Companion(companion::Key::Set(id)),
                    Value::Companion(companion::Value::Set(set)),
                ) => {
                    prepared.sets.insert(set.name.clone(), (id.clone(), set));
                }
                (Key::Companion(_), Value::Companion(companion::Value::Chain(body))) => {
                    prepared.chains.insert(body.chain.name.clone(), body);
                }
                (Key::Companion(_) | Key::Link | Key::Server(_) | Key::Destination(..), _) => {}
            }
        }
        prepared
    }

    /// What happens to a flow, as [`evaluate`] says.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn verdict(&self, flow: &Flow) -> Result<Verdict, Fault> {
        let mut packet = Packet::new(self.family, flow);
        let own = flow.interface.is_none() && self.is_local(flow.source);
        let to_node = self.is_local(flow.destination.ip());
        let hook = match (own, to_node) {
            (true, _) => Hook::Output,
            (false, true) => Hook::Input,
            (false, false) => Hook::Forward,
        };
        match self.hook(hook, &mut packet)? {
            End::Drop => return Ok(Verdict::Drop),
            End::Reject => return Ok(Verdict::Reject),
            End::Accept | End::Masquerade => {}
        }
        // IPVS sees what the node sends and what it receives.
        let server = match hook {
            Hook::Output | Hook::Input => self.server(&packet),
            Hook::Prerouting | Hook::Forward | Hook::Postrouting => None,
        };
        let Some(server) = server else {
            return Ok(Verdict::Pass);
        };
        let mut targets = Vec::new();
        for endpoint in self.destinations(server) {
            let mut packet = packet.clone();
            packet.translate(endpoint);
            // Delivered on the node: no postrouting.
            let end = match !own && self.is_local(endpoint.ip()) {
                true => End::Accept,
                false => self.hook(Hook::Postrouting, &mut packet)?,
            };
            let masquerade = match end {
                End::Masquerade => Masquerade::Always,
                End::Accept | End::Drop | End::Reject => Masquerade::Never,
            };
            targets.push(Target {
                endpoint,
                masquerade,
            });
        }
        // Without a destination IPVS answers "port unreachable" (B-302).
        Ok(match targets.is_empty() {
            true => Verdict::Reject,
            false => Verdict::Forward(targets),
        })
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip)
    }

    /// The virtual server that takes a packet.
    fn server(&self, packet: &Packet) -> Option<ServerId> {
        let exists = |id: &ServerId| self.ruleset.contains_key(&Key::Server(*id));
        // The kernel compares the whole mark, of any protocol.
        let protocols = svc_core::Protocol::ALL.into_iter();
        let mut marked = protocols.map(|protocol| ServerId::Marked(protocol, packet.mark()));
        marked
            .find(exists)
            .or_else(|| Some(ServerId::At(packet.protocol(), packet.destination())).filter(exists))
    }

    fn destinations(&self, server: ServerId) -> impl Iterator<Item = SocketAddr> + '_ {
        let lowest = SocketAddr::new(svc_core::unspecified(self.family), 0);
        let from = Key::Destination(server, lowest);
        let rest = self.ruleset.range(from..);
        let own = rest.map_while(move |(key, value)| match (key, value) {
            (Key::Destination(of, at), Value::Destination(value)) if *of == server => {
                Some((*at, value.weight))
            }
            (
                Key::Destination(..)
                | Key::Companion(_)
                | Key::Link
                | Key::Address(_)
                | Key::Server(_),
                _,
            ) => None,
        });
        own.filter(|(_, weight)| *weight > 0).map(|(at, _)| at)
    }
}
