//! What can go wrong, each with its cause.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use svc_core::{Failure, ServicePortName};

/// Why iptables could not be used, read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program is not installed, or not in the path.
    #[error("{program} is not installed")]
    Missing {
        /// Its name.
        program: String,
    },
    /// A program could not be run.
    #[error("cannot run {program}")]
    Spawn {
        /// Its name.
        program: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The tools are too old: `iptables-restore` cannot wait for the lock before 1.6.2.
    #[error("{program} is version {found}, and at least {needed} is needed")]
    TooOld {
        /// Its name.
        program: String,
        /// The version it says it is.
        found: String,
        /// The first version that will do.
        needed: &'static str,
    },
    /// The kernel or the tools lack something that no other can stand in for.
    #[error("the host lacks {feature}: {message}")]
    Lacking {
        /// The match or target.
        feature: &'static str,
        /// What the tools said.
        message: String,
    },
    /// Somebody else holds the lock of iptables.
    #[error("the xtables lock was not free for {} s: {holder}", .waited.as_secs())]
    Locked {
        /// How long the lock was waited for.
        waited: Duration,
        /// Who holds it.
        holder: String,
    },
    /// The lock file of iptables cannot be used, for want of space or permission: nothing was
    /// written.
    #[error("cannot use the lock file {}: {message}", .path.display())]
    LockFile {
        /// The file.
        path: PathBuf,
        /// What the tools said.
        message: String,
    },
    /// A program was killed.
    #[error("{program} was killed by signal {signal}")]
    Killed {
        /// Its name.
        program: String,
        /// The signal.
        signal: i32,
    },
    /// A program failed.
    #[error("{program} failed with status {status}: {message}")]
    Failed {
        /// Its name.
        program: String,
        /// Its exit status, -1 if it has none.
        status: i32,
        /// What it said, in one line.
        message: String,
        /// The lines of its input that it blamed, the first being 1.
        lines: Vec<usize>,
    },
    /// The kernel refused the rules of these service ports.
    #[error("the kernel refused the rules of {} service ports, the first {}", .0.len(), first(.0))]
    Refused(Vec<(ServicePortName, String)>),
    /// Some or all of a change is in the kernel, and what came after failed, such as setting
    /// `route_localnet`.
    #[error("a part of the change may be in the kernel, not all of it: {0}")]
    Unfinished(#[source] Box<Self>),
    /// A file of the kernel could not be read or written.
    #[error("cannot use {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Error {
    /// The same, if something was applied before: then a lock that is held leaves more than nothing.
    pub(crate) fn after_a_part(self) -> Self {
        match self {
            Self::Locked { .. } | Self::LockFile { .. } => Self::Unfinished(Box::new(self)),
            Self::Missing { .. }
            | Self::Spawn { .. }
            | Self::TooOld { .. }
            | Self::Lacking { .. }
            | Self::Killed { .. }
            | Self::Failed { .. }
            | Self::Refused(_)
            | Self::Unfinished(_)
            | Self::File { .. } => self,
        }
    }

    /// What a failed commit means for the next step.
    pub fn failure(&self) -> Failure {
        match self {
            Self::Locked { .. } | Self::LockFile { .. } => Failure::Busy,
            Self::Refused(ports) => Failure::Refused(ports.clone()),
            Self::Missing { .. }
            | Self::Spawn { .. }
            | Self::TooOld { .. }
            | Self::Lacking { .. }
            | Self::Killed { .. }
            | Self::Failed { .. }
            | Self::Unfinished(_)
            | Self::File { .. } => Failure::Unknown,
        }
    }
}

fn first(ports: &[(ServicePortName, String)]) -> String {
    ports
        .first()
        .map_or_else(String::new, |(name, reason)| format!("{name}: {reason}"))
}
