//! Links, addresses, routes and policy rules of a namespace.

use std::fmt;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use svc_core::{IpFamily, IpNet, Ipv4Net, Ipv6Net};

use super::rtnl::Rtnl;
use super::{Error, Namespace};

/// A unicast route through a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    pub(super) to: IpNet,
    pub(super) link: String,
    pub(super) via: Option<IpAddr>,
    pub(super) source: Option<IpAddr>,
    pub(super) table: u8,
}

impl Route {
    /// A route to destinations that are neighbours on `link`.
    pub fn direct(to: IpNet, link: impl Into<String>) -> Self {
        Self {
            to,
            link: link.into(),
            via: None,
            source: None,
            table: MAIN_TABLE,
        }
    }

    /// A route through a gateway, which is taken to be a neighbour on `link` whatever the
    /// addresses of the link are.
    pub fn through(to: IpNet, gateway: IpAddr, link: impl Into<String>) -> Self {
        Self {
            via: Some(gateway),
            ..Self::direct(to, link)
        }
    }

    /// The default route of the gateway's family.
    pub fn default_through(gateway: IpAddr, link: impl Into<String>) -> Self {
        let any: IpNet = match gateway {
            IpAddr::V4(_) => Ipv4Net::default().into(),
            IpAddr::V6(_) => Ipv6Net::default().into(),
        };
        Self::through(any, gateway, link)
    }

    /// The source address of packets that choose none.
    #[must_use]
    pub fn from_source(self, source: IpAddr) -> Self {
        Self {
            source: Some(source),
            ..self
        }
    }

    /// Puts the route into a table other than main (254).
    #[must_use]
    pub fn in_table(self, table: u8) -> Self {
        Self { table, ..self }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.to)?;
        if let Some(via) = self.via {
            write!(f, " via {via}")?;
        }
        write!(f, " dev {} table {}", self.link, self.table)
    }
}

/// What happens to packets that a [`Rule`] matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleAction {
    /// They are routed by this table, if it has a route.
    Lookup(u8),
    /// They are answered with ICMP network unreachable.
    Unreachable,
}

/// A policy rule for packets that arrive through a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The family of the packets.
    pub family: IpFamily,
    /// The link they arrive through.
    pub from_link: String,
    /// Lower comes first; the local table is at 0 and the main table at 32766.
    pub priority: u32,
    /// What happens to them.
    pub action: RuleAction,
}

/// Connects two namespaces by a veth pair and sets both ends up.
///
/// # Errors
///
/// [`Error::Rtnetlink`]: `EOPNOTSUPP` when the kernel lacks veth, `EEXIST` when a name is taken.
pub fn connect_veth(
    (namespace, link): (&Namespace, &str),
    (peer_namespace, peer): (&Namespace, &str),
) -> Result<(), Error> {
    let operation = format_args!(
        "create veth pair {link} and {peer} of {}",
        peer_namespace.name()
    );
    namespace.rtnl(operation, |rtnl| {
        rtnl.add_veth(link, peer, peer_namespace.fd())
    })?;
    namespace.set_link_up(link)?;
    peer_namespace.set_link_up(peer)
}

impl Namespace {
    /// Sets a link up.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`], as for every change below.
    pub fn set_link_up(&self, link: &str) -> Result<(), Error> {
        self.rtnl(format_args!("set link {link} up"), |rtnl| rtnl.set_up(link))
    }

    /// Sets a link down; its routes go, and IPv6 addresses with them.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn set_link_down(&self, link: &str) -> Result<(), Error> {
        self.rtnl(format_args!("set link {link} down"), |rtnl| {
            rtnl.set_down(link)
        })
    }

    /// Deletes a link, with its peer if it is a veth.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn delete_link(&self, link: &str) -> Result<(), Error> {
        self.rtnl(format_args!("delete link {link}"), |rtnl| {
            rtnl.delete_link(link)
        })
    }

    /// Adds an address with its prefix; an IPv6 address skips duplicate detection.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn add_address(&self, link: &str, address: IpNet) -> Result<(), Error> {
        self.rtnl(
            format_args!("add address {address} to link {link}"),
            |rtnl| rtnl.add_address(link, address),
        )
    }

    /// Deletes an address.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn delete_address(&self, link: &str, address: IpNet) -> Result<(), Error> {
        self.rtnl(
            format_args!("delete address {address} of link {link}"),
            |rtnl| rtnl.delete_address(link, address),
        )
    }

    /// Adds a route.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn add_route(&self, route: &Route) -> Result<(), Error> {
        self.rtnl(format_args!("add route {route}"), |rtnl| {
            rtnl.add_route(route)
        })
    }

    /// Deletes a route.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn delete_route(&self, route: &Route) -> Result<(), Error> {
        self.rtnl(format_args!("delete route {route}"), |rtnl| {
            rtnl.delete_route(route)
        })
    }

    /// Adds a policy rule.
    ///
    /// # Errors
    ///
    /// [`Error::Rtnetlink`].
    pub fn add_rule(&self, rule: &Rule) -> Result<(), Error> {
        self.rtnl(
            format_args!("add rule for packets of link {}", rule.from_link),
            |rtnl| rtnl.add_rule(rule),
        )
    }

    /// Waits until a link passes packets and addresses are delivered to; a link-local address
    /// must be one of the link, the others may be on any.
    ///
    /// The kernel finishes both in a work queue after it acknowledged them, and a packet sent
    /// before would be lost and sent again only after a second.
    ///
    /// # Errors
    ///
    /// [`Error::NotReady`] after ten seconds, or [`Error::Rtnetlink`].
    pub fn wait_ready(&self, link: &str, addresses: &[IpAddr]) -> Result<(), Error> {
        self.wait_until(format_args!("link {link}"), |rtnl| {
            Ok(rtnl.link(link)?.operational)
        })?;
        for address in addresses {
            self.wait_until(format_args!("address {address}"), |rtnl| {
                rtnl.is_local(link, *address)
            })?;
        }
        Ok(())
    }

    fn wait_until(
        &self,
        what: fmt::Arguments<'_>,
        ready: impl Fn(&mut Rtnl) -> nix::Result<bool>,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + READY_LIMIT;
        while !self.rtnl(format_args!("look up {what}"), &ready)? {
            if Instant::now() > deadline {
                let (what, namespace) = (what.to_string(), self.name().to_owned());
                return Err(Error::NotReady { what, namespace });
            }
            thread::sleep(READY_INTERVAL);
        }
        Ok(())
    }
}

/// Number of the main routing table.
const MAIN_TABLE: u8 = 254;
/// The kernel gathers changes of links for up to a second, and an emulated machine is slow besides.
const READY_LIMIT: Duration = Duration::from_secs(10);
const READY_INTERVAL: Duration = Duration::from_micros(200);
