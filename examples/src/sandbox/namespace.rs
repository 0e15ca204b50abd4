//! One network namespace, and code that runs inside it.

use std::fmt;
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Pid, gettid};

use super::rtnl::Rtnl;
use super::{Error, Obstacle};

/// A network namespace that lives as long as this value (and the sockets opened in it).
///
/// A thread of its own sits in the namespace, so that `nsenter -t TID -n` finds it from outside.
/// The calling thread never changes its namespace.
pub struct Namespace {
    name: String,
    fd: OwnedFd,
    tid: Pid,
    rtnl: Mutex<Rtnl>,
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
}

/// What the keeper thread found on entering its new namespace.
struct Entered {
    fd: OwnedFd,
    tid: Pid,
    rtnl: Rtnl,
}

impl Namespace {
    /// Creates a network namespace whose loopback link is up.
    ///
    /// Needs `CAP_SYS_ADMIN` in the caller's user namespace: root has it, and so has everyone
    /// after [`isolate`](super::isolate).
    ///
    /// # Errors
    ///
    /// [`Error::CreateNamespace`] with the obstacle, [`Error::Thread`] or [`Error::Rtnetlink`].
    pub fn new(name: impl Into<String>) -> Result<Self, Error> {
        let name = name.into();
        let (report, entered) = channel();
        let (stay, leave) = channel::<()>();
        let keeper = thread::Builder::new()
            .name(format!("netns {name}"))
            .stack_size(KEEPER_STACK)
            .spawn(move || {
                let listening = report.send(enter_new()).is_ok();
                drop(report);
                if listening {
                    // Fails when the sender is dropped, which is the sign to leave.
                    let _ = leave.recv();
                }
            })
            .map_err(|source| Error::Thread {
                namespace: name.clone(),
                source,
            })?;
        let entered = entered
            .recv()
            .unwrap_or(Err(Errno::ESRCH))
            .map_err(|source| Error::CreateNamespace {
                namespace: name.clone(),
                obstacle: Obstacle::of(source),
                source,
            })?;
        Ok(Self {
            name,
            fd: entered.fd,
            tid: entered.tid,
            rtnl: Mutex::new(entered.rtnl),
            keeper: Some((stay, keeper)),
        })
    }

    /// The name given at creation; the kernel does not know it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The namespace as a file, for `setns`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Thread id of the keeper: `nsenter -t TID -n` (with `-U` after an unprivileged isolation)
    /// enters the namespace.
    pub fn tid(&self) -> i32 {
        self.tid.as_raw()
    }

    /// Runs a closure in this namespace, on a thread of its own, and waits for it.
    ///
    /// Sockets and netlink handles opened inside stay in this namespace wherever they are used
    /// later. A panic of the closure goes on in the caller.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] or [`Error::EnterNamespace`]; the closure has not run then.
    pub fn run<T: Send>(&self, job: impl FnOnce() -> T + Send) -> Result<T, Error> {
        thread::scope(|scope| {
            let inside = || self.enter().map(|()| job());
            let worker = thread::Builder::new()
                .name(format!("in {}", self.name))
                .spawn_scoped(scope, inside)
                .map_err(|source| Error::Thread {
                    namespace: self.name.clone(),
                    source,
                })?;
            worker
                .join()
                .unwrap_or_else(|payload| panic::resume_unwind(payload))
        })
    }

    /// Starts a closure in this namespace on a thread of its own and returns once it is inside.
    ///
    /// # Errors
    ///
    /// [`Error::Thread`] or [`Error::EnterNamespace`]; the closure does not run then.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Error> {
        let failed = |source| Error::Thread {
            namespace: self.name.clone(),
            source,
        };
        let fd = self.fd.try_clone().map_err(failed)?;
        let (report, entered) = channel();
        let worker = thread::Builder::new()
            .name(format!("in {}", self.name))
            .spawn(move || {
                let result = setns(&fd, CloneFlags::CLONE_NEWNET);
                let inside = result.is_ok();
                // The receiver waits below; it cannot be gone.
                let _ = report.send(result);
                if inside {
                    job();
                }
            })
            .map_err(failed)?;
        match entered.recv().unwrap_or(Err(Errno::ESRCH)) {
            Ok(()) => Ok(worker),
            Err(source) => Err(Error::EnterNamespace {
                namespace: self.name.clone(),
                source,
            }),
        }
    }

    /// Sets kernel parameters of this namespace, each a path below `/proc/sys` and its value.
    ///
    /// # Errors
    ///
    /// [`Error::Sysctl`] for the first that is refused; those before it are set.
    pub fn set_sysctls(&self, values: &[(&str, &str)]) -> Result<(), Error> {
        self.run(|| {
            for (key, value) in values {
                // The kernel shows each thread the parameters of the thread's own namespace.
                fs::write(format!("/proc/sys/{key}"), value)
                    .map_err(|source| self.sysctl_error("write", key, source))?;
            }
            Ok(())
        })?
    }

    /// Reads a kernel parameter of this namespace, without the line end.
    ///
    /// # Errors
    ///
    /// [`Error::Sysctl`] when the kernel does not have it.
    pub fn sysctl(&self, key: &str) -> Result<String, Error> {
        self.run(|| fs::read_to_string(format!("/proc/sys/{key}")))?
            .map(|text| text.trim_end().to_owned())
            .map_err(|source| self.sysctl_error("read", key, source))
    }

    /// Asks the rtnetlink socket of this namespace, which needs no thread inside.
    pub(super) fn rtnl<T>(
        &self,
        operation: impl fmt::Display,
        ask: impl FnOnce(&mut Rtnl) -> nix::Result<T>,
    ) -> Result<T, Error> {
        // A poisoned socket is at worst out of step, and its sequence numbers put it right.
        let mut rtnl = self.rtnl.lock().unwrap_or_else(PoisonError::into_inner);
        ask(&mut rtnl).map_err(|source| Error::Rtnetlink {
            operation: operation.to_string(),
            namespace: self.name.clone(),
            source,
        })
    }

    fn enter(&self) -> Result<(), Error> {
        setns(&self.fd, CloneFlags::CLONE_NEWNET).map_err(|source| Error::EnterNamespace {
            namespace: self.name.clone(),
            source,
        })
    }

    fn sysctl_error(&self, access: &'static str, key: &str, source: std::io::Error) -> Error {
        Error::Sysctl {
            access,
            key: key.to_owned(),
            namespace: self.name.clone(),
            source,
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .field("tid", &self.tid)
            .finish()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Some((stay, keeper)) = self.keeper.take() {
            drop(stay);
            // The keeper only waits; it has no panic to report.
            drop(keeper.join());
        }
    }
}

fn enter_new() -> nix::Result<Entered> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut rtnl = Rtnl::open()?;
    rtnl.set_loopback_up()?;
    let file = File::open("/proc/thread-self/ns/net")
        .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))?;
    Ok(Entered {
        fd: file.into(),
        tid: gettid(),
        rtnl,
    })
}

/// The keeper opens a file and a socket and then waits.
const KEEPER_STACK: usize = 128 * 1024;
