//! A rule as statements: registers become the words that loaded them.

use super::value::{duration, hex, one, verdict};
use crate::rule::{
    Bytes, CmpOp, DataType, Expr, Family, FibFlags, FibResult, Found, Immediate, Lookup, MetaKey,
    PayloadBase, Register, Rule, Set, SetData, SetName, Type,
};

/// The lines of a rule: one for each look-up that loads something, the last with the comment.
pub(super) fn lines<'s>(
    rule: &Rule,
    family: Family,
    set: impl Fn(&SetName) -> Option<&'s Set>,
) -> Vec<String> {
    let mut state = State {
        family,
        set,
        registers: [const { None }; Register::COUNT as usize],
        lines: vec![Vec::new()],
    };
    for expr in &rule.exprs {
        state.expr(expr);
    }
    if let Some(comment) = &rule.comment {
        let comment = super::quoted(comment.as_str());
        state.say(format!("comment {comment}"));
    }
    let lines = state.lines.into_iter().filter(|line| !line.is_empty());
    lines.map(|line| line.join("  ")).collect()
}

/// What is in a register.
#[derive(Clone, Debug)]
struct Word {
    text: String,
    kind: Option<DataType>,
    /// Place within the value: the first of its registers, or a later one.
    place: u8,
}

struct State<F> {
    family: Family,
    set: F,
    registers: [Option<Word>; Register::COUNT as usize],
    lines: Vec<Vec<String>>,
}

impl<'s, F: Fn(&SetName) -> Option<&'s Set>> State<F> {
    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Payload {
                base,
                offset,
                len,
                dreg,
            } => {
                let (text, kind) = self.payload(*base, *offset, *len);
                self.load(*dreg, *len as usize, text, kind);
            }
            Expr::Meta { key, dreg } => {
                let kind = match key {
                    MetaKey::L4Proto => Some(DataType::InetProto),
                    MetaKey::Iifname | MetaKey::Oifname => Some(DataType::Ifname),
                    MetaKey::Mark => Some(DataType::Mark),
                    MetaKey::Len
                    | MetaKey::Protocol
                    | MetaKey::Iif
                    | MetaKey::Oif
                    | MetaKey::NfProto
                    | MetaKey::PktType => None,
                };
                self.load(*dreg, key.width(), key.name().to_owned(), kind);
            }
            Expr::MetaSet { key, sreg } => {
                let from = self.words(*sreg, key.width());
                self.say(format!("{} set {from}", key.name()));
            }
            Expr::Ct {
                key,
                direction,
                dreg,
            } => {
                let direction = direction.map(|d| format!("{} ", d.name()));
                let text = format!("ct {}{}", direction.unwrap_or_default(), key.name());
                self.load(*dreg, key.width(), text, None);
            }
            Expr::Cmp { op, sreg, data } => self.compare(*op, *sreg, data),
            Expr::Bitwise {
                sreg,
                dreg,
                len,
                mask,
                xor,
            } => self.bitwise(*sreg, *dreg, *len as usize, mask, xor),
            Expr::Byteorder {
                sreg, dreg, len, ..
            } => {
                let text = self.words(*sreg, *len as usize);
                self.load(*dreg, *len as usize, text, None);
            }
            Expr::Immediate(Immediate::Data { dreg, data }) => {
                let number = match data.first_chunk() {
                    Some(bytes) if data.len() == 4 => u32::from_ne_bytes(*bytes).to_string(),
                    Some(_) | None => hex(data),
                };
                self.load(*dreg, data.len(), number, None);
            }
            Expr::Immediate(Immediate::Verdict(to)) => self.say(verdict(to)),
            Expr::Lookup(lookup) => self.lookup(lookup),
            Expr::Dynset { .. } => self.dynset(expr),
            Expr::Numgen {
                kind,
                modulus,
                dreg,
                ..
            } => {
                let text = format!("numgen {} mod {modulus}", kind.name());
                self.load(*dreg, 4, text, None);
            }
            Expr::Jhash {
                sreg,
                len,
                modulus,
                dreg,
                ..
            } => {
                let from = self.words(*sreg, *len as usize);
                self.load(*dreg, 4, format!("jhash {from} mod {modulus}"), None);
            }
            Expr::Fib {
                result,
                flags,
                dreg,
            } => {
                let text = format!("fib {} {}", fib_key(*flags), result.name());
                let width = match result {
                    FibResult::Oif | FibResult::AddrType => 4,
                    FibResult::Oifname => 16,
                };
                self.load(*dreg, width, text, None);
            }
            Expr::Nat {
                kind, addr, port, ..
            } => {
                let width = self.address_width();
                let addr = addr.map(|addr| self.words(addr, width));
                let port = port.map(|port| self.words(port, 2));
                let to: Vec<String> = addr.into_iter().chain(port).collect();
                let family = self.family.name();
                self.say(format!("{} {family} to {}", kind.name(), to.join(" . ")));
            }
            Expr::Masquerade { flags } => {
                let random = flags.contains(crate::rule::NatFlags::FULLY_RANDOM);
                let flags = if random { " fully-random" } else { "" };
                self.say(format!("masquerade{flags}"));
            }
            Expr::Reject(_) => self.say("reject".into()),
            Expr::Counter => self.say("counter".into()),
            Expr::Unknown { name, .. } => self.say(format!("# {name}")),
        }
    }

    fn compare(&mut self, op: CmpOp, sreg: Register, data: &Bytes) {
        let zero = data.iter().all(|byte| *byte == 0);
        if op == CmpOp::Ge && zero {
            return;
        }
        let word = self
            .registers
            .get(usize::from(sreg.index()))
            .cloned()
            .flatten();
        let text = self.words(sreg, data.len());
        let kind = word.and_then(|word| word.kind);
        let data = match kind {
            _ if text.starts_with("fib ") => match data.as_slice() == LOCAL {
                true => "local".to_owned(),
                false => hex(data),
            },
            // The beginning of a name.
            Some(DataType::Ifname) if data.len() < 16 => {
                let name = String::from_utf8_lossy(data).into_owned();
                super::quoted(&format!("{name}*"))
            }
            Some(kind) => one(kind, data),
            None if zero => "0".to_owned(),
            None => hex(data),
        };
        let op = match op {
            CmpOp::Eq => "==",
            CmpOp::Ne | CmpOp::Lt | CmpOp::Le | CmpOp::Gt | CmpOp::Ge => op.name(),
        };
        self.say(format!("{text} {op} {data}"));
    }

    fn bitwise(&mut self, sreg: Register, dreg: Register, len: usize, mask: &Bytes, xor: &Bytes) {
        let word = self
            .registers
            .get(usize::from(sreg.index()))
            .cloned()
            .flatten();
        let kind = word.and_then(|word| word.kind);
        let mut text = self.words(sreg, len);
        if mask.iter().any(|byte| *byte != 0xff) {
            let mask = match kind {
                Some(kind) => one(kind, mask),
                None => match mask.first_chunk() {
                    Some(bytes) if mask.len() == 4 => {
                        format!("{:#x}", u32::from_ne_bytes(*bytes))
                    }
                    Some(_) | None => hex(mask),
                },
            };
            text = format!("{text} & {mask}");
        }
        if xor.iter().any(|byte| *byte != 0) {
            text = format!("({text}) ^ {}", hex(xor));
        }
        self.load(dreg, len, text, kind);
    }

    fn lookup(&mut self, lookup: &Lookup) {
        let set = (self.set)(&lookup.set);
        let key = set.map_or(4, |set| set.key.width() as usize);
        let key = self.words(lookup.sreg, key);
        let name = &lookup.set;
        match lookup.found {
            Found::Continue => self.say(format!("{key} @{name}")),
            Found::Break => self.say(format!("{key} != @{name}")),
            Found::Verdict => self.say(format!("{key} vmap @{name}")),
            Found::Load(dreg) => {
                let fields = match set.and_then(|set| set.data.as_ref()) {
                    Some(SetData::Value(kind)) => kind.clone(),
                    Some(SetData::Verdict) | None => Type::from(DataType::Mark),
                };
                let names = names(name.as_str(), fields.fields().len());
                self.say(format!("{key} map @{name} -> {}", names.join(" . ")));
                let mut at = dreg.index();
                for (field, name) in fields.fields().iter().zip(names) {
                    let width = field.width() as usize;
                    if let Some(register) = Register::new(at) {
                        self.load(register, width, name, Some(*field));
                    }
                    at = at.saturating_add(u8::try_from(width.div_ceil(4)).unwrap_or(u8::MAX));
                }
                self.lines.push(Vec::new());
            }
        }
    }

    fn dynset(&mut self, expr: &Expr) {
        let Expr::Dynset {
            op,
            set: name,
            key,
            data,
            timeout,
        } = expr
        else {
            return;
        };
        let set = (self.set)(name);
        let width = set.map_or(4, |set| set.key.width() as usize);
        let mut text = self.words(*key, width);
        if let Some(timeout) = timeout {
            text += &format!(" timeout {}", duration(*timeout));
        }
        if let (Some(data), Some(SetData::Value(kind))) =
            (data, set.and_then(|set| set.data.as_ref()))
        {
            text += " : ";
            text += &self.words(*data, kind.width() as usize);
        }
        self.say(format!("{} @{name} {{ {text} }}", op.name()));
    }

    fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> (String, Option<DataType>) {
        let address = match self.family {
            Family::Ip6 => DataType::Ipv6Addr,
            Family::Ip | Family::Inet => DataType::Ipv4Addr,
        };
        let family = self.family.name();
        match (base, self.family, offset, len) {
            (PayloadBase::Network, Family::Ip, 12, 4)
            | (PayloadBase::Network, Family::Ip6, 8, 16) => {
                (format!("{family} saddr"), Some(address))
            }
            (PayloadBase::Network, Family::Ip, 16, 4)
            | (PayloadBase::Network, Family::Ip6, 24, 16) => {
                (format!("{family} daddr"), Some(address))
            }
            (PayloadBase::Transport, _, 2, 2) => ("th dport".into(), Some(DataType::InetService)),
            (PayloadBase::Link | PayloadBase::Network | PayloadBase::Transport, _, _, _) => {
                let base = base.name();
                (format!("{base},{},{}", 8 * offset, 8 * len), None)
            }
        }
    }

    fn address_width(&self) -> usize {
        match self.family {
            Family::Ip6 => 16,
            Family::Ip | Family::Inet => 4,
        }
    }

    fn load(&mut self, dreg: Register, width: usize, text: String, kind: Option<DataType>) {
        for place in 0..u8::try_from(width.div_ceil(4)).unwrap_or_default() {
            let register = usize::from(dreg.index()) + usize::from(place);
            if let Some(word) = self.registers.get_mut(register) {
                let text = text.clone();
                *word = Some(Word { text, kind, place });
            }
        }
    }

    /// The values in some registers.
    fn words(&self, sreg: Register, width: usize) -> String {
        let first = usize::from(sreg.index());
        let registers = self.registers.iter().skip(first).take(width.div_ceil(4));
        let words = registers
            .enumerate()
            .filter_map(|(index, word)| match word {
                Some(word) if word.place == 0 || index == 0 => Some(word.text.clone()),
                Some(_) => None,
                None => Some("?".to_owned()),
            });
        words.collect::<Vec<_>>().join(" . ")
    }

    fn say(&mut self, words: String) {
        match self.lines.last_mut() {
            Some(line) => line.push(words),
            None => self.lines.push(vec![words]),
        }
    }
}

/// Names of what a map's data says.
fn names(map: &str, fields: usize) -> Vec<String> {
    let known: &[&str] = match map {
        "frontends" | "local_frontends" => &["$kind", "$policy", "$pool"],
        "pools" => &["$zero", "$class", "$count"],
        "slots" => &["$zero", "$slot"],
        "endpoints" => &["$address", "$port"],
        "sticky" | "affinity" => &["$pool", "$address", "$port"],
        _ => &[],
    };
    match known.len() == fields {
        true => known.iter().map(|name| (*name).to_owned()).collect(),
        false => (1..=fields)
            .map(|number| format!("$data{number}"))
            .collect(),
    }
}

fn fib_key(flags: FibFlags) -> &'static str {
    match flags.contains(FibFlags::SADDR) {
        true => "saddr",
        false => "daddr",
    }
}

/// `RTN_LOCAL`.
const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
