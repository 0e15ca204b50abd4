//! Expressions.

use super::super::attr::Attrs;
use super::super::wire::expr as a;
use super::super::wire::rule::{EXPR_DATA, EXPR_NAME};
use super::{decode_value, decode_verdict};
use crate::rule::{
    ByteorderOp, CmpOp, CtKey, Direction, DynsetOp, Expr, Family, FibFlags, FibResult, Found,
    Immediate, Lookup, MetaKey, NatFlags, NatKind, NumgenKind, PayloadBase, Register, Reject,
    SetName,
};

/// `None` if the entry has no name; what we do not model exactly becomes [`Expr::Unknown`].
pub(super) fn decode_expr(entry: Attrs<'_>) -> Option<Expr> {
    let name = entry.string(EXPR_NAME)?;
    let attrs = entry.nested(EXPR_DATA).unwrap_or(Attrs(&[]));
    let known = match name {
        "payload" => payload(attrs),
        "meta" => meta(attrs),
        "ct" => ct(attrs),
        "cmp" => cmp(attrs),
        "bitwise" => bitwise(attrs),
        "byteorder" => byteorder(attrs),
        "immediate" => immediate(attrs),
        "lookup" => lookup(attrs),
        "dynset" => dynset(attrs),
        "numgen" => numgen(attrs),
        "hash" => jhash(attrs),
        "fib" => fib(attrs),
        "nat" => nat(attrs),
        "masq" => masquerade(attrs),
        "reject" => reject(attrs),
        "counter" => Some(Expr::Counter),
        _ => None,
    };
    Some(known.unwrap_or_else(|| Expr::Unknown {
        name: Box::from(name),
        data: Box::from(attrs.0),
    }))
}

fn payload(attrs: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Payload {
        base: match attrs.u32(a::PAYLOAD_BASE)? {
            0 => PayloadBase::Link,
            1 => PayloadBase::Network,
            2 => PayloadBase::Transport,
            _ => return None,
        },
        offset: attrs.u32(a::PAYLOAD_OFFSET)?,
        len: attrs.u32(a::PAYLOAD_LEN)?,
        dreg: register(attrs, a::PAYLOAD_DREG)?,
    })
}

fn meta(attrs: Attrs<'_>) -> Option<Expr> {
    let key = MetaKey::from_code(attrs.u32(a::META_KEY)?)?;
    match register(attrs, a::META_DREG) {
        Some(dreg) => Some(Expr::Meta { key, dreg }),
        None => Some(Expr::MetaSet {
            key,
            sreg: register(attrs, a::META_SREG)?,
        }),
    }
}

fn ct(attrs: Attrs<'_>) -> Option<Expr> {
    let key = CtKey::from_code(attrs.u32(a::CT_KEY)?)?;
    let direction = match attrs.find(a::CT_DIRECTION) {
        // Why: the kernel reports a direction for these two, which have none, whatever was sent.
        _ if matches!(key, CtKey::L3Protocol | CtKey::Protocol) => None,
        None => None,
        Some(direction) => match direction.u8()? {
            0 => Some(Direction::Original),
            1 => Some(Direction::Reply),
            _ => return None,
        },
    };
    Some(Expr::Ct {
        key,
        direction,
        dreg: register(attrs, a::CT_DREG)?,
    })
}

fn cmp(attrs: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Cmp {
        op: match attrs.u32(a::CMP_OP)? {
            0 => CmpOp::Eq,
            1 => CmpOp::Ne,
            2 => CmpOp::Lt,
            3 => CmpOp::Le,
            4 => CmpOp::Gt,
            5 => CmpOp::Ge,
            _ => return None,
        },
        sreg: register(attrs, a::CMP_SREG)?,
        data: decode_value(attrs.find(a::CMP_DATA)?)?,
    })
}

fn bitwise(attrs: Attrs<'_>) -> Option<Expr> {
    if attrs.u32(a::BITWISE_OP).is_some_and(|op| op != 0) {
        return None;
    }
    Some(Expr::Bitwise {
        sreg: register(attrs, a::BITWISE_SREG)?,
        dreg: register(attrs, a::BITWISE_DREG)?,
        len: attrs.u32(a::BITWISE_LEN)?,
        mask: decode_value(attrs.find(a::BITWISE_MASK)?)?,
        xor: decode_value(attrs.find(a::BITWISE_XOR)?)?,
    })
}

fn byteorder(attrs: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Byteorder {
        op: match attrs.u32(a::BYTEORDER_OP)? {
            0 => ByteorderOp::Ntoh,
            1 => ByteorderOp::Hton,
            _ => return None,
        },
        sreg: register(attrs, a::BYTEORDER_SREG)?,
        dreg: register(attrs, a::BYTEORDER_DREG)?,
        len: attrs.u32(a::BYTEORDER_LEN)?,
        size: attrs.u32(a::BYTEORDER_SIZE)?,
    })
}

fn immediate(attrs: Attrs<'_>) -> Option<Expr> {
    let data = attrs.find(a::IMMEDIATE_DATA)?;
    let immediate = match attrs.u32(a::IMMEDIATE_DREG)? {
        a::REG_VERDICT => Immediate::Verdict(decode_verdict(data)?),
        dreg => Immediate::Data {
            dreg: Register::from_code(dreg)?,
            data: decode_value(data)?,
        },
    };
    Some(Expr::Immediate(immediate))
}

fn lookup(attrs: Attrs<'_>) -> Option<Expr> {
    let flags = attrs.u32(a::LOOKUP_FLAGS).unwrap_or_default();
    let found = match (attrs.u32(a::LOOKUP_DREG), flags) {
        (None, 0) => Found::Continue,
        (None, a::LOOKUP_INV) => Found::Break,
        (Some(a::REG_VERDICT), 0) => Found::Verdict,
        (Some(dreg), 0) => Found::Load(Register::from_code(dreg)?),
        (None | Some(_), _) => return None,
    };
    Some(Expr::Lookup(Lookup {
        set: SetName::from(attrs.string(a::LOOKUP_SET)?),
        sreg: register(attrs, a::LOOKUP_SREG)?,
        found,
    }))
}

fn dynset(attrs: Attrs<'_>) -> Option<Expr> {
    if attrs.u32(a::DYNSET_FLAGS).is_some_and(|flags| flags != 0) {
        return None;
    }
    Some(Expr::Dynset {
        op: match attrs.u32(a::DYNSET_OP)? {
            0 => DynsetOp::Add,
            1 => DynsetOp::Update,
            2 => DynsetOp::Delete,
            _ => return None,
        },
        set: SetName::from(attrs.string(a::DYNSET_SET)?),
        key: register(attrs, a::DYNSET_SREG_KEY)?,
        data: optional(attrs, a::DYNSET_SREG_DATA)?,
        // Why the filter: the kernel reports 0 for "that of the set".
        timeout: attrs.u64(a::DYNSET_TIMEOUT).filter(|timeout| *timeout != 0),
    })
}

fn numgen(attrs: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Numgen {
        kind: match attrs.u32(a::NUMGEN_TYPE)? {
            0 => NumgenKind::Incremental,
            1 => NumgenKind::Random,
            _ => return None,
        },
        modulus: attrs.u32(a::NUMGEN_MODULUS)?,
        offset: attrs.u32(a::NUMGEN_OFFSET).unwrap_or_default(),
        dreg: register(attrs, a::NUMGEN_DREG)?,
    })
}

fn jhash(attrs: Attrs<'_>) -> Option<Expr> {
    if attrs
        .u32(a::HASH_TYPE)
        .is_some_and(|kind| kind != a::HASH_JENKINS)
    {
        return None;
    }
    Some(Expr::Jhash {
        sreg: register(attrs, a::HASH_SREG)?,
        len: attrs.u32(a::HASH_LEN)?,
        modulus: attrs.u32(a::HASH_MODULUS)?,
        seed: attrs.u32(a::HASH_SEED),
        offset: attrs.u32(a::HASH_OFFSET).unwrap_or_default(),
        dreg: register(attrs, a::HASH_DREG)?,
    })
}

fn fib(attrs: Attrs<'_>) -> Option<Expr> {
    Some(Expr::Fib {
        result: match attrs.u32(a::FIB_RESULT)? {
            1 => FibResult::Oif,
            2 => FibResult::Oifname,
            3 => FibResult::AddrType,
            _ => return None,
        },
        flags: FibFlags::from_bits(attrs.u32(a::FIB_FLAGS)?),
        dreg: register(attrs, a::FIB_DREG)?,
    })
}

fn nat(attrs: Attrs<'_>) -> Option<Expr> {
    let (addr, port) = (
        optional(attrs, a::NAT_ADDR_MIN)?,
        optional(attrs, a::NAT_PROTO_MIN)?,
    );
    // The kernel reports the upper ends always: equal to the lower ones unless sent as ranges.
    let same = |kind, low: Option<Register>| {
        optional(attrs, kind).is_some_and(|high| high.is_none() || high == low)
    };
    if !same(a::NAT_ADDR_MAX, addr) || !same(a::NAT_PROTO_MAX, port) {
        return None;
    }
    Some(Expr::Nat {
        kind: match attrs.u32(a::NAT_TYPE)? {
            0 => NatKind::Snat,
            1 => NatKind::Dnat,
            _ => return None,
        },
        family: Family::from_code(u8::try_from(attrs.u32(a::NAT_FAMILY)?).ok()?)?,
        addr,
        port,
        flags: NatFlags::from_bits(attrs.u32(a::NAT_FLAGS).unwrap_or_default() & !a::NAT_DERIVED),
    })
}

fn masquerade(attrs: Attrs<'_>) -> Option<Expr> {
    if attrs.find(a::MASQ_PROTO_MIN).is_some() {
        return None;
    }
    let flags = attrs.u32(a::MASQ_FLAGS).unwrap_or_default();
    Some(Expr::Masquerade {
        flags: NatFlags::from_bits(flags),
    })
}

fn reject(attrs: Attrs<'_>) -> Option<Expr> {
    let code = || attrs.find(a::REJECT_CODE)?.u8();
    let reject = match attrs.u32(a::REJECT_TYPE)? {
        a::REJECT_ICMP => Reject::Icmp { code: code()? },
        a::REJECT_TCP_RST => Reject::TcpReset,
        a::REJECT_ICMPX => Reject::Icmpx { code: code()? },
        _ => return None,
    };
    Some(Expr::Reject(reject))
}

fn register(attrs: Attrs<'_>, kind: u16) -> Option<Register> {
    Register::from_code(attrs.u32(kind)?)
}

/// The outer `None`: there is one, but no data register.
fn optional(attrs: Attrs<'_>, kind: u16) -> Option<Option<Register>> {
    match attrs.u32(kind) {
        None => Some(None),
        Some(code) => Register::from_code(code).map(Some),
    }
}
