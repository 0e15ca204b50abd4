//! Addresses of the host, and news of them (B-124).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket,
};

use crate::host::PROXY_LINKS;

/// Which addresses are the node's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnAddresses {
    /// Those of its Node, and without a Node those of the host.
    OfNode,
    /// Those of the host beside those of its Node: no Node of a cluster lists all of them.
    OfHost,
}

/// Tells when an address of a link comes or goes.
#[derive(Debug)]
pub(super) struct AddressNews(OwnedFd);

impl AddressNews {
    /// Listens in the network namespace of the calling thread; what happens to links of proxies is no news.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkRoute,
        )?;
        let groups = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR).cast_unsigned();
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self(socket))
    }

    /// Waits for news; what came meanwhile is taken together.
    pub(super) fn wait(&self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        let mut news = false;
        let mut flags = MsgFlags::empty();
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, flags) {
                Ok(length) => news |= concerns(&buffer[..length], &of_proxies()),
                // Some were lost.
                Err(Errno::ENOBUFS) => news = true,
                Err(Errno::EAGAIN) if news => return Ok(()),
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            flags = match news {
                true => MsgFlags::MSG_DONTWAIT,
                false => MsgFlags::empty(),
            };
        }
    }
}

/// The indices of links of proxies.
fn of_proxies() -> Vec<u32> {
    let links = PROXY_LINKS.into_iter();
    links.filter_map(|link| if_nametoindex(link).ok()).collect()
}

/// Whether a message of a datagram is about an address of another link than these.
fn concerns(mut messages: &[u8], of_proxies: &[u32]) -> bool {
    while let Some((header, _)) = messages.split_first_chunk::<MESSAGE>() {
        let [a, b, c, d, kind, more, ..] = *header;
        let length = u32::from_ne_bytes([a, b, c, d]) as usize;
        let kind = u16::from_ne_bytes([kind, more]);
        let [.., e, f, g, h] = *header;
        let index = u32::from_ne_bytes([e, f, g, h]);
        let of_address = [libc::RTM_NEWADDR, libc::RTM_DELADDR].contains(&kind);
        if of_address && !of_proxies.contains(&index) {
            return true;
        }
        let next = length.max(MESSAGE).next_multiple_of(4);
        messages = messages.get(next..).unwrap_or_default();
    }
    false
}

/// Bytes of `struct nlmsghdr` and `struct ifaddrmsg`, which ends with the index of the link.
const MESSAGE: usize = 16 + 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, index: u32, more: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(MESSAGE + more)
            .unwrap()
            .to_ne_bytes()
            .to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend([0; 10]);
        bytes.extend([2, 24, 0, 0]);
        bytes.extend(index.to_ne_bytes());
        bytes.resize(bytes.len() + more.next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn addresses_of_links_of_proxies_are_no_news() {
        let own = message(libc::RTM_NEWADDR, 7, 33);
        let other = message(libc::RTM_DELADDR, 3, 8);
        assert!(!concerns(&own, &[7, 8]));
        assert!(concerns(&[own.clone(), other.clone()].concat(), &[7, 8]));
        assert!(concerns(&other, &[]));
        assert!(!concerns(&message(libc::RTM_NEWLINK, 3, 0), &[]));
        // Cut off, or with a length that cannot be.
        assert!(!concerns(&other[..20], &[]));
        assert!(!concerns(&[0; 64], &[]));
    }
}
