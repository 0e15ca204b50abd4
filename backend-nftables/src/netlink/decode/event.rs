//! Notifications of the nf_tables multicast group.

use super::super::attr::Message;
use super::super::batch::TableId;
use super::super::wire::{SUBSYS, chain, elem, generation, msg, rule, set, table};
use super::decode_generation;
use crate::rule::{Family, TableName};

/// One change that somebody, maybe this process, made.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Event {
    /// What changed.
    pub kind: EventKind,
    /// Family of the table; `None` for generations and families this crate does not use.
    pub family: Option<Family>,
    /// The table it changed in; `None` for generations.
    pub table: Option<TableName>,
    /// Netlink port of who made the change; compare with `Socket::port` to know one's own.
    pub port: u32,
}

impl Event {
    /// Whether the change is inside a table, or of the table itself.
    pub fn concerns(&self, table: &TableId) -> bool {
        self.family == Some(table.family) && self.table.as_ref() == Some(&table.name)
    }
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum EventKind {
    /// A table was added or changed.
    NewTable,
    /// A table was removed.
    DeleteTable,
    /// A chain was added or changed.
    NewChain,
    /// A chain was removed.
    DeleteChain,
    /// A rule was added.
    NewRule,
    /// A rule was removed.
    DeleteRule,
    /// A set was added.
    NewSet,
    /// A set was removed.
    DeleteSet,
    /// Elements were added.
    NewElements,
    /// Elements were removed or expired.
    DeleteElements,
    /// A transaction ended; comes after its other events.
    Generation {
        /// The new generation.
        id: u32,
        /// Process that committed it.
        pid: u32,
        /// Name of that process.
        process: Box<str>,
    },
    /// Something this crate does not use, by the kernel's message number.
    Other(u8),
}

/// `None` for messages of other subsystems.
pub(in super::super) fn decode_event(message: &Message<'_>) -> Option<Event> {
    let [kind, subsystem] = message.header.kind.to_le_bytes();
    if subsystem != SUBSYS {
        return None;
    }
    let attrs = message.attrs();
    let (kind, table) = match kind {
        msg::NEWTABLE => (EventKind::NewTable, Some(table::NAME)),
        msg::DELTABLE => (EventKind::DeleteTable, Some(table::NAME)),
        msg::NEWCHAIN => (EventKind::NewChain, Some(chain::TABLE)),
        msg::DELCHAIN => (EventKind::DeleteChain, Some(chain::TABLE)),
        msg::NEWRULE => (EventKind::NewRule, Some(rule::TABLE)),
        msg::DELRULE => (EventKind::DeleteRule, Some(rule::TABLE)),
        msg::NEWSET => (EventKind::NewSet, Some(set::TABLE)),
        msg::DELSET => (EventKind::DeleteSet, Some(set::TABLE)),
        msg::NEWSETELEM => (EventKind::NewElements, Some(elem::LIST_TABLE)),
        msg::DELSETELEM => (EventKind::DeleteElements, Some(elem::LIST_TABLE)),
        msg::NEWGEN => {
            let kind = EventKind::Generation {
                id: decode_generation(attrs)?,
                pid: attrs.u32(generation::PROC_PID).unwrap_or_default(),
                process: Box::from(attrs.string(generation::PROC_NAME).unwrap_or_default()),
            };
            (kind, None)
        }
        // Objects and flow tables name their table in attribute 1 as well.
        other => (EventKind::Other(other), Some(table::NAME)),
    };
    Some(Event {
        kind,
        family: Family::from_code(message.family()),
        table: table
            .and_then(|kind| attrs.string(kind))
            .map(TableName::from),
        port: message.header.port,
    })
}
