//! `svcctl plan -o nft-json`: a ruleset in nft's JSON, through the schema of the crate `nftables`.
//!
//! It reaches tables, chains, sets and maps with all their elements, as `nft -j list ruleset` shows
//! them, and rules that look keys up without using what was found. It does not reach:
//!
//! - rules that use the result of a look-up as the key of the next one (those of `services`,
//!   `outside-local` and `affinity-*`, and that of `outgoing`), and updates of `affinity` from the
//!   packet path: nft's language has no words for them;
//! - verdict maps, whose type the schema does not have, and `affinity`, as the schema's reader in nft
//!   1.0.6 takes no set that rules may change;
//! - comments of tables and chains.
//!
//! What is left away is counted on stderr. The result is to be read, not to be loaded: nft 1.0.6
//! reads no maps of concatenated data.

use std::borrow::Cow;
use std::collections::HashSet;

use backend_nftables::rule::{
    Bytes, CmpOp, Data, DataType, Expr, Family, FibFlags, Found, Hook, Immediate, MetaKey,
    NatFlags, PayloadBase, Policy, Reject, Rule, Set, SetData, SetFlags, Type, Verdict,
};
use backend_nftables::{ChainId, ElementValue, Key, SetId, Value};
use nftables::expr::{self, Expression, NamedExpression};
use nftables::schema::{self, NfListObject, NfObject, Nftables, SetType, SetTypeValue};
use nftables::stmt::{self, Statement};
use nftables::types::{NfChainPolicy, NfChainType, NfFamily, NfHook};
use svc_core::{IpNet, Ruleset};

/// Prints rulesets, and says on stderr how many objects are left away.
pub fn print(rulesets: &[Ruleset<Key, Value>]) {
    let mut objects = Vec::new();
    let mut left = 0;
    for ruleset in rulesets {
        left += convert(ruleset, &mut objects);
    }
    let all = Nftables {
        objects: Cow::Owned(objects),
    };
    match serde_json::to_string_pretty(&all) {
        Ok(text) => println!("{text}"),
        Err(error) => eprintln!("error: {error}"),
    }
    if left > 0 {
        eprintln!("note: {left} rules and maps cannot be said so; -o nft shows them");
    }
}

/// Appends the objects of a ruleset; the number of rules and maps that have no form.
pub fn convert(ruleset: &Ruleset<Key, Value>, to: &mut Vec<NfObject<'static>>) -> usize {
    let Some(Value::Table(table)) = ruleset.get(&Key::Table) else {
        return 0;
    };
    let context = Context {
        ruleset,
        family: family(table.family),
        table: table.name.to_string(),
    };
    context.convert(to)
}

struct Context<'r> {
    ruleset: &'r Ruleset<Key, Value>,
    family: NfFamily,
    table: String,
}

impl Context<'_> {
    fn convert(&self, to: &mut Vec<NfObject<'static>>) -> usize {
        let mut list = |object| to.push(NfObject::ListObject(object));
        list(NfListObject::Table(schema::Table {
            family: self.family,
            name: self.table.clone().into(),
            handle: None,
        }));
        // Chains come before what leads to them, and sets before rules.
        for value in self.ruleset.values() {
            if let Value::Chain(body) = value {
                list(NfListObject::Chain(self.chain(&body.chain)));
            }
        }
        let mut left = 0;
        for (key, value) in self.ruleset {
            if let (Key::Set(id), Value::Set(set)) = (key, value) {
                match self.set(id, set) {
                    Some(set) => list(set),
                    None => left += 1,
                }
            }
        }
        for (key, value) in self.ruleset {
            let sources = self
                .ruleset
                .iter()
                .filter_map(|(other, value)| match value {
                    Value::Rule(rule) if *key == Key::Chain(ChainId::Firewall) => {
                        matches!(other, Key::SourceRule(_)).then_some(&**rule)
                    }
                    Value::Rule(_)
                    | Value::Table(_)
                    | Value::Set(_)
                    | Value::Chain(_)
                    | Value::Element(_) => None,
                });
            if let Value::Chain(body) = value {
                for rule in sources.chain(&body.rules) {
                    match self.rule(rule) {
                        Some(rule) => list(NfListObject::Rule(rule)),
                        None => left += 1,
                    }
                }
            }
        }
        left
    }

    fn chain(&self, chain: &backend_nftables::rule::Chain) -> schema::Chain<'static> {
        let base = chain.base.as_ref();
        schema::Chain {
            family: self.family,
            table: self.table.clone().into(),
            name: chain.name.to_string().into(),
            newname: None,
            handle: None,
            _type: base.map(|base| match base.kind {
                backend_nftables::rule::ChainType::Filter => NfChainType::Filter,
                backend_nftables::rule::ChainType::Nat => NfChainType::NAT,
                backend_nftables::rule::ChainType::Route => NfChainType::Route,
            }),
            hook: base.map(|base| match base.hook {
                Hook::Prerouting => NfHook::Prerouting,
                Hook::Input => NfHook::Input,
                Hook::Forward => NfHook::Forward,
                Hook::Output => NfHook::Output,
                Hook::Postrouting => NfHook::Postrouting,
            }),
            prio: base.map(|base| base.priority),
            dev: None,
            policy: base.map(|base| match base.policy {
                Policy::Accept => NfChainPolicy::Accept,
                Policy::Drop => NfChainPolicy::Drop,
            }),
        }
    }

    /// A set or map; `None` for verdict maps and for those that rules may change.
    fn set(&self, id: &SetId, set: &Set) -> Option<NfListObject<'static>> {
        if set.flags.contains(SetFlags::DYNAMIC) {
            return None;
        }
        let from = Key::Element(id.clone(), Bytes::default());
        let elements = self.ruleset.range(from..).map_while(|pair| match pair {
            (Key::Element(of, key), Value::Element(value)) if of == id => {
                Some(element(set, key, value))
            }
            (_, _) => None,
        });
        let elements: Vec<_> = elements.collect();
        let elem = (!elements.is_empty()).then_some(Cow::Owned(elements));
        let flags = flags(set);
        // The schema has whole seconds.
        let timeout = set.timeout.and_then(|ms| u32::try_from(ms / 1000).ok());
        let gc_interval = set.gc_interval.map(|ms| ms / 1000);
        let comment = set.comment.as_ref().map(|c| Cow::Owned(c.to_string()));
        match &set.data {
            None => Some(NfListObject::Set(Box::new(schema::Set {
                family: self.family,
                table: self.table.clone().into(),
                name: set.name.to_string().into(),
                handle: None,
                set_type: types(&set.key),
                policy: None,
                flags,
                elem,
                timeout,
                gc_interval,
                size: set.size,
                comment,
            }))),
            Some(SetData::Verdict) => None,
            Some(SetData::Value(data)) => Some(NfListObject::Map(Box::new(schema::Map {
                family: self.family,
                table: self.table.clone().into(),
                name: set.name.to_string().into(),
                handle: None,
                set_type: types(&set.key),
                map: types(data),
                policy: None,
                flags,
                elem,
                timeout,
                gc_interval,
                size: set.size,
                comment,
            }))),
        }
    }

    fn rule(&self, rule: &Rule) -> Option<schema::Rule<'static>> {
        Some(schema::Rule {
            family: self.family,
            table: self.table.clone().into(),
            chain: rule.chain.to_string().into(),
            expr: Cow::Owned(self.statements(rule)?),
            handle: None,
            index: None,
            comment: rule.comment.as_ref().map(|c| Cow::Owned(c.to_string())),
        })
    }

    /// What a rule does; `None` if nft has no words for it.
    fn statements(&self, rule: &Rule) -> Option<Vec<Statement<'static>>> {
        let mut statements = Vec::new();
        let mut loaded: Vec<Expression<'static>> = Vec::new();
        for expr in &rule.exprs {
            if let Expr::Cmp { op, data, .. } = expr {
                let left = loaded.pop()?;
                statements.push(compare(left, *op, data)?);
                loaded.clear();
                continue;
            }
            if let Expr::Lookup(lookup) = expr {
                let op = match lookup.found {
                    Found::Continue => stmt::Operator::EQ,
                    Found::Break => stmt::Operator::NEQ,
                    Found::Load(_) | Found::Verdict => return None,
                };
                let left = match loaded.len() {
                    1 => loaded.pop()?,
                    _ => Expression::Named(NamedExpression::Concat(std::mem::take(&mut loaded))),
                };
                let right = Expression::String(format!("@{}", lookup.set).into());
                statements.push(Statement::Match(stmt::Match { left, right, op }));
                continue;
            }
            if let Some(expression) = self.load(expr) {
                loaded.push(expression);
            } else if let Expr::Bitwise { mask, .. } = expr {
                let masked = masked(loaded.pop()?, mask)?;
                loaded.push(masked);
            } else {
                statements.push(last(expr)?);
            }
        }
        Some(statements)
    }

    /// What an expression loads, if it only loads.
    fn load(&self, expr: &Expr) -> Option<Expression<'static>> {
        let named = if let Expr::Payload {
            base, offset, len, ..
        } = expr
        {
            NamedExpression::Payload(self.payload(*base, *offset, *len))
        } else if let Expr::Meta { key, .. } = expr {
            let key = match key {
                MetaKey::L4Proto => expr::MetaKey::L4proto,
                MetaKey::Iifname => expr::MetaKey::Iifname,
                MetaKey::Len
                | MetaKey::Protocol
                | MetaKey::Mark
                | MetaKey::Iif
                | MetaKey::Oif
                | MetaKey::Oifname
                | MetaKey::NfProto
                | MetaKey::PktType => return None,
            };
            NamedExpression::Meta(expr::Meta { key })
        } else if let Expr::Ct {
            key,
            direction: None,
            ..
        } = expr
        {
            NamedExpression::CT(expr::CT {
                key: key.name().into(),
                family: None,
                dir: None,
            })
        } else if let Expr::Fib { flags, .. } = expr {
            let flag = match flags.contains(FibFlags::SADDR) {
                true => expr::FibFlag::Saddr,
                false => expr::FibFlag::Daddr,
            };
            NamedExpression::Fib(expr::Fib {
                result: expr::FibResult::Type,
                flags: HashSet::from([flag]),
            })
        } else {
            return None;
        };
        Some(Expression::Named(named))
    }

    fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> expr::Payload<'static> {
        let field = |protocol: &'static str, field: &'static str| {
            expr::Payload::PayloadField(expr::PayloadField {
                protocol: protocol.into(),
                field: field.into(),
            })
        };
        match (base, self.family, offset, len) {
            (PayloadBase::Network, NfFamily::IP, 12, 4) => field("ip", "saddr"),
            (PayloadBase::Network, NfFamily::IP, 16, 4) => field("ip", "daddr"),
            (PayloadBase::Network, NfFamily::IP6, 8, 16) => field("ip6", "saddr"),
            (PayloadBase::Network, NfFamily::IP6, 24, 16) => field("ip6", "daddr"),
            (PayloadBase::Transport, _, 2, 2) => field("th", "dport"),
            (base, _, _, _) => expr::Payload::PayloadRaw(expr::PayloadRaw {
                base: match base {
                    PayloadBase::Link => expr::PayloadBase::LL,
                    PayloadBase::Network => expr::PayloadBase::NH,
                    PayloadBase::Transport => expr::PayloadBase::TH,
                },
                offset: 8 * offset,
                len: 8 * len,
            }),
        }
    }
}

/// What ends a rule.
fn last(expr: &Expr) -> Option<Statement<'static>> {
    if let Expr::Immediate(Immediate::Verdict(verdict)) = expr {
        return Some(match verdict {
            Verdict::Accept => Statement::Accept(None),
            Verdict::Drop => Statement::Drop(None),
            Verdict::Continue => Statement::Continue(None),
            Verdict::Return => Statement::Return(None),
            Verdict::Jump(chain) => Statement::Jump(target(chain.as_str())),
            Verdict::Goto(chain) => Statement::Goto(target(chain.as_str())),
        });
    }
    if let Expr::Masquerade { flags } = expr {
        let random = flags.contains(NatFlags::FULLY_RANDOM);
        return Some(Statement::Masquerade(Some(stmt::NAT {
            addr: None,
            family: None,
            port: None,
            flags: random.then(|| HashSet::from([stmt::NATFlag::FullyRandom])),
        })));
    }
    let Expr::Reject(Reject::Icmp { code }) = expr else {
        return None;
    };
    // The code for a port is 3 in ICMP and 4 in ICMPv6.
    let kind = match code {
        3 => stmt::RejectType::ICMP,
        4 => stmt::RejectType::ICMPv6,
        _ => return None,
    };
    let code = nftables::types::RejectCode::PortUnreach;
    let reject = stmt::Reject::new(Some(kind), Some(code));
    Some(Statement::Reject(Some(reject)))
}

fn target(chain: &str) -> stmt::JumpTarget<'static> {
    stmt::JumpTarget {
        target: chain.to_owned().into(),
    }
}

fn compare(left: Expression<'static>, op: CmpOp, data: &Bytes) -> Option<Statement<'static>> {
    let op = match op {
        CmpOp::Eq => stmt::Operator::EQ,
        CmpOp::Ne => stmt::Operator::NEQ,
        CmpOp::Lt | CmpOp::Le | CmpOp::Gt | CmpOp::Ge => return None,
    };
    let right = if let Expression::Named(NamedExpression::Fib(_)) = &left {
        Expression::String("local".into())
    } else if let Expression::Named(NamedExpression::Meta(_)) = &left {
        let name = data.split(|byte| *byte == 0).next()?;
        let end = if data.len() < 16 { "*" } else { "" };
        Expression::String(format!("{}{end}", std::str::from_utf8(name).ok()?).into())
    } else {
        Expression::Number(u32::from_ne_bytes(data.as_slice().try_into().ok()?))
    };
    Some(Statement::Match(stmt::Match { left, right, op }))
}

/// A loaded value with some of its bits.
fn masked(left: Expression<'static>, mask: &Bytes) -> Option<Expression<'static>> {
    let mask = match (&left, mask.len()) {
        (Expression::Named(NamedExpression::Payload(_)), 4) => one(DataType::Ipv4Addr, mask),
        (Expression::Named(NamedExpression::Payload(_)), 16) => one(DataType::Ipv6Addr, mask),
        (_, 4) => Expression::Number(u32::from_ne_bytes(mask.as_slice().try_into().ok()?)),
        (_, _) => return None,
    };
    let and = expr::BinaryOperation::AND(left, mask);
    Some(Expression::BinaryOperation(Box::new(and)))
}

fn element(set: &Set, key: &Bytes, value: &ElementValue) -> Expression<'static> {
    let end = value
        .key_end()
        .filter(|_| set.flags.contains(SetFlags::INTERVAL));
    let mut key = fields(&set.key, key, end.unwrap_or(key));
    if let Some(comment) = value.comment() {
        key = Expression::Named(NamedExpression::Elem(expr::Elem {
            val: Box::new(key),
            timeout: None,
            expires: None,
            comment: Some(comment.to_string().into()),
            counter: None,
        }));
    }
    let data = match (&value.data, &set.data) {
        (Some(Data::Value(data)), Some(SetData::Value(kind))) => fields(kind, data, data),
        (Some(Data::Verdict(verdict)), _) => Expression::Verdict(match verdict {
            Verdict::Accept => expr::Verdict::Accept,
            Verdict::Drop => expr::Verdict::Drop,
            Verdict::Continue => expr::Verdict::Continue,
            Verdict::Return => expr::Verdict::Return,
            Verdict::Jump(chain) => expr::Verdict::Jump(target(chain.as_str())),
            Verdict::Goto(chain) => expr::Verdict::Goto(target(chain.as_str())),
        }),
        (Some(Data::Value(_)) | None, _) => return key,
    };
    Expression::List(vec![key, data])
}

fn fields(kind: &Type, first: &Bytes, last: &Bytes) -> Expression<'static> {
    let mut fields = kind.layout().map(|(field, at, len)| {
        let first = first.get(at..at + len).unwrap_or_default();
        let last = last.get(at..at + len).unwrap_or_default();
        match first == last {
            true => one(field, first),
            false => range(field, first, last),
        }
    });
    match kind.fields() {
        [_] => fields.next().unwrap_or(Expression::Number(0)),
        _ => Expression::Named(NamedExpression::Concat(fields.collect())),
    }
}

fn range(kind: DataType, first: &[u8], last: &[u8]) -> Expression<'static> {
    let ips = (address(first), address(last));
    if let (Some(first), Some(last)) = ips
        && let Some(net) = IpNet::new(first, 0).ok().and_then(|any| {
            let lengths = 0..=any.max_prefix_len();
            let mut nets = lengths.filter_map(|length| IpNet::new(first, length).ok());
            nets.find(|net| net.network() == first && net.broadcast() == last)
        })
    {
        return Expression::Named(NamedExpression::Prefix(expr::Prefix {
            addr: Box::new(Expression::String(net.network().to_string().into())),
            len: net.prefix_len().into(),
        }));
    }
    Expression::Range(Box::new(expr::Range {
        range: [one(kind, first), one(kind, last)],
    }))
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}

fn one(kind: DataType, bytes: &[u8]) -> Expression<'static> {
    match (kind, bytes) {
        (DataType::Ipv4Addr | DataType::Ipv6Addr, _) => {
            let ip = address(bytes).map_or_else(String::new, |ip| ip.to_string());
            Expression::String(ip.into())
        }
        (DataType::InetService, [high, low]) => {
            Expression::Number(u16::from_be_bytes([*high, *low]).into())
        }
        (DataType::Mark, [a, b, c, d]) => Expression::Number(u32::from_ne_bytes([*a, *b, *c, *d])),
        (DataType::InetProto, [number]) => {
            let mut known = svc_core::Protocol::ALL.into_iter();
            match known.find(|protocol| protocol.number() == *number) {
                Some(protocol) => Expression::String(protocol.lower().into()),
                None => Expression::Number((*number).into()),
            }
        }
        (
            DataType::InetService
            | DataType::Mark
            | DataType::InetProto
            | DataType::Ifname
            | DataType::NfProto
            | DataType::Other { .. },
            _,
        ) => Expression::String(format!("{:?}", Bytes::new(bytes).unwrap_or_default()).into()),
    }
}

fn types(kind: &Type) -> SetTypeValue<'static> {
    let one = |field: &DataType| match field {
        DataType::Ipv4Addr => SetType::Ipv4Addr,
        DataType::Ipv6Addr => SetType::Ipv6Addr,
        DataType::InetProto => SetType::InetProto,
        DataType::InetService => SetType::InetService,
        DataType::Ifname => SetType::Ifname,
        DataType::Mark | DataType::NfProto | DataType::Other { .. } => SetType::Mark,
    };
    match kind.fields() {
        [only] => SetTypeValue::Single(one(only)),
        fields => SetTypeValue::Concatenated(fields.iter().map(one).collect()),
    }
}

fn flags(set: &Set) -> Option<HashSet<schema::SetFlag>> {
    let known = [
        (SetFlags::CONSTANT, schema::SetFlag::Constant),
        (SetFlags::INTERVAL, schema::SetFlag::Interval),
        (SetFlags::TIMEOUT, schema::SetFlag::Timeout),
    ];
    let own = known.into_iter();
    let own: HashSet<_> = own
        .filter(|(flag, _)| set.flags.contains(*flag))
        .map(|(_, flag)| flag)
        .collect();
    (!own.is_empty()).then_some(own)
}

fn family(family: Family) -> NfFamily {
    match family {
        Family::Ip => NfFamily::IP,
        Family::Ip6 => NfFamily::IP6,
        Family::Inet => NfFamily::INet,
    }
}
