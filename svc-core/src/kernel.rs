//! Where a reconciler meets a kernel.

use alloc::collections::BTreeMap;
use core::error::Error;
use core::fmt;

use crate::reconciler::{Action, Drift, Failure, Reconciler};
use crate::ruleset::{Render, Ruleset, Transaction};

/// The effectful half of a backend, and the only place that talks to a kernel.
pub trait Kernel<R: Render> {
    /// Why the kernel could not be read or changed.
    type Error: Error;

    /// Reads everything that the backend owns; nothing if it owns nothing yet.
    ///
    /// # Errors
    /// When what is held cannot be told.
    fn read(&mut self) -> Result<Ruleset<R::Key, R::Value>, Self::Error>;

    /// Applies a transaction.
    ///
    /// # Errors
    /// With what the failure means for the next step.
    fn commit(
        &mut self,
        transaction: &Transaction<R::Key, R::Value>,
    ) -> Result<(), CommitFailure<Self::Error>>;

    /// Whether a reading found, since this was asked, that something is gone that was in the way of
    /// service ports which were refused, such as an object of somebody else. Asked after each reading;
    /// all that were set aside are tried again then.
    fn made_way(&mut self) -> bool {
        false
    }
}

/// A commit that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitFailure<E> {
    /// What the failure means for the next step.
    pub failure: Failure,
    /// What went wrong.
    pub error: E,
}

/// What [`Reconciler::settle`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled<K> {
    /// Transactions applied.
    pub commits: u32,
    /// Objects written, changed or removed.
    pub edits: usize,
    /// How the kernel differed from what it should have held, if it was read.
    pub drift: Option<Drift<K>>,
}

/// Why a kernel does not show the plan yet.
#[derive(Debug)]
pub enum Unsettled<E> {
    /// It could not be read.
    Read(E),
    /// It could not be changed; the reconciler knows what to do next time.
    Commit(CommitFailure<E>),
    /// Rounds without an error did not suffice: somebody else changes it all the time.
    Rounds(u32),
}

impl<E: fmt::Display> fmt::Display for Unsettled<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => write!(f, "cannot read the kernel: {error}"),
            Self::Commit(failed) => write!(f, "cannot change the kernel: {}", failed.error),
            Self::Rounds(rounds) => write!(f, "the kernel differs after {rounds} rounds"),
        }
    }
}

impl<E: Error> Error for Unsettled<E> {}

impl<R: Render> Reconciler<R> {
    /// Reads and commits until the kernel shows the plan, or something fails.
    ///
    /// Objects that the kernel refuses are set aside (see [`Reconciler::quarantine`]) and the
    /// rest is tried again, so a few rounds are normal. Nothing is lost when this fails: call it
    /// again later.
    ///
    /// # Errors
    /// See [`Unsettled`].
    pub fn settle<K: Kernel<R>>(
        &mut self,
        kernel: &mut K,
        rounds: u32,
    ) -> Result<Settled<R::Key>, Unsettled<K::Error>> {
        let mut settled = Settled {
            commits: 0,
            edits: 0,
            drift: None,
        };
        let mut left = rounds;
        while left > 0 {
            // Parts of one load are one round.
            left -= u32::from(!self.is_filling());
            match self.poll() {
                Action::Idle => return Ok(settled),
                Action::Read => {
                    let held = kernel.read().map_err(Unsettled::Read)?;
                    if kernel.made_way() {
                        self.release();
                    }
                    settled.drift = Some(self.on_read(held));
                }
                Action::Commit(transaction) => match kernel.commit(&transaction) {
                    Ok(()) => {
                        settled.commits += 1;
                        settled.edits += transaction.edits().count();
                        self.on_committed();
                    }
                    Err(failed) => {
                        let set_aside = matches!(failed.failure, Failure::Refused(_));
                        self.on_failed(failed.failure.clone());
                        if !set_aside {
                            return Err(Unsettled::Commit(failed));
                        }
                    }
                },
            }
        }
        match self.poll() {
            Action::Idle => Ok(settled),
            Action::Read | Action::Commit(_) => Err(Unsettled::Rounds(rounds)),
        }
    }
}

/// A kernel in memory that takes everything: what a backend would write, without writing it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pretend<K: Ord, V>(pub BTreeMap<K, V>);

impl<R: Render> Kernel<R> for Pretend<R::Key, R::Value> {
    type Error = core::convert::Infallible;

    fn read(&mut self) -> Result<Ruleset<R::Key, R::Value>, Self::Error> {
        Ok(self.0.clone())
    }

    fn commit(
        &mut self,
        transaction: &Transaction<R::Key, R::Value>,
    ) -> Result<(), CommitFailure<Self::Error>> {
        for edit in transaction.edits() {
            match &edit.after {
                Some(value) => self.0.insert(edit.key.clone(), value.clone()),
                None => self.0.remove(&edit.key),
            };
        }
        Ok(())
    }
}
