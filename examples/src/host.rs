//! The host that a proxy works on: addresses, namespaces, and folders that change.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::socket::SockaddrStorage;

/// Addresses of the interfaces of the calling thread's network namespace, without loopback and
/// link-local ones, and without those of links that a proxy made itself.
///
/// # Errors
/// What the kernel says.
pub fn addresses(own_links: &[&str]) -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = getifaddrs()?
        .filter(|interface| !own_links.contains(&interface.interface_name.as_str()))
        .filter_map(|interface| ip(&interface.address?))
        .filter(|ip| !ip.is_loopback() && !is_link_local(ip))
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    Ok(addresses)
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::from(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::from(v6.ip())))
}

fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

/// Moves the calling thread into a network namespace.
///
/// # Errors
/// When the path cannot be opened or is no network namespace.
pub fn enter_network_namespace(path: &Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    Ok(())
}

/// Tells when files of some folders change.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
}

impl Watch {
    /// Watches folders, and for files the folder that they are in: editors replace files.
    ///
    /// # Errors
    /// When a folder cannot be watched; the message names it.
    pub fn new(paths: &[PathBuf]) -> io::Result<Self> {
        let flags = InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC;
        let inotify = Inotify::init(flags)?;
        let watched = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ATTRIB;
        for path in paths {
            let folder = match path.is_dir() {
                true => path.as_path(),
                false => folder_of(path),
            };
            inotify.add_watch(folder, watched).map_err(|errno| {
                let error = io::Error::from(errno);
                io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
            })?;
        }
        Ok(Self { inotify })
    }

    /// Takes all news; whether there were any.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => changed |= !events.is_empty(),
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        Some(_) | None => Path::new("."),
    }
}
