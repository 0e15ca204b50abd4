//! A transaction in the order in which it is applied: IPVS has none, so every step is a sane state.
//!
//! ```text
//!  1  companion table: what is new and what refuses
//!  2  link
//!  3  virtual servers: new and changed
//!  4  destinations: new and changed        (marks: see `Marks`)
//!  5  addresses: new                       (from here on clients come)
//!  6  destinations: drained or deleted
//!  7  virtual servers: deleted
//!  8  addresses: deleted
//!  9  companion table: what is gone and what refuses no more
//! ```
//!
//! A front end is in the companion table before its virtual server exists and after: so the table
//! always tells which virtual servers are ours.

use std::collections::BTreeSet;
use std::mem;
use std::net::{IpAddr, SocketAddr};

use backend_nftables::rule::Bytes;
use svc_core::{Edit, Transaction};

use crate::companion::{self, SetId};
use crate::key::{Destination, Key, Server, ServerId, Value};
use crate::render::read_mark;

/// Something to do, and the index of the group that asks for it.
pub(crate) type Of<T> = (usize, T);

/// A transaction, sorted by what is done when.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) table_first: Vec<Of<TableEdit>>,
    pub(crate) link: Option<Of<Change>>,
    pub(crate) new_servers: Vec<Of<(ServerId, Server)>>,
    pub(crate) set_servers: Vec<Of<(ServerId, Server)>>,
    pub(crate) new_destinations: Vec<Of<(ServerId, SocketAddr, Destination)>>,
    pub(crate) set_destinations: Vec<Of<(ServerId, SocketAddr, Destination)>>,
    pub(crate) new_addresses: Vec<Of<IpAddr>>,
    /// With what is held.
    pub(crate) old_destinations: Vec<Of<(ServerId, SocketAddr, Destination)>>,
    pub(crate) old_servers: Vec<Of<ServerId>>,
    pub(crate) old_addresses: Vec<Of<IpAddr>>,
    pub(crate) table_last: Vec<Of<TableEdit>>,
    pub(crate) marks: Marks,
}

/// Edits of marks, each at a moment when the front end finds what it needs in the virtual server it
/// goes to, and nothing of others in the one it leaves.
///
/// ```text
///  destinations: new, of addresses and of new virtual servers with marks
///  leave   a virtual server that may get destinations that are not for this front end any more
///  destinations: new, of other virtual servers with marks
///  switch  from one such virtual server to another
///  destinations: old, of virtual servers with marks
///  enter   a virtual server that had destinations that were not for this front end yet
///  destinations: old, of addresses
/// ```
///
/// The front ends of a service port share its mark. So one that switches is, for some steps, with
/// all destinations that either service port has or had: each order has such steps where two of
/// them swap front ends.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    /// Those whose virtual servers are new.
    new: BTreeSet<u32>,
    pub(crate) leave: Vec<Of<TableEdit>>,
    pub(crate) switch: Vec<Of<TableEdit>>,
    pub(crate) enter: Vec<Of<TableEdit>>,
}

/// An edit of the companion table.
pub(crate) type TableEdit = Edit<companion::Key, companion::Value>;

/// What is to become of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Make,
    Remove,
}

impl Work {
    pub(crate) fn of(transaction: &Transaction<Key, Value>) -> Self {
        let mut work = Self::default();
        for (group, edits) in transaction.groups.iter().enumerate() {
            for edit in &edits.edits {
                work.add(group, edit);
            }
        }
        work.make_room();
        work.sort_marks();
        work
    }

    fn sort_marks(&mut self) {
        let new = self.new_servers.iter().filter_map(|(_, (id, _))| match id {
            ServerId::Marked(_, mark) => Some(*mark),
            ServerId::At(..) => None,
        });
        self.marks.new.extend(new);
        for (group, edit) in mem::take(&mut self.marks.switch) {
            let list = match (&edit.before, mark(&edit)) {
                (_, None) => &mut self.marks.leave,
                (_, Some(mark)) if self.marks.new.contains(&mark) => &mut self.marks.leave,
                (Some(_), Some(_)) => &mut self.marks.switch,
                (None, Some(_)) => &mut self.marks.enter,
            };
            list.push((group, edit));
        }
    }

    /// Whether a virtual server gets destinations only when front ends have left.
    pub(crate) fn is_left(&self, id: ServerId) -> bool {
        !self.marks.leave.is_empty() && self.had_mark(id)
    }

    /// Whether a virtual server loses destinations before front ends enter.
    pub(crate) fn is_entered(&self, id: ServerId) -> bool {
        !self.marks.enter.is_empty() && self.had_mark(id)
    }

    fn had_mark(&self, id: ServerId) -> bool {
        matches!(id, ServerId::Marked(_, mark) if !self.marks.new.contains(&mark))
    }

    /// Takes ranges away at once where new ones overlap them: no set holds both.
    fn make_room(&mut self) {
        let new = self.table_first.iter().filter_map(|(_, edit)| range(edit));
        let mut new: Vec<(Bytes, Bytes)> = new.collect();
        new.sort_unstable();
        let in_the_way = |edit: &TableEdit| {
            let Some((start, end)) = range(edit) else {
                return false;
            };
            // In order and apart from each other; only the one before may reach as far.
            let behind = new.partition_point(|(first, _)| *first <= end);
            new.get(..behind)
                .and_then(<[_]>::last)
                .is_some_and(|(_, last)| *last >= start)
        };
        let (room, last) = mem::take(&mut self.table_last)
            .into_iter()
            .partition(|(_, edit)| in_the_way(edit));
        let first = mem::replace(&mut self.table_first, room);
        self.table_first.extend(first);
        self.table_last = last;
    }

    fn add(&mut self, group: usize, edit: &Edit<Key, Value>) {
        match (&edit.key, &edit.before, &edit.after) {
            (Key::Companion(key), before, after) => {
                let edit = Edit {
                    key: key.clone(),
                    before: table_value(before.as_ref()),
                    after: table_value(after.as_ref()),
                };
                let mark = matches!(edit.key, companion::Key::Element(SetId::Marks, _));
                let list = match (mark, &edit.after) {
                    (true, _) => &mut self.marks.switch,
                    (false, Some(_)) => &mut self.table_first,
                    // Waits until virtual servers are gone.
                    (false, None) => &mut self.table_last,
                };
                list.push((group, edit));
            }
            (Key::Link, None, Some(_)) => self.link = Some((group, Change::Make)),
            (Key::Link, Some(_), None) => self.link = Some((group, Change::Remove)),
            (Key::Address(ip), None, Some(_)) => self.new_addresses.push((group, *ip)),
            (Key::Address(ip), Some(_), None) => self.old_addresses.push((group, *ip)),
            (Key::Server(id), before, Some(Value::Server(server))) => {
                let list = match before {
                    None => &mut self.new_servers,
                    Some(_) => &mut self.set_servers,
                };
                list.push((group, (*id, server.clone())));
            }
            (Key::Server(id), Some(_), None) => self.old_servers.push((group, *id)),
            (Key::Destination(id, at), before, Some(Value::Destination(value))) => {
                let list = match before {
                    None => &mut self.new_destinations,
                    Some(_) => &mut self.set_destinations,
                };
                list.push((group, (*id, *at, *value)));
            }
            (Key::Destination(id, at), Some(Value::Destination(value)), None) => {
                self.old_destinations.push((group, (*id, *at, *value)));
            }
            // No change, or a value that no key of the kind has.
            (Key::Link | Key::Address(_) | Key::Server(_) | Key::Destination(..), _, _) => {}
        }
    }

    /// Leaves the work of some groups undone.
    pub(crate) fn without(&mut self, refused: impl Fn(usize) -> bool) {
        fn keep<T>(list: &mut Vec<Of<T>>, refused: &impl Fn(usize) -> bool) {
            list.retain(|(group, _)| !refused(*group));
        }
        keep(&mut self.table_first, &refused);
        keep(&mut self.new_servers, &refused);
        keep(&mut self.set_servers, &refused);
        keep(&mut self.new_destinations, &refused);
        keep(&mut self.set_destinations, &refused);
        keep(&mut self.new_addresses, &refused);
        keep(&mut self.old_destinations, &refused);
        keep(&mut self.old_servers, &refused);
        keep(&mut self.old_addresses, &refused);
        keep(&mut self.table_last, &refused);
        keep(&mut self.marks.leave, &refused);
        keep(&mut self.marks.switch, &refused);
        keep(&mut self.marks.enter, &refused);
    }
}

fn table_value(value: Option<&Value>) -> Option<companion::Value> {
    match value {
        Some(Value::Companion(value)) => Some(value.clone()),
        Some(Value::Link | Value::Address | Value::Server(_) | Value::Destination(_)) | None => {
            None
        }
    }
}

/// The range of sources that an edit adds, changes or deletes, with the front end that it is for.
fn range(edit: &TableEdit) -> Option<(Bytes, Bytes)> {
    let companion::Key::Element(SetId::Sources, start) = &edit.key else {
        return None;
    };
    match edit.after.as_ref().or(edit.before.as_ref()) {
        Some(companion::Value::Element(value)) => Some((start.clone(), value.key_end.clone()?)),
        Some(_) | None => None,
    }
}

/// The mark that an edit gives a front end.
fn mark(edit: &TableEdit) -> Option<u32> {
    match edit.after.as_ref()? {
        companion::Value::Element(value) => read_mark(value),
        companion::Value::Table(_) | companion::Value::Set(_) | companion::Value::Chain(_) => None,
    }
}
