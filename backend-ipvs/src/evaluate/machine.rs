//! The register machine of nf_tables, as far as the companion table needs it.

use std::net::IpAddr;

use backend_nftables::rule::{
    Bytes, ChainName, CmpOp, Data, Expr, FibFlags, FibResult, Found, Hook, Immediate, Lookup,
    MetaKey, Register, SetFlags, SetName, Verdict,
};

use super::packet::Packet;
use super::{Evaluator, Fault};
use crate::companion::{self, ElementValue, SetId};
use crate::key::{Key, Value};

/// How a hook ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The packet goes on.
    Accept,
    /// It is gone.
    Drop,
    /// It is gone and the sender is told.
    Reject,
    /// It goes on with another source.
    Masquerade,
}

/// What an expression does to its rule.
enum Step {
    Next,
    Break,
    Verdict(Verdict),
    End(End),
}

struct Machine<'e, 'r> {
    evaluator: &'e Evaluator<'r>,
    registers: [u8; REGISTER_BYTES],
    /// Registers that the present rule has written, a bit each.
    written: u16,
    chain: ChainName,
}

impl Evaluator<'_> {
    /// Runs the base chains of a hook in the order of their priorities.
    pub(super) fn hook(&self, hook: Hook, packet: &mut Packet) -> Result<End, Fault> {
        let chains = self.chains.iter();
        let mut chains: Vec<_> = chains
            .filter_map(|(name, body)| Some((body.chain.base?, name)))
            .filter(|(base, _)| base.hook == hook)
            .collect();
        chains.sort_by_key(|(base, name)| (base.priority, *name));
        for (_, name) in chains {
            let mut machine = Machine {
                evaluator: self,
                registers: [0; REGISTER_BYTES],
                written: 0,
                chain: name.clone(),
            };
            let end = machine.run(packet)?;
            if end != End::Accept {
                return Ok(end);
            }
        }
        Ok(End::Accept)
    }
}

impl Machine<'_, '_> {
    fn run(&mut self, packet: &mut Packet) -> Result<End, Fault> {
        let mut stack: Vec<(ChainName, usize)> = Vec::new();
        let mut next = (self.chain.clone(), 0);
        let mut left = MAX_CHAINS;
        loop {
            let body = self.evaluator.chains.get(&next.0);
            let body = body.ok_or_else(|| Fault::NoChain(next.0.clone()))?;
            let step = match body.rules.get(next.1) {
                Some(rule) => {
                    self.chain.clone_from(&next.0);
                    next.1 += 1;
                    self.rule(&rule.exprs, packet)?
                }
                None => Step::Verdict(Verdict::Return),
            };
            let to = match step {
                Step::Next | Step::Break | Step::Verdict(Verdict::Continue) => continue,
                Step::End(end) => return Ok(end),
                Step::Verdict(Verdict::Accept) => return Ok(End::Accept),
                Step::Verdict(Verdict::Drop) => return Ok(End::Drop),
                Step::Verdict(Verdict::Return) => match stack.pop() {
                    Some(back) => {
                        next = back;
                        continue;
                    }
                    // The policy of all base chains.
                    None => return Ok(End::Accept),
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

    fn rule(&mut self, exprs: &[Expr], packet: &mut Packet) -> Result<Step, Fault> {
        self.written = 0;
        for expr in exprs {
            match self.expr(expr, packet)? {
                Step::Next => {}
                other @ (Step::Break | Step::Verdict(_) | Step::End(_)) => return Ok(other),
            }
        }
        Ok(Step::Next)
    }

    fn expr(&mut self, expr: &Expr, packet: &mut Packet) -> Result<Step, Fault> {
        let loaded = match expr {
            Expr::Payload {
                base,
                offset,
                len,
                dreg,
            } => (packet.payload(*base, *offset, *len), *dreg),
            Expr::Meta { key, dreg } => (packet.meta(*key), *dreg),
            Expr::Ct {
                key,
                direction,
                dreg,
            } => (packet.ct(*key, *direction), *dreg),
            Expr::Fib {
                result: FibResult::AddrType,
                flags,
                dreg,
            } => (self.address_type(*flags, packet), *dreg),
            Expr::Bitwise {
                sreg,
                dreg,
                mask,
                xor,
                ..
            } => {
                let bytes = self.read(*sreg, mask.len())?;
                (Some(masked(&bytes, mask, xor)), *dreg)
            }
            Expr::Immediate(Immediate::Data { dreg, data }) => (Some(data.to_vec()), *dreg),
            Expr::Cmp { op, sreg, data } => return self.compare(*op, *sreg, data),
            Expr::Immediate(Immediate::Verdict(verdict)) => {
                return Ok(Step::Verdict(verdict.clone()));
            }
            Expr::Lookup(lookup) => return self.lookup(lookup),
            Expr::MetaSet {
                key: MetaKey::Mark,
                sreg,
            } => return self.set_mark(*sreg, packet),
            Expr::Masquerade { .. } => return Ok(Step::End(End::Masquerade)),
            Expr::Reject(_) => return Ok(Step::End(End::Reject)),
            Expr::Counter => return Ok(Step::Next),
            Expr::MetaSet { .. }
            | Expr::Byteorder { .. }
            | Expr::Dynset { .. }
            | Expr::Numgen { .. }
            | Expr::Jhash { .. }
            | Expr::Fib { .. }
            | Expr::Nat { .. }
            | Expr::Unknown { .. } => return self.unsupported(format!("{expr:?}")),
        };
        match loaded {
            (Some(bytes), dreg) => self.write(dreg, &bytes),
            (None, _) => self.unsupported(format!("{expr:?}")),
        }
    }

    fn set_mark(&mut self, sreg: Register, packet: &mut Packet) -> Result<Step, Fault> {
        let mark = self.read(sreg, 4)?;
        let mark = mark.as_slice().try_into().map_or(0, u32::from_ne_bytes);
        packet.set_mark(mark);
        Ok(Step::Next)
    }

    fn compare(&mut self, op: CmpOp, sreg: Register, data: &Bytes) -> Result<Step, Fault> {
        let left = self.read(sreg, data.len())?;
        let order = left.as_slice().cmp(data.as_slice());
        Ok(go_on(match op {
            CmpOp::Eq => order.is_eq(),
            CmpOp::Ne => order.is_ne(),
            CmpOp::Lt => order.is_lt(),
            CmpOp::Le => order.is_le(),
            CmpOp::Gt => order.is_gt(),
            CmpOp::Ge => order.is_ge(),
        }))
    }

    fn lookup(&mut self, lookup: &Lookup) -> Result<Step, Fault> {
        let sets = &self.evaluator.sets;
        let (id, set) = sets
            .get(&lookup.set)
            .ok_or_else(|| no_set(&lookup.set))?
            .clone();
        let map = set.flags.contains(SetFlags::MAP);
        if map != matches!(lookup.found, Found::Load(_) | Found::Verdict) {
            return self.unsupported(format!("{lookup:?} does not fit the set"));
        }
        let key = self.read(lookup.sreg, set.key.width() as usize)?;
        let found = match set.flags.contains(SetFlags::INTERVAL) {
            false => self.element(&id, &key),
            true => self.range(&id, &key),
        };
        match (lookup.found, found.map(|value| &value.data)) {
            (Found::Continue, found) => Ok(go_on(found.is_some())),
            (Found::Break, found) => Ok(go_on(found.is_none())),
            (Found::Load(_) | Found::Verdict, None) => Ok(Step::Break),
            (Found::Load(dreg), Some(Some(Data::Value(value)))) => {
                let value = value.clone();
                self.write(dreg, &value)
            }
            (Found::Verdict, Some(Some(Data::Verdict(verdict)))) => {
                Ok(Step::Verdict(verdict.clone()))
            }
            (Found::Load(_) | Found::Verdict, Some(data)) => {
                let what = format!("{lookup:?} finds {data:?}");
                self.unsupported(what)
            }
        }
    }

    fn element(&self, id: &SetId, key: &Bytes) -> Option<&ElementValue> {
        let key = Key::Companion(companion::Key::Element(id.clone(), key.clone()));
        value(self.evaluator.ruleset.get(&key)?)
    }

    /// The range that holds a key. All fields but the last are single values here, so that the
    /// order of whole keys tells; an element where it does not would be none of ours.
    fn range(&self, id: &SetId, key: &Bytes) -> Option<&ElementValue> {
        let element = |key| Key::Companion(companion::Key::Element(id.clone(), key));
        let range = element(Bytes::default())..=element(key.clone());
        let (_, last) = self.evaluator.ruleset.range(range).next_back()?;
        let value = value(last)?;
        let end = value.key_end.as_ref()?;
        (key <= end).then_some(value)
    }

    fn address_type(&self, flags: FibFlags, packet: &Packet) -> Option<Vec<u8>> {
        let ip = match flags {
            FibFlags::SADDR => packet.source(),
            FibFlags::DADDR => packet.destination().ip(),
            _ => return None,
        };
        let broadcast = IpAddr::from([255; 4]);
        let kind: u32 = match ip {
            ip if self.evaluator.is_local(ip) => RTN_LOCAL,
            ip if ip == broadcast => RTN_BROADCAST,
            ip if ip.is_multicast() => RTN_MULTICAST,
            _ => RTN_UNICAST,
        };
        Some(kind.to_ne_bytes().to_vec())
    }

    fn read(&self, sreg: Register, len: usize) -> Result<Bytes, Fault> {
        let first = usize::from(sreg.index());
        let words = first..first + len.div_ceil(4);
        for word in words {
            if word >= usize::from(Register::COUNT) || self.written & 1 << word == 0 {
                return self.unsupported(format!("register {word} is read and was not written"));
            }
        }
        let bytes = self.registers.get(4 * first..4 * first + len);
        Bytes::new(bytes.unwrap_or_default()).or_else(|_| self.unsupported("a long value".into()))
    }

    /// Writes registers; the rest of the last one becomes zero.
    fn write(&mut self, dreg: Register, bytes: &[u8]) -> Result<Step, Fault> {
        let first = usize::from(dreg.index());
        let words = first..first + bytes.len().div_ceil(4);
        let Some(place) = self.registers.get_mut(4 * words.start..4 * words.end) else {
            return self.unsupported("a write beyond the last register".into());
        };
        place.fill(0);
        for (to, from) in place.iter_mut().zip(bytes) {
            *to = *from;
        }
        for word in words {
            self.written |= 1 << word;
        }
        Ok(Step::Next)
    }

    fn unsupported<T>(&self, what: String) -> Result<T, Fault> {
        Err(Fault::Unsupported {
            chain: self.chain.clone(),
            what,
        })
    }
}

fn go_on(holds: bool) -> Step {
    match holds {
        true => Step::Next,
        false => Step::Break,
    }
}

fn no_set(name: &SetName) -> Fault {
    Fault::NoSet(name.clone())
}

fn value(value: &Value) -> Option<&ElementValue> {
    match value {
        Value::Companion(companion::Value::Element(value)) => Some(value),
        Value::Companion(
            companion::Value::Table(_) | companion::Value::Set(_) | companion::Value::Chain(_),
        )
        | Value::Link
        | Value::Address
        | Value::Server(_)
        | Value::Destination(_) => None,
    }
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

fn masked(bytes: &[u8], mask: &[u8], xor: &[u8]) -> Vec<u8> {
    let bits = bytes.iter().zip(mask).zip(xor);
    bits.map(|((byte, mask), xor)| byte & mask ^ xor).collect()
}
