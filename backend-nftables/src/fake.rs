//! A kernel in memory, which refuses what the kernel refuses.
//!
//! It reads the very bytes that would be sent, so that it tests them too, and holds any number of
//! tables. Faults are queued with [`FakeKernel::fail`]; whoever wants to be somebody else builds a
//! batch and gives it to [`FakeKernel::apply`].

mod rule;
mod table;

use std::collections::{BTreeMap, VecDeque};

use svc_core::{CommitFailure, IpFamily, Ruleset, Transaction};

use crate::counts::Counts;
use crate::error::{CommitError, Errno, ReadError, Refusal};
use crate::kernel::{KernelError, commit_batches, failure, family_of};
use crate::key::{Key, SetId, Value};
use crate::netlink::{Batch, Existing, Request, TableId, What, requests};
use crate::read::{Reading, assemble};
use crate::render::Renderer;
use crate::rule::TableName;
use crate::transaction::Start;
use table::FakeTable;

/// A kernel in memory; our table is one of those it holds.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    table: TableId,
    tables: BTreeMap<TableId, FakeTable>,
    start: Start,
    faults: VecDeque<Fault>,
    broken_reads: u32,
    /// Most bytes of a transaction.
    limit: usize,
    /// Transactions that were applied.
    generation: u32,
    /// As [`crate::Kernel`] keeps them.
    counts: Counts,
}

/// What goes wrong with one transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A message is refused, counted from 0 and modulo the number of messages.
    Refuse(usize, Errno),
    /// The answer is lost, and the transaction was not applied.
    LostUnapplied,
    /// The answer is lost, as the receive buffer was full, and the transaction was applied.
    LostApplied,
    /// The transaction does not fit the send buffer.
    TooLarge,
    /// The socket fails.
    Io(Errno),
}

impl FakeKernel {
    /// A kernel without tables.
    pub fn new(table: impl Into<TableName>, family: IpFamily) -> Self {
        Self {
            table: TableId::new(family_of(family), table),
            tables: BTreeMap::new(),
            start: Start::AsRead,
            faults: VecDeque::new(),
            broken_reads: 0,
            limit: usize::MAX,
            generation: 1,
            counts: Counts::default(),
        }
    }

    /// Reads our table, as [`crate::Kernel::read`] does.
    ///
    /// # Errors
    /// [`ReadError::Interrupted`] while reads are [broken](Self::break_reads).
    pub fn read(&mut self) -> Result<Ruleset<Key, Value>, ReadError> {
        if let Some(left) = self.broken_reads.checked_sub(1) {
            self.broken_reads = left;
            return Err(ReadError::Interrupted { attempts: 1 });
        }
        let reading = self.reading();
        self.start = Start::of(&reading);
        self.counts.read(&reading.ruleset);
        Ok(reading.ruleset)
    }

    /// What our table holds, whatever is broken.
    pub fn ruleset(&self) -> Ruleset<Key, Value> {
        self.reading().ruleset
    }

    /// Applies a transaction, as [`crate::Kernel::commit`] does.
    ///
    /// # Errors
    /// What the kernel would refuse, or the next fault says.
    pub fn commit(&mut self, transaction: &Transaction<Key, Value>) -> Result<(), CommitError> {
        let counts = std::mem::take(&mut self.counts);
        let start = self.start;
        let mut batch = Batch::new(self.table.clone());
        let table = self.table.clone();
        commit_batches(table, start, transaction, &mut batch, |batch| {
            self.apply(batch)
        })?;
        self.start = Start::AsRead;
        self.counts = counts;
        self.counts.commit(transaction);
        Ok(())
    }

    /// Sets that hold more or fewer elements than [`crate::Kernel`] believes after the same reads and
    /// transactions; none while it does not know.
    pub fn miscounted(&self) -> Vec<SetId> {
        let table = self.tables.get(&self.table);
        let held = |id: &SetId| table.map_or(0, |table| table.elements(&id.name()));
        let counts = self.counts.expected();
        let wrong = counts.filter(|(id, expected)| held(id) as u64 != *expected);
        wrong.map(|(id, _)| id.clone()).collect()
    }

    /// Applies one batch, to any table; all of it or nothing.
    ///
    /// # Errors
    /// What the kernel would refuse, or the next fault says.
    pub fn apply(&mut self, batch: &Batch) -> Result<(), CommitError> {
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        self.send(batch.byte_len(), &fault)?;
        let requests = requests(batch).ok_or(CommitError::Io(Errno::EINVAL.into()))?;
        let mut tables = self.tables.clone();
        let mut refusals = Vec::new();
        for (index, request) in (0u32..).zip(&requests) {
            let result = match fault {
                Fault::Refuse(message, errno) if message % requests.len() == index as usize => {
                    Err(errno)
                }
                Fault::None
                | Fault::Refuse(..)
                | Fault::LostUnapplied
                | Fault::LostApplied
                | Fault::TooLarge
                | Fault::Io(_) => carry_out(&mut tables, request),
            };
            refusals.extend(result.err().map(|errno| Refusal {
                tag: request.tag,
                index,
                errno,
                message: None,
                offset: None,
            }));
        }
        if !refusals.is_empty() {
            return Err(CommitError::Refused(refusals));
        }
        self.tables = tables;
        self.generation = self.generation.wrapping_add(1);
        match fault {
            Fault::LostApplied => Err(CommitError::LostReplies),
            Fault::None
            | Fault::Refuse(..)
            | Fault::LostUnapplied
            | Fault::TooLarge
            | Fault::Io(_) => Ok(()),
        }
    }

    /// What happens before the kernel looks at a transaction of so many bytes.
    fn send(&self, len: usize, fault: &Fault) -> Result<(), CommitError> {
        match fault {
            Fault::Io(errno) => Err(CommitError::Io((*errno).into())),
            Fault::LostUnapplied => Err(CommitError::LostReplies),
            Fault::TooLarge => Err(CommitError::TooLarge { len, limit: 0 }),
            Fault::None | Fault::Refuse(..) | Fault::LostApplied => match self.limit {
                limit if len > limit => Err(CommitError::TooLarge { len, limit }),
                _ => Ok(()),
            },
        }
    }

    /// Queues what goes wrong with the next transactions: one fault each.
    pub fn fail(&mut self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.extend(faults);
    }

    /// Lets no transaction of more bytes through from now on, as a send buffer that may not grow.
    pub fn limit_sends(&mut self, bytes: usize) {
        self.limit = bytes;
    }

    /// Forgets the faults that are left.
    pub fn heal(&mut self) {
        self.faults.clear();
        self.broken_reads = 0;
    }

    /// Makes the next reads fail.
    pub fn break_reads(&mut self, count: u32) {
        self.broken_reads = count;
    }

    /// Our table.
    pub fn table(&self) -> &TableId {
        &self.table
    }

    /// The tables there are.
    pub fn tables(&self) -> impl Iterator<Item = &TableId> {
        self.tables.keys()
    }

    /// Number of transactions applied, plus 1.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    fn reading(&self) -> Reading {
        match self.tables.get(&self.table) {
            Some(table) => assemble(&self.table, table.parts()),
            None => Reading::nothing(),
        }
    }
}

impl svc_core::Kernel<Renderer> for FakeKernel {
    type Error = KernelError;

    fn read(&mut self) -> Result<Ruleset<Key, Value>, KernelError> {
        let table = self.table.name.clone();
        Self::read(self).map_err(|source| KernelError::Read { table, source })
    }

    fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<KernelError>> {
        let table = self.table.name.clone();
        Self::commit(self, transaction).map_err(|source| CommitFailure {
            failure: failure(&source, transaction),
            error: KernelError::Commit { table, source },
        })
    }
}

fn carry_out(tables: &mut BTreeMap<TableId, FakeTable>, request: &Request) -> Result<(), Errno> {
    let id = &request.table;
    if too_long(id.name.as_str()) {
        return Err(Errno::ERANGE);
    }
    match &request.what {
        What::AddTable(table, existing) => match (tables.contains_key(id), existing) {
            (true, Existing::Refuse) => Err(Errno::EEXIST),
            (true, Existing::Keep) => {
                let held = tables.get_mut(id);
                held.into_iter()
                    .for_each(|held| held.set_state(table.state));
                Ok(())
            }
            (false, _) => {
                tables.insert(id.clone(), FakeTable::new(table.clone()));
                Ok(())
            }
        },
        What::DeleteTable => tables.remove(id).map(drop).ok_or(Errno::ENOENT),
        What::AddChain(..)
        | What::DeleteChain(_)
        | What::AddRule(..)
        | What::DeleteRule(..)
        | What::FlushChain(_)
        | What::AddSet(..)
        | What::DeleteSet(_)
        | What::AddElements(..)
        | What::DeleteElements(..)
        | What::FlushSet(_) => {
            let table = tables.get_mut(id).ok_or(Errno::ENOENT)?;
            table.carry_out(&request.what)
        }
    }
}

/// Names have 255 bytes at most.
fn too_long(name: &str) -> bool {
    name.len() > 255
}
