//! What can go wrong between us and the kernel.

use std::io;

pub use nix::errno::Errno;

/// Why a transaction was not applied, or may not have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The kernel refused some operations; nothing of the transaction was applied.
    #[error("kernel refused {} of the operations, the first with: {}", .0.len(), first(.0))]
    Refused(Vec<Refusal>),
    /// Somebody else committed since the expected generation; nothing was applied. Read what
    /// changed, then try again with the actual generation.
    #[error("ruleset changed: expected generation {expected}, found {}", shown(.actual))]
    Generation {
        /// What the batch expected.
        expected: u32,
        /// What the kernel has, if it could be asked.
        actual: Option<u32>,
    },
    /// The transaction is longer than the send buffer can be made; nothing was applied. Split it.
    #[error("transaction of {len} bytes exceeds the send buffer of {limit}")]
    TooLarge {
        /// Bytes of the transaction.
        len: usize,
        /// Most bytes that can be sent at once.
        limit: usize,
    },
    /// The kernel's answer was lost: the transaction was applied as a whole or not at all. Compare
    /// the generation with that before, or read back.
    #[error("answer of the kernel lost: outcome unknown")]
    LostReplies,
    /// The socket failed before the kernel saw the transaction; nothing was applied.
    #[error("netlink socket failed")]
    Io(#[source] io::Error),
}

/// One operation that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The caller's tag of the operation; `None` if the kernel blamed the transaction as a whole.
    pub tag: Option<u32>,
    /// Position of its message in the transaction, from 0.
    pub index: u32,
    /// The kernel's error.
    pub errno: Errno,
    /// The kernel's words, where the socket has extended acknowledgements.
    pub message: Option<Box<str>>,
    /// Offset in the message of the attribute blamed, likewise.
    pub offset: Option<u32>,
}

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The kernel refused: [`Errno::ENOENT`] if the table or set is not there.
    #[error("kernel refused the read")]
    Refused(#[source] Errno),
    /// The ruleset changed, or the kernel resized a set, during each of several attempts; try later.
    #[error("ruleset changed during each of {attempts} attempts to read it")]
    Interrupted {
        /// Attempts made.
        attempts: u32,
    },
    /// The kernel's answer makes no sense to us.
    #[error("kernel sent a malformed {0}")]
    Malformed(&'static str),
    /// The socket failed.
    #[error("netlink socket failed")]
    Io(#[source] io::Error),
}

/// What part of a message makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for ReadError {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

impl From<Errno> for ReadError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// Why there is no next event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// The kernel dropped events for want of buffer space: what changed is unknown, read back.
    #[error("events were lost")]
    Lost,
    /// The socket failed.
    #[error("netlink socket failed")]
    Io(#[source] io::Error),
}

fn first(refusals: &[Refusal]) -> String {
    match refusals.first() {
        None => String::from("nothing"),
        Some(Refusal {
            errno,
            message: Some(message),
            ..
        }) => format!("{errno}: {message}"),
        Some(Refusal { errno, .. }) => errno.to_string(),
    }
}

fn shown(actual: &Option<u32>) -> String {
    actual.map_or_else(|| String::from("another"), |actual| actual.to_string())
}
