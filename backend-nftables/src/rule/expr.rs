//! Expressions: the instructions of nf_tables' register machine.

use super::{Bytes, ChainName, CtKey, Direction, Family, FibFlags, MetaKey, NatFlags, SetName};

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

impl PayloadBase {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Link => "@ll",
            Self::Network => "@nh",
            Self::Transport => "@th",
        }
    }
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

impl ByteorderOp {
    /// As nft prints it in debug output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ntoh => "ntoh",
            Self::Hton => "hton",
        }
    }
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

impl Verdict {
    /// As nft prints it, without the chain.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Drop => "drop",
            Self::Continue => "continue",
            Self::Return => "return",
            Self::Jump(_) => "jump",
            Self::Goto(_) => "goto",
        }
    }

    /// The chain that runs next.
    pub const fn chain(&self) -> Option<&ChainName> {
        match self {
            Self::Jump(chain) | Self::Goto(chain) => Some(chain),
            Self::Accept | Self::Drop | Self::Continue | Self::Return => None,
        }
    }
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

impl DynsetOp {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// Source of numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum NumgenKind {
    /// Counts up.
    Incremental,
    /// At random.
    Random,
}

impl NumgenKind {
    /// As nft prints it after `numgen`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Incremental => "inc",
            Self::Random => "random",
        }
    }
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

impl FibResult {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Oif => "oif",
            Self::Oifname => "oifname",
            Self::AddrType => "type",
        }
    }
}

/// Which end is translated.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub enum NatKind {
    /// Source.
    Snat,
    /// Destination.
    Dnat,
}

impl NatKind {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Snat => "snat",
            Self::Dnat => "dnat",
        }
    }
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
