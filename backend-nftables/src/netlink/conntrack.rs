//! The connection-tracking table: one dump, and deletion of single entries.

use std::io::IoSlice;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv, sendmsg};
use svc_core::conntrack::{ConntrackEntry, Direction};
use svc_core::{IpFamily, Protocol};

use super::attr::{Attrs, Header, Message, Writer, message, messages, ne_u32};
use super::socket::{enlarge_receive_buffer, netfilter_socket};
use super::wire::{ct, nlmsg};
use crate::error::ReadError;

/// A socket to the connection-tracking table of the network namespace of the thread that opened
/// it; for every backend, as the table is the kernel's.
///
/// Only UDP is looked at (B-181), and only the default zone: other zones belong to somebody else.
#[derive(Debug)]
pub struct Conntrack {
    fd: OwnedFd,
    seq: u32,
    buf: Vec<u8>,
    filter: Filter,
}

/// An entry, with what the kernel needs to find this very one again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tracked {
    /// The tuples of both directions.
    pub entry: ConntrackEntry,
    /// The kernel's number: the same tuples a moment later are another entry.
    id: Option<u32>,
}

/// Whether an entry could be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// It was.
    Deleted,
    /// It had ended before.
    Gone,
}

/// Who leaves the other protocols out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// The kernel, since 5.8.
    Kernel,
    /// We: the kernel did not take the filter.
    Own,
}

/// How a dump ended.
enum End {
    Done,
    Failed(Errno),
}

impl Conntrack {
    /// Opens a socket in the network namespace of the calling thread.
    ///
    /// # Errors
    /// What the kernel says; `EPROTONOSUPPORT` without netfilter.
    pub fn open() -> Result<Self, Errno> {
        let fd = netfilter_socket()?;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
        enlarge_receive_buffer(&fd, RECEIVE_BUFFER)?;
        Ok(Self {
            fd,
            seq: 0,
            buf: vec![0; DATAGRAM],
            filter: Filter::Kernel,
        })
    }

    /// All UDP entries of a family. A dump that the kernel could not make in one piece is given
    /// all the same: the next pass sees the rest (B-180).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn udp(&mut self, family: IpFamily) -> Result<Vec<Tracked>, ReadError> {
        let mut found = Vec::new();
        match self.dump(family, &mut found)? {
            End::Done => Ok(found),
            // Nothing was ever tracked: the module is not loaded.
            End::Failed(Errno::EINVAL) if self.filter == Filter::Own => Ok(found),
            End::Failed(Errno::EINVAL | Errno::EOPNOTSUPP) if self.filter == Filter::Kernel => {
                self.filter = Filter::Own;
                self.udp(family)
            }
            End::Failed(errno) => Err(ReadError::Refused(errno)),
        }
    }

    /// Deletes one entry.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn delete(&mut self, tracked: &Tracked) -> Result<Deletion, ReadError> {
        let family = IpFamily::of(tracked.entry.original.destination.ip());
        let seq = self.request(ct::DELETE, nlmsg::ACK, family, |to| {
            write_tuple(to, ct::TUPLE_ORIG, &tracked.entry.original);
            if let Some(id) = tracked.id {
                to.u32(ct::ID, id);
            }
        })?;
        loop {
            let len = self.receive()?;
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                if message.header.seq != seq || message.header.kind != nlmsg::ERROR {
                    continue;
                }
                return match error_of(&message) {
                    None => Ok(Deletion::Deleted),
                    Some(Errno::ENOENT) => Ok(Deletion::Gone),
                    Some(errno) => Err(ReadError::Refused(errno)),
                };
            }
        }
    }

    fn dump(&mut self, family: IpFamily, found: &mut Vec<Tracked>) -> Result<End, ReadError> {
        let filter = self.filter;
        let seq = self.request(ct::GET, nlmsg::DUMP, family, |to| {
            if filter == Filter::Kernel {
                write_filter(to);
            }
        })?;
        loop {
            let len = self.receive()?;
            for message in messages(self.buf.get(..len).unwrap_or_default()) {
                if message.header.seq != seq {
                    continue;
                }
                match message.header.kind {
                    nlmsg::DONE => return Ok(End::Done),
                    nlmsg::ERROR => {
                        return Ok(error_of(&message).map_or(End::Done, End::Failed));
                    }
                    _ => found.extend(decode(message.attrs())),
                }
            }
        }
    }

    fn request(
        &mut self,
        kind: u8,
        flags: u16,
        family: IpFamily,
        content: impl FnOnce(&mut Writer<'_>),
    ) -> Result<u32, Errno> {
        self.seq = self.seq.wrapping_add(1);
        let header = Header {
            kind: u16::from(ct::SUBSYS) << 8 | u16::from(kind),
            flags: nlmsg::REQUEST | flags,
            seq: self.seq,
            port: 0,
        };
        let mut request = Vec::new();
        let family = match family {
            IpFamily::V4 => ct::AF_INET,
            IpFamily::V6 => ct::AF_INET6,
        };
        message(&mut request, header, family, 0, content);
        let parts = [IoSlice::new(&request)];
        loop {
            let sent =
                sendmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &parts, &[], MsgFlags::empty(), None);
            match sent {
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
                Ok(_) => return Ok(self.seq),
            }
        }
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buf, MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                result => return result,
            }
        }
    }
}

fn error_of(message: &Message<'_>) -> Option<Errno> {
    let code = ne_u32(message.body, 0)?.cast_signed();
    (code != 0).then(|| Errno::from_raw(code.saturating_neg()))
}

fn write_tuple(to: &mut Writer<'_>, kind: u16, direction: &Direction) {
    to.nest(kind, |to| {
        to.nest(ct::TUPLE_IP, |to| {
            for (ip, v4, v6) in [
                (direction.source.ip(), ct::IP_V4_SRC, ct::IP_V6_SRC),
                (direction.destination.ip(), ct::IP_V4_DST, ct::IP_V6_DST),
            ] {
                match ip {
                    IpAddr::V4(ip) => to.bytes(v4, &ip.octets()),
                    IpAddr::V6(ip) => to.bytes(v6, &ip.octets()),
                }
            }
        });
        to.nest(ct::TUPLE_PROTO, |to| {
            to.u8(ct::PROTO_NUM, UDP);
            to.bytes(ct::PROTO_SRC_PORT, &direction.source.port().to_be_bytes());
            let port = direction.destination.port();
            to.bytes(ct::PROTO_DST_PORT, &port.to_be_bytes());
        });
    });
}

/// Asks for UDP alone: a node may track a million TCP connections.
fn write_filter(to: &mut Writer<'_>) {
    to.nest(ct::TUPLE_ORIG, |to| {
        to.nest(ct::TUPLE_PROTO, |to| to.u8(ct::PROTO_NUM, UDP));
    });
    to.nest(ct::FILTER, |to| {
        to.bytes(ct::FILTER_ORIG_FLAGS, &ct::FILTER_PROTO_NUM.to_ne_bytes());
        to.bytes(ct::FILTER_REPLY_FLAGS, &0u32.to_ne_bytes());
    });
}

/// An entry; `None` if it is not UDP, or of another zone.
pub(super) fn decode(attrs: Attrs<'_>) -> Option<Tracked> {
    if attrs.find(ct::ZONE).is_some() {
        return None;
    }
    let entry = ConntrackEntry {
        protocol: Protocol::Udp,
        original: decode_tuple(attrs.nested(ct::TUPLE_ORIG)?)?,
        reply: decode_tuple(attrs.nested(ct::TUPLE_REPLY)?)?,
    };
    let id = attrs.u32(ct::ID);
    Some(Tracked { entry, id })
}

fn decode_tuple(tuple: Attrs<'_>) -> Option<Direction> {
    if tuple.find(ct::TUPLE_ZONE).is_some() {
        return None;
    }
    let ip = tuple.nested(ct::TUPLE_IP)?;
    let proto = tuple.nested(ct::TUPLE_PROTO)?;
    if proto.find(ct::PROTO_NUM)?.u8() != Some(UDP) {
        return None;
    }
    let address = |v4, v6| -> Option<IpAddr> {
        if let Some(found) = ip.find(v4) {
            return Some(Ipv4Addr::from(*found.value.first_chunk::<4>()?).into());
        }
        Some(Ipv6Addr::from(*ip.find(v6)?.value.first_chunk::<16>()?).into())
    };
    let port = |kind| Some(u16::from_be_bytes(*proto.find(kind)?.value.first_chunk()?));
    Some(Direction {
        source: SocketAddr::new(
            address(ct::IP_V4_SRC, ct::IP_V6_SRC)?,
            port(ct::PROTO_SRC_PORT)?,
        ),
        destination: SocketAddr::new(
            address(ct::IP_V4_DST, ct::IP_V6_DST)?,
            port(ct::PROTO_DST_PORT)?,
        ),
    })
}

/// `IPPROTO_UDP`.
const UDP: u8 = 17;
/// The kernel sends dumps in at most 32 KiB.
const DATAGRAM: usize = 64 * 1024;
const RECEIVE_BUFFER: usize = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn direction(source: &str, destination: &str) -> Direction {
        Direction {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
        }
    }

    fn written(content: impl FnOnce(&mut Writer<'_>)) -> Vec<u8> {
        let mut buf = Vec::new();
        content(&mut Writer::new(&mut buf));
        buf
    }

    #[test]
    fn tuples_round_trip_in_both_families() {
        for (original, reply) in [
            (
                direction("10.64.1.9:40000", "10.96.0.10:53"),
                direction("10.64.1.1:5353", "10.64.1.9:40000"),
            ),
            (
                direction("[fd00::9]:40000", "[fd00:10:96::a]:53"),
                direction("[fd00::1]:5353", "[fd00::9]:40000"),
            ),
        ] {
            let bytes = written(|to| {
                write_tuple(to, ct::TUPLE_ORIG, &original);
                write_tuple(to, ct::TUPLE_REPLY, &reply);
                to.u32(ct::ID, 7);
            });
            let tracked = decode(Attrs(&bytes)).unwrap();
            assert_eq!(tracked.entry.original, original);
            assert_eq!(tracked.entry.reply, reply);
            assert_eq!(tracked.id, Some(7));
        }
    }

    #[test]
    fn entries_of_other_zones_and_cut_ones_are_left_out() {
        let both = |to: &mut Writer<'_>| {
            let one = direction("10.0.0.1:1", "10.0.0.2:2");
            write_tuple(to, ct::TUPLE_ORIG, &one);
            write_tuple(to, ct::TUPLE_REPLY, &one);
        };
        let whole = written(both);
        assert!(decode(Attrs(&whole)).is_some());
        let zone = written(|to| {
            both(to);
            to.bytes(ct::ZONE, &[0, 1]);
        });
        assert!(decode(Attrs(&zone)).is_none());
        for end in 0..whole.len() {
            // No panic whatever is missing; padding at the end may be.
            let _ = decode(Attrs(&whole[..end]));
        }
    }
}
