//! The kernel's memory of connections.

use netlink_packet_core::NLM_F_ACK;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;

use super::netlink::Netlink;
use super::{Error, Namespace};

impl Namespace {
    /// Makes the kernel forget every connection that it tracks here.
    ///
    /// A client that takes a port again before the kernel has forgotten it (for UDP, up to two
    /// minutes later) goes on with the old connection and so reaches the old endpoint.
    ///
    /// # Errors
    ///
    /// [`Error::Conntrack`].
    pub fn forget_connections(&self) -> Result<(), Error> {
        let forget = || {
            let mut netlink = Netlink::open(SockProtocol::NetlinkNetFilter)?;
            // Without a tuple the request means all of them.
            match netlink.exchange(DELETE, NLM_F_ACK, NFGENMSG.to_vec()) {
                // Nothing has been tracked yet: the module is not loaded.
                Err(Errno::EINVAL) | Ok(_) => Ok(()),
                Err(errno) => Err(errno),
            }
        };
        self.run(forget)?.map_err(|source| Error::Conntrack {
            namespace: self.name().to_owned(),
            source,
        })
    }
}

/// `NFNL_SUBSYS_CTNETLINK` and `IPCTNL_MSG_CT_DELETE` of linux/netfilter.
const DELETE: u16 = (1 << 8) | 2;
/// `struct nfgenmsg`: any family, version 0.
const NFGENMSG: [u8; 4] = [0; 4];
