//! What packets and connections are asked for.

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

impl Direction {
    /// As nft prints it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Original => "original",
            Self::Reply => "reply",
        }
    }
}
