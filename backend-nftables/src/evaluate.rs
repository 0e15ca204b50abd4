//! The meaning of a ruleset: what the kernel would do with the first packet of a connection.
//!
//! ```text
//!  Flow ──► hook ──► registers, rule by rule ──► address translated? ──► postrouting ──► Verdict
//!           prerouting, or output for packets of the node
//! ```
//!
//! Nothing here knows how rules are rendered: expressions run as in the kernel (6.18), over the sets
//! of the ruleset. A random number is tried with every value, in steps as wide as all values of the
//! step do the same. What the kernel would refuse to load, or what this machine does not know, is a
//! [`Fault`].

mod arithmetic;
mod lookup;
mod machine;
mod packet;
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use svc_core::{Flow, IpFamily, Masquerade, NodePlan, Ruleset, Target, Verdict};

use crate::key::{ChainId, Key, SetId, Value};
use crate::rule::{BaseChain, Bytes, ChainName, Hook, Register, Rule, Set, SetName};
use machine::{End, Machine};
use packet::Packet;
use random::Choices;

/// What the host knows and no rule says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The family of the table.
    pub family: IpFamily,
    /// Addresses of the host; loopback addresses need not be named.
    pub addresses: BTreeSet<IpAddr>,
}

/// Clients pinned to endpoints: keys and data of map `affinity`, which only rules write.
pub type Pins = BTreeMap<Bytes, Bytes>;

/// One of the things that may happen to a packet.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What happens: a forwarded packet has one target.
    pub verdict: Verdict,
    /// Its probability. Exact, as random numbers are below a power of two.
    pub share: f64,
    /// The pins afterwards.
    pub pins: Pins,
}

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
    /// An expression reads a register that its rule has not written: the kernel refuses the rule.
    #[error("chain {chain} rule {rule}: register {} is read and was not written", .register.index())]
    Uninitialised {
        /// The chain.
        chain: ChainName,
        /// Index of the rule.
        rule: usize,
        /// The register.
        register: Register,
    },
    /// The kernel refuses the expression, or this machine does not know it.
    #[error("chain {chain} rule {rule}: {what}")]
    Unsupported {
        /// The chain.
        chain: ChainName,
        /// Index of the rule.
        rule: usize,
        /// The expression or what is wrong with it.
        what: String,
    },
    /// Jumps are nested deeper than the kernel takes, or gotos go in a circle.
    #[error("chain {0}: too many jumps or gotos")]
    TooDeep(ChainName),
    /// It depends on a random number whether the packet is forwarded at all.
    #[error("outcomes of one flow differ in kind")]
    Divided,
    /// A packet that no rule translated gets another source address.
    #[error("the source is translated and the destination is not")]
    SourceAlone,
}

/// What a ruleset does with a flow.
///
/// A packet is one of the node's own if no interface is named and its source is an address of the
/// node; all others come in through the interface named, or through one without a name. Packets of
/// the node enter at the output hook, all others in prerouting. Nobody is pinned yet.
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
    Evaluator::new(ruleset, Host::of(node, family)).verdict(flow)
}

/// The targets of a forwarded flow, each with its probability; none if it is not forwarded.
///
/// # Errors
/// See [`Fault`].
pub fn shares(
    ruleset: &Ruleset<Key, Value>,
    node: &NodePlan,
    family: IpFamily,
    flow: &Flow,
) -> Result<BTreeMap<Target, f64>, Fault> {
    Evaluator::new(ruleset, Host::of(node, family)).shares(flow)
}

/// A ruleset prepared for many flows.
#[derive(Clone, Debug)]
pub struct Evaluator<'r> {
    ruleset: &'r Ruleset<Key, Value>,
    host: Host,
    chains: BTreeMap<ChainName, Chain<'r>>,
    sets: BTreeMap<SetName, (SetId, &'r Set)>,
}

/// A chain with all its rules in order.
#[derive(Clone, Debug)]
struct Chain<'r> {
    base: Option<BaseChain>,
    rules: Vec<&'r Rule>,
}

impl Host {
    /// The facts that a plan knows.
    pub fn of(node: &NodePlan, family: IpFamily) -> Self {
        Self {
            family,
            addresses: node.addresses.iter().copied().collect(),
        }
    }

    fn is_local(&self, ip: IpAddr) -> bool {
        ip.is_loopback() || self.addresses.contains(&ip)
    }
}

impl<'r> Evaluator<'r> {
    /// Prepares a ruleset.
    pub fn new(ruleset: &'r Ruleset<Key, Value>, host: Host) -> Self {
        let mut chains = BTreeMap::new();
        let mut sets = BTreeMap::new();
        let mut sources = Vec::new();
        for (key, value) in ruleset {
            match (key, value) {
                (Key::Set(id), Value::Set(set)) => {
                    sets.insert(set.name.clone(), (id.clone(), &**set));
                }
                (Key::Chain(_) | Key::BaseChain(_), Value::Chain(body)) => {
                    let chain = Chain {
                        base: body.chain.base,
                        rules: body.rules.iter().collect(),
                    };
                    chains.insert(body.chain.name.clone(), chain);
                }
                (Key::SourceRule(_), Value::Rule(rule)) => sources.push(&**rule),
                (
                    Key::Table
                    | Key::Set(_)
                    | Key::Chain(_)
                    | Key::BaseChain(_)
                    | Key::SourceRule(_)
                    | Key::Element(..),
                    _,
                ) => {}
            }
        }
        if let Some(firewall) = chains.get_mut(&ChainId::Firewall.name()) {
            firewall.rules.splice(0..0, sources);
        }
        Self {
            ruleset,
            host,
            chains,
            sets,
        }
    }

    /// What happens to a flow while nobody is pinned, as [`evaluate`] says.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn verdict(&self, flow: &Flow) -> Result<Verdict, Fault> {
        let mut targets = BTreeSet::new();
        let mut others = BTreeSet::new();
        for outcome in self.outcomes(flow, &Pins::new())? {
            match outcome.verdict {
                Verdict::Forward(found) => targets.extend(found),
                other @ (Verdict::Reject | Verdict::Drop | Verdict::Pass) => {
                    others.insert(other);
                }
            }
        }
        match (others.pop_first(), others.is_empty(), targets.is_empty()) {
            (None, _, false) => Ok(Verdict::Forward(targets.into_iter().collect())),
            (Some(only), true, true) => Ok(only),
            (None, _, true) | (Some(_), _, _) => Err(Fault::Divided),
        }
    }

    /// The targets of a forwarded flow, each with its probability.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn shares(&self, flow: &Flow) -> Result<BTreeMap<Target, f64>, Fault> {
        let mut shares = BTreeMap::new();
        for outcome in self.outcomes(flow, &Pins::new())? {
            if let Verdict::Forward(targets) = outcome.verdict {
                for target in targets {
                    *shares.entry(target).or_insert(0.0) += outcome.share;
                }
            }
        }
        Ok(shares)
    }

    /// Everything that may happen to a flow while some clients are pinned; the shares add up to 1.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn outcomes(&self, flow: &Flow, pins: &Pins) -> Result<Vec<Outcome>, Fault> {
        let mut outcomes = Vec::new();
        let mut choices = Choices::default();
        loop {
            let mut machine = Machine::new(self, pins.clone(), choices);
            let verdict = self.run(&mut machine, flow)?;
            let share = machine.choices.share();
            choices = machine.choices;
            outcomes.push(Outcome {
                verdict,
                share,
                pins: machine.pins,
            });
            if !choices.advance() {
                return Ok(outcomes);
            }
        }
    }

    fn run(&self, machine: &mut Machine<'_, 'r>, flow: &Flow) -> Result<Verdict, Fault> {
        let mut packet = Packet::new(self.host.family, flow);
        let own = flow.interface.is_none() && self.host.is_local(flow.source);
        let hook = match own {
            true => Hook::Output,
            false => Hook::Prerouting,
        };
        match machine.hook(hook, &packet)? {
            End::Drop => return Ok(Verdict::Drop),
            End::Reject => return Ok(Verdict::Reject),
            End::Accept => {}
            End::Translate(to) => packet.translate(to),
            End::Masquerade => return Err(Fault::SourceAlone),
        }
        let Some(endpoint) = packet.translated() else {
            // Delivered on the node: no postrouting.
            let end = match self.host.is_local(flow.destination.ip()) {
                true => End::Accept,
                false => machine.hook(Hook::Postrouting, &packet)?,
            };
            return match end {
                End::Accept => Ok(Verdict::Pass),
                End::Drop => Ok(Verdict::Drop),
                End::Reject => Ok(Verdict::Reject),
                End::Translate(_) | End::Masquerade => Err(Fault::SourceAlone),
            };
        };
        let end = match !own && self.host.is_local(endpoint.ip()) {
            true => End::Accept,
            false => machine.hook(Hook::Postrouting, &packet)?,
        };
        let masquerade = match end {
            End::Accept => Masquerade::Never,
            End::Masquerade => Masquerade::Always,
            End::Drop => return Ok(Verdict::Drop),
            End::Reject => return Ok(Verdict::Reject),
            End::Translate(_) => return Err(Fault::SourceAlone),
        };
        Ok(Verdict::Forward(vec![Target {
            endpoint,
            masquerade,
        }]))
    }
}
