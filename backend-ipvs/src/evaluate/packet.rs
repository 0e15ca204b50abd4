//! The packet, and what conntrack knows of it.

use std::net::{IpAddr, SocketAddr};

use backend_nftables::rule::{CtKey, Direction, MetaKey, PayloadBase};
use svc_core::{Flow, IpFamily, Protocol};

/// A packet on its way.
#[derive(Clone)]
pub(super) struct Packet {
    family: IpFamily,
    source: IpAddr,
    destination: SocketAddr,
    protocol: Protocol,
    interface: [u8; IFNAMSIZ],
    /// Destination before translation.
    original: SocketAddr,
    mark: u32,
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
            protocol: flow.protocol,
            interface,
            original: flow.destination,
            mark: 0,
        }
    }

    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) fn destination(&self) -> SocketAddr {
        self.destination
    }

    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    pub(super) fn mark(&self) -> u32 {
        self.mark
    }

    pub(super) fn set_mark(&mut self, mark: u32) {
        self.mark = mark;
    }

    /// Gives it another destination.
    pub(super) fn translate(&mut self, to: SocketAddr) {
        self.destination = to;
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
            MetaKey::L4Proto => Some(vec![self.protocol.number()]),
            MetaKey::Iifname => Some(self.interface.to_vec()),
            MetaKey::Mark => Some(self.mark.to_ne_bytes().to_vec()),
            MetaKey::Len
            | MetaKey::NfProto
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
        match (key, self.original.ip()) {
            (CtKey::State, _) => Some(NEW.to_ne_bytes().to_vec()),
            (CtKey::Protocol, _) => Some(vec![self.protocol.number()]),
            (CtKey::ProtoDst, _) if original => Some(self.original.port().to_be_bytes().to_vec()),
            (CtKey::DstIp, IpAddr::V4(ip)) if original => Some(ip.octets().to_vec()),
            (CtKey::DstIp6, IpAddr::V6(ip)) if original => Some(ip.octets().to_vec()),
            (
                CtKey::Direction
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
            ) => None,
        }
    }

    fn network_header(&self) -> Vec<u8> {
        let (source, destination) = (bytes(self.source), bytes(self.destination.ip()));
        let addresses = [source, destination].concat();
        let head = match self.family {
            IpFamily::V4 => 12,
            IpFamily::V6 => 8,
        };
        let mut header = vec![0; head];
        header.extend(addresses);
        header
    }

    fn transport_header(&self) -> Vec<u8> {
        let ports = [SOURCE_PORT, self.destination.port()].map(u16::to_be_bytes);
        [ports.concat(), vec![0; 4]].concat()
    }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// Any; nothing depends on it.
const SOURCE_PORT: u16 = 49_152;
/// Bytes of an interface name with its end.
const IFNAMSIZ: usize = 16;
/// `NF_CT_STATE_BIT(IP_CT_NEW)`.
const NEW: u32 = 8;
