//! A kernel in memory: it refuses what the kernel refuses, and fails on request.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use svc_core::{Protocol, Ruleset};

use crate::companion;
use crate::error::{Errno, Error};
use crate::key::{Destination, Key, Server, ServerId, Value};
use crate::marks::Marks;
use crate::scheduler::Scheduler;
use crate::setting::Setting;
use crate::system::{Counted, Held, HeldId, LinkState, Presence, Request, System, TableEdit};

/// A kernel in memory, seen through one address family.
#[derive(Clone, Debug)]
pub struct FakeKernel {
    /// The companion table.
    pub table: Ruleset<companion::Key, companion::Value>,
    /// Values that settings had before, by their numbers.
    pub saved: BTreeMap<u32, u32>,
    /// Settings.
    pub settings: BTreeMap<Setting, u32>,
    /// Our link.
    pub link: LinkState,
    /// The addresses on our link.
    pub addresses: BTreeSet<IpAddr>,
    /// Virtual servers, ours and others.
    pub servers: BTreeMap<HeldId, FakeServer>,
    /// Schedulers whose modules can be loaded.
    pub schedulers: BTreeSet<String>,
    /// Everything after each change, if asked for.
    pub record: Option<Vec<Ruleset<Key, Value>>>,
    /// Requests taken, each object for itself.
    pub requests: Vec<String>,
    fault: Option<(u32, Fault)>,
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FakeServer {
    /// What it is like.
    pub server: Server,
    /// Its destinations.
    pub destinations: BTreeMap<SocketAddr, Counted>,
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks after so many objects were changed.
    Break {
        /// Objects changed before.
        applied: usize,
    },
    /// One object is refused.
    Refuse {
        /// Its index in the call, taken modulo their number.
        index: usize,
        /// Why.
        errno: Errno,
    },
}

impl Default for FakeKernel {
    fn default() -> Self {
        Self {
            table: Ruleset::new(),
            saved: BTreeMap::new(),
            settings: Setting::ALL.map(|setting| (setting, 0)).into(),
            link: LinkState::Absent,
            addresses: BTreeSet::new(),
            servers: BTreeMap::new(),
            schedulers: Scheduler::ALL.map(|s| s.name().to_owned()).into(),
            record: None,
            requests: Vec::new(),
            fault: None,
        }
    }
}

impl FakeKernel {
    /// Lets a call fail: that after so many others.
    pub fn fail(&mut self, after: u32, fault: Fault) {
        self.fault = Some((after, fault));
    }

    /// Whether a call is still to fail.
    pub fn is_failing(&self) -> bool {
        self.fault.is_some()
    }

    /// Lets no further call fail.
    pub fn heal(&mut self) {
        self.fault = None;
    }

    /// Everything, as a ruleset.
    pub fn ruleset(&self) -> Ruleset<Key, Value> {
        let table = self.table.clone().into_iter();
        let mut all: Ruleset<Key, Value> = table
            .map(|(key, value)| (Key::Companion(key), Value::Companion(value)))
            .collect();
        let addresses = self.addresses.iter();
        all.extend(addresses.map(|ip| (Key::Address(*ip), Value::Address)));
        if self.link == LinkState::Up {
            all.insert(Key::Link, Value::Link);
        }
        for (id, server) in &self.servers {
            let id = server_id(*id);
            all.insert(Key::Server(id), Value::Server(server.server.clone()));
            for (at, counted) in &server.destinations {
                let value = Value::Destination(counted.value);
                all.insert(Key::Destination(id, *at), value);
            }
        }
        all
    }

    fn fault(&mut self) -> Option<Fault> {
        match &mut self.fault {
            None => None,
            Some((0, _)) => self.fault.take().map(|(_, fault)| fault),
            Some((after, _)) => {
                *after -= 1;
                None
            }
        }
    }

    /// Fails a call that changes nothing, or one thing.
    fn call(&mut self) -> Result<(), Error> {
        match self.fault() {
            None => Ok(()),
            Some(Fault::Break { .. }) => Err(Error::refused("talk", Errno::ENOBUFS)),
            Some(Fault::Refuse { errno, .. }) => Err(Error::refused("do it", errno)),
        }
    }

    /// Runs changes one by one, as far as a fault lets. A refusal that says that somebody else was
    /// quicker is made true by `race`.
    fn each<T>(
        &mut self,
        items: &[T],
        race: impl Fn(&mut Self, &T, Errno),
        mut change: impl FnMut(&mut Self, &T) -> Result<(), Errno>,
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let fault = self.fault();
        let mut answers = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            answers.push(match fault {
                Some(Fault::Break { applied }) if applied <= index => {
                    return Err(Error::refused("talk", Errno::ENOBUFS));
                }
                Some(Fault::Refuse { index: at, errno }) if at % items.len() == index => {
                    race(self, item, errno);
                    Err(errno)
                }
                Some(Fault::Break { .. } | Fault::Refuse { .. }) | None => change(self, item),
            });
            self.note();
        }
        match fault {
            Some(Fault::Break { .. }) => Err(Error::refused("talk", Errno::ENOBUFS)),
            Some(Fault::Refuse { .. }) | None => Ok(answers),
        }
    }

    fn note(&mut self) {
        if self.record.is_some() {
            let now = self.ruleset();
            self.record.get_or_insert_default().push(now);
        }
    }

    /// Somebody else does what a refusal tells of.
    fn race(&mut self, request: &Request, errno: Errno) {
        match (request, errno) {
            (Request::NewServer(id, _), Errno::EEXIST) => {
                let server = FakeServer {
                    server: Server::new(Scheduler::ShortestExpectedDelay),
                    destinations: BTreeMap::new(),
                };
                self.servers.entry(held_id(*id)).or_insert(server);
            }
            (Request::NewDestination(id, at, value), Errno::EEXIST) => {
                if let Ok(server) = self.server(*id) {
                    server.destinations.insert(*at, Counted::idle(*value));
                }
            }
            (
                Request::SetDestination(id, at, _) | Request::DeleteDestination(id, at),
                Errno::ENOENT,
            ) => {
                if let Ok(server) = self.server(*id) {
                    server.destinations.remove(at);
                }
            }
            (
                Request::SetServer(id, _)
                | Request::DeleteServer(id)
                | Request::NewDestination(id, ..)
                | Request::SetDestination(id, ..)
                | Request::DeleteDestination(id, _),
                Errno::ESRCH,
            ) => drop(self.servers.remove(&held_id(*id))),
            (
                Request::NewServer(..)
                | Request::SetServer(..)
                | Request::DeleteServer(_)
                | Request::NewDestination(..)
                | Request::SetDestination(..)
                | Request::DeleteDestination(..),
                _,
            ) => {}
        }
    }

    fn request(&mut self, request: &Request) -> Result<(), Errno> {
        self.requests.push(format!("{request:?}"));
        match request {
            Request::NewServer(id, server) => self.new_server(*id, server),
            Request::SetServer(id, server) => {
                self.load(server)?;
                self.server(*id)?.server = server.clone();
                Ok(())
            }
            Request::DeleteServer(id) => {
                let gone = self.servers.remove(&held_id(*id));
                gone.map(drop).ok_or(Errno::ESRCH)
            }
            Request::NewDestination(id, at, value) => {
                let server = self.server(*id)?;
                if server.destinations.contains_key(at) {
                    return Err(Errno::EEXIST);
                }
                server.destinations.insert(*at, Counted::idle(*value));
                Ok(())
            }
            Request::SetDestination(id, at, value) => {
                let held = self.server(*id)?.destinations.get_mut(at);
                held.ok_or(Errno::ENOENT)?.value = *value;
                Ok(())
            }
            Request::DeleteDestination(id, at) => {
                let gone = self.server(*id)?.destinations.remove(at);
                gone.map(drop).ok_or(Errno::ENOENT)
            }
        }
    }

    fn new_server(&mut self, id: ServerId, server: &Server) -> Result<(), Errno> {
        self.load(server)?;
        let id = held_id(id);
        if self.servers.contains_key(&id) {
            return Err(Errno::EEXIST);
        }
        let server = FakeServer {
            server: server.clone(),
            destinations: BTreeMap::new(),
        };
        self.servers.insert(id, server);
        Ok(())
    }

    fn load(&self, server: &Server) -> Result<(), Errno> {
        match self.schedulers.contains(&*server.scheduler) {
            true => Ok(()),
            false => Err(Errno::ENOENT),
        }
    }

    fn server(&mut self, id: ServerId) -> Result<&mut FakeServer, Errno> {
        self.servers.get_mut(&held_id(id)).ok_or(Errno::ESRCH)
    }
}

impl Counted {
    /// A destination without connections.
    pub fn idle(value: Destination) -> Self {
        Self {
            value,
            connections: 0,
        }
    }
}

/// What the kernel knows a virtual server by.
pub fn held_id(id: ServerId) -> HeldId {
    match id {
        ServerId::Marked(_, mark) => HeldId::Marked(mark),
        ServerId::At(protocol, at) => HeldId::At(protocol, at),
    }
}

fn server_id(id: HeldId) -> ServerId {
    match id {
        HeldId::Marked(mark) => {
            let protocol = Marks::default().protocol(mark);
            ServerId::Marked(protocol.unwrap_or(Protocol::Tcp), mark)
        }
        HeldId::At(protocol, at) => ServerId::At(protocol, at),
    }
}

impl System for FakeKernel {
    fn table(&mut self) -> Result<Ruleset<companion::Key, companion::Value>, Error> {
        self.call()?;
        Ok(self.table.clone())
    }

    fn change_table(&mut self, edits: &[TableEdit<'_>]) -> Result<(), Error> {
        let fault = self.fault();
        self.requests
            .push(format!("table, {} objects", edits.len()));
        let refused = match fault {
            Some(Fault::Break { applied: 0 }) => {
                return Err(table::failed(
                    backend_nftables::error::CommitError::LostReplies,
                ));
            }
            Some(Fault::Refuse { index, errno }) => {
                let edit = edits.get(index % edits.len().max(1));
                edit.map(|(tag, _)| (*tag, errno))
            }
            Some(Fault::Break { .. }) | None => None,
        };
        let result = match refused {
            Some((tag, errno)) => Err((tag, errno)),
            None => table::changed(&self.table, edits),
        };
        let (after, saved) = result.map_err(|(tag, errno)| table::refused(tag, errno))?;
        self.table = after;
        self.saved.extend(saved);
        self.note();
        match fault {
            Some(Fault::Break { .. }) => Err(table::failed(
                backend_nftables::error::CommitError::LostReplies,
            )),
            Some(Fault::Refuse { .. }) | None => Ok(()),
        }
    }

    fn delete_table(&mut self) -> Result<(), Error> {
        self.call()?;
        self.table.clear();
        self.saved.clear();
        self.note();
        Ok(())
    }

    fn saved(&mut self) -> Result<BTreeMap<u32, u32>, Error> {
        self.call()?;
        Ok(self.saved.clone())
    }

    fn setting(&mut self, setting: Setting) -> Result<Option<u32>, Error> {
        self.call()?;
        Ok(self.settings.get(&setting).copied())
    }

    fn set(&mut self, setting: Setting, value: u32) -> Result<(), Error> {
        self.call()?;
        self.settings.insert(setting, value);
        Ok(())
    }

    fn servers(&mut self) -> Result<Vec<Held>, Error> {
        self.call()?;
        let held = self.servers.iter().map(|(id, server)| Held {
            id: *id,
            server: server.server.clone(),
        });
        Ok(held.collect())
    }

    fn destinations(&mut self, server: ServerId) -> Result<BTreeMap<SocketAddr, Counted>, Error> {
        self.call()?;
        self.requests.push(format!("list {server:?}"));
        let held = self.servers.get(&held_id(server));
        Ok(held
            .map(|held| held.destinations.clone())
            .unwrap_or_default())
    }

    fn change(&mut self, requests: &[Request]) -> Result<Vec<Result<(), Errno>>, Error> {
        self.each(requests, Self::race, Self::request)
    }

    fn link(&mut self) -> Result<LinkState, Error> {
        self.call()?;
        Ok(self.link.clone())
    }

    fn make_link(&mut self) -> Result<(), Error> {
        self.call()?;
        self.link = LinkState::Up;
        self.note();
        Ok(())
    }

    fn delete_link(&mut self) -> Result<(), Error> {
        self.call()?;
        if self.link != LinkState::Foreign {
            self.link = LinkState::Absent;
            self.addresses.clear();
        }
        self.note();
        Ok(())
    }

    fn addresses(&mut self) -> Result<Vec<IpAddr>, Error> {
        self.call()?;
        Ok(self.addresses.iter().copied().collect())
    }

    fn change_addresses(
        &mut self,
        requests: &[(IpAddr, Presence)],
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let race =
            |kernel: &mut Self, (ip, presence): &(IpAddr, Presence), errno| match (presence, errno)
            {
                (Presence::Present, Errno::EEXIST) => drop(kernel.addresses.insert(*ip)),
                (Presence::Absent, Errno::EADDRNOTAVAIL) => drop(kernel.addresses.remove(ip)),
                (Presence::Present | Presence::Absent, _) => {}
            };
        self.each(requests, race, |kernel, (ip, presence)| {
            kernel.requests.push(format!("{ip} {presence:?}"));
            if kernel.link == LinkState::Absent {
                return Err(Errno::ENODEV);
            }
            match presence {
                Presence::Present => match kernel.addresses.insert(*ip) {
                    true => Ok(()),
                    false => Err(Errno::EEXIST),
                },
                Presence::Absent => match kernel.addresses.remove(ip) {
                    true => Ok(()),
                    false => Err(Errno::EADDRNOTAVAIL),
                },
            }
        })
    }
}
