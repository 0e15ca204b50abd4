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
enum Others {
    Exclude,
    Share,
}

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;
/// Octets of datagrams that wait while a batch is answered; the kernel takes what it allows.
const RECEIVE_BUFFER: usize = 4 << 20;

/// How often another port is tried where any will do: one that is free for UDP may be taken for TCP.
const ATTEMPTS: usize = 64;

/// An address, a datagram socket for each worker, and a listening socket; port 0 is any that is free for both.
pub(super) type Bound = (SocketAddr, Vec<UdpSocket>, TcpListener);

/// Binds an address for both transports.
pub(super) fn both(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    let mut others = match address.port() {
        0 => ATTEMPTS - 1,
        _ => 0,
    };
    loop {
        match both_once(address, workers) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && others > 0 => others -= 1,
            bound => return bound,
        }
    }
}

fn both_once(address: SocketAddr, workers: usize) -> io::Result<Bound> {
    // Sockets that share a port would also share it with another server of the same user.
    let alone = udp(address, Others::Exclude)?;
    let address = alone.local_addr()?;
    let listener = tcp(address)?;
    if workers == 1 {
        return Ok((address, vec![alone], listener));
    }
    drop(alone);
    let sockets = (0..workers).map(|_| udp(address, Others::Share));
    Ok((address, sockets.collect::<io::Result<_>>()?, listener))
}

/// A datagram socket, alone or together with those of other workers.
fn udp(address: SocketAddr, others: Others) -> io::Result<UdpSocket> {
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
fn tcp(address: SocketAddr) -> io::Result<TcpListener> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_port_is_one_that_is_free_for_both() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        // One of sixty ports or so is taken for TCP alone.
        let held: Vec<TcpListener> = (0..500).map(|_| TcpListener::bind(any).unwrap()).collect();
        for workers in (1..=2).cycle().take(400) {
            let (address, sockets, listener) = both(any, workers).unwrap();
            assert_eq!(sockets.len(), workers);
            assert_eq!(listener.local_addr().unwrap(), address);
            assert_eq!(sockets[0].local_addr().unwrap(), address);
        }
        let taken = held[0].local_addr().unwrap();
        let error = both(taken, 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }
}
