//! The host that a proxy works on: addresses, namespaces, and folders that change.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::socket::SockaddrStorage;

/// kube-proxy's link in IPVS mode, with the address of every Service.
pub const KUBE_LINK: &str = "kube-ipvs0";
/// Links that proxies make, kube-proxy's and those of our IPVS backend: what they bind is none of the node's.
pub const PROXY_LINKS: [&str; 3] = [KUBE_LINK, "svc-ipvs4", "svc-ipvs6"];

/// Addresses of the interfaces of the calling thread's network namespace, without loopback and
/// link-local ones, and without those of [`PROXY_LINKS`].
///
/// # Errors
/// What the kernel says.
pub fn addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = getifaddrs()?
        .filter(|interface| !PROXY_LINKS.contains(&interface.interface_name.as_str()))
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

/// Tells when files, or files of some folders, change.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    watched: Vec<(WatchDescriptor, Scope)>,
}

/// What matters in a folder.
#[derive(Debug)]
enum Scope {
    Folder,
    /// One file; what changes beside it is none of our business.
    File(PathBuf),
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
        let mut scopes = Vec::with_capacity(paths.len());
        for path in paths {
            let (folder, scope) = match path.is_dir() {
                true => (path.as_path(), Scope::Folder),
                false => (folder_of(path), Scope::File(path.clone())),
            };
            let descriptor = inotify.add_watch(folder, watched).map_err(|errno| {
                let error = io::Error::from(errno);
                io::Error::new(error.kind(), format!("{}: {error}", folder.display()))
            })?;
            scopes.push((descriptor, scope));
        }
        let watched = scopes;
        Ok(Self { inotify, watched })
    }

    /// Takes all news; whether any of them is of what is watched.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn take(&self) -> io::Result<bool> {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => changed |= events.iter().any(|event| self.concerns(event)),
                Err(Errno::EAGAIN) => return Ok(changed),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

impl Watch {
    fn concerns(&self, event: &InotifyEvent) -> bool {
        // News of a folder itself, or that some were lost.
        let Some(name) = &event.name else {
            return true;
        };
        let mut scopes = self.watched.iter().filter(|(wd, _)| *wd == event.wd);
        scopes.any(|(_, scope)| match scope {
            Scope::Folder => true,
            // A ConfigMap's files are links: what they lead to changes under another name.
            Scope::File(path) => path.file_name() == Some(name) || path.is_symlink(),
        })
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_changes_beside_a_file_is_no_news() {
        let folder = std::env::temp_dir().join(format!("watch-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let [file, link, beside] = ["file", "link", "beside"].map(|name| folder.join(name));
        fs::write(&file, "1").unwrap();
        symlink(&beside, &link).unwrap();
        let of_file = Watch::new(std::slice::from_ref(&file)).unwrap();
        let of_link = Watch::new(&[link]).unwrap();
        let of_folder = Watch::new(std::slice::from_ref(&folder)).unwrap();
        let news = || [&of_file, &of_link, &of_folder].map(|watch| watch.take().unwrap());
        fs::write(&beside, "1").unwrap();
        assert_eq!(news(), [false, true, true]);
        assert_eq!(news(), [false; 3]);
        fs::rename(&beside, &file).unwrap();
        assert_eq!(news(), [true; 3]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
