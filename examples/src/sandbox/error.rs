//! Why a sandbox could not be built or used.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use nix::errno::Errno;

use super::Outcome;

/// Why a sandbox could not be built or used; every variant names what it was about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel lets only a process with one thread enter a user namespace.
    /// Call `isolate` first thing in `main`.
    #[error("the process has {threads} threads, and only one with a single thread can be isolated")]
    ManyThreads {
        /// Threads found in `/proc/self/task`.
        threads: usize,
    },
    /// The process may not leave its namespaces; the obstacle says what to change.
    #[error("cannot enter new user, network and mount namespaces: {obstacle}")]
    Isolate {
        /// What stands in the way.
        obstacle: Obstacle,
        /// The kernel's answer.
        source: Errno,
    },
    /// A file of `/proc` could not be read or written.
    #[error("cannot {access} {path}")]
    File {
        /// `read` or `write`.
        access: &'static str,
        /// The file.
        path: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A mount of the isolated process failed.
    #[error("cannot mount {filesystem} on {target}")]
    Mount {
        /// Kind of the mount.
        filesystem: &'static str,
        /// The mount point.
        target: &'static str,
        /// The kernel's answer.
        source: Errno,
    },
    /// A network namespace could not be created.
    #[error("cannot create network namespace {namespace}: {obstacle}")]
    CreateNamespace {
        /// The namespace.
        namespace: String,
        /// What stands in the way.
        obstacle: Obstacle,
        /// The kernel's answer.
        source: Errno,
    },
    /// A thread could not join a network namespace.
    #[error("cannot enter network namespace {namespace}")]
    EnterNamespace {
        /// The namespace.
        namespace: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A thread for a network namespace could not be started.
    #[error("cannot start a thread for network namespace {namespace}")]
    Thread {
        /// The namespace.
        namespace: String,
        /// The system's answer.
        source: io::Error,
    },
    /// A kernel parameter could not be read or written; `/proc/sys` may be read-only in a container.
    #[error("cannot {access} sysctl {key} in network namespace {namespace}")]
    Sysctl {
        /// `read` or `write`.
        access: &'static str,
        /// The parameter as a path below `/proc/sys`.
        key: String,
        /// The namespace.
        namespace: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The kernel refused a change or query of links, addresses, routes or rules.
    #[error("cannot {operation} in network namespace {namespace}")]
    Rtnetlink {
        /// What was asked, with the names of the link and the address.
        operation: String,
        /// The namespace.
        namespace: String,
        /// The kernel's answer; `EOPNOTSUPP` for a veth pair: the kernel lacks `CONFIG_VETH`.
        source: Errno,
    },
    /// The kernel's table of connections could not be emptied.
    #[error("cannot forget connections of network namespace {namespace}")]
    Conntrack {
        /// The namespace.
        namespace: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A link or address did not become usable in time.
    #[error("{what} is not ready in network namespace {namespace}")]
    NotReady {
        /// The link or address.
        what: String,
        /// The namespace.
        namespace: String,
    },
    /// A socket could not be made or used for a reason that is not the answer of a peer.
    #[error("cannot {operation} in network namespace {namespace}")]
    Socket {
        /// What was tried, with the address.
        operation: String,
        /// The namespace.
        namespace: String,
        /// The kernel's answer.
        source: Errno,
    },
    /// A session did not come about.
    #[error("no session with {to}: {outcome}")]
    NoSession {
        /// The address asked for.
        to: SocketAddr,
        /// What the attempt came to.
        outcome: Outcome,
    },
    /// A pod of that name runs already.
    #[error("pod {pod} exists already")]
    PodExists {
        /// Name of the pod.
        pod: String,
    },
    /// No pod of that name runs.
    #[error("there is no pod {pod}")]
    NoPod {
        /// Name of the pod.
        pod: String,
    },
}

/// What keeps a process from making a namespace, and so what its user can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Obstacle {
    /// Debian's switch is off.
    UnprivilegedUserNamespacesOff,
    /// AppArmor takes the capabilities away (Ubuntu since 23.10).
    AppArmor,
    /// The limit of user namespaces is reached, or zero.
    UserNamespaceLimit,
    /// The limit of network namespaces is reached, or zero.
    NetworkNamespaceLimit,
    /// The kernel is built without these namespaces.
    NotBuilt,
    /// Refused for another reason: a container's seccomp filter, a chroot, a missing capability.
    NotPermitted,
}

impl Obstacle {
    /// Tells from the kernel's answer and its switches what stands in the way.
    pub(super) fn of(errno: Errno) -> Self {
        let reads = |path: &str, value: &str| {
            std::fs::read_to_string(path).is_ok_and(|text| text.trim() == value)
        };
        if errno == Errno::EINVAL || errno == Errno::ENOSYS {
            Self::NotBuilt
        } else if reads("/proc/sys/kernel/unprivileged_userns_clone", "0") {
            Self::UnprivilegedUserNamespacesOff
        } else if reads("/proc/sys/user/max_user_namespaces", "0") {
            Self::UserNamespaceLimit
        } else if reads("/proc/sys/user/max_net_namespaces", "0") {
            Self::NetworkNamespaceLimit
        } else if errno == Errno::ENOSPC || errno == Errno::EUSERS {
            // Which of the two limits was hit the kernel does not say.
            Self::NetworkNamespaceLimit
        } else if reads(
            "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
            "1",
        ) {
            Self::AppArmor
        } else {
            Self::NotPermitted
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::UnprivilegedUserNamespacesOff => {
                "kernel.unprivileged_userns_clone is 0; set it to 1 or run as root"
            }
            Self::AppArmor => {
                "kernel.apparmor_restrict_unprivileged_userns is 1; set it to 0 or run as root"
            }
            Self::UserNamespaceLimit => "user.max_user_namespaces is 0; raise it or run as root",
            Self::NetworkNamespaceLimit => {
                "user.max_net_namespaces or user.max_user_namespaces is reached; raise it"
            }
            Self::NotBuilt => "the kernel lacks CONFIG_USER_NS or CONFIG_NET_NS",
            Self::NotPermitted => {
                "not permitted here (a container's seccomp filter, a chroot, or no CAP_SYS_ADMIN)"
            }
        })
    }
}
