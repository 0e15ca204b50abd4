//! A blocking netlink socket for requests that have one answer.

use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{
    NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};

/// A netlink socket; it belongs to the namespace of the thread that opened it.
pub(super) struct Netlink {
    socket: OwnedFd,
    sequence: u32,
}

impl Netlink {
    pub(super) fn open(protocol: SockProtocol) -> nix::Result<Self> {
        let family = AddressFamily::Netlink;
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Sends one request and returns the body of its answer, empty for an acknowledgement.
    pub(super) fn exchange(
        &mut self,
        kind: u16,
        flags: u16,
        body: Vec<u8>,
    ) -> nix::Result<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let raw = Raw { kind, body };
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(raw));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let kernel = NetlinkAddr::new(0, 0);
        sendto(self.socket.as_raw_fd(), &bytes, &kernel, MsgFlags::empty())?;
        loop {
            let answer = self.receive()?;
            if answer.header.sequence_number != self.sequence {
                // Left over from a request whose answer was not awaited.
                continue;
            }
            if let NetlinkPayload::InnerMessage(raw) = answer.payload {
                return Ok(raw.body);
            }
            let NetlinkPayload::Error(error) = answer.payload else {
                return Err(Errno::EBADMSG);
            };
            return match error.code {
                Some(code) => Err(Errno::from_raw(code.get().saturating_neg())),
                None => Ok(Vec::new()),
            };
        }
    }

    fn receive(&self) -> nix::Result<NetlinkMessage<Raw>> {
        let mut buffer = vec![0; ANSWER_LIMIT];
        let length = loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                other => break other?,
            }
        };
        buffer.truncate(length);
        // One request is one answer; checked, because the parser trusts the length field.
        NetlinkBuffer::new_checked(&buffer).map_err(|_| Errno::EBADMSG)?;
        NetlinkMessage::deserialize(&buffer).map_err(|_| Errno::EBADMSG)
    }
}

/// A message of any kind, its body not looked into.
#[derive(Debug)]
struct Raw {
    kind: u16,
    body: Vec<u8>,
}

impl NetlinkSerializable for Raw {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Raw {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self {
            kind: header.message_type,
            body: payload.to_vec(),
        })
    }
}

/// The answer about one link takes about 2 KiB.
const ANSWER_LIMIT: usize = 32 * 1024;
