//! Who else changes our tables.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::error::EventError;
use crate::kernel::Kernel;
use crate::netlink::{EventKind, Events, TableId};

/// Hears of changes that other processes make to tables of ours.
///
/// Two proxies with one table and different plans would undo each other's work for ever, so it matters
/// who the other is.
#[derive(Debug)]
pub struct Others {
    events: Events,
    /// Each table with the netlink port of its kernel.
    tables: Vec<(TableId, u32)>,
    touched: Vec<TableId>,
}

/// Changes of one transaction, by somebody else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Tables of ours that changed; all of them if events were lost.
    pub tables: Vec<TableId>,
    /// Process that committed it, by number in the first pid namespace and by name, as far as the
    /// kernel tells; `None` if events were lost, so that it is not even known whether there was a change.
    pub process: Option<(u32, String)>,
}

impl Others {
    /// Listens from now on, in the network namespace of the calling thread, which must be that of the
    /// kernels.
    ///
    /// # Errors
    /// What the kernel says, or that there is no kernel to listen for.
    pub fn new<'k>(kernels: impl IntoIterator<Item = &'k mut Kernel>) -> io::Result<Self> {
        let (mut events, mut tables) = (None, Vec::new());
        for kernel in kernels {
            // One socket hears of all families.
            if events.is_none() {
                events = Some(kernel.socket().events()?);
            }
            tables.push((kernel.table().clone(), kernel.socket().port()));
        }
        Ok(Self {
            events: events.ok_or(io::ErrorKind::InvalidInput)?,
            tables,
            touched: Vec::new(),
        })
    }

    /// The next change; `None` if there is none now. Wait on the descriptor for more.
    ///
    /// # Errors
    /// When the socket fails. Lost events are a change of all tables.
    pub fn next_change(&mut self) -> io::Result<Option<Change>> {
        loop {
            let event = match self.events.next_event() {
                Ok(Some(event)) => event,
                Ok(None) => return Ok(None),
                Err(EventError::Lost) => return Ok(Some(self.anything())),
                Err(EventError::Io(error)) => return Err(error),
            };
            if let EventKind::Generation { pid, process, .. } = event.kind {
                let tables = std::mem::take(&mut self.touched);
                if !tables.is_empty() {
                    let process = Some((pid, process.into_string()));
                    return Ok(Some(Change { tables, process }));
                }
                continue;
            }
            // Port 0 is the kernel itself, which ends the pins of clients.
            let by_us = |port: &u32| event.port == 0 || event.port == *port;
            let mut known = self.tables.iter();
            let ours = known.find(|(table, _)| event.concerns(table));
            let own = self.tables.iter().any(|(_, port)| by_us(port));
            if let Some((table, _)) = ours.filter(|_| !own)
                && !self.touched.contains(table)
            {
                self.touched.push(table.clone());
            }
        }
    }

    fn anything(&mut self) -> Change {
        self.touched.clear();
        let tables = self.tables.iter().map(|(table, _)| table.clone());
        Change {
            tables: tables.collect(),
            process: None,
        }
    }
}

impl AsFd for Others {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.events.as_fd()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "process {pid} ({name}) changed")?,
            None => f.write_str("somebody may have changed")?,
        }
        for (index, table) in self.tables.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            write!(f, "{comma} table {} {}", table.family.name(), table.name)?;
        }
        Ok(())
    }
}
