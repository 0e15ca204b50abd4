//! The UDP loop: many datagrams for one system call, no lock and no allocation for each.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg,
    sendmmsg, sendmsg, setsockopt, sockopt,
};

use super::forward::Client;
use super::metrics::Counters;
use super::respond::{Kind, Outcome, Transport, respond_into};
use super::server::Shared;

/// Datagrams that one system call takes.
const BATCH: usize = 64;
/// Largest query that is read; longer ones cannot be right.
const MAX_QUERY: usize = 4096;

/// One thread's share of a UDP address.
pub(super) struct Worker {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) shared: Arc<Shared>,
    pub(super) counters: Arc<Counters>,
}

/// A datagram: where it came from and where it went to.
#[derive(Clone, Copy)]
struct Arrival {
    from: Option<SockaddrStorage>,
    length: usize,
    to: Destination,
}

/// The local address that a datagram was sent to, where the socket listens on several.
#[derive(Clone, Copy, Debug)]
pub(super) enum Destination {
    Only,
    V4(nix::libc::in_pktinfo),
    V6(nix::libc::in6_pktinfo),
}

impl Worker {
    /// Answers until the socket fails.
    pub(super) fn run(&self) -> io::Result<()> {
        let wildcard = self.socket.local_addr()?.ip().is_unspecified();
        let space = match wildcard {
            true => {
                self.ask_for_destinations()?;
                Some(nix::cmsg_space!(
                    nix::libc::in6_pktinfo,
                    nix::libc::in_pktinfo
                ))
            }
            false => None,
        };
        let mut buffers = vec![[0; MAX_QUERY]; BATCH];
        let mut answers: Vec<Vec<u8>> = (0..BATCH).map(|_| Vec::with_capacity(1500)).collect();
        let mut receiving = MultiHeaders::preallocate(BATCH, None);
        let mut sending = MultiHeaders::preallocate(BATCH, None);
        loop {
            let arrivals = match self.receive(&mut buffers, &mut receiving, space.as_ref()) {
                Ok(arrivals) => arrivals,
                Err(errno) if is_transient(errno) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.answer(&arrivals, &buffers, &mut answers);
            match wildcard {
                true => self.send_each(&arrivals, &answers),
                false => self.send_all(&arrivals, &answers, &mut sending),
            }
        }
    }

    fn ask_for_destinations(&self) -> io::Result<()> {
        match self.socket.local_addr()? {
            SocketAddr::V4(_) => setsockopt(&*self.socket, sockopt::Ipv4PacketInfo, &true)?,
            SocketAddr::V6(_) => setsockopt(&*self.socket, sockopt::Ipv6RecvPacketInfo, &true)?,
        }
        Ok(())
    }

    fn receive(
        &self,
        buffers: &mut [[u8; MAX_QUERY]],
        headers: &mut MultiHeaders<SockaddrStorage>,
        space: Option<&Vec<u8>>,
    ) -> Result<Vec<Arrival>, Errno> {
        // The kernel shrinks the room for control messages to what it used, so that headers with
        // such room serve once only.
        let mut fresh;
        let headers = match space {
            Some(space) => {
                fresh = MultiHeaders::preallocate(BATCH, Some(space.clone()));
                &mut fresh
            }
            None => headers,
        };
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            buffers.iter_mut().map(|b| [IoSliceMut::new(b)]).collect();
        let fd = self.socket.as_raw_fd();
        let flags = MsgFlags::MSG_WAITFORONE;
        let received = recvmmsg(fd, headers, slices.iter_mut(), flags, None)?;
        let arrivals = received.map(|message| Arrival {
            from: message.address,
            // A datagram that did not fit is not looked at.
            length: match message.flags.contains(MsgFlags::MSG_TRUNC) {
                true => 0,
                false => message.bytes,
            },
            to: match space {
                None => Destination::Only,
                Some(_) => message
                    .cmsgs()
                    .ok()
                    .and_then(|mut messages| messages.find_map(|m| destination(&m)))
                    .unwrap_or(Destination::Only),
            },
        });
        Ok(arrivals.collect())
    }

    /// Writes an answer for each datagram; an empty one is not sent.
    fn answer(&self, arrivals: &[Arrival], buffers: &[[u8; MAX_QUERY]], answers: &mut [Vec<u8>]) {
        let zone = self.shared.zone.load();
        let mut before = Instant::now();
        for ((arrival, buffer), out) in arrivals.iter().zip(buffers).zip(answers) {
            let query = &buffer[..arrival.length];
            let policy = &self.shared.policy;
            match respond_into(&zone, query, Transport::Udp, policy, out) {
                Outcome::Silence => {
                    self.counters.count_silence();
                    out.clear();
                }
                Outcome::Answer(kind) => before = self.count(kind, before),
                Outcome::Forward => {
                    out.clear();
                    self.forward(arrival, query, None, out);
                }
                Outcome::Continue(target) => {
                    let target = target.to_name();
                    let start = std::mem::take(out);
                    self.forward(arrival, query, Some((start, target)), out);
                }
            }
        }
    }

    fn count(&self, kind: Kind, before: Instant) -> Instant {
        let now = Instant::now();
        self.counters.count(kind, now - before);
        now
    }

    /// Hands a query on; what cannot be handed on is answered here.
    fn forward(
        &self,
        arrival: &Arrival,
        query: &[u8],
        chain: Option<(Vec<u8>, svc_core::dns::DnsName)>,
        out: &mut Vec<u8>,
    ) {
        let (Some(forwarder), Some(address)) = (&self.shared.forwarder, arrival.from) else {
            return;
        };
        let client = Client {
            socket: self.socket.clone(),
            address,
            asked: arrival.to,
        };
        if let Err(failure) = forwarder.submit(client, query, chain) {
            *out = failure;
        }
    }

    fn send_all(
        &self,
        arrivals: &[Arrival],
        answers: &[Vec<u8>],
        headers: &mut MultiHeaders<SockaddrStorage>,
    ) {
        let due = arrivals.iter().zip(answers).filter(|(_, a)| !a.is_empty());
        let (addresses, slices): (Vec<_>, Vec<_>) = due
            .map(|(arrival, answer)| (arrival.from, [IoSlice::new(answer)]))
            .unzip();
        let mut done = 0;
        while done < slices.len() {
            let sent = sendmmsg(
                self.socket.as_raw_fd(),
                headers,
                slices[done..].iter(),
                &addresses[done..],
                [],
                MsgFlags::empty(),
            );
            match sent.map(Iterator::count) {
                Ok(count) if count > 0 => done += count,
                Err(Errno::EINTR) => {}
                // The first one cannot be sent, such as to port 0: that client gets nothing.
                Ok(_) | Err(_) => done += 1,
            }
        }
    }

    /// Sends one by one, each from the address that its query was sent to.
    fn send_each(&self, arrivals: &[Arrival], answers: &[Vec<u8>]) {
        for (arrival, answer) in arrivals.iter().zip(answers) {
            if let (Some(address), false) = (&arrival.from, answer.is_empty()) {
                arrival.to.answer(&self.socket, address, answer);
            }
        }
    }
}

impl Destination {
    /// Sends an answer from the address that the query was sent to: clients take it from no other (RFC 5452, 9.1).
    pub(super) fn answer(&self, socket: &UdpSocket, to: &SockaddrStorage, answer: &[u8]) {
        let slices = [IoSlice::new(answer)];
        let fd = socket.as_raw_fd();
        let flags = MsgFlags::empty();
        // An answer that cannot be sent is lost, as any datagram may be.
        let _ = match self {
            Self::Only => sendmsg(fd, &slices, &[], flags, Some(to)),
            Self::V4(info) => {
                let mut info = *info;
                info.ipi_spec_dst = info.ipi_addr;
                info.ipi_ifindex = 0;
                let message = [ControlMessage::Ipv4PacketInfo(&info)];
                sendmsg(fd, &slices, &message, flags, Some(to))
            }
            Self::V6(info) => {
                let message = [ControlMessage::Ipv6PacketInfo(info)];
                sendmsg(fd, &slices, &message, flags, Some(to))
            }
        };
    }
}

fn destination(message: &ControlMessageOwned) -> Option<Destination> {
    if let ControlMessageOwned::Ipv4PacketInfo(info) = message {
        return Some(Destination::V4(*info));
    }
    if let ControlMessageOwned::Ipv6PacketInfo(info) = message {
        return Some(Destination::V6(*info));
    }
    None
}

/// Errors that say something about one datagram or peer, not about the socket.
fn is_transient(errno: Errno) -> bool {
    [
        Errno::EINTR,
        Errno::EAGAIN,
        Errno::ECONNREFUSED,
        Errno::EHOSTUNREACH,
        Errno::ENETUNREACH,
        Errno::ENOBUFS,
        Errno::ENOMEM,
    ]
    .contains(&errno)
}
