//! Expressions: the instructions of nf_tables' register machine.

use super::{Bytes, ChainName, Family, FibFlags, NatFlags, SetName};

/// One of the sixteen 32-bit data registers; wider values take consecutive registers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Register(u8);

impl Register {
    /// Number of data registers.
    pub const COUNT: u8 = 16;

    /// Register `index`, below [`Register::COUNT`].
    pub const fn new(index: u8) -> Option<Self> {
        if index < Self::COUNT {
            Some(Self(index))
        } else {
            None
        }
    }

    /// Number of the register, 0 to 15.
    pub const fn index(self) -> u8 {
        self.0
    }

    /// The kernel's number (`NFT_REG32_00` is 8).
    pub const fn code(self) -> u32 {
        8 + self.0 as u32
    }

    /// From the kernel's number: 8 to 23, or 1 to 4 for the old 128-bit registers, under which
    /// dumps name every fourth register.
    pub const fn from_code(code: u32) -> Option<Self> {
        match code {
            1..=4 => Some(Self((code as u8 - 1) * 4)),
            8..=23 => Some(Self(code as u8 - 8)),
            _ => None,
        }
    }
}

macro_rules! registers {
    ($($name:ident = $index:literal;)*) => {
        /// The registers by name.
        impl Register {
            $(#[doc = concat!("Register ", $index, ".")] pub const $name: Self = Self($index);)*
        }
    };
}
registers! {
    R0 = 0; R1 = 1; R2 = 2; R3 = 3; R4 = 4; R5 = 5; R6 = 6; R7 = 7;
    R8 = 8; R9 = 9; R10 = 10; R11 = 11; R12 = 12; R13 = 13; R14 = 14; R15 = 15;
}

/// One instruction of a rule.
///
/// Lengths and offsets are bytes. An instruction that cannot do its work (a miss, a short packet,
/// no conntrack entry) breaks: the rule ends and the next rule of the chain runs.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Expr {
    /// Loads packet bytes.
    Payload {
        /// Where `offset` counts from.
        base: PayloadBase,
        /// First byte.
        offset: u32,
        /// Number of bytes.
        len: u32,
        /// First register written.
        dreg: Register,
    },
    /// Loads packet metadata.
    Meta {
        /// What.
        key: MetaKey,
        /// First register written.
        dreg: Register,
    },
    /// Sets packet metadata, such as the mark.
    MetaSet {
        /// What.
        key: MetaKey,
        /// Register read.
        sreg: Register,
    },
    /// Loads a property of the packet's connection.
    Ct {
        /// What.
        key: CtKey,
        /// Of which direction; `None` for keys without one.
        direction: Option<Direction>,
        /// First register written.
        dreg: Register,
    },
    /// Breaks unless the comparison holds; bytes compare as in memory.
    Cmp {
        /// Comparison.
        op: CmpOp,
        /// First register read, on the left.
        sreg: Register,
        /// Right side.
        data: Bytes,
    },
    /// `dreg := (sreg & mask) ^ xor`.
    Bitwise {
        /// First register read.
        sreg: Register,
        /// First register written.
        dreg: Register,
        /// Length of source, mask and xor.
        len: u32,
        /// And.
        mask: Bytes,
        /// Exclusive or.
        xor: Bytes,
    },
    /// Swaps between host and network byte order, in units of `size`.
    Byteorder {
        /// Direction.
        op: ByteorderOp,
        /// First register read.
        sreg: Register,
        /// First register written.
        dreg: Register,
        /// Bytes in all.
        len: u32,
        /// Bytes per number: 2, 4 or 8.
        size: u32,
    },
    /// Loads a constant or gives a verdict.
    Immediate(Immediate),
    /// Looks a key up in a set or map.
    Lookup(Lookup),
    /// Changes a set from the packet path.
    Dynset {
        /// Change.
        op: DynsetOp,
        /// Set or map, which needs the dynamic flag.
        set: SetName,
        /// First register of the key.
        key: Register,
        /// First register of the data, for maps.
        data: Option<Register>,
        /// Life of the element, milliseconds; `None`: that of the set.
        timeout: Option<u64>,
    },
    /// Loads `offset + number mod modulus`, host order.
    Numgen {
        /// Where the number comes from.
        kind: NumgenKind,
        /// Above 0.
        modulus: u32,
        /// Added.
        offset: u32,
        /// Register written.
        dreg: Register,
    },
    /// Loads `offset + jhash(registers) mod modulus`, host order.
    Jhash {
        /// First register read.
        sreg: Register,
        /// Bytes read.
        len: u32,
        /// Above 1.
        modulus: u32,
        /// Seed; `None`: random at load time.
        seed: Option<u32>,
        /// Added.
        offset: u32,
        /// Register written.
        dreg: Register,
    },
    /// Asks the routing table.
    Fib {
        /// What is loaded.
        result: FibResult,
        /// What is asked.
        flags: FibFlags,
        /// First register written.
        dreg: Register,
    },
    /// Translates an address and ends the hook.
    Nat {
        /// Destination or source.
        kind: NatKind,
        /// Family of the address register: never [`Family::Inet`].
        family: Family,
        /// First register of the address.
        addr: Option<Register>,
        /// Register of the port, network order.
        port: Option<Register>,
        /// Port choice.
        flags: NatFlags,
    },
    /// Translates the source to the address of the output interface and ends the hook.
    Masquerade {
        /// Port choice.
        flags: NatFlags,
    },
    /// Refuses the packet with an answer to the sender.
    Reject(Reject),
    /// Counts packets and bytes. The figures are not part of the rule.
    Counter,
    /// An expression this crate does not model: kept as the kernel gave it.
    Unknown {
        /// The kernel's name of the expression.
        name: Box<str>,
        /// Its attributes, undecoded.
        data: Box<[u8]>,
    },
}

/// What a payload offset counts from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum PayloadBase {
    /// Link layer header.
    Link,
    /// IP header (`@nh`).
    Network,
    /// TCP, UDP or SCTP header (`@th`).
    Transport,
}

/// Packet metadata.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum MetaKey {
    /// Packet length, 4 bytes.
    Len,
    /// Ethernet type, 2 bytes, network order.
    Protocol,
    /// Packet mark, 4 bytes.
    Mark,
    /// Input interface index, 4 bytes.
    Iif,
    /// Output interface index, 4 bytes.
    Oif,
    /// Input interface name, 16 bytes, zero padded.
    Iifname,
    /// Output interface name, 16 bytes, zero padded.
    Oifname,
    /// `NFPROTO_*`, 1 byte.
    NfProto,
    /// IP protocol number, 1 byte.
    L4Proto,
    /// Packet type, 1 byte.
    PktType,
}

impl MetaKey {
    const ALL: [Self; 10] = [
        Self::Len,
        Self::Protocol,
        Self::Mark,
        Self::Iif,
        Self::Oif,
        Self::Iifname,
        Self::Oifname,
        Self::NfProto,
        Self::L4Proto,
        Self::PktType,
    ];

    /// The kernel's number (`NFT_META_*`).
    pub const fn code(self) -> u32 {
        match self {
            Self::Len => 0,
            Self::Protocol => 1,
            Self::Mark => 3,
            Self::Iif => 4,
            Self::Oif => 5,
            Self::Iifname => 6,
            Self::Oifname => 7,
            Self::NfProto => 15,
            Self::L4Proto => 16,
            Self::PktType => 19,
        }
    }

    /// From the kernel's number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.code() == code)
    }

    /// Bytes loaded.
    pub const fn width(self) -> usize {
        match self {
            Self::Len | Self::Mark | Self::Iif | Self::Oif => 4,
            Self::Protocol => 2,
            Self::Iifname | Self::Oifname => 16,
            Self::NfProto | Self::L4Proto | Self::PktType => 1,
        }
    }

    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Len => "meta length",
            Self::Protocol => "meta protocol",
            Self::Mark => "meta mark",
            Self::Iif => "iif",
            Self::Oif => "oif",
            Self::Iifname => "iifname",
            Self::Oifname => "oifname",
            Self::NfProto => "meta nfproto",
            Self::L4Proto => "meta l4proto",
            Self::PktType => "meta pkttype",
        }
    }
}

/// Properties of a connection.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum CtKey {
    /// State bits, 4 bytes.
    State,
    /// Direction of the packet, 1 byte.
    Direction,
    /// Status bits, 4 bytes; bit 5 (`0x20`) is `dnat`.
    Status,
    /// Connection mark, 4 bytes.
    Mark,
    /// `NFPROTO_*`, 1 byte.
    L3Protocol,
    /// IP protocol number, 1 byte.
    Protocol,
    /// Source port, 2 bytes; needs a direction.
    ProtoSrc,
    /// Destination port, 2 bytes; needs a direction.
    ProtoDst,
    /// IPv4 source, 4 bytes; needs a direction.
    SrcIp,
    /// IPv4 destination, 4 bytes; needs a direction.
    DstIp,
    /// IPv6 source, 16 bytes; needs a direction.
    SrcIp6,
    /// IPv6 destination, 16 bytes; needs a direction.
    DstIp6,
}

impl CtKey {
    const ALL: [Self; 12] = [
        Self::State,
        Self::Direction,
        Self::Status,
        Self::Mark,
        Self::L3Protocol,
        Self::Protocol,
        Self::ProtoSrc,
        Self::ProtoDst,
        Self::SrcIp,
        Self::DstIp,
        Self::SrcIp6,
        Self::DstIp6,
    ];

    /// The kernel's number (`NFT_CT_*`).
    pub const fn code(self) -> u32 {
        match self {
            Self::State => 0,
            Self::Direction => 1,
            Self::Status => 2,
            Self::Mark => 3,
            Self::L3Protocol => 7,
            Self::Protocol => 10,
            Self::ProtoSrc => 11,
            Self::ProtoDst => 12,
            Self::SrcIp => 19,
            Self::DstIp => 20,
            Self::SrcIp6 => 21,
            Self::DstIp6 => 22,
        }
    }

    /// From the kernel's number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.code() == code)
    }

    /// Bytes loaded.
    pub const fn width(self) -> usize {
        match self {
            Self::State | Self::Status | Self::Mark | Self::SrcIp | Self::DstIp => 4,
            Self::Direction | Self::L3Protocol | Self::Protocol => 1,
            Self::ProtoSrc | Self::ProtoDst => 2,
            Self::SrcIp6 | Self::DstIp6 => 16,
        }
    }

    /// As nft prints it after `ct` and the direction.
    pub const fn name(self) -> &'static str {
        match self {
            Self::State => "state",
            Self::Direction => "direction",
            Self::Status => "status",
            Self::Mark => "mark",
            Self::L3Protocol => "l3proto",
            Self::Protocol => "protocol",
            Self::ProtoSrc => "proto-src",
            Self::ProtoDst => "proto-dst",
            Self::SrcIp => "ip saddr",
            Self::DstIp => "ip daddr",
            Self::SrcIp6 => "ip6 saddr",
            Self::DstIp6 => "ip6 daddr",
        }
    }
}

/// Direction of a connection's tuple.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Direction {
    /// As the first packet was.
    Original,
    /// As answers are.
    Reply,
}

/// Comparison; all but the first two compare bytes as a big-endian number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Below.
    Lt,
    /// Not above.
    Le,
    /// Above.
    Gt,
    /// Not below.
    Ge,
}

impl CmpOp {
    /// As nft prints it; equality is implied.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Gt => ">",
            Self::Ge => ">=",
        }
    }
}

/// Direction of a byte swap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum ByteorderOp {
    /// Network to host.
    Ntoh,
    /// Host to network.
    Hton,
}

/// A constant or a verdict.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Immediate {
    /// Loads a constant.
    Data {
        /// First register written.
        dreg: Register,
        /// The constant.
        data: Bytes,
    },
    /// Gives a verdict.
    Verdict(Verdict),
}

/// What becomes of the packet in this chain.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Verdict {
    /// Ends the hook; the packet goes on.
    Accept,
    /// Ends everything; the packet is gone.
    Drop,
    /// Next rule, as if there were no verdict.
    Continue,
    /// Back to the rule after the jump, or to the policy.
    Return,
    /// Runs a chain and comes back.
    Jump(ChainName),
    /// Runs a chain and does not come back here.
    Goto(ChainName),
}

/// A look-up of the key in `sreg` and following registers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Lookup {
    /// Set or map of the same table.
    pub set: SetName,
    /// First register of the key.
    pub sreg: Register,
    /// What a hit does.
    pub found: Found,
}

/// What a look-up does with its result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Found {
    /// Goes on on a hit, breaks on a miss (`@set`).
    Continue,
    /// Breaks on a hit, goes on on a miss (`!= @set`).
    Break,
    /// Loads the map's data from this register on, breaks on a miss.
    Load(Register),
    /// Gives the map's verdict, breaks on a miss (`vmap`).
    Verdict,
}

/// Change of a set from the packet path.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum DynsetOp {
    /// Adds the element unless there is one.
    Add,
    /// Adds the element or re-arms its timeout; data of an existing one stays.
    Update,
    /// Removes the element; breaks if there is none.
    Delete,
}

/// Source of numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum NumgenKind {
    /// Counts up.
    Incremental,
    /// At random.
    Random,
}

/// What a routing look-up loads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum FibResult {
    /// Output interface index, 4 bytes.
    Oif,
    /// Output interface name, 16 bytes.
    Oifname,
    /// Address type (`RTN_*`; 2 is local), 4 bytes.
    AddrType,
}

/// Which end is translated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum NatKind {
    /// Source.
    Snat,
    /// Destination.
    Dnat,
}

/// How a packet is refused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum Reject {
    /// ICMP or ICMPv6 unreachable of the table's family, with its own code.
    Icmp {
        /// Code: 3 is port unreachable in ICMP, 4 in ICMPv6.
        code: u8,
    },
    /// TCP reset.
    TcpReset,
    /// Unreachable in the words of both families, for `inet` tables.
    Icmpx {
        /// 0 no route, 1 port, 2 host, 3 prohibited.
        code: u8,
    },
}

impl Reject {
    /// Port unreachable, as a table of this family wants it.
    pub const fn port_unreachable(family: Family) -> Self {
        match family {
            Family::Ip => Self::Icmp { code: 3 },
            Family::Ip6 => Self::Icmp { code: 4 },
            Family::Inet => Self::Icmpx { code: 1 },
        }
    }
}
