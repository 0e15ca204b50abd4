//! The end of the way for packets that nobody takes.
//!
//! The kernel would answer them itself (an unreachable route does), but for IPv4 it answers one
//! client only five times and then once a second, and lets nobody change that.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

use super::{Error, Namespace};

/// A namespace that answers every IPv4 packet sent through it with ICMP network unreachable.
#[derive(Debug)]
pub(super) struct Nowhere {
    namespace: Namespace,
    /// Closed to stop the thread.
    stop: Option<UnixStream>,
    worker: Option<JoinHandle<()>>,
}

impl Nowhere {
    pub(super) fn start(namespace: Namespace) -> Result<Self, Error> {
        let failed = |source| Error::Thread {
            namespace: namespace.name().to_owned(),
            source,
        };
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let sockets = namespace
            .run(Sockets::open)?
            .map_err(|source| Error::Socket {
                operation: "read and answer stray packets".into(),
                namespace: namespace.name().to_owned(),
                source,
            })?;
        let worker = thread::Builder::new()
            .name("answer strays".into())
            .spawn(move || sockets.answer_until(&stopped))
            .map_err(failed)?;
        Ok(Self {
            namespace,
            stop: Some(stop),
            worker: Some(worker),
        })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.namespace
    }
}

impl Drop for Nowhere {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(worker) = self.worker.take() {
            // A panic there was printed by the runtime; the sockets are closed either way.
            drop(worker.join());
        }
    }
}

struct Sockets {
    /// Sees the IPv4 packets that arrive, whomever they are for.
    packets: OwnedFd,
    icmp: OwnedFd,
}

impl Sockets {
    fn open() -> nix::Result<Self> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let packets = socket(
            AddressFamily::Packet,
            SockType::Datagram,
            flags,
            SockProtocol::EthIp,
        )?;
        let icmp = socket(
            AddressFamily::Inet,
            SockType::Raw,
            flags,
            SockProtocol::Icmp,
        )?;
        Ok(Self { packets, icmp })
    }

    fn answer_until(&self, stopped: &UnixStream) {
        loop {
            let mut fds = [stopped.as_fd(), self.packets.as_fd()]
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return,
            }
            let [stopped, _] = fds;
            if stopped.any().unwrap_or(true) {
                return;
            }
            let mut packet = [0; 2048];
            while let Ok(length) = recv(self.packets.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                let Some((client, answer)) = packet.get(..length).and_then(unreachable) else {
                    continue;
                };
                let to = SockaddrIn::from(SocketAddrV4::new(client, 0));
                // An answer that gets lost is a client that times out, which shows.
                let _ = sendto(self.icmp.as_raw_fd(), &answer, &to, MsgFlags::empty());
            }
        }
    }
}

/// The ICMP message for a stray packet, and whom it goes to; `None` for packets that nobody
/// should answer, above all ICMP errors (RFC 1122 section 3.2.2).
fn unreachable(packet: &[u8]) -> Option<(Ipv4Addr, Vec<u8>)> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    if !ANSWERED_PROTOCOLS.contains(packet.get(9)?) {
        return None;
    }
    let source: [u8; 4] = *packet.get(12..)?.first_chunk()?;
    let mut message = vec![ICMP_UNREACHABLE, ICMP_NETWORK, 0, 0, 0, 0, 0, 0];
    message.extend(packet.get(..header + 8)?);
    let sum = checksum(&message).to_be_bytes();
    message.get_mut(2..4)?.copy_from_slice(&sum);
    Some((source.into(), message))
}

/// The Internet checksum of RFC 1071; the length is even, for all headers here are.
fn checksum(bytes: &[u8]) -> u16 {
    let (words, _) = bytes.as_chunks::<2>();
    let mut sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    while let Ok(carry @ 1..) = u16::try_from(sum >> 16) {
        sum = (sum & 0xffff) + u32::from(carry);
    }
    // The loop ends when nothing is left above the low half.
    !u16::try_from(sum).unwrap_or(0)
}

/// TCP, UDP and SCTP.
const ANSWERED_PROTOCOLS: [u8; 3] = [6, 17, 132];
const ICMP_UNREACHABLE: u8 = 3;
const ICMP_NETWORK: u8 = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stray_is_answered_with_its_first_bytes() {
        let mut packet = vec![0; 40];
        packet[0] = 0x45;
        packet[9] = 17;
        packet[12..16].copy_from_slice(&[203, 0, 113, 7]);
        packet[20..24].copy_from_slice(&[0x12, 0x34, 0xff, 0xff]);
        let (client, message) = unreachable(&packet).unwrap();
        assert_eq!(client, Ipv4Addr::new(203, 0, 113, 7));
        assert_eq!(message.len(), 8 + 20 + 8);
        assert_eq!(message[8..], packet[..28]);
        assert_eq!(
            checksum(&message),
            0,
            "a message with its checksum sums up to nothing"
        );
    }

    #[test]
    fn icmp_and_cut_packets_are_not_answered() {
        let mut packet = vec![0; 28];
        packet[0] = 0x45;
        packet[9] = 1;
        assert_eq!(unreachable(&packet), None);
        packet[9] = 6;
        assert!(unreachable(&packet).is_some());
        for length in 0..packet.len() {
            assert_eq!(unreachable(&packet[..length]), None, "{length} bytes");
        }
    }
}
