//! Virtual servers and destinations (`linux/ip_vs.h`).

use std::net::{IpAddr, SocketAddr};

use svc_core::{IpFamily, Protocol};

use super::Message;
use super::attr::{find, nest, put, put_text, text, u16_at, u32_at};
use crate::key::{Destination, Method, Persistence, Server, ServerId};
use crate::system::{Counted, Held, HeldId, Request};

/// What the kernel calls the family of generic netlink.
pub(crate) const FAMILY: &str = "IPVS";
/// Type of messages to the register of families.
const CONTROL: u16 = 16;

/// Asks for the number of the family.
pub(crate) fn family_request() -> Message {
    let mut body = vec![CONTROL_GET_FAMILY, 1, 0, 0];
    put_text(&mut body, CONTROL_NAME, FAMILY);
    Message {
        kind: CONTROL,
        flags: 0,
        body,
    }
}

/// The number of the family in an answer.
pub(crate) fn family_id(answer: &[u8]) -> Option<u16> {
    let id = find(answer.get(GENERIC_HEADER..)?, CONTROL_ID)?;
    u16_at(id, 0)
}

/// Says messages of one address family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Codec {
    /// Number of the generic netlink family.
    pub(crate) kind: u16,
    pub(crate) family: IpFamily,
}

impl Codec {
    /// The message of a request.
    pub(crate) fn request(self, request: &Request) -> Message {
        match request {
            Request::NewServer(id, server) => self.server(command::NEW_SERVICE, *id, Some(server)),
            Request::SetServer(id, server) => self.server(command::SET_SERVICE, *id, Some(server)),
            Request::DeleteServer(id) => self.server(command::DELETE_SERVICE, *id, None),
            Request::NewDestination(id, at, value) => {
                self.destination(command::NEW_DESTINATION, *id, *at, Some(value))
            }
            Request::SetDestination(id, at, value) => {
                self.destination(command::SET_DESTINATION, *id, *at, Some(value))
            }
            Request::DeleteDestination(id, at) => {
                self.destination(command::DELETE_DESTINATION, *id, *at, None)
            }
        }
    }

    /// Asks for all virtual servers of all families.
    pub(crate) fn list_servers(self) -> Message {
        self.message(command::GET_SERVICE, |_| {})
    }

    /// Asks for all destinations of a virtual server.
    pub(crate) fn list_destinations(self, id: ServerId) -> Message {
        self.message(command::GET_DESTINATION, |body| {
            nest(body, SERVICE, |body| self.server_id(body, id));
        })
    }

    /// Asks for other timeouts of connections, in seconds; 0 keeps one (B-292).
    pub(crate) fn set_timeouts(self, tcp: u32, tcp_fin: u32, udp: u32) -> Message {
        self.message(command::SET_CONFIG, |body| {
            for (kind, seconds) in [
                (TIMEOUT_TCP, tcp),
                (TIMEOUT_TCP_FIN, tcp_fin),
                (TIMEOUT_UDP, udp),
            ] {
                put(body, kind, &seconds.to_ne_bytes());
            }
        })
    }

    fn message(self, command: u8, fill: impl FnOnce(&mut Vec<u8>)) -> Message {
        let mut body = vec![command, VERSION, 0, 0];
        fill(&mut body);
        Message {
            kind: self.kind,
            flags: 0,
            body,
        }
    }

    fn server(self, command: u8, id: ServerId, server: Option<&Server>) -> Message {
        self.message(command, |body| {
            nest(body, SERVICE, |body| {
                self.server_id(body, id);
                if let Some(server) = server {
                    self.server_value(body, server);
                }
            });
        })
    }

    fn server_id(self, body: &mut Vec<u8>, id: ServerId) {
        put(body, service::FAMILY, &self.code().to_ne_bytes());
        match id {
            ServerId::Marked(_, mark) => put(body, service::MARK, &mark.to_ne_bytes()),
            ServerId::At(protocol, at) => {
                let number = u16::from(protocol.number());
                put(body, service::PROTOCOL, &number.to_ne_bytes());
                put(body, service::ADDRESS, &union(at.ip()));
                put(body, service::PORT, &at.port().to_be_bytes());
            }
        }
    }

    fn server_value(self, body: &mut Vec<u8>, server: &Server) {
        let persistent = server.persistence.map_or(0, |_| PERSISTENT);
        let flags = [persistent | server.flags, OUR_FLAGS].map(u32::to_ne_bytes);
        let seconds = server.persistence.map_or(0, |p| p.seconds);
        let prefix_len = server.persistence.map(|p| p.prefix_len);
        put_text(body, service::SCHEDULER, &server.scheduler);
        put(body, service::FLAGS, flags.as_flattened());
        put(body, service::TIMEOUT, &seconds.to_ne_bytes());
        put(body, service::NETMASK, &self.netmask(prefix_len));
    }

    fn destination(
        self,
        command: u8,
        id: ServerId,
        at: SocketAddr,
        value: Option<&Destination>,
    ) -> Message {
        self.message(command, |body| {
            nest(body, SERVICE, |body| self.server_id(body, id));
            nest(body, DESTINATION, |body| {
                put(body, destination::ADDRESS, &union(at.ip()));
                put(body, destination::PORT, &at.port().to_be_bytes());
                put(body, destination::FAMILY, &self.code().to_ne_bytes());
                if let Some(value) = value {
                    let method = match value.method {
                        Method::Masquerade => MASQUERADE,
                        Method::Other(number) => number,
                    };
                    for (kind, number) in [
                        (destination::METHOD, method),
                        (destination::WEIGHT, value.weight),
                        (destination::UPPER, 0),
                        (destination::LOWER, 0),
                    ] {
                        put(body, kind, &number.to_ne_bytes());
                    }
                }
            });
        })
    }

    /// The bits of a client's address that count: of IPv4 a mask, of IPv6 a number of bits.
    fn netmask(self, prefix_len: Option<u8>) -> [u8; 4] {
        match self.family {
            IpFamily::V4 => {
                let bits = u32::from(prefix_len.unwrap_or(32)).min(32);
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                mask.to_be_bytes()
            }
            IpFamily::V6 => u32::from(prefix_len.unwrap_or(128)).to_ne_bytes(),
        }
    }

    fn code(self) -> u16 {
        match self.family {
            IpFamily::V4 => 2,
            IpFamily::V6 => 10,
        }
    }

    /// A virtual server in an answer; `None` if it is of another family or makes no sense.
    pub(crate) fn read_server(self, answer: &[u8]) -> Option<Held> {
        let body = find(answer.get(GENERIC_HEADER..)?, SERVICE)?;
        if u16_at(find(body, service::FAMILY)?, 0)? != self.code() {
            return None;
        }
        let id = match find(body, service::MARK) {
            Some(mark) => HeldId::Marked(u32_at(mark, 0)?),
            None => {
                let number = u16_at(find(body, service::PROTOCOL)?, 0)?;
                let mut all = Protocol::ALL.into_iter();
                let protocol = all.find(|p| u16::from(p.number()) == number)?;
                let ip = self.ip(find(body, service::ADDRESS)?)?;
                HeldId::At(protocol, SocketAddr::new(ip, port(body, service::PORT)?))
            }
        };
        let flags = u32_at(find(body, service::FLAGS)?, 0)?;
        let seconds = u32_at(find(body, service::TIMEOUT)?, 0)?;
        let netmask = u32_at(find(body, service::NETMASK)?, 0)?;
        let prefix_len = match self.family {
            IpFamily::V4 => netmask.count_ones(),
            IpFamily::V6 => netmask,
        };
        let persistence = Persistence {
            seconds,
            prefix_len: u8::try_from(prefix_len).ok()?,
        };
        let server = Server {
            scheduler: text(find(body, service::SCHEDULER)?).into(),
            flags: flags & OUR_FLAGS & !PERSISTENT,
            persistence: (flags & PERSISTENT != 0).then_some(persistence),
        };
        Some(Held { id, server })
    }

    /// A destination in an answer; `None` if it makes no sense.
    pub(crate) fn read_destination(self, answer: &[u8]) -> Option<(SocketAddr, Counted)> {
        let body = find(answer.get(GENERIC_HEADER..)?, DESTINATION)?;
        let number = |kind| u32_at(find(body, kind)?, 0);
        let ip = self.ip(find(body, destination::ADDRESS)?)?;
        let at = SocketAddr::new(ip, port(body, destination::PORT)?);
        let method = match number(destination::METHOD)? & METHOD_MASK {
            MASQUERADE => Method::Masquerade,
            other => Method::Other(other),
        };
        let connections =
            number(destination::ACTIVE)?.saturating_add(number(destination::INACTIVE)?);
        let counted = Counted {
            value: Destination {
                weight: number(destination::WEIGHT)?,
                method,
            },
            connections,
        };
        Some((at, counted))
    }

    fn ip(self, union: &[u8]) -> Option<IpAddr> {
        match self.family {
            IpFamily::V4 => Some(IpAddr::from(*union.first_chunk::<4>()?)),
            IpFamily::V6 => Some(IpAddr::from(*union.first_chunk::<16>()?)),
        }
    }
}

/// `union nf_inet_addr`.
fn union(ip: IpAddr) -> [u8; 16] {
    let mut bytes = [0; 16];
    match ip {
        IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => bytes = ip.octets(),
    }
    bytes
}

fn port(body: &[u8], kind: u16) -> Option<u16> {
    let bytes = find(body, kind)?.first_chunk()?;
    Some(u16::from_be_bytes(*bytes))
}

/// Length of `struct genlmsghdr`.
const GENERIC_HEADER: usize = 4;
const CONTROL_GET_FAMILY: u8 = 3;
const CONTROL_ID: u16 = 1;
const CONTROL_NAME: u16 = 2;
const VERSION: u8 = 1;

/// `IPVS_CMD_*`.
mod command {
    pub(super) const NEW_SERVICE: u8 = 1;
    pub(super) const SET_SERVICE: u8 = 2;
    pub(super) const DELETE_SERVICE: u8 = 3;
    pub(super) const GET_SERVICE: u8 = 4;
    pub(super) const NEW_DESTINATION: u8 = 5;
    pub(super) const SET_DESTINATION: u8 = 6;
    pub(super) const DELETE_DESTINATION: u8 = 7;
    pub(super) const GET_DESTINATION: u8 = 8;
    pub(super) const SET_CONFIG: u8 = 12;
}

// `IPVS_CMD_ATTR_*`.
const SERVICE: u16 = 1;
const DESTINATION: u16 = 2;
const TIMEOUT_TCP: u16 = 4;
const TIMEOUT_TCP_FIN: u16 = 5;
const TIMEOUT_UDP: u16 = 6;

/// `IPVS_SVC_ATTR_*`.
mod service {
    pub(super) const FAMILY: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const ADDRESS: u16 = 3;
    pub(super) const PORT: u16 = 4;
    pub(super) const MARK: u16 = 5;
    pub(super) const SCHEDULER: u16 = 6;
    pub(super) const FLAGS: u16 = 7;
    pub(super) const TIMEOUT: u16 = 8;
    pub(super) const NETMASK: u16 = 9;
}

/// `IPVS_DEST_ATTR_*`.
mod destination {
    pub(super) const ADDRESS: u16 = 1;
    pub(super) const PORT: u16 = 2;
    pub(super) const METHOD: u16 = 3;
    pub(super) const WEIGHT: u16 = 4;
    pub(super) const UPPER: u16 = 5;
    pub(super) const LOWER: u16 = 6;
    pub(super) const ACTIVE: u16 = 7;
    pub(super) const INACTIVE: u16 = 8;
    pub(super) const FAMILY: u16 = 11;
}

/// `IP_VS_SVC_F_PERSISTENT`.
const PERSISTENT: u32 = 0x1;
/// `IP_VS_SVC_F_ONEPACKET`.
const ONE_PACKET: u32 = 0x4;
/// The flags that a virtual server of ours decides.
const OUR_FLAGS: u32 = PERSISTENT | ONE_PACKET | Server::FLAG_1 | Server::FLAG_2 | Server::FLAG_3;
/// `IP_VS_CONN_F_MASQ`.
const MASQUERADE: u32 = 0;
/// `IP_VS_CONN_F_FWD_MASK`.
const METHOD_MASK: u32 = 7;
