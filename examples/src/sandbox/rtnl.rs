//! Route netlink messages, as few as a sandbox needs.

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NlasIterator,
};
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::SockProtocol;
use svc_core::{IpFamily, IpNet};

use super::link::{Route, Rule, RuleAction};
use super::netlink::Netlink;

/// A route netlink socket; it belongs to the namespace of the thread that opened it.
pub(crate) struct Rtnl {
    netlink: Netlink,
}

/// What the kernel says of a link.
pub(super) struct LinkState {
    pub(super) index: u32,
    /// Carrier is there and the transmit queue is active.
    pub(super) operational: bool,
}

impl Rtnl {
    pub(crate) fn open() -> nix::Result<Self> {
        Ok(Self {
            netlink: Netlink::open(SockProtocol::NetlinkRoute)?,
        })
    }

    pub(super) fn set_loopback_up(&mut self) -> nix::Result<()> {
        self.set_flag_up(LOOPBACK_INDEX, libc::IFF_UP)
    }

    pub(super) fn set_up(&mut self, link: &str) -> nix::Result<()> {
        let index = self.link(link)?.index;
        self.set_flag_up(index, libc::IFF_UP)
    }

    pub(super) fn set_down(&mut self, link: &str) -> nix::Result<()> {
        let index = self.link(link)?.index;
        self.set_flag_up(index, 0)
    }

    pub(super) fn link(&mut self, name: &str) -> nix::Result<LinkState> {
        let body = body(&link_header(0, 0, 0), &[text(libc::IFLA_IFNAME, name)]);
        let answer = self.query(libc::RTM_GETLINK, body)?;
        let operstate = attribute(&answer, LINK_HEADER, libc::IFLA_OPERSTATE);
        Ok(LinkState {
            index: u32_at(&answer, 4).ok_or(Errno::EBADMSG)?,
            operational: operstate.is_some_and(|value| value == [OPERSTATE_UP]),
        })
    }

    /// Creates a veth pair, its peer at once in the namespace `peer_namespace`.
    pub(super) fn add_veth(
        &mut self,
        link: &str,
        peer: &str,
        peer_namespace: BorrowedFd<'_>,
    ) -> nix::Result<()> {
        let fd = peer_namespace.as_raw_fd().to_ne_bytes();
        let peer = body(
            &link_header(0, 0, 0),
            &[
                text(libc::IFLA_IFNAME, peer),
                nla(libc::IFLA_NET_NS_FD, &fd),
            ],
        );
        let info = [
            text(libc::IFLA_INFO_KIND, "veth"),
            nla(
                libc::IFLA_INFO_DATA,
                &body(&[], &[nla(VETH_INFO_PEER, &peer)]),
            ),
        ];
        let body = body(
            &link_header(0, 0, 0),
            &[
                text(libc::IFLA_IFNAME, link),
                nla(libc::IFLA_LINKINFO, &body(&[], &info)),
            ],
        );
        self.change(libc::RTM_NEWLINK, NEW, body)
    }

    pub(crate) fn delete_link(&mut self, link: &str) -> nix::Result<()> {
        let index = self.link(link)?.index;
        self.change(libc::RTM_DELLINK, 0, link_header(index, 0, 0))
    }

    pub(super) fn add_address(&mut self, link: &str, address: IpNet) -> nix::Result<()> {
        let index = self.link(link)?.index;
        // Duplicate address detection would hold an IPv6 address back for a second or two.
        let flags = if address.addr().is_ipv6() {
            IFA_F_NODAD
        } else {
            0
        };
        let scope = if is_link_local(address.addr()) {
            libc::RT_SCOPE_LINK
        } else {
            0
        };
        let mut header = vec![
            family_of(address.addr()),
            address.prefix_len(),
            flags,
            scope,
        ];
        header.extend(index.to_ne_bytes());
        let octets = octets(address.addr());
        let body = body(
            &header,
            &[
                nla(libc::IFA_LOCAL, &octets),
                nla(libc::IFA_ADDRESS, &octets),
            ],
        );
        self.change(libc::RTM_NEWADDR, NEW, body)
    }

    pub(super) fn delete_address(&mut self, link: &str, address: IpNet) -> nix::Result<()> {
        let index = self.link(link)?.index;
        let mut header = vec![family_of(address.addr()), address.prefix_len(), 0, 0];
        header.extend(index.to_ne_bytes());
        let body = body(&header, &[nla(libc::IFA_LOCAL, &octets(address.addr()))]);
        self.change(libc::RTM_DELADDR, 0, body)
    }

    pub(super) fn add_route(&mut self, route: &Route) -> nix::Result<()> {
        let body = self.route_body(route)?;
        self.change(libc::RTM_NEWROUTE, NEW, body)
    }

    pub(super) fn delete_route(&mut self, route: &Route) -> nix::Result<()> {
        let body = self.route_body(route)?;
        self.change(libc::RTM_DELROUTE, 0, body)
    }

    fn route_body(&mut self, route: &Route) -> nix::Result<Vec<u8>> {
        let index = self.link(&route.link)?.index;
        let (scope, flags) = match route.via {
            // The gateway of a /32 or /128 address is in no prefix of the link.
            Some(_) => (libc::RT_SCOPE_UNIVERSE, RTNH_F_ONLINK),
            None => (libc::RT_SCOPE_LINK, 0),
        };
        let family = family_of(route.to.addr());
        let header = route_header(family, route.to.prefix_len(), route.table, scope, flags);
        let mut attributes = vec![nla(libc::RTA_OIF, &index.to_ne_bytes())];
        if route.to.prefix_len() > 0 {
            attributes.push(nla(libc::RTA_DST, &octets(route.to.network())));
        }
        attributes.extend(route.via.map(|via| nla(libc::RTA_GATEWAY, &octets(via))));
        attributes.extend(
            route
                .source
                .map(|source| nla(libc::RTA_PREFSRC, &octets(source))),
        );
        Ok(body(&header, &attributes))
    }

    /// Whether the kernel delivers packets to `address` locally; a link-local address is one of
    /// `link`, any other one of the whole namespace.
    pub(super) fn is_local(&mut self, link: &str, address: IpAddr) -> nix::Result<bool> {
        let prefix = IpNet::from(address).prefix_len();
        let header = route_header(family_of(address), prefix, 0, 0, 0);
        let mut attributes = vec![nla(libc::RTA_DST, &octets(address))];
        if is_link_local(address) {
            attributes.push(nla(libc::RTA_OIF, &self.link(link)?.index.to_ne_bytes()));
        }
        match self.query(libc::RTM_GETROUTE, body(&header, &attributes)) {
            Ok(answer) => Ok(answer.get(ROUTE_KIND) == Some(&libc::RTN_LOCAL)),
            Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }

    pub(super) fn add_rule(&mut self, rule: &Rule) -> nix::Result<()> {
        let (table, action) = match rule.action {
            RuleAction::Lookup(table) => (table, FR_ACT_TO_TBL),
            RuleAction::Unreachable => (0, FR_ACT_UNREACHABLE),
        };
        let header = [
            family(rule.family),
            0,
            0,
            0,
            table,
            0,
            0,
            action,
            0,
            0,
            0,
            0,
        ];
        let body = body(
            &header,
            &[
                text(FRA_IIFNAME, &rule.from_link),
                nla(FRA_PRIORITY, &rule.priority.to_ne_bytes()),
            ],
        );
        self.change(libc::RTM_NEWRULE, NEW, body)
    }

    fn set_flag_up(&mut self, index: u32, flags: i32) -> nix::Result<()> {
        self.change(
            libc::RTM_NEWLINK,
            0,
            link_header(index, flags, libc::IFF_UP),
        )
    }

    fn change(&mut self, kind: u16, flags: u16, body: Vec<u8>) -> nix::Result<()> {
        self.netlink
            .exchange(kind, flags | NLM_F_ACK, body)
            .map(drop)
    }

    fn query(&mut self, kind: u16, body: Vec<u8>) -> nix::Result<Vec<u8>> {
        self.netlink.exchange(kind, 0, body)
    }
}

/// A fixed header followed by attributes.
fn body(header: &[u8], attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = header.to_vec();
    bytes.resize(header.len() + attributes.buffer_len(), 0);
    if let Some(rest) = bytes.get_mut(header.len()..) {
        attributes.emit(rest);
    }
    bytes
}

fn nla(kind: u16, value: &[u8]) -> DefaultNla {
    DefaultNla::new(kind, value.to_vec())
}

fn text(kind: u16, value: &str) -> DefaultNla {
    let mut bytes = value.as_bytes().to_vec();
    bytes.push(0);
    DefaultNla::new(kind, bytes)
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: i32, change: i32) -> Vec<u8> {
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(change.to_ne_bytes());
    header
}

/// `struct rtmsg` of a unicast route.
fn route_header(family: u8, prefix_len: u8, table: u8, scope: u8, flags: u32) -> Vec<u8> {
    let mut header = vec![
        family,
        prefix_len,
        0,
        0,
        table,
        libc::RTPROT_STATIC,
        scope,
        libc::RTN_UNICAST,
    ];
    header.extend(flags.to_ne_bytes());
    header
}

fn attribute(message: &[u8], header: usize, kind: u16) -> Option<Vec<u8>> {
    NlasIterator::new(message.get(header..)?)
        .map_while(Result::ok)
        .find(|nla| nla.kind() == kind)
        .map(|nla| nla.value().to_vec())
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    bytes
        .get(offset..)?
        .first_chunk()
        .map(|chunk| u32::from_ne_bytes(*chunk))
}

/// `AF_INET` or `AF_INET6`, for which the headers have one byte.
fn family(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

fn family_of(address: IpAddr) -> u8 {
    family(IpFamily::of(address))
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;
/// The first link of every network namespace.
const LOOPBACK_INDEX: u32 = 1;
/// Size of `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Offset of `rtm_type` in `struct rtmsg`.
const ROUTE_KIND: usize = 7;
// Of linux/if.h, veth.h, if_addr.h, rtnetlink.h and fib_rules.h; the libc crate lacks them or has
// them in another width.
const OPERSTATE_UP: u8 = 6;
const VETH_INFO_PEER: u16 = 1;
const IFA_F_NODAD: u8 = 0x02;
const RTNH_F_ONLINK: u32 = 4;
const FR_ACT_TO_TBL: u8 = 1;
const FR_ACT_UNREACHABLE: u8 = 7;
const FRA_IIFNAME: u16 = 3;
const FRA_PRIORITY: u16 = 6;
