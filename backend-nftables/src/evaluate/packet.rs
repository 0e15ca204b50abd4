//! The packet, and what conntrack knows of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use svc_core::{Flow, IpFamily};

use crate::rule::{CtKey, Direction, MetaKey, PayloadBase};

/// A packet on its way.
pub(super) struct Packet {
    family: IpFamily,
    source: IpAddr,
    destination: SocketAddr,
    protocol: u8,
    interface: [u8; IFNAMSIZ],
    /// Destination before translation.
    original: SocketAddr,
    translated: bool,
}

impl Packet {
    pub(super) fn new(family: IpFamily, flow: &Flow) -> Self {
        let mut interface = [0; IFNAMSIZ];
        let name = flow.interface.as_deref().unwrap_or_default().as_bytes();
        let len = name.len().min(IFNAMSIZ - 1);
        interface[..len].copy_from_slice(&name[..len]);
        Self {
            family,
            source: flow.source,
            destination: flow.destination,
            protocol: flow.protocol.number(),
            interface,
            original: flow.destination,
            translated: false,
        }
    }

    pub(super) fn family(&self) -> IpFamily {
        self.family
    }

    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) fn destination(&self) -> IpAddr {
        self.destination.ip()
    }

    /// Gives it another destination.
    pub(super) fn translate(&mut self, to: SocketAddr) {
        self.destination = to;
        self.translated = true;
    }

    /// The destination that a rule gave it.
    pub(super) fn translated(&self) -> Option<SocketAddr> {
        self.translated.then_some(self.destination)
    }

    /// Bytes of a header; `None` where the packet ends before.
    pub(super) fn payload(&self, base: PayloadBase, offset: u32, len: u32) -> Option<Vec<u8>> {
        let header = match base {
            PayloadBase::Link => return None,
            PayloadBase::Network => self.network_header(),
            PayloadBase::Transport => self.transport_header(),
        };
        let start = usize::try_from(offset).ok()?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        header.get(start..end).map(<[u8]>::to_vec)
    }

    /// Metadata; `None` for what this packet does not have.
    pub(super) fn meta(&self, key: MetaKey) -> Option<Vec<u8>> {
        match key {
            MetaKey::L4Proto => Some(vec![self.protocol]),
            MetaKey::NfProto => Some(vec![match self.family {
                IpFamily::V4 => 2,
                IpFamily::V6 => 10,
            }]),
            MetaKey::Iifname => Some(self.interface.to_vec()),
            MetaKey::Mark => Some(vec![0; 4]),
            MetaKey::Len
            | MetaKey::Protocol
            | MetaKey::Iif
            | MetaKey::Oif
            | MetaKey::Oifname
            | MetaKey::PktType => None,
        }
    }

    /// What conntrack knows; `None` for what this machine does not.
    pub(super) fn ct(&self, key: CtKey, direction: Option<Direction>) -> Option<Vec<u8>> {
        let original = direction == Some(Direction::Original);
        match (key, self.original.ip(), self.source) {
            // The kernel sets the bit if the address really became another.
            (CtKey::Status, _, _) if direction.is_none() => {
                let changed = self.destination != self.original;
                Some((u32::from(changed) << 5).to_ne_bytes().to_vec())
            }
            (CtKey::Protocol, _, _) => Some(vec![self.protocol]),
            (CtKey::ProtoDst, _, _) if original => {
                Some(self.original.port().to_be_bytes().to_vec())
            }
            (CtKey::DstIp, IpAddr::V4(ip), _) if original => Some(ip.octets().to_vec()),
            (CtKey::DstIp6, IpAddr::V6(ip), _) if original => Some(ip.octets().to_vec()),
            (CtKey::SrcIp, _, IpAddr::V4(ip)) if original => Some(ip.octets().to_vec()),
            (CtKey::SrcIp6, _, IpAddr::V6(ip)) if original => Some(ip.octets().to_vec()),
            (
                CtKey::State
                | CtKey::Direction
                | CtKey::Status
                | CtKey::Mark
                | CtKey::L3Protocol
                | CtKey::ProtoSrc
                | CtKey::ProtoDst
                | CtKey::SrcIp
                | CtKey::DstIp
                | CtKey::SrcIp6
                | CtKey::DstIp6,
                _,
                _,
            ) => None,
        }
    }

    fn network_header(&self) -> Vec<u8> {
        let mut header;
        match self.family {
            IpFamily::V4 => {
                header = vec![0; 20];
                header[0] = 0x45;
                header[9] = self.protocol;
                header[12..16].copy_from_slice(&v4(self.source).octets());
                header[16..20].copy_from_slice(&v4(self.destination.ip()).octets());
            }
            IpFamily::V6 => {
                header = vec![0; 40];
                header[0] = 0x60;
                header[6] = self.protocol;
                header[8..24].copy_from_slice(&v6(self.source).octets());
                header[24..40].copy_from_slice(&v6(self.destination.ip()).octets());
            }
        }
        header
    }

    fn transport_header(&self) -> Vec<u8> {
        let mut header = vec![0; 8];
        header[..2].copy_from_slice(&SOURCE_PORT.to_be_bytes());
        header[2..4].copy_from_slice(&self.destination.port().to_be_bytes());
        header
    }
}

/// Address of a packet of the other family: never read, as its hooks are others.
fn v4(ip: IpAddr) -> Ipv4Addr {
    match ip {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    }
}

fn v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(_) => Ipv6Addr::UNSPECIFIED,
        IpAddr::V6(ip) => ip,
    }
}

/// Any; nothing depends on it.
const SOURCE_PORT: u16 = 49_152;
/// Bytes of an interface name with its end.
const IFNAMSIZ: usize = 16;
