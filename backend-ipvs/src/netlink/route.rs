//! The dummy link and its addresses (`linux/rtnetlink.h`).

use std::net::IpAddr;

use svc_core::IpFamily;

use super::Message;
use super::attr::{find, nest, put, put_text, text, u32_at};

/// What the kernel says of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) kind: String,
    pub(crate) up: bool,
}

/// Asks for a link by its name.
pub(crate) fn get_link(name: &str) -> Message {
    let mut body = link_header(0, 0);
    put_text(&mut body, LINK_NAME, name);
    message(GET_LINK, 0, body)
}

/// Makes a dummy link that is up at once.
pub(crate) fn new_link(name: &str) -> Message {
    let mut body = link_header(0, UP);
    put_text(&mut body, LINK_NAME, name);
    nest(&mut body, LINK_INFO, |body| {
        put_text(body, INFO_KIND, DUMMY)
    });
    message(NEW_LINK, CREATE | EXCLUSIVE, body)
}

/// Switches a link on.
pub(crate) fn set_up(name: &str) -> Message {
    let mut body = link_header(0, UP);
    put_text(&mut body, LINK_NAME, name);
    message(NEW_LINK, 0, body)
}

/// Removes a link and its addresses.
pub(crate) fn delete_link(index: u32) -> Message {
    message(DELETE_LINK, 0, link_header(index, 0))
}

/// Puts an address on a link.
pub(crate) fn new_address(link: u32, ip: IpAddr) -> Message {
    message(NEW_ADDRESS, CREATE | EXCLUSIVE, address(link, ip))
}

/// Takes an address off a link.
pub(crate) fn delete_address(link: u32, ip: IpAddr) -> Message {
    message(DELETE_ADDRESS, 0, address(link, ip))
}

/// Asks for the addresses of all links.
pub(crate) fn list_addresses(family: IpFamily) -> Message {
    message(GET_ADDRESS, 0, vec![code(family), 0, 0, 0, 0, 0, 0, 0])
}

/// A link in an answer.
pub(crate) fn read_link(answer: &[u8]) -> Option<Link> {
    let attributes = answer.get(LINK_HEADER..)?;
    let info = find(attributes, LINK_INFO).unwrap_or_default();
    Some(Link {
        index: u32_at(answer, 4)?,
        kind: find(info, INFO_KIND).map(text).unwrap_or_default(),
        up: u32_at(answer, 8)? & UP != 0,
    })
}

/// An address in an answer, with the index of its link. What the kernel gives each link itself is
/// left out.
pub(crate) fn read_address(answer: &[u8], family: IpFamily) -> Option<(u32, IpAddr)> {
    if *answer.first()? != code(family) {
        return None;
    }
    let attributes = answer.get(ADDRESS_HEADER..)?;
    let value = find(attributes, ADDRESS_LOCAL).or_else(|| find(attributes, ADDRESS_ADDRESS))?;
    let ip = match family {
        IpFamily::V4 => IpAddr::from(*value.first_chunk::<4>()?),
        IpFamily::V6 => IpAddr::from(*value.first_chunk::<16>()?),
    };
    let own = match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    own.then_some((u32_at(answer, 4)?, ip))
}

fn message(kind: u16, flags: u16, body: Vec<u8>) -> Message {
    Message { kind, flags, body }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32) -> Vec<u8> {
    [
        [0; 4],
        index.to_ne_bytes(),
        flags.to_ne_bytes(),
        flags.to_ne_bytes(),
    ]
    .concat()
}

/// `struct ifaddrmsg` and the address, for this host alone and never a source that the kernel picks
/// for packets to others, as it does where it masquerades.
fn address(link: u32, ip: IpAddr) -> Vec<u8> {
    let (octets, bits, flags, scope) = match ip {
        IpAddr::V4(ip) => (ip.octets().to_vec(), 32, 0, SCOPE_HOST),
        // Nobody else is on the link: looking for duplicates would hold the address back.
        IpAddr::V6(ip) => (ip.octets().to_vec(), 128, NO_DUPLICATES, 0),
    };
    let mut body = vec![code(IpFamily::of(ip)), bits, flags, scope];
    body.extend(link.to_ne_bytes());
    put(&mut body, ADDRESS_LOCAL, &octets);
    put(&mut body, ADDRESS_ADDRESS, &octets);
    if ip.is_ipv6() {
        // Valid for ever and preferred never: deprecated.
        let lifetimes = [0, u32::MAX, 0, 0].map(u32::to_ne_bytes);
        put(&mut body, ADDRESS_LIFETIMES, lifetimes.as_flattened());
    }
    body
}

fn code(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 2,
        IpFamily::V6 => 10,
    }
}

/// The kind of link that we make.
pub(crate) const DUMMY: &str = "dummy";

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;
/// `IFF_UP`.
const UP: u32 = 1;
const LINK_HEADER: usize = 16;
const LINK_NAME: u16 = 3;
const LINK_INFO: u16 = 18;
const INFO_KIND: u16 = 1;
const ADDRESS_HEADER: usize = 8;
const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;
const ADDRESS_LIFETIMES: u16 = 6;
/// `RT_SCOPE_HOST`.
const SCOPE_HOST: u8 = 254;
/// `IFA_F_NODAD`.
const NO_DUPLICATES: u8 = 0x02;
