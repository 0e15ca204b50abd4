//! What can go wrong between us and the kernel.

use backend_nftables::error::{CommitError, ReadError};
use backend_nftables::rule::TableName;

pub use nix::errno::Errno;

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel lacks something that a module brings: load it with `modprobe`.
    #[error("the kernel has no {what}: load its module, modprobe {module}")]
    Missing {
        /// What it lacks.
        what: &'static str,
        /// The module that has it.
        module: &'static str,
    },
    /// The link of our name is no dummy: somebody else made it. Remove it, or choose another name.
    #[error("link {link} is not a dummy link: somebody else made it")]
    ForeignLink {
        /// Its name.
        link: String,
    },
    /// A socket cannot be opened.
    #[error("cannot open a {socket} socket")]
    Open {
        /// Which.
        socket: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The kernel refused, or the connection to it broke.
    #[error("cannot {operation}: {errno}")]
    Refused {
        /// What was tried.
        operation: String,
        /// Why not.
        errno: Errno,
    },
    /// The kernel refused objects of service ports, which are named in the failure.
    #[error("objects of {0} service ports refused")]
    Objects(usize),
    /// The companion table cannot be read.
    #[error("cannot read table {table}")]
    ReadTable {
        /// Name of the table.
        table: TableName,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// The companion table cannot be changed.
    #[error("cannot change table {table}: {source}")]
    ChangeTable {
        /// Name of the table.
        table: TableName,
        /// Why.
        source: CommitError,
    },
    /// A kernel setting cannot be read or written.
    #[error("cannot {access} {path}")]
    Setting {
        /// `read` or `write`.
        access: &'static str,
        /// File of the setting.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Error {
    pub(crate) fn refused(operation: impl Into<String>, errno: Errno) -> Self {
        Self::Refused {
            operation: operation.into(),
            errno,
        }
    }
}
