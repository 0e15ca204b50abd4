//! Sockets bound as a server needs them: a wildcard address is that of one family only, so that
//! `0.0.0.0` and `[::]` can be served side by side.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
    sockopt,
};

/// Whether other sockets may have the same address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Others {
    Exclude,
    Share,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Octets of datagrams that wait while a batch is answered; the kernel takes what it allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// A datagram socket, alone or together with those of other workers.
pub(super) fn udp(address: SocketAddr, others: Others) -> io::Result<UdpSocket> {
    let fd = open(address, SockType::Datagram)?;
    if others == Others::Share {
        setsockopt(&fd, sockopt::ReusePort, &true)?;
    }
    // A smaller buffer only loses datagrams earlier.
    let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from(fd))
}

/// A listening socket.
pub(super) fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let fd = open(address, SockType::Stream)?;
    // Old connections of a former server may linger.
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    listen(&fd, Backlog::new(BACKLOG)?)?;
    Ok(TcpListener::from(fd))
}

fn open(address: SocketAddr, kind: SockType) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let fd = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
    }
    Ok(fd)
}
