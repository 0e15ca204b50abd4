//! The only part that talks to a kernel.

use std::io;

use svc_core::{
    Base, CommitFailure, EditGroup, Failure, IpFamily, Ruleset, ServicePortName, Transaction,
};

use crate::counts::Counts;
use crate::error::{CommitError, Errno, ReadError, Refusal};
use crate::key::{Key, SetId, Value};
use crate::netlink::{Batch, Socket, TableId};
use crate::pins::{Removal, RemovalError};
use crate::read::{Reading, read, read_frame};
use crate::render::Renderer;
use crate::rule::{Bytes, Element, Family, TableName};
use crate::transaction::{Batches, Blame, Start};

/// The table of one family in one network namespace.
///
/// Its socket stays open and belongs to the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Kernel {
    socket: Socket,
    table: TableId,
    batch: Batch,
    start: Start,
    replacement: Replacement,
    counts: Counts,
    pins: Removal,
}

/// Whether [`Kernel::remove_pins`] has more to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinsLeft {
    /// All are gone, or end in some seconds.
    None,
    /// It has to be called again.
    Some,
}

/// How a table that is of no use, but in use, gives way to another of its name.
#[derive(Debug)]
enum Replacement {
    /// At once, so that no packet misses both: by one batch, however large.
    Whole(Option<Batch>),
    /// In parts, as the kernel would not take the whole: it is too large for the send buffer, or one
    /// object of it was refused, and only small batches tell which.
    InParts,
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
            replacement: Replacement::Whole(None),
            counts: Counts::default(),
            pins: Removal::new(Socket::open()?),
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
        if let Replacement::Whole(held_back) = &mut self.replacement {
            *held_back = None;
        }
        self.counts.read(&reading.ruleset);
        Ok(reading.ruleset)
    }

    /// Reads all but the large sets.
    pub(crate) fn read_frame(&mut self) -> Result<Reading, ReadError> {
        read_frame(&mut self.socket, &self.table)
    }

    /// The elements of a set that have these keys.
    pub(crate) fn look_up<'k>(
        &mut self,
        set: &SetId,
        keys: impl IntoIterator<Item = (&'k Bytes, Option<&'k Bytes>)>,
    ) -> Result<Vec<Option<Element>>, ReadError> {
        self.socket.look_up(&self.table, &set.name(), keys)
    }

    /// Sets that hold more elements than they should; none if the kernel is older than Linux 6.16
    /// and does not tell, or if what it should hold is not known.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub(crate) fn overfull(&mut self) -> Result<Vec<SetId>, ReadError> {
        let mut overfull = Vec::new();
        for (id, expected) in self.counts.expected() {
            match self.socket.count(&self.table, &id.name()) {
                Ok(Some(count)) if u64::from(count) > expected => overfull.push(id.clone()),
                // A set that is not there is found otherwise.
                Ok(Some(_)) | Err(ReadError::Refused(Errno::ENOENT)) => {}
                Ok(None) => break,
                Err(error) => return Err(error),
            }
        }
        Ok(overfull)
    }

    /// The number of clients pinned to endpoints, of at most [`crate::AFFINITY_SIZE`]; `None` if the
    /// kernel is older than Linux 6.16 and does not tell. Where there are so many, others are not pinned.
    ///
    /// # Errors
    /// See [`ReadError`].
    pub fn pins(&mut self) -> Result<Option<u32>, ReadError> {
        self.socket.count(&self.table, &SetId::Affinity.name())
    }

    /// Takes in how the kernel was found to differ from what it should hold.
    pub(crate) fn differs(&mut self, groups: &[EditGroup<Key, Value>]) {
        self.counts.differ(groups);
    }

    /// Applies a transaction. Then begins to remove the pins of clients in pools that it ended; see
    /// [`Kernel::remove_pins`].
    ///
    /// # Errors
    /// [`CommitError::Refused`] if the kernel refuses an object. A transaction on an empty base
    /// may then have been applied in part, without effect on packets.
    pub fn commit(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), CommitError> {
        let result = self.apply(transaction);
        match &result {
            Ok(()) => {
                self.counts.commit(transaction);
                if self.pins.take_in(transaction) {
                    // What cannot be removed ends by itself, and the transaction was applied.
                    drop(self.remove_pins());
                }
            }
            Err(_) => self.counts.forget(),
        }
        result
    }

    /// Goes on to remove the pins of pools that are gone: [`Kernel::commit`] begins it, and has done it
    /// all as long as the map has few thousand pins. A step took 90 ms at most with a map that
    /// was full, in a debug build.
    ///
    /// # Errors
    /// What the kernel says. Pins that are left end by their age.
    pub fn remove_pins(&mut self) -> Result<PinsLeft, KernelError> {
        let result = self
            .pins
            .step(&mut self.socket, &self.table, &mut self.batch);
        let table = self.table.name.clone();
        match result {
            Ok(()) if self.pins.is_idle() => Ok(PinsLeft::None),
            Ok(()) => Ok(PinsLeft::Some),
            Err(RemovalError::Read(source)) => Err(KernelError::Read { table, source }),
            Err(RemovalError::Commit(source)) => Err(KernelError::Commit { table, source }),
        }
    }

    fn apply(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), CommitError> {
        if transaction.base == Base::Empty && self.hold_back(transaction)? {
            return Ok(());
        }
        let table = self.table.clone();
        let socket = &mut self.socket;
        commit_batches(table, self.start, transaction, &mut self.batch, |batch| {
            socket.commit(batch).map(drop)
        })?;
        self.start = Start::AsRead;
        Ok(())
    }

    /// Keeps the transactions that replace a table of no use until the last, and sends them as one.
    /// Whether the transaction is dealt with.
    fn hold_back(&mut self, transaction: &Transaction<Key, Value>) -> Result<bool, CommitError> {
        let Replacement::Whole(held_back) = &mut self.replacement else {
            return Ok(false);
        };
        if self.start != Start::Useless && held_back.is_none() {
            return Ok(false);
        }
        let batches = Batches::new(self.table.clone(), self.start, transaction);
        // The blame names groups of this transaction, of which there will be others.
        self.start = Start::AsRead;
        let mut whole = held_back
            .take()
            .unwrap_or_else(|| Batch::new(self.table.clone()));
        for index in 0..batches.len() {
            batches.append(index, Blame::Batch, &mut whole);
        }
        if !batches.puts_to_use() {
            *held_back = Some(whole);
            return Ok(true);
        }
        let result = self.socket.commit(&whole);
        if let Err(CommitError::Refused(_) | CommitError::TooLarge { .. }) = &result {
            self.replacement = Replacement::InParts;
        }
        result.map(|_| true)
    }

    /// Removes the table and all it holds; nothing is done if there is none.
    ///
    /// # Errors
    /// See [`CommitError`].
    pub fn cleanup(&mut self) -> Result<(), CommitError> {
        self.counts.forget();
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
    let mut index = 0;
    while index < batches.len() {
        match send_batch(&batches, index, batch, &mut send) {
            // Without privilege the send buffer does not grow far.
            Err(CommitError::TooLarge { .. }) if batches.cut(index) => {}
            result => {
                result?;
                index += 1;
            }
        }
    }
    Ok(())
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
        if says_nothing_of_the_object(refusal.errno) {
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

/// Whether an error has another cause than the object itself: somebody else changed the table, which
/// reading it again will tell, the kernel is short of something, or the process lacks a privilege, as
/// with a table that has another owner.
fn says_nothing_of_the_object(errno: Errno) -> bool {
    let changed = matches!(errno, Errno::ENOENT | Errno::EEXIST | Errno::EBUSY);
    changed
        || matches!(
            errno,
            Errno::ENOMEM
                | Errno::ENOBUFS
                | Errno::EAGAIN
                | Errno::EINTR
                | Errno::EPERM
                | Errno::EACCES
        )
}

fn words(refusal: &Refusal) -> String {
    match &refusal.message {
        Some(message) => format!("{}: {message}", refusal.errno),
        None => refusal.errno.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use svc_core::{NamespacedName, Protocol};

    use super::*;

    fn refused(refusals: &[(Option<u32>, Errno)]) -> Failure {
        let name = |service: &str| ServicePortName {
            service: NamespacedName::new("a", service),
            port: "".into(),
            protocol: Protocol::Tcp,
        };
        let group = |name| EditGroup {
            name,
            edits: Vec::new(),
        };
        let transaction = Transaction {
            groups: vec![group(None), group(Some(name("b"))), group(Some(name("c")))],
            base: Base::InUse,
        };
        let refusal = |(tag, errno): &(Option<u32>, Errno)| Refusal {
            tag: *tag,
            index: 0,
            errno: *errno,
            message: None,
            offset: None,
        };
        let refusals = refusals.iter().map(refusal).collect();
        failure(&CommitError::Refused(refusals), &transaction)
    }

    #[test]
    fn only_objects_that_are_to_blame_are_set_aside() {
        let named = |failure| match failure {
            Failure::Refused(names) => names
                .into_iter()
                .map(|(name, _)| name.to_string())
                .collect(),
            Failure::Busy | Failure::Unknown => Vec::new(),
        };
        let both = [(Some(1), Errno::EINVAL), (Some(2), Errno::EOPNOTSUPP)];
        assert_eq!(named(refused(&both)), ["a/b", "a/c"]);
        let twice = [
            (Some(2), Errno::EINVAL),
            (Some(2), Errno::EINVAL),
            (Some(1), Errno::ENOENT),
        ];
        assert_eq!(named(refused(&twice)), ["a/c"]);
        // The skeleton, the whole, and what somebody else did or memory lacks.
        for refusal in [
            (Some(0), Errno::EINVAL),
            (None, Errno::EPERM),
            (Some(1), Errno::EEXIST),
            (Some(1), Errno::ENOMEM),
        ] {
            assert_eq!(refused(&[refusal]), Failure::Unknown);
        }
    }
}
