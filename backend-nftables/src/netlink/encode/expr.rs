//! Expressions.

use super::super::attr::Writer;
use super::super::wire::expr as a;
use super::super::wire::rule::{EXPR_DATA, EXPR_NAME};
use super::{encode_value, encode_verdict};
use crate::rule::{
    ByteorderOp, CmpOp, Direction, DynsetOp, Expr, FibResult, Found, Immediate, Lookup, NatFlags,
    NatKind, NumgenKind, PayloadBase, Register, Reject,
};

/// The content of one list entry: name and attributes.
pub(super) fn encode_expr(to: &mut Writer<'_>, expr: &Expr) {
    to.string(EXPR_NAME, name(expr));
    to.nest(EXPR_DATA, |to| attributes(to, expr));
}

/// The kernel's name.
fn name(expr: &Expr) -> &str {
    match expr {
        Expr::Payload { .. } => "payload",
        Expr::Meta { .. } | Expr::MetaSet { .. } => "meta",
        Expr::Ct { .. } => "ct",
        Expr::Cmp { .. } => "cmp",
        Expr::Bitwise { .. } => "bitwise",
        Expr::Byteorder { .. } => "byteorder",
        Expr::Immediate(_) => "immediate",
        Expr::Lookup(_) => "lookup",
        Expr::Dynset { .. } => "dynset",
        Expr::Numgen { .. } => "numgen",
        Expr::Jhash { .. } => "hash",
        Expr::Fib { .. } => "fib",
        Expr::Nat { .. } => "nat",
        Expr::Masquerade { .. } => "masq",
        Expr::Reject(_) => "reject",
        Expr::Counter => "counter",
        Expr::Unknown { name, .. } => name,
    }
}

fn attributes(to: &mut Writer<'_>, expr: &Expr) {
    match expr {
        Expr::Payload { .. } | Expr::Meta { .. } | Expr::MetaSet { .. } | Expr::Ct { .. } => {
            encode_packet(to, expr);
        }
        Expr::Cmp { .. } | Expr::Bitwise { .. } | Expr::Byteorder { .. } => {
            encode_arithmetic(to, expr);
        }
        Expr::Numgen { .. } | Expr::Jhash { .. } | Expr::Fib { .. } => encode_source(to, expr),
        Expr::Immediate(immediate) => encode_immediate(to, immediate),
        Expr::Lookup(lookup) => encode_lookup(to, lookup),
        Expr::Dynset {
            op,
            set,
            key,
            data,
            timeout,
        } => {
            to.string(a::DYNSET_SET, set.as_str());
            to.u32(a::DYNSET_OP, dynset_op(*op));
            register(to, a::DYNSET_SREG_KEY, *key);
            optional(to, a::DYNSET_SREG_DATA, *data);
            if let Some(timeout) = timeout {
                to.u64(a::DYNSET_TIMEOUT, *timeout);
            }
        }
        Expr::Nat {
            kind,
            family,
            addr,
            port,
            flags,
        } => {
            to.u32(a::NAT_TYPE, nat_kind(*kind));
            to.u32(a::NAT_FAMILY, u32::from(family.code()));
            optional(to, a::NAT_ADDR_MIN, *addr);
            optional(to, a::NAT_PROTO_MIN, *port);
            nat_flags(to, a::NAT_FLAGS, *flags);
        }
        Expr::Masquerade { flags } => nat_flags(to, a::MASQ_FLAGS, *flags),
        Expr::Reject(reject) => encode_reject(to, *reject),
        Expr::Counter => {}
        Expr::Unknown { data, .. } => to.raw(data),
    }
}

/// What comes from the packet and its connection.
fn encode_packet(to: &mut Writer<'_>, expr: &Expr) {
    if let Expr::Payload {
        base,
        offset,
        len,
        dreg,
    } = expr
    {
        register(to, a::PAYLOAD_DREG, *dreg);
        to.u32(a::PAYLOAD_BASE, payload_base(*base));
        to.u32(a::PAYLOAD_OFFSET, *offset);
        to.u32(a::PAYLOAD_LEN, *len);
    }
    if let Expr::Meta { key, dreg } = expr {
        to.u32(a::META_KEY, key.code());
        register(to, a::META_DREG, *dreg);
    }
    if let Expr::MetaSet { key, sreg } = expr {
        to.u32(a::META_KEY, key.code());
        register(to, a::META_SREG, *sreg);
    }
    if let Expr::Ct {
        key,
        direction,
        dreg,
    } = expr
    {
        to.u32(a::CT_KEY, key.code());
        register(to, a::CT_DREG, *dreg);
        if let Some(direction) = direction {
            to.u8(a::CT_DIRECTION, ct_direction(*direction));
        }
    }
}

/// What works on registers alone.
fn encode_arithmetic(to: &mut Writer<'_>, expr: &Expr) {
    if let Expr::Cmp { op, sreg, data } = expr {
        register(to, a::CMP_SREG, *sreg);
        to.u32(a::CMP_OP, cmp_op(*op));
        encode_value(to, a::CMP_DATA, data);
    }
    if let Expr::Bitwise {
        sreg,
        dreg,
        len,
        mask,
        xor,
    } = expr
    {
        register(to, a::BITWISE_SREG, *sreg);
        register(to, a::BITWISE_DREG, *dreg);
        to.u32(a::BITWISE_LEN, *len);
        encode_value(to, a::BITWISE_MASK, mask);
        encode_value(to, a::BITWISE_XOR, xor);
    }
    if let Expr::Byteorder {
        op,
        sreg,
        dreg,
        len,
        size,
    } = expr
    {
        register(to, a::BYTEORDER_SREG, *sreg);
        register(to, a::BYTEORDER_DREG, *dreg);
        to.u32(a::BYTEORDER_OP, byteorder_op(*op));
        to.u32(a::BYTEORDER_LEN, *len);
        to.u32(a::BYTEORDER_SIZE, *size);
    }
}

/// What comes from elsewhere.
fn encode_source(to: &mut Writer<'_>, expr: &Expr) {
    if let Expr::Numgen {
        kind,
        modulus,
        offset,
        dreg,
    } = expr
    {
        register(to, a::NUMGEN_DREG, *dreg);
        to.u32(a::NUMGEN_MODULUS, *modulus);
        to.u32(a::NUMGEN_TYPE, numgen_kind(*kind));
        to.u32(a::NUMGEN_OFFSET, *offset);
    }
    if let Expr::Jhash {
        sreg,
        len,
        modulus,
        seed,
        offset,
        dreg,
    } = expr
    {
        register(to, a::HASH_SREG, *sreg);
        register(to, a::HASH_DREG, *dreg);
        to.u32(a::HASH_LEN, *len);
        to.u32(a::HASH_MODULUS, *modulus);
        if let Some(seed) = seed {
            to.u32(a::HASH_SEED, *seed);
        }
        to.u32(a::HASH_OFFSET, *offset);
        to.u32(a::HASH_TYPE, a::HASH_JENKINS);
    }
    if let Expr::Fib {
        result,
        flags,
        dreg,
    } = expr
    {
        register(to, a::FIB_DREG, *dreg);
        to.u32(a::FIB_RESULT, fib_result(*result));
        to.u32(a::FIB_FLAGS, flags.bits());
    }
}

fn encode_immediate(to: &mut Writer<'_>, immediate: &Immediate) {
    match immediate {
        Immediate::Data { dreg, data } => {
            register(to, a::IMMEDIATE_DREG, *dreg);
            encode_value(to, a::IMMEDIATE_DATA, data);
        }
        Immediate::Verdict(verdict) => {
            to.u32(a::IMMEDIATE_DREG, a::REG_VERDICT);
            encode_verdict(to, a::IMMEDIATE_DATA, verdict);
        }
    }
}

fn encode_lookup(to: &mut Writer<'_>, lookup: &Lookup) {
    to.string(a::LOOKUP_SET, lookup.set.as_str());
    register(to, a::LOOKUP_SREG, lookup.sreg);
    match lookup.found {
        Found::Continue => {}
        Found::Break => to.u32(a::LOOKUP_FLAGS, a::LOOKUP_INV),
        Found::Load(dreg) => register(to, a::LOOKUP_DREG, dreg),
        Found::Verdict => to.u32(a::LOOKUP_DREG, a::REG_VERDICT),
    }
}

fn encode_reject(to: &mut Writer<'_>, reject: Reject) {
    match reject {
        Reject::Icmp { code } => {
            to.u32(a::REJECT_TYPE, a::REJECT_ICMP);
            to.u8(a::REJECT_CODE, code);
        }
        Reject::TcpReset => to.u32(a::REJECT_TYPE, a::REJECT_TCP_RST),
        Reject::Icmpx { code } => {
            to.u32(a::REJECT_TYPE, a::REJECT_ICMPX);
            to.u8(a::REJECT_CODE, code);
        }
    }
}

fn nat_flags(to: &mut Writer<'_>, kind: u16, flags: NatFlags) {
    if flags != NatFlags::NONE {
        to.u32(kind, flags.bits());
    }
}

fn register(to: &mut Writer<'_>, kind: u16, register: Register) {
    to.u32(kind, register.code());
}

fn optional(to: &mut Writer<'_>, kind: u16, value: Option<Register>) {
    if let Some(value) = value {
        register(to, kind, value);
    }
}

fn payload_base(base: PayloadBase) -> u32 {
    match base {
        PayloadBase::Link => 0,
        PayloadBase::Network => 1,
        PayloadBase::Transport => 2,
    }
}

fn cmp_op(op: CmpOp) -> u32 {
    match op {
        CmpOp::Eq => 0,
        CmpOp::Ne => 1,
        CmpOp::Lt => 2,
        CmpOp::Le => 3,
        CmpOp::Gt => 4,
        CmpOp::Ge => 5,
    }
}

fn dynset_op(op: DynsetOp) -> u32 {
    match op {
        DynsetOp::Add => 0,
        DynsetOp::Update => 1,
        DynsetOp::Delete => 2,
    }
}

fn byteorder_op(op: ByteorderOp) -> u32 {
    match op {
        ByteorderOp::Ntoh => 0,
        ByteorderOp::Hton => 1,
    }
}

fn numgen_kind(kind: NumgenKind) -> u32 {
    match kind {
        NumgenKind::Incremental => 0,
        NumgenKind::Random => 1,
    }
}

fn fib_result(result: FibResult) -> u32 {
    match result {
        FibResult::Oif => 1,
        FibResult::Oifname => 2,
        FibResult::AddrType => 3,
    }
}

fn nat_kind(kind: NatKind) -> u32 {
    match kind {
        NatKind::Snat => 0,
        NatKind::Dnat => 1,
    }
}

fn ct_direction(direction: Direction) -> u8 {
    match direction {
        Direction::Original => 0,
        Direction::Reply => 1,
    }
}
