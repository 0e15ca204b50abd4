//! The kernel of this machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::{fs, io};

use backend_nftables::error::CommitError;
use backend_nftables::netlink::{Batch, Socket, TableId};
use backend_nftables::rule::Family;
use nix::sys::socket::SockProtocol;
use svc_core::{IpFamily, Ruleset};

use crate::companion;
use crate::error::{Errno, Error};
use crate::key::ServerId;
use crate::netlink::ipvs::Codec;
use crate::netlink::{Netlink, ipvs, route};
use crate::render::Settings;
use crate::setting::Setting;
use crate::system::{Counted, Held, LinkState, Presence, Request, System, TableEdit};

/// Sockets to the kernel, in the network namespace of the thread that opened them.
#[derive(Debug)]
pub struct Live {
    table: TableId,
    nftables: Socket,
    batch: Batch,
    codec: Codec,
    generic: Netlink,
    route: Netlink,
    link: String,
    /// Index of our link, once it is known.
    index: Option<u32>,
}

impl Live {
    /// Opens the sockets of a family.
    ///
    /// # Errors
    /// [`Error::Missing`] without IPVS, [`Error::Open`].
    pub fn open(settings: &Settings, family: IpFamily) -> Result<Self, Error> {
        let open = |socket| {
            move |errno: Errno| Error::Open {
                socket,
                source: errno.into(),
            }
        };
        let table = match family {
            IpFamily::V4 => Family::Ip,
            IpFamily::V6 => Family::Ip6,
        };
        let table = TableId::new(table, settings.table.clone());
        let mut generic =
            Netlink::open(SockProtocol::NetlinkGeneric).map_err(open("generic netlink"))?;
        let kind = ipvs_family(&mut generic)?;
        let nftables = Socket::open().map_err(|errno| {
            if errno == Errno::EPROTONOSUPPORT {
                return Error::Missing {
                    what: "nf_tables",
                    module: "nf_tables",
                };
            }
            open("nf_tables")(errno)
        })?;
        Ok(Self {
            nftables,
            batch: Batch::new(table.clone()),
            table,
            codec: Codec { kind, family },
            generic,
            route: Netlink::open(SockProtocol::NetlinkRoute).map_err(open("route netlink"))?,
            link: settings.link(family),
            index: None,
        })
    }

    /// The nf_tables socket, to follow changes that others make.
    pub fn nftables(&mut self) -> &mut Socket {
        &mut self.nftables
    }

    /// The companion table.
    pub fn table_id(&self) -> &TableId {
        &self.table
    }

    /// Requests sent so far about virtual servers, and about links and addresses.
    pub fn sent(&self) -> (u64, u64) {
        (self.generic.sent(), self.route.sent())
    }

    /// Sets the timeouts of connections in seconds, in the whole network namespace; 0 keeps the
    /// kernel's value (B-292).
    ///
    /// # Errors
    /// [`Error::Refused`].
    pub fn set_timeouts(&mut self, tcp: u32, tcp_fin: u32, udp: u32) -> Result<(), Error> {
        let refused = |errno| Error::refused("set the timeouts of IPVS", errno);
        let message = self.codec.set_timeouts(tcp, tcp_fin, udp);
        let answers = self.generic.change(&[message]).map_err(refused)?;
        answers
            .into_iter()
            .try_for_each(|answer| answer)
            .map_err(refused)
    }

    fn family(&self) -> IpFamily {
        self.codec.family
    }

    fn commit(&mut self) -> Result<(), Error> {
        let committed = self.nftables.commit(&self.batch);
        committed.map(drop).map_err(|source| Error::ChangeTable {
            table: self.table.name.clone(),
            source,
        })
    }

    fn refused(&self, operation: &str, errno: Errno) -> Error {
        Error::refused(format!("{operation} {}", self.link), errno)
    }

    /// The index of our link; a lost one is looked for.
    fn index(&mut self) -> Result<Option<u32>, Error> {
        if self.index.is_none() {
            self.link()?;
        }
        Ok(self.index)
    }
}

/// The file of a setting in the network namespace of the calling thread.
fn file(setting: Setting) -> String {
    format!("/proc/sys/{}", setting.path())
}

fn ipvs_family(generic: &mut Netlink) -> Result<u16, Error> {
    match generic.ask(&ipvs::family_request()) {
        Err(Errno::ENOENT) => Err(Error::Missing {
            what: "IPVS",
            module: "ip_vs",
        }),
        Err(errno) => Err(Error::refused("ask for IPVS", errno)),
        Ok(answer) => ipvs::family_id(&answer)
            .ok_or_else(|| Error::refused("read the number of IPVS", Errno::EBADMSG)),
    }
}

/// A list that somebody changes meanwhile is asked for again, so often.
const ATTEMPTS: u32 = 8;

fn list(netlink: &mut Netlink, message: &crate::netlink::Message) -> Result<Vec<Vec<u8>>, Errno> {
    for _ in 1..ATTEMPTS {
        match netlink.dump(message) {
            Err(Errno::EINTR) => {}
            result => return result,
        }
    }
    netlink.dump(message)
}

impl System for Live {
    fn table(&mut self) -> Result<Ruleset<companion::Key, companion::Value>, Error> {
        companion::read(&mut self.nftables, &self.table).map_err(|source| Error::ReadTable {
            table: self.table.name.clone(),
            source,
        })
    }

    fn change_table(&mut self, edits: &[TableEdit<'_>]) -> Result<(), Error> {
        self.batch.clear();
        companion::write(&mut self.batch, edits.iter().copied());
        self.commit()
    }

    fn delete_table(&mut self) -> Result<(), Error> {
        self.batch.clear();
        self.batch.delete_table(0);
        match self.commit() {
            Err(Error::ChangeTable {
                source: CommitError::Refused(refusals),
                ..
            }) if refusals.iter().all(|one| one.errno == Errno::ENOENT) => Ok(()),
            result => result,
        }
    }

    fn saved(&mut self) -> Result<BTreeMap<u32, u32>, Error> {
        companion::saved(&mut self.nftables, &self.table).map_err(|source| Error::ReadTable {
            table: self.table.name.clone(),
            source,
        })
    }

    fn setting(&mut self, setting: Setting) -> Result<Option<u32>, Error> {
        let path = file(setting);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::Setting {
                access: "read",
                path,
                source,
            }),
        }
    }

    fn set(&mut self, setting: Setting, value: u32) -> Result<(), Error> {
        let path = file(setting);
        fs::write(&path, value.to_string()).map_err(|source| Error::Setting {
            access: "write",
            path,
            source,
        })
    }

    fn servers(&mut self) -> Result<Vec<Held>, Error> {
        let answers = list(&mut self.generic, &self.codec.list_servers())
            .map_err(|errno| Error::refused("list virtual servers", errno))?;
        let codec = self.codec;
        let held = answers.iter().filter_map(|body| codec.read_server(body));
        Ok(held.collect())
    }

    fn destinations(&mut self, server: ServerId) -> Result<BTreeMap<SocketAddr, Counted>, Error> {
        let answers = list(&mut self.generic, &self.codec.list_destinations(server))
            .map_err(|errno| Error::refused("list destinations", errno))?;
        let codec = self.codec;
        let held = answers
            .iter()
            .filter_map(|body| codec.read_destination(body));
        Ok(held.collect())
    }

    fn change(&mut self, requests: &[Request]) -> Result<Vec<Result<(), Errno>>, Error> {
        let messages: Vec<_> = requests.iter().map(|one| self.codec.request(one)).collect();
        self.generic
            .change(&messages)
            .map_err(|errno| Error::refused("change virtual servers", errno))
    }

    fn link(&mut self) -> Result<LinkState, Error> {
        self.index = None;
        let answer = match self.route.ask(&route::get_link(&self.link)) {
            Err(Errno::ENODEV) => return Ok(LinkState::Absent),
            Err(errno) => return Err(self.refused("look for link", errno)),
            Ok(answer) => answer,
        };
        let Some(link) = route::read_link(&answer) else {
            return Err(self.refused("read link", Errno::EBADMSG));
        };
        if link.kind != route::DUMMY {
            return Ok(LinkState::Foreign);
        }
        self.index = Some(link.index);
        Ok(match link.up {
            true => LinkState::Up,
            false => LinkState::Down,
        })
    }

    fn make_link(&mut self) -> Result<(), Error> {
        let message = route::new_link(&self.link);
        let mut answer = self.one(&message)?;
        if answer == Err(Errno::EEXIST) {
            answer = self.one(&route::set_up(&self.link))?;
        }
        match answer {
            Ok(()) => Ok(()),
            Err(Errno::EOPNOTSUPP) => Err(Error::Missing {
                what: "dummy links",
                module: "dummy",
            }),
            Err(errno) => Err(self.refused("make link", errno)),
        }
    }

    fn delete_link(&mut self) -> Result<(), Error> {
        match self.link()? {
            LinkState::Absent | LinkState::Foreign => return Ok(()),
            LinkState::Down | LinkState::Up => {}
        }
        let Some(index) = self.index.take() else {
            return Ok(());
        };
        match self.one(&route::delete_link(index))? {
            Ok(()) | Err(Errno::ENODEV) => Ok(()),
            Err(errno) => Err(self.refused("delete link", errno)),
        }
    }

    fn addresses(&mut self) -> Result<Vec<IpAddr>, Error> {
        let Some(index) = self.index()? else {
            return Ok(Vec::new());
        };
        let family = self.family();
        let answers = list(&mut self.route, &route::list_addresses(family))
            .map_err(|errno| self.refused("list addresses of link", errno))?;
        let all = answers.iter();
        let all = all.filter_map(|body| route::read_address(body, family));
        Ok(all
            .filter(|(link, _)| *link == index)
            .map(|(_, ip)| ip)
            .collect())
    }

    fn change_addresses(
        &mut self,
        requests: &[(IpAddr, Presence)],
    ) -> Result<Vec<Result<(), Errno>>, Error> {
        let Some(index) = self.index()? else {
            return Ok(vec![Err(Errno::ENODEV); requests.len()]);
        };
        let message = |(ip, presence): &(IpAddr, Presence)| match presence {
            Presence::Present => route::new_address(index, *ip),
            Presence::Absent => route::delete_address(index, *ip),
        };
        let messages: Vec<_> = requests.iter().map(message).collect();
        let answers = self
            .route
            .change(&messages)
            .map_err(|errno| self.refused("change addresses of link", errno))?;
        if answers.contains(&Err(Errno::ENODEV)) {
            self.index = None;
        }
        Ok(answers)
    }
}

impl Live {
    /// One request about links.
    fn one(&mut self, message: &crate::netlink::Message) -> Result<Result<(), Errno>, Error> {
        let answers = self
            .route
            .change(std::slice::from_ref(message))
            .map_err(|errno| self.refused("change link", errno))?;
        Ok(answers.into_iter().next().unwrap_or(Ok(())))
    }
}
