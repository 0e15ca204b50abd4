//! Which register holds what in the rules of a family, and the pieces that rules are made of.
//!
//! Everything from front end to endpoint is one rule, as registers do not survive from rule to
//! rule. A front end's key lies at the lowest registers; its data overwrites all but the address,
//! and each further look-up appends:
//!
//! ```text
//!          0 .. A    A        A+1      A+2    A+3    A+4    A+5    A+6      A+7  A+8
//! key      address   protocol port
//! frontends          kind     policy   pool
//! pools                                pool → flags  class  count
//! slots                                                     count  random → pad  slot
//! endpoints address  port                                                 ← pool slot
//! ```
//!
//! A is the width of an address in registers: 1 for IPv4, 4 for IPv6.
//!
//! nft lists a look-up only if the registers that it reads were loaded by something it can print.
//! So a register that a map fills and a later look-up reads is loaded with `@th,0,32` first, the
//! first word of a map's data is never read by a look-up (a comparison that always holds makes nft
//! print it), and registers are copied by `& 0xffffffff`.

use svc_core::IpFamily;

use crate::key::{ChainId, SetId};
use crate::rule::{
    ByteorderOp, Bytes, CmpOp, CtKey, Direction, Expr, Family, FibFlags, FibResult, Found,
    Immediate, Lookup, MetaKey, NatFlags, NatKind, NumgenKind, PayloadBase, Register, Reject,
    Verdict,
};

/// Random numbers are below this; one of n endpoints is chosen with an error below n in this.
pub(crate) const RANDOM_RANGE: u32 = 1 << 16;

/// The registers of a family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The family.
    pub(crate) family: IpFamily,
    /// Width of an address.
    width: u8,
}

impl Registers {
    /// The registers of a family.
    pub(crate) fn new(family: IpFamily) -> Self {
        let width = match family {
            IpFamily::V4 => 1,
            IpFamily::V6 => 4,
        };
        Self { family, width }
    }

    /// The register `index` places above the address. Rules use at most 13 registers.
    fn above(self, index: u8) -> Register {
        Register::new(self.width + index).unwrap_or(Register::R15)
    }

    fn kind(self) -> Register {
        self.above(0)
    }

    /// The pool of the front end, and the first register of the key of `pools`.
    pub(crate) fn pool(self) -> Register {
        self.above(2)
    }

    fn after_pool(self) -> Register {
        self.above(3)
    }

    /// The class of the pool.
    pub(crate) fn class(self) -> Register {
        self.above(4)
    }

    fn count(self) -> Register {
        self.above(5)
    }

    /// The pool again, and the first register of the key of `endpoints`.
    fn chosen(self) -> Register {
        self.above(7)
    }

    /// Loads an address of the packet.
    fn address(self, end: End, dreg: Register) -> Expr {
        let (source, destination, len) = match self.family {
            IpFamily::V4 => (12, 16, 4),
            IpFamily::V6 => (8, 24, 16),
        };
        Expr::Payload {
            base: PayloadBase::Network,
            offset: match end {
                End::Source => source,
                End::Destination => destination,
            },
            len,
            dreg,
        }
    }

    /// Loads the destination address into the lowest registers.
    pub(crate) fn destination(self) -> Expr {
        self.address(End::Destination, Register::R0)
    }

    /// Loads the source address into the lowest registers.
    pub(crate) fn source(self) -> Expr {
        self.address(End::Source, Register::R0)
    }

    /// Loads address, protocol and port of the destination: the key of a front end.
    pub(crate) fn frontend_key(self) -> Vec<Expr> {
        vec![
            self.destination(),
            meta(MetaKey::L4Proto, self.above(0)),
            destination_port(self.above(1)),
        ]
    }

    /// Finds the front end; breaks if there is none.
    pub(crate) fn frontend(self, map: &SetId) -> Vec<Expr> {
        let mut exprs = self.frontend_key();
        exprs.extend([
            stand_in(self.pool()),
            load(map, Register::R0, self.kind()),
            compare(CmpOp::Ne, self.kind(), ZERO),
        ]);
        exprs
    }

    /// Finds class and endpoint count of the pool.
    pub(crate) fn pool_lookup(self) -> Vec<Expr> {
        vec![
            stand_in(self.class()),
            stand_in(self.count()),
            load(&SetId::Pools, self.pool(), self.after_pool()),
            compare(CmpOp::Ge, self.after_pool(), ZERO),
        ]
    }

    /// Breaks unless the pool is a plain one.
    pub(crate) fn is_plain(self) -> Expr {
        compare(CmpOp::Eq, self.class(), ZERO)
    }

    /// Chooses a slot at random; pool and slot are then the key of `endpoints`.
    pub(crate) fn slot_lookup(self) -> Vec<Expr> {
        let (random, slot) = (self.above(6), self.above(8));
        vec![
            Expr::Numgen {
                kind: NumgenKind::Random,
                modulus: RANDOM_RANGE,
                offset: 0,
                dreg: random,
            },
            Expr::Byteorder {
                op: ByteorderOp::Hton,
                sreg: random,
                dreg: random,
                len: 2,
                size: 2,
            },
            stand_in(slot),
            load(&SetId::Slots, self.count(), self.chosen()),
            compare(CmpOp::Ge, self.chosen(), ZERO),
            copy(self.pool(), self.chosen()),
        ]
    }

    /// Finds the endpoint of the chosen slot and sends the packet there.
    pub(crate) fn endpoint(self) -> Vec<Expr> {
        vec![
            load(&SetId::Endpoints, self.chosen(), Register::R0),
            self.dnat(Register::R0),
        ]
    }

    /// Sends the packet to slot 0 of the pool of `map`, a pool of any size.
    pub(crate) fn first_endpoint(self) -> Vec<Expr> {
        vec![
            zero(self.after_pool()),
            load(&SetId::Endpoints, self.pool(), Register::R0),
            self.dnat(Register::R0),
        ]
    }

    /// Sends the packet to the address and port from a register on, and ends the hook.
    pub(crate) fn dnat(self, addr: Register) -> Expr {
        Expr::Nat {
            kind: NatKind::Dnat,
            family: self.table_family(),
            addr: Some(addr),
            port: plus(addr, self.width),
            flags: NatFlags::NONE,
        }
    }

    /// Loads the words of an affinity row that a look-up will fill, for nft's sake.
    pub(crate) fn row_stand_ins(self) -> Vec<Expr> {
        vec![
            self.address(End::Source, Register::R1),
            destination_port(self.row_port()),
        ]
    }

    /// Loads the client behind the pool: the key of `affinity`.
    pub(crate) fn client(self) -> Expr {
        self.address(End::Source, self.after_pool())
    }

    /// Loads the pinned row: pool, address, port; breaks if the client is not pinned.
    pub(crate) fn pinned(self) -> Vec<Expr> {
        vec![
            load(&SetId::Affinity, self.pool(), Register::R0),
            compare(CmpOp::Ne, Register::R0, ZERO),
            copy(self.pool(), Register::R0),
        ]
    }

    /// Loads the row of the chosen slot.
    pub(crate) fn sticky(self) -> Vec<Expr> {
        vec![
            load(&SetId::Sticky, self.chosen(), Register::R0),
            compare(CmpOp::Ne, Register::R0, ZERO),
            copy(self.pool(), Register::R0),
        ]
    }

    /// Loads the row of slot 0.
    pub(crate) fn first_sticky(self) -> Vec<Expr> {
        vec![
            zero(self.after_pool()),
            load(&SetId::Sticky, self.pool(), Register::R0),
            compare(CmpOp::Ne, Register::R0, ZERO),
        ]
    }

    /// Sends the packet to the address and port of the row.
    pub(crate) fn dnat_row(self) -> Expr {
        self.dnat(Register::R1)
    }

    fn row_port(self) -> Register {
        plus(Register::R1, self.width).unwrap_or(Register::R15)
    }

    /// Loads the key of `hairpin`: source, destination, protocol and destination port.
    pub(crate) fn hairpin_key(self) -> Vec<Expr> {
        let word = |index| Register::new(index).unwrap_or(Register::R15);
        vec![
            self.address(End::Source, Register::R0),
            self.address(End::Destination, word(self.width)),
            meta(MetaKey::L4Proto, word(2 * self.width)),
            destination_port(word(2 * self.width + 1)),
        ]
    }

    /// Finds the front end that the connection was made to, and its policy.
    pub(crate) fn original_frontend(self) -> Vec<Expr> {
        let (address, original) = match self.family {
            IpFamily::V4 => (CtKey::DstIp, Some(Direction::Original)),
            IpFamily::V6 => (CtKey::DstIp6, Some(Direction::Original)),
        };
        let ct = |key, direction, dreg| Expr::Ct {
            key,
            direction,
            dreg,
        };
        vec![
            ct(address, original, Register::R0),
            ct(CtKey::Protocol, None, self.above(0)),
            ct(CtKey::ProtoDst, original, self.above(1)),
            load(&SetId::Frontends, Register::R0, self.kind()),
            compare(CmpOp::Ne, self.kind(), ZERO),
        ]
    }

    /// The register of the policy after [`Self::original_frontend`].
    pub(crate) fn policy(self) -> Register {
        self.above(1)
    }

    /// Loads the key of `sources<length>` behind [`Self::frontend_key`]: the masked source.
    pub(crate) fn masked_source(self, length: u8) -> Vec<Expr> {
        let dreg = self.above(2);
        let width = 4 * u32::from(self.width);
        let mut exprs = vec![self.address(End::Source, dreg)];
        if u32::from(length) < 8 * width {
            let mask: Vec<u8> = (0..width).map(|byte| mask_byte(length, byte)).collect();
            exprs.push(Expr::Bitwise {
                sreg: dreg,
                dreg,
                len: width,
                mask: short(&mask),
                xor: short(&vec![0; mask.len()]),
            });
        }
        exprs
    }

    /// Breaks unless the destination is an address of the node, or is none.
    pub(crate) fn destination_is_local(self, op: CmpOp) -> Vec<Expr> {
        vec![
            fib(FibFlags::DADDR, Register::R0),
            compare(op, Register::R0, LOCAL),
        ]
    }

    /// Breaks unless the source is an address of the node.
    pub(crate) fn source_is_local(self) -> Vec<Expr> {
        vec![
            fib(FibFlags::SADDR, Register::R0),
            compare(CmpOp::Eq, Register::R0, LOCAL),
        ]
    }

    /// Refuses the packet.
    pub(crate) fn reject(self) -> Expr {
        Expr::Reject(Reject::port_unreachable(self.table_family()))
    }

    /// The family of the table.
    pub(crate) fn table_family(self) -> Family {
        match self.family {
            IpFamily::V4 => Family::Ip,
            IpFamily::V6 => Family::Ip6,
        }
    }
}

/// One end of a packet.
#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

const ZERO: [u8; 4] = [0; 4];
/// `RTN_LOCAL`.
const LOCAL: [u8; 4] = 2u32.to_ne_bytes();

/// Looks a key up and loads the data.
pub(crate) fn load(map: &SetId, sreg: Register, dreg: Register) -> Expr {
    lookup(map, sreg, Found::Load(dreg))
}

/// Looks a key up.
pub(crate) fn lookup(set: &SetId, sreg: Register, found: Found) -> Expr {
    Expr::Lookup(Lookup {
        set: set.name(),
        sreg,
        found,
    })
}

/// Loads packet metadata.
pub(crate) fn meta(key: MetaKey, dreg: Register) -> Expr {
    Expr::Meta { key, dreg }
}

/// Breaks unless a comparison holds.
pub(crate) fn compare(op: CmpOp, sreg: Register, data: impl Into<Bytes>) -> Expr {
    Expr::Cmp {
        op,
        sreg,
        data: data.into(),
    }
}

/// Runs a chain and does not come back.
pub(crate) fn goto(chain: &ChainId) -> Expr {
    Expr::Immediate(Immediate::Verdict(Verdict::Goto(chain.name())))
}

/// Gives a verdict.
pub(crate) fn verdict(verdict: Verdict) -> Expr {
    Expr::Immediate(Immediate::Verdict(verdict))
}

fn destination_port(dreg: Register) -> Expr {
    Expr::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        len: 2,
        dreg,
    }
}

/// Loads something that nft can print; the next look-up overwrites it.
fn stand_in(dreg: Register) -> Expr {
    Expr::Payload {
        base: PayloadBase::Transport,
        offset: 0,
        len: 4,
        dreg,
    }
}

fn copy(sreg: Register, dreg: Register) -> Expr {
    Expr::Bitwise {
        sreg,
        dreg,
        len: 4,
        mask: Bytes::from([0xff; 4]),
        xor: Bytes::from(ZERO),
    }
}

fn zero(dreg: Register) -> Expr {
    Expr::Immediate(Immediate::Data {
        dreg,
        data: Bytes::from(ZERO),
    })
}

fn fib(flags: FibFlags, dreg: Register) -> Expr {
    Expr::Fib {
        result: FibResult::AddrType,
        flags,
        dreg,
    }
}

fn plus(register: Register, words: u8) -> Option<Register> {
    Register::new(register.index() + words)
}

fn mask_byte(length: u8, byte: u32) -> u8 {
    let bits = u32::from(length).saturating_sub(8 * byte).min(8);
    u8::try_from(0xff00u32 >> bits & 0xff).unwrap_or(0xff)
}

fn short(bytes: &[u8]) -> Bytes {
    // An address has 16 bytes at most, a value 64.
    Bytes::new(bytes).unwrap_or_default()
}
