//! The pieces that rules are made of.

use std::net::IpAddr;

use backend_nftables::rule::{
    Bytes, ChainName, CmpOp, CtKey, Direction, Expr, Family, FibFlags, FibResult, Found, Immediate,
    Lookup, MetaKey, NatFlags, PayloadBase, Register, Reject, Verdict,
};
use svc_core::{IpFamily, IpNet, Protocol};

use super::SetId;

/// The key of a front end: address, protocol and port, each padded to registers.
pub(crate) fn frontend_key(ip: IpAddr, protocol: Protocol, port: u16) -> Bytes {
    join(&[&octets(ip), &[protocol.number()], &port.to_be_bytes()])
}

/// Fields in a row, each padded to registers.
pub(super) fn join(fields: &[&[u8]]) -> Bytes {
    // The longest key of the table has 40 bytes, a value may have 64.
    Bytes::concat(fields).unwrap_or_default()
}

/// An address, network order.
pub(super) fn octets(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(ip) => Bytes::from(ip.octets()),
        IpAddr::V6(ip) => Bytes::from(ip.octets()),
    }
}

/// Expressions of a family, whose addresses are one or four registers wide.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exprs {
    pub(super) family: IpFamily,
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

impl Exprs {
    pub(super) fn table_family(self) -> Family {
        match self.family {
            IpFamily::V4 => Family::Ip,
            IpFamily::V6 => Family::Ip6,
        }
    }

    fn width(self) -> u8 {
        match self.family {
            IpFamily::V4 => 1,
            IpFamily::V6 => 4,
        }
    }

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

    /// Loads the destination address.
    pub(super) fn destination(self) -> Expr {
        self.address(End::Destination, Register::R0)
    }

    /// Loads the source address.
    pub(super) fn source(self) -> Expr {
        self.address(End::Source, Register::R0)
    }

    /// Loads the key of the front end that the packet is addressed to.
    pub(super) fn frontend(self) -> Vec<Expr> {
        vec![
            self.destination(),
            meta(MetaKey::L4Proto, register(self.width())),
            destination_port(register(self.width() + 1)),
        ]
    }

    /// The same and the source address: the key of `sources`.
    pub(super) fn frontend_and_source(self) -> Vec<Expr> {
        let mut exprs = self.frontend();
        exprs.push(self.address(End::Source, register(self.width() + 2)));
        exprs
    }

    /// Loads source, destination, protocol and port: the key of `hairpin`.
    pub(super) fn hairpin(self) -> Vec<Expr> {
        vec![
            self.source(),
            self.address(End::Destination, register(self.width())),
            meta(MetaKey::L4Proto, register(2 * self.width())),
            destination_port(register(2 * self.width() + 1)),
        ]
    }

    /// Loads the key of the front end that the connection was made to.
    pub(super) fn original_frontend(self) -> Vec<Expr> {
        let address = match self.family {
            IpFamily::V4 => CtKey::DstIp,
            IpFamily::V6 => CtKey::DstIp6,
        };
        let original = Some(Direction::Original);
        vec![
            ct(address, original, Register::R0),
            ct(CtKey::Protocol, None, register(self.width())),
            ct(CtKey::ProtoDst, original, register(self.width() + 1)),
        ]
    }

    /// Breaks unless the destination is inside a prefix.
    pub(super) fn destination_inside(self, net: &IpNet) -> Vec<Expr> {
        self.inside(End::Destination, net, CmpOp::Eq)
    }

    /// Breaks unless the source is inside a prefix, or is not.
    pub(super) fn source_inside(self, net: &IpNet, op: CmpOp) -> Vec<Expr> {
        self.inside(End::Source, net, op)
    }

    fn inside(self, end: End, net: &IpNet, op: CmpOp) -> Vec<Expr> {
        let mask = octets(net.netmask());
        let mut exprs = vec![self.address(end, Register::R0)];
        if usize::from(net.prefix_len()) < 8 * mask.len() {
            exprs.push(Expr::Bitwise {
                sreg: Register::R0,
                dreg: Register::R0,
                len: 4 * u32::from(self.width()),
                xor: Bytes::new(&vec![0; mask.len()]).unwrap_or_default(),
                mask,
            });
        }
        exprs.push(compare(op, octets(net.network())));
        exprs
    }

    /// Breaks unless the source is an address of the node.
    pub(super) fn source_is_local(self) -> Vec<Expr> {
        vec![fib(FibFlags::SADDR), compare(CmpOp::Eq, LOCAL)]
    }

    /// Breaks if the destination is an address of the node.
    pub(super) fn destination_is_not_local(self) -> Vec<Expr> {
        vec![fib(FibFlags::DADDR), compare(CmpOp::Ne, LOCAL)]
    }

    /// Refuses the packet.
    pub(super) fn reject(self) -> Expr {
        Expr::Reject(Reject::port_unreachable(self.table_family()))
    }
}

/// Breaks unless the packet belongs to a connection that was let through before.
pub(super) fn is_established() -> Vec<Expr> {
    vec![
        ct(CtKey::State, None, Register::R0),
        Expr::Bitwise {
            sreg: Register::R0,
            dreg: Register::R0,
            len: 4,
            mask: Bytes::host_u32(ESTABLISHED | RELATED),
            xor: Bytes::host_u32(0),
        },
        compare(CmpOp::Ne, Bytes::host_u32(0)),
    ]
}

/// Breaks unless the packet has a protocol.
pub(super) fn is_protocol(protocol: Protocol) -> Vec<Expr> {
    vec![
        meta(MetaKey::L4Proto, Register::R0),
        compare(CmpOp::Eq, [protocol.number()]),
    ]
}

/// Breaks unless the packet came in through an interface, or did not; `name` may be a prefix.
pub(super) fn interface(op: CmpOp, name: &[u8]) -> Vec<Expr> {
    let name = Bytes::new(name).unwrap_or_default();
    vec![meta(MetaKey::Iifname, Register::R0), compare(op, name)]
}

/// Goes on if the key in the lowest registers is in a set.
pub(super) fn known(set: &SetId) -> Expr {
    lookup(set, Found::Continue)
}

/// Takes the verdict of a map for the key in the lowest registers.
pub(super) fn verdict_of(map: &SetId) -> Expr {
    lookup(map, Found::Verdict)
}

/// Marks the packet with what a map has for the key in the lowest registers.
pub(super) fn mark_from(map: &SetId) -> [Expr; 2] {
    [
        lookup(map, Found::Load(Register::R0)),
        Expr::MetaSet {
            key: MetaKey::Mark,
            sreg: Register::R0,
        },
    ]
}

/// Gives the packet an address of the node as source.
pub(super) fn masquerade() -> Expr {
    Expr::Masquerade {
        flags: NatFlags::FULLY_RANDOM,
    }
}

/// Runs a chain and does not come back.
pub(super) fn goto(chain: &str) -> Expr {
    verdict(Verdict::Goto(ChainName::from(chain)))
}

/// Runs a chain.
pub(super) fn jump(chain: &str) -> Expr {
    verdict(Verdict::Jump(ChainName::from(chain)))
}

/// Gives a verdict.
pub(super) fn verdict(verdict: Verdict) -> Expr {
    Expr::Immediate(Immediate::Verdict(verdict))
}

fn lookup(set: &SetId, found: Found) -> Expr {
    Expr::Lookup(Lookup {
        set: set.name(),
        sreg: Register::R0,
        found,
    })
}

fn compare(op: CmpOp, data: impl Into<Bytes>) -> Expr {
    Expr::Cmp {
        op,
        sreg: Register::R0,
        data: data.into(),
    }
}

fn meta(key: MetaKey, dreg: Register) -> Expr {
    Expr::Meta { key, dreg }
}

fn ct(key: CtKey, direction: Option<Direction>, dreg: Register) -> Expr {
    Expr::Ct {
        key,
        direction,
        dreg,
    }
}

fn fib(flags: FibFlags) -> Expr {
    Expr::Fib {
        result: FibResult::AddrType,
        flags,
        dreg: Register::R0,
    }
}

fn destination_port(dreg: Register) -> Expr {
    Expr::Payload {
        base: PayloadBase::Transport,
        offset: 2,
        len: 2,
        dreg,
    }
}

/// Rules use at most 10 registers.
fn register(index: u8) -> Register {
    Register::new(index).unwrap_or(Register::R15)
}

/// `RTN_LOCAL`.
const LOCAL: [u8; 4] = 2u32.to_ne_bytes();
/// `NF_CT_STATE_BIT(IP_CT_ESTABLISHED)`.
const ESTABLISHED: u32 = 2;
/// `NF_CT_STATE_BIT(IP_CT_RELATED)`.
const RELATED: u32 = 4;
