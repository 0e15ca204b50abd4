//! The socket to the kernel.

mod event;
mod read;

pub use event::Events;
pub(crate) use read::Part;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, bind, getsockname, getsockopt, recv, sendmsg, setsockopt, sockopt,
};

use super::attr::{Attrs, Message, messages, ne_u32};
use super::batch::{Batch, end};
use super::wire::{NFGENMSG, nlmsg};
use crate::error::{CommitError, Refusal};

/// A held-open netlink socket in the network namespace of the thread that opened it.
///
/// Keep it: closing one after a transaction with deletions takes the kernel milliseconds.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    port: u32,
    /// Longest datagram that can be sent now.
    limit: usize,
    buf: Vec<u8>,
    /// Of reads; transactions number their messages from 0.
    seq: u32,
}

/// A transaction that was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The generation it made, known without asking if the batch expected one.
    ///
    /// The kernel makes no generation of a transaction that changes nothing (such as keeping an
    /// existing element): then this is one too high, and the next expectation of it is refused
    /// with the actual one.
    pub generation: Option<u32>,
}

impl Socket {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says; `EPROTONOSUPPORT` without netfilter.
    pub fn open() -> Result<Self, Errno> {
        let fd = netfilter_socket()?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd())?.pid();
        enlarge_receive_buffer(&fd, RECEIVE_BUFFER)?;
        let limit = send_limit(&fd)?;
        Ok(Self {
            fd,
            port,
            limit,
            buf: vec![0; DATAGRAM],
            seq: READ_SEQ,
        })
    }

    /// The netlink port, which events of own transactions carry.
    pub fn port(&self) -> u32 {
        self.port
    }

    /// Applies a transaction as a whole or not at all.
    ///
    /// An empty one does nothing. A transaction longer than the send buffer makes it larger, as far
    /// as the kernel lets (without privilege in the first user namespace: `net.core.wmem_max`).
    ///
    /// # Errors
    /// See [`CommitError`]: in all cases but `LostReplies` nothing was applied.
    pub fn commit(&mut self, batch: &Batch) -> Result<Committed, CommitError> {
        let expected = batch.expected_generation();
        if batch.is_empty() {
            return Ok(Committed {
                generation: expected,
            });
        }
        if !batch.oversized().is_empty() {
            return Err(CommitError::Refused(oversized(batch)));
        }
        self.send_batch(batch)?;
        match self.answer(batch) {
            Answer::Applied => Ok(Committed {
                generation: expected.map(next_generation),
            }),
            Answer::Refused(refusals) => Err(CommitError::Refused(refusals)),
            Answer::Stale => Err(CommitError::Generation {
                expected: expected.unwrap_or_default(),
                actual: self.generation().ok(),
            }),
            Answer::Lost => Err(CommitError::LostReplies),
        }
    }

    fn send_batch(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let len = batch.byte_len();
        if len > self.limit {
            self.limit = enlarge_send_buffer(&self.fd, len).map_err(io)?;
        }
        let parts = [IoSlice::new(batch.bytes()), IoSlice::new(end())];
        match self.send(&parts) {
            Ok(sent) if sent == len => Ok(()),
            // The kernel takes a datagram whole.
            Ok(_) => Err(io(Errno::EIO)),
            Err(Errno::EMSGSIZE) => Err(CommitError::TooLarge {
                len,
                limit: self.limit,
            }),
            Err(errno) => Err(io(errno)),
        }
    }

    /// Reads what the kernel says to a transaction: it has said all when the send returns, each
    /// refusal in a datagram of its own, the answer of the last operation at the end.
    fn answer(&mut self, batch: &Batch) -> Answer {
        let mut refusals = Vec::new();
        let mut lost = false;
        loop {
            let len = match self.receive(MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(Errno::EAGAIN) => break,
                // Why on: what was not lost still waits, and must not be left for the next.
                Err(Errno::ENOBUFS) => {
                    lost = true;
                    continue;
                }
                Err(_) => break,
            };
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                match reply(&message) {
                    // Why only then: after a refusal more may be waiting.
                    Reply::Done
                        if message.header.seq == batch.last_seq()
                            && refusals.is_empty()
                            && !lost =>
                    {
                        return Answer::Applied;
                    }
                    Reply::Done | Reply::Other => {}
                    Reply::Error(errno) if message.header.seq == 0 && errno == Errno::ERESTART => {
                        return Answer::Stale;
                    }
                    Reply::Error(errno) => refusals.push(refusal(batch, &message, errno)),
                }
            }
        }
        if refusals.is_empty() {
            Answer::Lost
        } else {
            Answer::Refused(refusals)
        }
    }

    fn send(&self, parts: &[IoSlice<'_>]) -> Result<usize, Errno> {
        loop {
            match sendmsg::<NetlinkAddr>(self.fd.as_raw_fd(), parts, &[], MsgFlags::empty(), None) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }

    /// One datagram into `buf`, cut to its size: long ones are refusals that quote the refused.
    fn receive(&mut self, flags: MsgFlags) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buf, flags) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

enum Answer {
    Applied,
    Refused(Vec<Refusal>),
    Stale,
    Lost,
}

/// What one message of the kernel says to a request.
enum Reply {
    Done,
    Error(Errno),
    Other,
}

fn reply(message: &Message<'_>) -> Reply {
    match (message.header.kind, ne_u32(message.body, 0)) {
        (nlmsg::ERROR, Some(0)) => Reply::Done,
        (nlmsg::ERROR, Some(code)) => {
            Reply::Error(Errno::from_raw(code.cast_signed().saturating_neg()))
        }
        _ => Reply::Other,
    }
}

fn refusal(batch: &Batch, message: &Message<'_>, errno: Errno) -> Refusal {
    let details = details(message);
    Refusal {
        tag: batch.tag_of(message.header.seq),
        index: message.header.seq.saturating_sub(1),
        errno,
        message: details
            .and_then(|tlvs| tlvs.string(nlmsg::ERROR_MSG))
            .map(Box::from),
        offset: details
            .and_then(|tlvs| tlvs.find(nlmsg::ERROR_OFFSET))
            .and_then(|tlv| ne_u32(tlv.value, 0)),
    }
}

/// The attributes after the quoted request.
fn details<'b>(message: &Message<'b>) -> Option<Attrs<'b>> {
    if message.header.flags & nlmsg::ACK_TLVS == 0 {
        return None;
    }
    let quoted = if message.header.flags & nlmsg::CAPPED == 0 {
        usize::try_from(ne_u32(message.body, 4)?)
            .ok()?
            .checked_next_multiple_of(4)?
    } else {
        nlmsg::HEADER
    };
    message.body.get(quoted.checked_add(4)?..).map(Attrs)
}

fn oversized(batch: &Batch) -> Vec<Refusal> {
    let refuse = |tag: &u32| Refusal {
        tag: Some(*tag),
        index: 0,
        errno: Errno::E2BIG,
        message: Some(Box::from("longer than a netlink attribute can be")),
        offset: None,
    };
    batch.oversized().iter().map(refuse).collect()
}

/// The kernel counts by one and leaves 0 out.
fn next_generation(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// A socket whose refusals tell in words what the kernel dislikes, and where.
///
/// Why another crate: nix does not know the two options, and setting them is `unsafe`.
pub(super) fn netfilter_socket() -> Result<OwnedFd, Errno> {
    let errno = |error: io::Error| Errno::from_raw(error.raw_os_error().unwrap_or_default());
    let socket = netlink_sys::Socket::new(NETLINK_NETFILTER).map_err(errno)?;
    socket.set_ext_ack(true).map_err(errno)?;
    // Without the quoted request, of which the batch has a copy.
    socket.set_cap_ack(true).map_err(errno)?;
    socket.as_fd().try_clone_to_owned().map_err(errno)
}

pub(super) fn enlarge_receive_buffer(fd: &OwnedFd, len: usize) -> Result<(), Errno> {
    match setsockopt(fd, sockopt::RcvBufForce, &len) {
        Err(Errno::EPERM) => setsockopt(fd, sockopt::RcvBuf, &len),
        result => result,
    }
}

/// Makes room for a datagram of `len` bytes; the limit reached, maybe lower.
fn enlarge_send_buffer(fd: &OwnedFd, len: usize) -> Result<usize, Errno> {
    // Why half: the kernel doubles what it is told.
    let half = (len + SEND_OVERHEAD).div_ceil(2);
    match setsockopt(fd, sockopt::SndBufForce, &half) {
        Err(Errno::EPERM) => setsockopt(fd, sockopt::SndBuf, &half)?,
        result => result?,
    }
    send_limit(fd)
}

fn send_limit(fd: &OwnedFd) -> Result<usize, Errno> {
    Ok(getsockopt(fd, sockopt::SndBuf)?.saturating_sub(SEND_OVERHEAD))
}

fn io(errno: Errno) -> CommitError {
    CommitError::Io(errno.into())
}

/// Longest datagram read: the kernel sends dumps in at most 32 KiB, and quotes refused messages,
/// of at most 64 KiB.
const DATAGRAM: usize = 128 * 1024;
/// Room for refusals that quote what they refuse.
const RECEIVE_BUFFER: usize = 8 * 1024 * 1024;
/// What the kernel keeps of the send buffer for itself.
const SEND_OVERHEAD: usize = 32;
/// First sequence number of reads, which no transaction reaches.
const READ_SEQ: u32 = 1 << 31;

const _: () = assert!(NFGENMSG == 4);
