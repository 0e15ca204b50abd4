//! Leaves the namespaces of the host.

use std::fs;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};

use super::rtnl::Rtnl;
use super::{Error, Obstacle};

/// How a process was isolated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// As root: new network and mount namespaces.
    Root,
    /// As anyone: a new user namespace too, in which the process is root.
    UserNamespace,
}

/// Moves the whole process into network and mount namespaces of its own, and unless it is root
/// into a user namespace of its own.
///
/// Afterwards the process has every capability over its own namespaces and none over the host's,
/// `/run` is an empty tmpfs (so that `/run/netns`, `/run/xtables.lock` and the like can be made),
/// no mount reaches the host, and the loopback link is up.
///
/// # Errors
///
/// [`Error::ManyThreads`] when another thread runs already, [`Error::Isolate`] with the obstacle
/// when the kernel refuses, and others when a step afterwards fails.
pub fn isolate() -> Result<Isolation, Error> {
    let threads = threads()?;
    if threads != 1 {
        return Err(Error::ManyThreads { threads });
    }
    let isolation = leave_host()?;
    mount_privately()?;
    Rtnl::open()
        .and_then(|mut rtnl| rtnl.set_loopback_up())
        .map_err(|source| Error::Rtnetlink {
            operation: "set link lo up".into(),
            namespace: "of the isolated process".into(),
            source,
        })?;
    Ok(isolation)
}

fn threads() -> Result<usize, Error> {
    let path = "/proc/self/task";
    let tasks = fs::read_dir(path).map_err(|source| Error::File {
        access: "read",
        path: path.into(),
        source,
    })?;
    Ok(tasks.count())
}

fn leave_host() -> Result<Isolation, Error> {
    let own = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    let refused = |source| Error::Isolate {
        obstacle: Obstacle::of(source),
        source,
    };
    if geteuid().is_root() {
        match unshare(own) {
            Ok(()) => return Ok(Isolation::Root),
            // Root of a container may lack CAP_SYS_ADMIN and still be allowed a user namespace.
            Err(Errno::EPERM) => {}
            Err(source) => return Err(refused(source)),
        }
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER | own).map_err(refused)?;
    // The kernel accepts a gid map from an unprivileged process only after setgroups is denied.
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1\n"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
    Ok(Isolation::UserNamespace)
}

fn write(path: &str, text: &str) -> Result<(), Error> {
    fs::write(path, text).map_err(|source| Error::File {
        access: "write",
        path: path.into(),
        source,
    })
}

fn mount_privately() -> Result<(), Error> {
    let none: Option<&Path> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|source| {
        Error::Mount {
            filesystem: "private",
            target: "/",
            source,
        }
    })?;
    mount(
        Some("tmpfs"),
        "/run",
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV,
        Some("mode=755"),
    )
    .map_err(|source| Error::Mount {
        filesystem: "tmpfs",
        target: "/run",
        source,
    })
}
