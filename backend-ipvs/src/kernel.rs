//! Makes the kernel show a plan, step by step.

mod prepare;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use backend_nftables::rule::TableName;
use svc_core::{CommitFailure, Edit, IpFamily, Ruleset, Transaction};

use crate::companion::{self, SetId};
use crate::drain::{Drains, drains};
use crate::error::{Errno, Error};
use crate::key::{Destination, Key, ServerId, Value};
use crate::live::Live;
use crate::marks::Marks;
use crate::refusal::{Refusals, error, failure, refused, taken, words};
use crate::render::{Renderer, Settings};
use crate::setting::Setting;
use crate::system::{HeldId, LinkState, Presence, Request, System, TableEdit};
use crate::work::{Change, Of, Work};

/// The objects of one family in one network namespace.
///
/// Time does not pass by itself: tell it with [`Kernel::advance`], before transactions and whenever
/// [`Kernel::timeout`] is reached.
#[derive(Debug)]
pub struct Kernel<S = Live> {
    system: S,
    family: IpFamily,
    table: TableName,
    /// Name of our link.
    link: String,
    marks: Marks,
    drains: Drains,
    now: Duration,
    /// Virtual servers that we made, or found to be ours.
    own: BTreeSet<ServerId>,
    /// Virtual servers of somebody else.
    foreign: BTreeSet<ServerId>,
    /// Those of them for which service ports were refused.
    in_the_way: BTreeSet<ServerId>,
    /// Whether a reading found one of these gone since that was asked.
    made_way: bool,
}

impl Kernel {
    /// Opens the kernel of this machine, in the network namespace of the calling thread.
    ///
    /// # Errors
    /// [`Error::Missing`] without IPVS, [`Error::Open`].
    pub fn open(settings: &Settings, family: IpFamily) -> Result<Self, Error> {
        let system = Live::open(settings, family)?;
        Ok(Self::over(system, settings, family))
    }
}

impl<S: System> Kernel<S> {
    /// Works on a kernel.
    pub fn over(system: S, settings: &Settings, family: IpFamily) -> Self {
        Self {
            system,
            family,
            table: settings.table.clone(),
            link: settings.link(family),
            marks: settings.marks,
            drains: Drains::new(settings.drain),
            now: Duration::ZERO,
            own: BTreeSet::new(),
            foreign: BTreeSet::new(),
            in_the_way: BTreeSet::new(),
            made_way: false,
        }
    }

    /// The kernel worked on.
    pub fn system(&mut self) -> &mut S {
        &mut self.system
    }

    /// Number of destinations that only wait for the end of their connections.
    pub fn draining(&self) -> usize {
        self.drains.len()
    }

    /// When to call [`Kernel::advance`] next; `None` while nothing is being drained.
    pub fn timeout(&self) -> Option<Duration> {
        self.drains.timeout()
    }

    /// Tells the time, since any fixed moment, and deletes drained destinations.
    ///
    /// # Errors
    /// [`Error::Refused`]; the next call tries again.
    pub fn advance(&mut self, now: Duration) -> Result<(), Error> {
        self.now = self.now.max(now);
        let due = self.drains.due(self.now);
        self.look_at(&due)
    }

    /// Reads what is ours; nothing if nothing is.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::ForeignLink`] if somebody else has the name of our link.
    pub fn read(&mut self) -> Result<Ruleset<Key, Value>, Error> {
        let table = self.system.table()?;
        let mut held = Ruleset::new();
        match self.system.link()? {
            LinkState::Up => drop(held.insert(Key::Link, Value::Link)),
            LinkState::Absent | LinkState::Down => {}
            LinkState::Foreign => {
                return Err(Error::ForeignLink {
                    link: self.link.clone(),
                });
            }
        }
        for ip in self.system.addresses()? {
            held.insert(Key::Address(ip), Value::Address);
        }
        self.read_servers(&table, &mut held)?;
        let table = table.into_iter();
        held.extend(table.map(|(key, value)| (Key::Companion(key), Value::Companion(value))));
        Ok(held)
    }

    fn read_servers(
        &mut self,
        table: &Ruleset<companion::Key, companion::Value>,
        held: &mut Ruleset<Key, Value>,
    ) -> Result<(), Error> {
        let mut own = BTreeSet::new();
        let mut foreign = BTreeSet::new();
        for found in self.system.servers()? {
            let id = match found.id {
                HeldId::Marked(mark) => match self.marks.protocol(mark) {
                    Some(protocol) => ServerId::Marked(protocol, mark),
                    None => continue,
                },
                HeldId::At(protocol, at) => ServerId::At(protocol, at),
            };
            if !self.is_ours(id, table, held) {
                foreign.insert(id);
                continue;
            }
            own.insert(id);
            for (at, counted) in self.system.destinations(id)? {
                let left = counted.value.weight == 0 && self.drains.is_draining(&(id, at));
                if !left {
                    self.drains.stop(&(id, at));
                    let value = Value::Destination(counted.value);
                    held.insert(Key::Destination(id, at), value);
                }
            }
            held.insert(Key::Server(id), Value::Server(found.server));
        }
        for gone in self.own.difference(&own) {
            self.drains.stop_server(*gone);
        }
        (self.own, self.foreign) = (own, foreign);
        let before = self.in_the_way.len();
        self.in_the_way.retain(|id| self.foreign.contains(id));
        self.made_way |= self.in_the_way.len() < before;
        Ok(())
    }

    /// Whether a virtual server is ours: we remember it, or the companion table does. If somebody
    /// removed the whole table, the address on our link tells.
    fn is_ours(
        &self,
        id: ServerId,
        table: &Ruleset<companion::Key, companion::Value>,
        held: &Ruleset<Key, Value>,
    ) -> bool {
        let ServerId::At(protocol, at) = id else {
            return true;
        };
        if self.foreign.contains(&id) {
            return false;
        }
        let key = companion::frontend_key(at.ip(), protocol, at.port());
        self.own.contains(&id)
            || table.contains_key(&companion::Key::Element(SetId::Frontends, key))
            || table.is_empty() && held.contains_key(&Key::Address(at.ip()))
    }

    /// Applies a transaction, in an order of which every step is a sane state.
    ///
    /// # Errors
    /// With what the failure means for the next step: objects of single service ports that the
    /// kernel refuses are named, and all others are there.
    pub fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<Error>> {
        let mut refusals = Refusals::default();
        match self.apply(Work::of(transaction), &mut refusals) {
            Ok(()) => refusals.result(transaction),
            Err(error) => Err(CommitFailure {
                failure: failure(&error, transaction),
                error,
            }),
        }
    }

    fn apply(&mut self, mut work: Work, refusals: &mut Refusals) -> Result<(), Error> {
        for (group, (id, _)) in &work.new_servers {
            if self.foreign.contains(id) {
                self.in_the_way.insert(*id);
                refusals.add(*group, taken(*id));
            }
        }
        work.without(|group| refusals.contains(group));
        self.change_table(&work.table_first)?;
        if let Some((_, Change::Make)) = work.link {
            self.system.make_link()?;
        }
        self.make_servers(&work, refusals)?;
        work.without(|group| refusals.contains(group));
        self.set_servers(&work.set_servers)?;
        self.make_destinations(&work, |id| !work.is_left(id))?;
        self.change_table(&work.marks.leave)?;
        self.make_destinations(&work, |id| work.is_left(id))?;
        self.change_table(&work.marks.switch)?;
        self.make_addresses(&work.new_addresses, refusals)?;
        work.without(|group| refusals.contains(group));
        self.remove_destinations(&work, |id| work.is_entered(id))?;
        self.change_table(&work.marks.enter)?;
        self.remove_destinations(&work, |id| !work.is_entered(id))?;
        self.remove_servers(&work.old_servers)?;
        self.remove_addresses(&work.old_addresses)?;
        if let Some((_, Change::Remove)) = work.link {
            self.system.delete_link()?;
        }
        self.change_table(&work.table_last)
    }

    fn change_table(&mut self, edits: &[Of<crate::work::TableEdit>]) -> Result<(), Error> {
        let tag = |group: usize| u32::try_from(group).unwrap_or(u32::MAX);
        let edits: Vec<TableEdit<'_>> = edits.iter().map(|(g, edit)| (tag(*g), edit)).collect();
        match edits.is_empty() {
            true => Ok(()),
            false => self.system.change_table(&edits),
        }
    }

    fn make_servers(&mut self, work: &Work, refusals: &mut Refusals) -> Result<(), Error> {
        let new = &work.new_servers;
        let requests = new.iter();
        let requests = requests.map(|(_, (id, server))| Request::NewServer(*id, server.clone()));
        let answers = match self.change(requests.collect()) {
            Ok(answers) => answers,
            Err(error) => {
                // Any of them may be there now, and the table, which would tell, may go.
                self.own.extend(new.iter().map(|(_, (id, _))| *id));
                return Err(error);
            }
        };
        let mut claimed = Vec::new();
        let mut failed = None;
        for ((group, (id, server)), answer) in new.iter().zip(answers) {
            match answer {
                Ok(()) => drop(self.own.insert(*id)),
                Err(Errno::EEXIST) => {
                    self.foreign.insert(*id);
                    self.in_the_way.insert(*id);
                    claimed.extend(frontend_of(*id).map(|key| withdraw(key, &work.table_first)));
                    refusals.add(*group, taken(*id));
                }
                Err(Errno::ENOENT) => {
                    let scheduler = &server.scheduler;
                    let reason = format!(
                        "no scheduler {scheduler}: load its module, modprobe ip_vs_{scheduler}"
                    );
                    refusals.add(*group, reason);
                }
                Err(
                    errno @ (Errno::EINVAL
                    | Errno::EAFNOSUPPORT
                    | Errno::EPROTONOSUPPORT
                    | Errno::EFAULT),
                ) => refusals.add(*group, format!("virtual server {}: {errno}", words(*id))),
                Err(errno) => failed = failed.or(Some(error("make virtual server", *id, errno))),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        // The table must not say that a virtual server of somebody else is ours.
        let claimed: Vec<_> = claimed
            .into_iter()
            .flatten()
            .map(|edit| (0, edit))
            .collect();
        self.change_table(&claimed)
    }

    fn set_servers(&mut self, servers: &[Of<(ServerId, crate::Server)>]) -> Result<(), Error> {
        let requests = servers.iter();
        let requests = requests.map(|(_, (id, server))| Request::SetServer(*id, server.clone()));
        let answers = self.change(requests.collect())?;
        for ((_, (id, _)), answer) in servers.iter().zip(answers) {
            answer.map_err(|errno| error("change virtual server", *id, errno))?;
        }
        Ok(())
    }

    fn make_destinations(
        &mut self,
        work: &Work,
        of: impl Fn(ServerId) -> bool,
    ) -> Result<(), Error> {
        let mut requests = Vec::new();
        let new = work.new_destinations.iter();
        for (_, (id, at, value)) in new.filter(|(_, (id, ..))| of(*id)) {
            // One that was to go is still there (B-296).
            requests.push(match self.drains.stop(&(*id, *at)) {
                true => Request::SetDestination(*id, *at, *value),
                false => Request::NewDestination(*id, *at, *value),
            });
        }
        let set = work.set_destinations.iter();
        for (_, (id, at, value)) in set.filter(|(_, (id, ..))| of(*id)) {
            self.drains.stop(&(*id, *at));
            requests.push(Request::SetDestination(*id, *at, *value));
        }
        // Another manager may have added it, or deleted it while it was being drained.
        let mut again = Vec::new();
        for (request, answer) in requests.iter().zip(self.change(requests.clone())?) {
            match (request, answer) {
                (_, Ok(())) => {}
                (Request::NewDestination(id, at, value), Err(Errno::EEXIST)) => {
                    again.push(Request::SetDestination(*id, *at, *value));
                }
                (Request::SetDestination(id, at, value), Err(Errno::ENOENT)) => {
                    again.push(Request::NewDestination(*id, *at, *value));
                }
                (request, Err(errno)) => return Err(refused(request, errno)),
            }
        }
        for (request, answer) in again.iter().zip(self.change(again.clone())?) {
            answer.map_err(|errno| refused(request, errno))?;
        }
        Ok(())
    }

    fn make_addresses(
        &mut self,
        addresses: &[Of<std::net::IpAddr>],
        refusals: &mut Refusals,
    ) -> Result<(), Error> {
        let requests: Vec<_> = addresses
            .iter()
            .map(|(_, ip)| (*ip, Presence::Present))
            .collect();
        for ((group, ip), answer) in addresses.iter().zip(self.change_addresses(&requests)?) {
            match answer {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno @ (Errno::EINVAL | Errno::EACCES | Errno::EADDRNOTAVAIL)) => {
                    refusals.add(*group, format!("address {ip} on our link: {errno}"));
                }
                Err(errno) => {
                    return Err(Error::refused(format!("put {ip} on our link"), errno));
                }
            }
        }
        Ok(())
    }

    /// Drains destinations or deletes them. Those of a virtual server that goes go with it.
    fn remove_destinations(
        &mut self,
        work: &Work,
        of: impl Fn(ServerId) -> bool,
    ) -> Result<(), Error> {
        let going: BTreeSet<ServerId> = work.old_servers.iter().map(|(_, id)| *id).collect();
        let mut requests = Vec::new();
        let mut look = BTreeSet::new();
        let old = work.old_destinations.iter();
        for (_, (id, at, value)) in old.filter(|(_, (id, ..))| of(*id)) {
            if going.contains(id) {
                continue;
            }
            if !drains(id.protocol()) {
                requests.push(Request::DeleteDestination(*id, *at));
                continue;
            }
            look.insert(*id);
            if value.weight > 0 {
                let value = Destination {
                    weight: 0,
                    ..*value
                };
                requests.push(Request::SetDestination(*id, *at, value));
            } else {
                self.drains.start((*id, *at), self.now);
            }
        }
        let answers = self.change(requests.clone())?;
        for (request, answer) in requests.iter().zip(answers) {
            match (request, answer) {
                (Request::SetDestination(id, at, _), Ok(())) => {
                    self.drains.start((*id, *at), self.now);
                }
                // Somebody else deleted it; without its virtual server all is to be read again.
                (_, Ok(()) | Err(Errno::ENOENT)) => {}
                (request, Err(errno)) => return Err(refused(request, errno)),
            }
        }
        // Most have no connection and need not wait.
        self.look_at(&look)
    }

    /// Deletes what is drained.
    fn look_at(&mut self, servers: &BTreeSet<ServerId>) -> Result<(), Error> {
        let mut finished = Vec::new();
        for id in servers {
            let counted = self.system.destinations(*id)?;
            let connections: BTreeMap<SocketAddr, u32> = counted
                .iter()
                .map(|(at, counted)| (*at, counted.connections))
                .collect();
            let done = self.drains.finished(*id, &connections, self.now);
            finished.extend(done.into_iter().map(|at| (*id, at)));
        }
        let requests = finished.iter();
        let requests = requests.map(|(id, at)| Request::DeleteDestination(*id, *at));
        let requests: Vec<_> = requests.collect();
        let answers = self.change(requests.clone())?;
        for ((place, request), answer) in finished.iter().zip(&requests).zip(answers) {
            match answer {
                Ok(()) | Err(Errno::ENOENT) => drop(self.drains.stop(place)),
                Err(errno) => return Err(refused(request, errno)),
            }
        }
        Ok(())
    }

    fn remove_servers(&mut self, servers: &[Of<ServerId>]) -> Result<(), Error> {
        let requests = servers.iter().map(|(_, id)| Request::DeleteServer(*id));
        let answers = self.change(requests.collect())?;
        for ((_, id), answer) in servers.iter().zip(answers) {
            match answer {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(errno) => return Err(error("delete virtual server", *id, errno)),
            }
            self.drains.stop_server(*id);
            self.own.remove(id);
        }
        Ok(())
    }

    fn remove_addresses(&mut self, addresses: &[Of<std::net::IpAddr>]) -> Result<(), Error> {
        let requests: Vec<_> = addresses
            .iter()
            .map(|(_, ip)| (*ip, Presence::Absent))
            .collect();
        for ((_, ip), answer) in addresses.iter().zip(self.change_addresses(&requests)?) {
            match answer {
                Ok(()) | Err(Errno::EADDRNOTAVAIL) => {}
                Err(errno) => {
                    return Err(Error::refused(format!("take {ip} off our link"), errno));
                }
            }
        }
        Ok(())
    }

    /// Removes exactly what is ours and puts settings back. What is left after a failure, another call removes.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn cleanup(&mut self) -> Result<(), Error> {
        let held = match self.read() {
            // What somebody else made is not ours to remove; the rest is.
            Err(Error::ForeignLink { .. }) => {
                let table = self.system.table()?;
                let mut held = Ruleset::new();
                self.read_servers(&table, &mut held)?;
                held
            }
            result => result?,
        };
        let servers = held.keys().filter_map(|key| match key {
            Key::Server(id) => Some((0, *id)),
            Key::Companion(_) | Key::Link | Key::Address(_) | Key::Destination(..) => None,
        });
        self.remove_servers(&servers.collect::<Vec<_>>())?;
        self.system.delete_link()?;
        for (number, value) in self.system.saved()? {
            if let Some(setting) = Setting::from_number(number) {
                self.system.set(setting, value)?;
            }
        }
        // Last, as it tells what is ours.
        self.system.delete_table()
    }

    fn change(&mut self, requests: Vec<Request>) -> Result<Vec<Result<(), Errno>>, Error> {
        match requests.is_empty() {
            true => Ok(Vec::new()),
            false => self.system.change(&requests),
        }
    }

    fn change_addresses(
        &mut self,
        requests: &[(std::net::IpAddr, Presence)],
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        match requests.is_empty() {
            true => Ok(Vec::new()),
            false => self.system.change_addresses(requests),
        }
    }
}

impl<S: System> svc_core::Kernel<Renderer> for Kernel<S> {
    type Error = Error;

    fn read(&mut self) -> Result<Ruleset<Key, Value>, Error> {
        Self::read(self)
    }

    fn commit(
        &mut self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<Error>> {
        Self::commit(self, transaction)
    }

    /// A virtual server of somebody else at a front end that was refused is gone.
    fn made_way(&mut self) -> bool {
        std::mem::take(&mut self.made_way)
    }
}

fn frontend_of(id: ServerId) -> Option<companion::Key> {
    match id {
        ServerId::Marked(..) => None,
        ServerId::At(protocol, at) => {
            let key = companion::frontend_key(at.ip(), protocol, at.port());
            Some(companion::Key::Element(SetId::Frontends, key))
        }
    }
}

/// The edit that takes back one that was just made.
fn withdraw(
    key: companion::Key,
    made: &[Of<crate::work::TableEdit>],
) -> Option<crate::work::TableEdit> {
    let (_, edit) = made.iter().find(|(_, edit)| edit.key == key)?;
    let was_there = edit.before.is_some();
    (!was_there).then(|| Edit {
        key,
        before: edit.after.clone(),
        after: None,
    })
}
