//! Tables of nf_tables, of kube-proxy and of ourselves.

use std::thread;

use backend_nftables::netlink::{Batch, Socket, TableId};
use backend_nftables::rule::{Chain, Family, Hook};
use svc_core::IpFamily;

use super::UNDER_WAY;
use crate::cli::one_line;

/// Removes a table in two steps.
///
/// Deleted at once, a table breaks packets that are in it: a packet finishes the rules that it began
/// with, but the kernel takes the elements of maps away under it and leaves those of plain sets. Such
/// a packet misses its front end, is found to go to a service address all the same, and is refused.
/// Emptied of rules where packets enter, nothing is taken from those that are in it. Masquerading
/// stays for the second step, as in [`super::iptables::unhook`].
pub(super) fn remove(name: &str, family: IpFamily) -> Result<(), String> {
    if unhook(name, family)? > 0 {
        thread::sleep(UNDER_WAY);
    }
    let kernel = backend_nftables::Kernel::open(name, family);
    let mut kernel = kernel.map_err(|error| one_line(&error))?;
    kernel.cleanup().map_err(|error| one_line(&error))
}

/// Empties the chains where packets enter the table; how many there are.
fn unhook(name: &str, family: IpFamily) -> Result<usize, String> {
    let table = match family {
        IpFamily::V4 => TableId::new(Family::Ip, name),
        IpFamily::V6 => TableId::new(Family::Ip6, name),
    };
    let mut socket = Socket::open().map_err(|error| one_line(&error))?;
    let chains = socket.chains(&table).map_err(|error| one_line(&error))?;
    let mut batch = Batch::new(table);
    let entries = chains.iter().filter(|held| is_entry(&held.object));
    let mut emptied = 0;
    for held in entries {
        batch.flush_chain(0, &held.object.name);
        emptied += 1;
    }
    if emptied > 0 {
        socket.commit(&batch).map_err(|error| one_line(&error))?;
    }
    Ok(emptied)
}

/// Whether packets enter here that have no source address to be given yet.
fn is_entry(chain: &Chain) -> bool {
    chain.base.is_some_and(|base| match base.hook {
        Hook::Prerouting | Hook::Input | Hook::Forward | Hook::Output => true,
        Hook::Postrouting => false,
    })
}
