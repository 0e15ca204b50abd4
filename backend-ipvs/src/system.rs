//! What this backend asks of a kernel: the calls that the real one and the one in memory answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use svc_core::{Edit, Protocol, Ruleset};

use crate::companion;
use crate::error::{Errno, Error};
use crate::key::{Destination, Server, ServerId};
use crate::setting::Setting;

/// A kernel, seen through one address family. Each method is one exchange with it.
pub trait System {
    /// Reads the companion table; nothing if there is none.
    ///
    /// # Errors
    /// [`Error::ReadTable`].
    fn table(&mut self) -> Result<Ruleset<companion::Key, companion::Value>, Error>;

    /// Changes the companion table as a whole or not at all; each edit comes with a tag.
    ///
    /// # Errors
    /// [`Error::ChangeTable`].
    fn change_table(&mut self, edits: &[TableEdit<'_>]) -> Result<(), Error>;

    /// Removes the companion table and all it holds; nothing is done if there is none.
    ///
    /// # Errors
    /// [`Error::ChangeTable`].
    fn delete_table(&mut self) -> Result<(), Error>;

    /// What settings were before we changed them, by their numbers.
    ///
    /// # Errors
    /// [`Error::ReadTable`].
    fn saved(&mut self) -> Result<BTreeMap<u32, u32>, Error>;

    /// The value of a setting; `None` if the kernel does not have it.
    ///
    /// # Errors
    /// [`Error::Setting`].
    fn setting(&mut self, setting: Setting) -> Result<Option<u32>, Error>;

    /// Gives a setting a value.
    ///
    /// # Errors
    /// [`Error::Setting`].
    fn set(&mut self, setting: Setting, value: u32) -> Result<(), Error>;

    /// Lists virtual servers.
    ///
    /// # Errors
    /// [`Error::Refused`].
    fn servers(&mut self) -> Result<Vec<Held>, Error>;

    /// Lists the destinations of a virtual server; none if it does not exist.
    ///
    /// # Errors
    /// [`Error::Refused`].
    fn destinations(&mut self, server: ServerId) -> Result<BTreeMap<SocketAddr, Counted>, Error>;

    /// Changes virtual servers and destinations, each request for itself.
    ///
    /// # Errors
    /// [`Error::Refused`] when the connection broke: any number of requests may have been taken.
    fn change(&mut self, requests: &[Request]) -> Result<Vec<Result<(), Errno>>, Error>;

    /// The state of our link.
    ///
    /// # Errors
    /// [`Error::Refused`].
    fn link(&mut self) -> Result<LinkState, Error>;

    /// Makes our link and switches it on; one that exists is switched on.
    ///
    /// # Errors
    /// [`Error::Missing`] or [`Error::Refused`].
    fn make_link(&mut self) -> Result<(), Error>;

    /// Removes our link and its addresses; nothing is done if there is none.
    ///
    /// # Errors
    /// [`Error::Refused`].
    fn delete_link(&mut self) -> Result<(), Error>;

    /// Lists the addresses on our link.
    ///
    /// # Errors
    /// [`Error::Refused`].
    fn addresses(&mut self) -> Result<Vec<IpAddr>, Error>;

    /// Puts addresses on our link or takes them off, each for itself.
    ///
    /// # Errors
    /// [`Error::Refused`] when the connection broke: any number may have been taken.
    fn change_addresses(
        &mut self,
        requests: &[(IpAddr, Presence)],
    ) -> Result<Vec<Result<(), Errno>>, Error>;
}

/// An edit of the companion table, with a tag that refusals name.
pub type TableEdit<'a> = (u32, &'a Edit<companion::Key, companion::Value>);

/// A change of one object of IPVS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Makes a virtual server; one that exists is refused.
    NewServer(ServerId, Server),
    /// Changes a virtual server.
    SetServer(ServerId, Server),
    /// Deletes a virtual server and its destinations.
    DeleteServer(ServerId),
    /// Adds a destination; one that exists is refused.
    NewDestination(ServerId, SocketAddr, Destination),
    /// Changes a destination.
    SetDestination(ServerId, SocketAddr, Destination),
    /// Deletes a destination.
    DeleteDestination(ServerId, SocketAddr),
}

/// A virtual server that exists, ours or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// What the kernel knows it by.
    pub id: HeldId,
    /// What it is like.
    pub server: Server,
}

/// What the kernel knows any virtual server by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HeldId {
    /// A packet mark.
    Marked(u32),
    /// An address and port.
    At(Protocol, SocketAddr),
}

/// A destination and its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What it is like.
    pub value: Destination,
    /// Connections that it has, active or not.
    pub connections: u32,
}

/// The state of our link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is none of this name.
    Absent,
    /// It exists and is switched off.
    Down,
    /// It exists and is switched on.
    Up,
    /// Somebody else has the name.
    Foreign,
}

/// Whether something is to be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is.
    Present,
    /// It is not.
    Absent,
}
