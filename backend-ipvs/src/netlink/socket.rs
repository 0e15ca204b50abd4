//! The socket to the kernel.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
    setsockopt, socket, sockopt,
};

use super::attr::{u16_at, u32_at};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    /// Type: of generic netlink the family, of route netlink the operation.
    pub(crate) kind: u16,
    /// Flags beside "request" and "acknowledge".
    pub(crate) flags: u16,
    /// What follows the header.
    pub(crate) body: Vec<u8>,
}

/// A held-open netlink socket in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(crate) struct Netlink {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
    sent: u64,
}

impl Netlink {
    pub(crate) fn open(protocol: SockProtocol) -> Result<Self, Errno> {
        let family = AddressFamily::Netlink;
        let fd = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        match setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER) {
            Err(Errno::EPERM) => setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER)?,
            result => result?,
        }
        Ok(Self {
            fd,
            sequence: 0,
            buffer: vec![0; DATAGRAM],
            sent: 0,
        })
    }

    /// Requests sent so far.
    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends requests, many in a datagram, and returns the answer to each.
    ///
    /// The kernel takes each for itself: one that is refused does not keep it from the next.
    ///
    /// # Errors
    /// When the connection broke: any number of requests may have been taken.
    pub(crate) fn change(&mut self, messages: &[Message]) -> Result<Vec<Result<(), Errno>>, Errno> {
        let mut answers = Vec::with_capacity(messages.len());
        for chunk in messages.chunks(CHUNK) {
            let first = self.sequence.wrapping_add(1);
            let mut bytes = Vec::new();
            for message in chunk {
                self.sequence = self.sequence.wrapping_add(1);
                write(&mut bytes, message, REQUEST | ACK, self.sequence);
            }
            self.send(&bytes, chunk.len())?;
            let mut found = vec![None; chunk.len()];
            while found.iter().any(Option::is_none) {
                let len = self.receive()?;
                for (header, body) in messages_of(self.buffer.get(..len).unwrap_or_default()) {
                    let index = header.sequence.wrapping_sub(first) as usize;
                    if let (ERROR, Some(slot)) = (header.kind, found.get_mut(index)) {
                        *slot = Some(status(body));
                    }
                }
            }
            answers.extend(found.into_iter().map(|answer| answer.unwrap_or(Ok(()))));
        }
        Ok(answers)
    }

    /// Asks for one object.
    ///
    /// # Errors
    /// The kernel's refusal, or that the connection broke.
    pub(crate) fn ask(&mut self, message: &Message) -> Result<Vec<u8>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        write(&mut bytes, message, REQUEST, self.sequence);
        self.send(&bytes, 1)?;
        loop {
            let len = self.receive()?;
            for (header, body) in messages_of(self.buffer.get(..len).unwrap_or_default()) {
                if header.sequence != self.sequence {
                    continue;
                }
                if header.kind == ERROR {
                    status(body)?;
                    return Ok(Vec::new());
                }
                return Ok(body.to_vec());
            }
        }
    }

    /// Asks for all objects of a kind.
    ///
    /// # Errors
    /// The kernel's refusal, `EINTR` if somebody changed the list meanwhile, or that the connection
    /// broke.
    pub(crate) fn dump(&mut self, message: &Message) -> Result<Vec<Vec<u8>>, Errno> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        write(&mut bytes, message, REQUEST | DUMP, self.sequence);
        self.send(&bytes, 1)?;
        let mut bodies = Vec::new();
        let mut interrupted = false;
        loop {
            let len = self.receive()?;
            for (header, body) in messages_of(self.buffer.get(..len).unwrap_or_default()) {
                if header.sequence != self.sequence {
                    continue;
                }
                interrupted |= header.flags & DUMP_INTERRUPTED != 0;
                match header.kind {
                    DONE if interrupted => return Err(Errno::EINTR),
                    DONE => return Ok(bodies),
                    ERROR => {
                        status(body)?;
                        return Ok(bodies);
                    }
                    _ => bodies.push(body.to_vec()),
                }
            }
        }
    }

    fn send(&mut self, bytes: &[u8], messages: usize) -> Result<(), Errno> {
        let kernel = NetlinkAddr::new(0, 0);
        loop {
            match sendto(self.fd.as_raw_fd(), bytes, &kernel, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => {
                    self.sent += messages as u64;
                    return Ok(());
                }
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                // The end of the connection; without it the loops here would not end.
                Ok(0) => return Err(Errno::ECONNRESET),
                result => return result,
            }
        }
    }
}

pub(super) struct Header {
    kind: u16,
    flags: u16,
    sequence: u32,
}

/// Appends a message.
pub(crate) fn write(bytes: &mut Vec<u8>, message: &Message, flags: u16, sequence: u32) {
    let len = u32::try_from(HEADER + message.body.len()).unwrap_or(u32::MAX);
    bytes.extend(len.to_ne_bytes());
    bytes.extend(message.kind.to_ne_bytes());
    bytes.extend((message.flags | flags).to_ne_bytes());
    bytes.extend(sequence.to_ne_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&message.body);
    bytes.resize(bytes.len().next_multiple_of(ALIGN), 0);
}

pub(super) fn messages_of(mut bytes: &[u8]) -> impl Iterator<Item = (Header, &[u8])> {
    std::iter::from_fn(move || {
        let len = u32_at(bytes, 0)? as usize;
        let header = Header {
            kind: u16_at(bytes, 4)?,
            flags: u16_at(bytes, 6)?,
            sequence: u32_at(bytes, 8)?,
        };
        let body = bytes.get(HEADER..len)?;
        bytes = bytes.get(len.next_multiple_of(ALIGN)..).unwrap_or_default();
        Some((header, body))
    })
}

pub(super) fn status(body: &[u8]) -> Result<(), Errno> {
    match u32_at(body, 0).map(u32::cast_signed) {
        Some(0) => Ok(()),
        Some(code) => Err(Errno::from_raw(code.saturating_neg())),
        None => Err(Errno::EBADMSG),
    }
}

const HEADER: usize = 16;
const ALIGN: usize = 4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const DUMP: u16 = 0x300;
const DUMP_INTERRUPTED: u16 = 0x10;
/// Requests in a datagram: their answers, at about 1 KiB each, fit the receive buffer.
const CHUNK: usize = 128;
const RECEIVE_BUFFER: usize = 1024 * 1024;
/// The kernel sends dumps in at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;
