//! The only part that talks to a kernel.

use std::io;

use svc_core::{CommitFailure, Failure, IpFamily, Ruleset, ServicePortName, Transaction};

use crate::error::{CommitError, Errno, ReadError, Refusal};
use crate::key::{Key, Value};
use crate::netlink::{Batch, Socket, TableId};
use crate::read::read;
use crate::render::Renderer;
use crate::rule::{Family, TableName};
use crate::transaction::{BATCH_BYTES, Batches, Blame, Start};

/// The table of one family in one network namespace.
///
/// Its socket stays open and belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    table: TableId,
    batch: Batch,
    start: Start,
}

impl Kernel {
    /// Opens the table in the network namespace of the calling thread; it need not exist.
    ///
    /// # Errors
    /// What the kernel says: without nf_tables, `EPROTONOSUPPORT`.
    pub fn open(table: impl Into<TableName>, family: IpFamily) -> io::Result<Self> {
        let table = TableId::new(family_of(family), table);
        Ok(Self {
            socket: Socket::open()?,
            batch: Batch::new(table.clone()),
            table,
            start: Start::AsRead,
        })
    }

    /// Reads what the table holds; nothing if there is no table, or one with the name of ours whose
    /// sets are others: [`Kernel::commit`] then replaces it.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn read(&mut self) -> Result<Ruleset<Key, Value>, ReadError> {
        let reading = read(&mut self.socket, &self.table)?;
        self.start = Start::of(&reading);
        Ok(reading.ruleset)
    }

    /// Applies a transaction.
    ///
    /// # Errors
    /// [`CommitError::Refused`] if the kernel refuses an object. A transaction on an empty base
    /// may then have been applied in part, without effect on packets.
    pub fn commit(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), CommitError> {
        let table = self.table.clone();
        let socket = &mut self.socket;
        commit_batches(table, self.start, transaction, &mut self.batch, |batch| {
            socket.commit(batch).map(drop)
        })?;
        self.start = Start::AsRead;
        Ok(())
    }

    /// Removes the table and all it holds; nothing is done if there is none.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn cleanup(&mut self) -> Result<(), CommitError> {
        self.batch.clear();
        self.batch.delete_table(0);
        match self.socket.commit(&self.batch) {
            Err(CommitError::Refused(refusals)) if all_missing(&refusals) => Ok(()),
            result => result.map(drop),
        }
    }

    /// The socket, to follow changes that others make.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// The table.
    pub fn table(&self) -> &TableId {
        &self.table
    }
}

/// Why the kernel could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// See [`ReadError`].
    #[error("cannot read table {table}")]
    Read {
        /// Name of the table.
        table: TableName,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// See [`CommitError`].
    #[error("cannot change table {table}: {source}")]
    Commit {
        /// Name of the table.
        table: TableName,
        /// Why.
        source: CommitError,
    },
}

impl svc_core::Kernel<Renderer> for Kernel {
    type Error = KernelError;

    fn read(&mut self) -> Result<Ruleset<Key, Value>, KernelError> {
        Self::read(self).map_err(|source| KernelError::Read {
            table: self.table.name.clone(),
            source,
        })
    }

    fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<KernelError>> {
        Self::commit(self, transaction).map_err(|source| CommitFailure {
            failure: failure(&source, transaction),
            error: KernelError::Commit {
                table: self.table.name.clone(),
                source,
            },
        })
    }
}

/// Sends the batches of a transaction.
pub(crate) fn commit_batches(
    table: TableId,
    start: Start,
    transaction: &Transaction<Key, Value>,
    batch: &mut Batch,
    mut send: impl FnMut(&Batch) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let mut batches = Batches::new(table, start, transaction);
    if batches.len() == 1 {
        match send_batch(&batches, 0, batch, &mut send) {
            // Without privilege the send buffer does not grow far.
            Err(CommitError::TooLarge { .. }) => batches = batches.in_batches_of(BATCH_BYTES),
            result => return result,
        }
    }
    (0..batches.len()).try_for_each(|index| send_batch(&batches, index, batch, &mut send))
}

/// Sends one batch; a large one that is refused once more, to learn who is to blame.
fn send_batch(
    batches: &Batches<'_>,
    index: usize,
    batch: &mut Batch,
    send: &mut impl FnMut(&Batch) -> Result<(), CommitError>,
) -> Result<(), CommitError> {
    let blame = batches.blame(index);
    batches.write(index, blame, batch);
    match (send(batch), blame) {
        (Err(CommitError::Refused(_)), Blame::Batch) => {
            batches.write(index, Blame::Group, batch);
            send(batch)
        }
        (result, Blame::Batch | Blame::Group) => result,
    }
}

/// The family of the table of a family.
pub(crate) fn family_of(family: IpFamily) -> Family {
    match family {
        IpFamily::V4 => Family::Ip,
        IpFamily::V6 => Family::Ip6,
    }
}

fn all_missing(refusals: &[Refusal]) -> bool {
    refusals
        .iter()
        .all(|refusal| refusal.errno == Errno::ENOENT)
}

/// What a failed commit means for a [`svc_core::Reconciler`].
///
/// Refused objects of service ports are named. If the kernel refuses an object of the skeleton,
/// nothing can be set aside: then only another attempt helps.
pub fn failure(error: &CommitError, transaction: &Transaction<Key, Value>) -> Failure {
    let CommitError::Refused(refusals) = error else {
        return Failure::Unknown;
    };
    let mut names: Vec<(ServicePortName, String)> = Vec::new();
    for refusal in refusals {
        // Somebody else changed the table: reading it again will tell.
        if matches!(refusal.errno, Errno::ENOENT | Errno::EEXIST | Errno::EBUSY) {
            continue;
        }
        let group = refusal
            .tag
            .and_then(|tag| transaction.groups.get(tag as usize));
        let Some(name) = group.and_then(|group| group.name.clone()) else {
            return Failure::Unknown;
        };
        if names.iter().all(|(other, _)| *other != name) {
            names.push((name, words(refusal)));
        }
    }
    match names.is_empty() {
        true => Failure::Unknown,
        false => Failure::Refused(names),
    }
}

fn words(refusal: &Refusal) -> String {
    match &refusal.message {
        Some(message) => format!("{}: {message}", refusal.errno),
        None => refusal.errno.to_string(),
    }
}
