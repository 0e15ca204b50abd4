//! Changes as the kernel tells them.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv};

use super::super::attr::messages;
use super::super::decode::{Event, decode_event};
use super::super::wire::GROUP;
use super::{DATAGRAM, RECEIVE_BUFFER, Socket, enlarge_receive_buffer, netfilter_socket};
use crate::error::EventError;

/// A socket that hears of every nf_tables change in its network namespace, own ones included.
///
/// The kernel describes every changed element to each listener, so a listener that does not read
/// loses events under load: that is reported once, and means "read back".
#[derive(Debug)]
pub struct Events {
    fd: OwnedFd,
    buf: Vec<u8>,
    waiting: VecDeque<Event>,
}

impl Socket {
    /// Opens a second socket that hears of changes from now on, in the namespace of the calling
    /// thread.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn events(&self) -> Result<Events, Errno> {
        let fd = netfilter_socket()?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1 << (GROUP - 1)))?;
        enlarge_receive_buffer(&fd, RECEIVE_BUFFER)?;
        Ok(Events {
            fd,
            buf: vec![0; DATAGRAM],
            waiting: VecDeque::new(),
        })
    }
}

impl Events {
    /// The next event; `None` if there is none now. Wait on the descriptor for more.
    ///
    /// # Errors
    /// [`EventError::Lost`] after which reading goes on.
    pub fn next_event(&mut self) -> Result<Option<Event>, EventError> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Ok(Some(event));
            }
            let len = match recv(self.fd.as_raw_fd(), &mut self.buf, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => len,
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::ENOBUFS) => return Err(EventError::Lost),
                Err(errno) => return Err(EventError::Io(errno.into())),
            };
            let datagram = self.buf.get(..len).unwrap_or_default();
            self.waiting
                .extend(messages(datagram).filter_map(|message| decode_event(&message)));
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
