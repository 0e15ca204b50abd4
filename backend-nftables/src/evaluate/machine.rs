//! The register machine.

use std::net::{IpAddr, SocketAddr};

use svc_core::IpFamily;

use super::lookup::{find, missing_until};
use super::packet::Packet;
use super::random::{Choices, Form, Random};
use super::{Evaluator, Fault, Pins};
use crate::key::SetId;
use crate::rule::{
    Bytes, ChainName, CmpOp, Data, DynsetOp, Expr, Family, FibFlags, FibResult, Found, Hook,
    Immediate, Lookup, NatKind, Policy, Register, Reject, Set, SetFlags, Verdict,
};

/// How a hook ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The packet goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone and the sender is told.
    Reject,
    /// It goes on to another destination.
    Translate(SocketAddr),
    /// It goes on with another source.
    Masquerade,
}

/// What an expression does to its rule.
pub(super) enum Step {
    Next,
    Break,
    Verdict(Verdict),
    End(End),
}

/// One run over the ruleset.
pub(super) struct Machine<'e, 'r> {
    evaluator: &'e Evaluator<'r>,
    pub(super) pins: Pins,
    pub(super) choices: Choices,
    pub(super) registers: [u8; REGISTER_BYTES],
    /// Registers that the present rule has written, a bit each.
    written: u16,
    /// The random number that is in a register, if one is.
    pub(super) random: Option<Random>,
    at: (ChainName, usize),
}

impl<'e, 'r> Machine<'e, 'r> {
    pub(super) fn new(evaluator: &'e Evaluator<'r>, pins: Pins, choices: Choices) -> Self {
        Self {
            evaluator,
            pins,
            choices,
            registers: [0; REGISTER_BYTES],
            written: 0,
            random: None,
            at: ("".into(), 0),
        }
    }

    /// Runs the base chains of a hook in the order of their priorities.
    pub(super) fn hook(&mut self, hook: Hook, packet: &Packet) -> Result<End, Fault> {
        let chains = self.evaluator.chains.iter();
        let mut chains: Vec<_> = chains
            .filter_map(|(name, chain)| Some((chain.base?, name)))
            .filter(|(base, _)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(base, name)| (base.priority, *name));
        for (base, name) in chains {
            let end = match self.chain(name, packet)? {
                Some(end) => end,
                None => match base.policy {
                    Policy::Accept => End::Accept,
                    Policy::Drop => End::Drop,
                },
            };
            if end != End::Accept {
                return Ok(end);
            }
        }
        Ok(End::Accept)
    }

    /// Runs a base chain; `None` if the packet falls through.
    fn chain(&mut self, base: &ChainName, packet: &Packet) -> Result<Option<End>, Fault> {
        let mut stack: Vec<(ChainName, usize)> = Vec::new();
        let mut next = (base.clone(), 0);
        let mut left = MAX_CHAINS;
        loop {
            let evaluator = self.evaluator;
            let chain = evaluator.chains.get(&next.0);
            let chain = chain.ok_or_else(|| Fault::NoChain(next.0.clone()))?;
            let Some(rule) = chain.rules.get(next.1) else {
                match stack.pop() {
                    Some(back) => next = back,
                    None => return Ok(None),
                }
                continue;
            };
            self.at = next.clone();
            next.1 += 1;
            let to = match self.rule(&rule.exprs, packet)? {
                Step::Next | Step::Break | Step::Verdict(Verdict::Continue) => continue,
                Step::End(end) => return Ok(Some(end)),
                Step::Verdict(Verdict::Accept) => return Ok(Some(End::Accept)),
                Step::Verdict(Verdict::Drop) => return Ok(Some(End::Drop)),
                Step::Verdict(Verdict::Return) => match stack.pop() {
                    Some(back) => {
                        next = back;
                        continue;
                    }
                    None => return Ok(None),
                },
                Step::Verdict(Verdict::Jump(to)) => {
                    stack.push(next);
                    to
                }
                Step::Verdict(Verdict::Goto(to)) => to,
            };
            left -= 1;
            if stack.len() > JUMP_STACK || left == 0 {
                return Err(Fault::TooDeep(to));
            }
            next = (to, 0);
        }
    }

    fn rule(&mut self, exprs: &[Expr], packet: &Packet) -> Result<Step, Fault> {
        self.written = 0;
        self.random = None;
        for expr in exprs {
            match self.expr(expr, packet)? {
                Step::Next => {}
                other @ (Step::Break | Step::Verdict(_) | Step::End(_)) => return Ok(other),
            }
        }
        Ok(Step::Next)
    }

    fn expr(&mut self, expr: &Expr, packet: &Packet) -> Result<Step, Fault> {
        match expr {
            Expr::Payload {
                base,
                offset,
                len,
                dreg,
            } => {
                let bytes = packet.payload(*base, *offset, *len);
                self.load_or_break(*dreg, bytes)
            }
            Expr::Meta { key, dreg } => {
                let Some(bytes) = packet.meta(*key) else {
                    return self.unsupported(format!("{expr:?}"));
                };
                self.write(*dreg, &bytes)
            }
            Expr::Ct {
                key,
                direction,
                dreg,
            } => {
                let Some(bytes) = packet.ct(*key, *direction) else {
                    return self.unsupported(format!("{expr:?}"));
                };
                self.write(*dreg, &bytes)
            }
            Expr::Cmp { op, sreg, data } => self.compare(*op, *sreg, data),
            Expr::Bitwise { .. } => self.bitwise(expr),
            Expr::Byteorder { .. } => self.byteorder(expr),
            Expr::Numgen { .. } => self.numgen(expr),
            Expr::Immediate(Immediate::Data { dreg, data }) => self.write(*dreg, data),
            Expr::Immediate(Immediate::Verdict(verdict)) => Ok(Step::Verdict(verdict.clone())),
            Expr::Lookup(lookup) => self.lookup(lookup),
            Expr::Dynset { .. } => self.dynset(expr),
            Expr::Fib {
                result,
                flags,
                dreg,
            } => self.fib(*result, *flags, *dreg, packet),
            Expr::Nat { .. } => self.nat(expr, packet),
            Expr::Masquerade { .. } => Ok(Step::End(End::Masquerade)),
            Expr::Reject(reject) => self.reject(reject, packet),
            Expr::Counter => Ok(Step::Next),
            Expr::MetaSet { .. } | Expr::Jhash { .. } | Expr::Unknown { .. } => {
                self.unsupported(format!("{expr:?}"))
            }
        }
    }

    fn compare(&mut self, op: CmpOp, sreg: Register, data: &[u8]) -> Result<Step, Fault> {
        let left = self.read(sreg, data.len())?;
        let order = left.as_slice().cmp(data);
        Ok(go_on(match op {
            CmpOp::Eq => order.is_eq(),
            CmpOp::Ne => order.is_ne(),
            CmpOp::Lt => order.is_lt(),
            CmpOp::Le => order.is_le(),
            CmpOp::Gt => order.is_gt(),
            CmpOp::Ge => order.is_ge(),
        }))
    }

    fn reject(&self, reject: &Reject, packet: &Packet) -> Result<Step, Fault> {
        let family = match packet.family() {
            IpFamily::V4 => Family::Ip,
            IpFamily::V6 => Family::Ip6,
        };
        if *reject != Reject::port_unreachable(family) {
            return self.unsupported(format!("{reject:?} is no port unreachable"));
        }
        Ok(Step::End(End::Reject))
    }

    fn lookup(&mut self, lookup: &Lookup) -> Result<Step, Fault> {
        let (id, set) = self.set(&lookup.set)?;
        let width = set.key.width() as usize;
        let random = self.random_in_key(lookup.sreg, width);
        let key = match random {
            Some(_) => self.registers(lookup.sreg, width)?,
            None => self.read(lookup.sreg, width)?,
        };
        let pinned = match set.flags.contains(SetFlags::DYNAMIC) {
            true => self.pins.get(&key).cloned().map(Data::Value),
            false => None,
        };
        let evaluator = self.evaluator;
        let hit = find(evaluator.ruleset, &id, set, &key);
        if let Some((random, offset)) = random {
            let last = match (&hit, set.flags.contains(SetFlags::INTERVAL)) {
                (Some(hit), true) => field(hit.range.end(), offset),
                (None, true) => {
                    let last = missing_until(evaluator.ruleset, &id, &key, offset, 2);
                    field(&last, 0)
                }
                (_, false) => None,
            };
            match last {
                Some(last) => self.choices.narrow(random.index, last),
                None => self.choices.fix(random.index),
            }
        }
        let data = pinned.as_ref().or(hit.as_ref().and_then(|hit| hit.data));
        let found = pinned.is_some() || hit.is_some();
        match (lookup.found, data) {
            (Found::Continue, _) => Ok(go_on(found)),
            (Found::Break, _) => Ok(go_on(!found)),
            (Found::Load(_) | Found::Verdict, _) if !found => Ok(Step::Break),
            (Found::Load(dreg), Some(Data::Value(value))) => {
                let value = value.clone();
                self.write(dreg, &value)
            }
            (Found::Verdict, Some(Data::Verdict(verdict))) => Ok(Step::Verdict(verdict.clone())),
            (Found::Load(_) | Found::Verdict, data) => {
                let what = format!("{lookup:?} finds {data:?}");
                self.unsupported(what)
            }
        }
    }

    /// The random number among the registers read, if it can be followed, with its place in the key.
    fn random_in_key(&self, sreg: Register, width: usize) -> Option<(Random, usize)> {
        let random = self.random?;
        let offset = 4 * usize::from(random.register.checked_sub(sreg.index())?);
        (offset < width && random.form == Form::Network16).then_some((random, offset))
    }

    fn dynset(&mut self, expr: &Expr) -> Result<Step, Fault> {
        let Expr::Dynset {
            op, set, key, data, ..
        } = expr
        else {
            return self.unsupported(format!("{expr:?}"));
        };
        let (id, set) = self.set(set)?;
        let width = set.data.as_ref().map(|data| match data {
            crate::rule::SetData::Value(kind) => kind.width() as usize,
            crate::rule::SetData::Verdict => 0,
        });
        if id != SetId::Affinity || !set.flags.contains(SetFlags::DYNAMIC) {
            return self.unsupported(format!("{expr:?} on a set that rules do not change"));
        }
        let key = self.read(*key, set.key.width() as usize)?;
        let (Some(data), Some(width)) = (data, width) else {
            return self.unsupported(format!("{expr:?} without data for a map"));
        };
        let row = self.read(*data, width)?;
        let full = set
            .size
            .is_some_and(|size| self.pins.len() >= size as usize);
        match op {
            DynsetOp::Delete => Ok(go_on(self.pins.remove(&key).is_some())),
            DynsetOp::Add | DynsetOp::Update if self.pins.contains_key(&key) => Ok(Step::Next),
            DynsetOp::Add | DynsetOp::Update if full => Ok(Step::Break),
            DynsetOp::Add | DynsetOp::Update => {
                self.pins.insert(key, row);
                Ok(Step::Next)
            }
        }
    }

    fn fib(
        &mut self,
        result: FibResult,
        flags: FibFlags,
        dreg: Register,
        packet: &Packet,
    ) -> Result<Step, Fault> {
        let ip = match (result, flags) {
            (FibResult::AddrType, FibFlags::SADDR) => packet.source(),
            (FibResult::AddrType, FibFlags::DADDR) => packet.destination(),
            (FibResult::AddrType | FibResult::Oif | FibResult::Oifname, _) => {
                return self.unsupported(format!("fib {result:?} {flags:?}"));
            }
        };
        let broadcast = IpAddr::from([255; 4]);
        let kind: u32 = match ip {
            ip if self.evaluator.host.is_local(ip) => RTN_LOCAL,
            ip if ip == broadcast => RTN_BROADCAST,
            ip if ip.is_multicast() => RTN_MULTICAST,
            _ => RTN_UNICAST,
        };
        self.write(dreg, &kind.to_ne_bytes())
    }

    fn nat(&mut self, expr: &Expr, packet: &Packet) -> Result<Step, Fault> {
        let Expr::Nat {
            kind: NatKind::Dnat,
            addr: Some(addr),
            port: Some(port),
            family,
            ..
        } = expr
        else {
            return self.unsupported(format!("{expr:?}"));
        };
        let ip = match (packet.family(), family) {
            (IpFamily::V4, Family::Ip) => self
                .read(*addr, 4)?
                .first_chunk()
                .map(|ip: &[u8; 4]| IpAddr::from(*ip)),
            (IpFamily::V6, Family::Ip6) => self
                .read(*addr, 16)?
                .first_chunk()
                .map(|ip: &[u8; 16]| IpAddr::from(*ip)),
            (IpFamily::V4 | IpFamily::V6, Family::Ip | Family::Ip6 | Family::Inet) => None,
        };
        let port = self.read(*port, 2)?;
        match (ip, port.first_chunk()) {
            (Some(ip), Some(port)) => {
                let to = SocketAddr::new(ip, u16::from_be_bytes(*port));
                Ok(Step::End(End::Translate(to)))
            }
            (_, _) => self.unsupported(format!("{expr:?} in another family")),
        }
    }

    fn set(&self, name: &crate::rule::SetName) -> Result<(SetId, &'r Set), Fault> {
        let found = self.evaluator.sets.get(name).cloned();
        found.ok_or_else(|| Fault::NoSet(name.clone()))
    }

    fn load_or_break(&mut self, dreg: Register, bytes: Option<Vec<u8>>) -> Result<Step, Fault> {
        match bytes {
            Some(bytes) => self.write(dreg, &bytes),
            None => Ok(Step::Break),
        }
    }

    /// Reads registers; a random number among them then counts with its present value only.
    pub(super) fn read(&mut self, sreg: Register, len: usize) -> Result<Bytes, Fault> {
        let first = usize::from(sreg.index());
        let read = first..first + len.div_ceil(4);
        let among = |random: &Random| read.contains(&random.register.into());
        if let Some(random) = self.random.filter(among) {
            self.choices.fix(random.index);
        }
        self.registers(sreg, len)
    }

    fn registers(&self, sreg: Register, len: usize) -> Result<Bytes, Fault> {
        let first = usize::from(sreg.index());
        for word in first..first + len.div_ceil(4) {
            if word >= usize::from(Register::COUNT) || self.written & 1 << word == 0 {
                let register = u8::try_from(word).ok().and_then(Register::new);
                return Err(Fault::Uninitialised {
                    chain: self.at.0.clone(),
                    rule: self.at.1,
                    register: register.unwrap_or(Register::R15),
                });
            }
        }
        let bytes = self.registers.get(4 * first..4 * first + len);
        Bytes::new(bytes.unwrap_or_default())
            .map_err(|_| self.unsupported_fault("a value of more than 64 bytes".into()))
    }

    /// Writes registers; the rest of the last one becomes zero.
    pub(super) fn write(&mut self, dreg: Register, bytes: &[u8]) -> Result<Step, Fault> {
        let first = usize::from(dreg.index());
        let words = bytes.len().div_ceil(4);
        if first + words > usize::from(Register::COUNT) {
            return self.unsupported("a write beyond the last register".into());
        }
        let place = &mut self.registers[4 * first..4 * (first + words)];
        place.fill(0);
        place[..bytes.len()].copy_from_slice(bytes);
        for word in first..first + words {
            self.written |= 1 << word;
        }
        let kept = |random: &Random| !(first..first + words).contains(&random.register.into());
        self.random = self.random.filter(kept);
        Ok(Step::Next)
    }

    pub(super) fn unsupported<T>(&self, what: String) -> Result<T, Fault> {
        Err(self.unsupported_fault(what))
    }

    fn unsupported_fault(&self, what: String) -> Fault {
        Fault::Unsupported {
            chain: self.at.0.clone(),
            rule: self.at.1,
            what,
        }
    }
}

fn go_on(holds: bool) -> Step {
    match holds {
        true => Step::Next,
        false => Step::Break,
    }
}

/// A 16-bit field of a key.
fn field(key: &Bytes, offset: usize) -> Option<u32> {
    let bytes = key.get(offset..)?.first_chunk()?;
    Some(u32::from(u16::from_be_bytes(*bytes)))
}

const REGISTER_BYTES: usize = 4 * Register::COUNT as usize;
/// `NFT_JUMP_STACK_SIZE`.
const JUMP_STACK: usize = 16;
/// More chains than a ruleset without a circle has on one way.
const MAX_CHAINS: usize = 1000;
const RTN_UNICAST: u32 = 1;
const RTN_LOCAL: u32 = 2;
const RTN_BROADCAST: u32 = 3;
const RTN_MULTICAST: u32 = 5;
