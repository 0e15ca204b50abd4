//! The records that a name has.

use core::net::IpAddr;

use super::super::answer::{
    Additional, AdditionalOf, RecordSet, RecordType, Records, Soa, v4_set, v6_set,
};
use super::super::entry::{Addressed, SrvSet};
use super::super::name::{DnsName, NameRef};
use super::super::zone::{Authority, Zone};
use super::Node;
use crate::net::IpFamily;

/// Version of the specification, as `dns-version` says it.
const VERSION: &str = "1.1.0";
/// Time to live of the version, which no option changes (specification 2.2).
const VERSION_TTL: u32 = 28_800;
/// Longest time to live of SOA records.
const MAX_SOA_TTL: u32 = 300;
/// Types in the order in which one is chosen for a question about any.
const KINDS: [RecordType; 6] = [
    RecordType::A,
    RecordType::Aaaa,
    RecordType::Srv,
    RecordType::Ptr,
    RecordType::Txt,
    RecordType::Soa,
];

impl Zone {
    /// The records of a type that a name has.
    pub(super) fn records<'a>(
        &'a self,
        owner: NameRef<'a>,
        record_type: RecordType,
        authority: &'a Authority,
        node: &Node<'a>,
    ) -> Option<RecordSet<'a>> {
        let ttl = self.config.options.ttl;
        let set = |records| RecordSet {
            owner,
            ttl,
            records,
        };
        match record_type {
            RecordType::A => self.addresses(owner, IpFamily::V4, node),
            RecordType::Aaaa => self.addresses(owner, IpFamily::V6, node),
            RecordType::Srv => {
                let (addressed, srv) = node.srv()?;
                srv_set(owner, ttl, addressed, srv)
            }
            RecordType::Ptr => {
                let targets = node.pointers()?;
                Some(set(Records::Ptr(targets)))
            }
            RecordType::Ns => {
                let host = authority.mname.as_ref();
                matches!(node, Node::Apex).then(|| set(Records::Ns(host)))
            }
            RecordType::Txt => matches!(node, Node::Version).then(|| RecordSet {
                ttl: VERSION_TTL,
                ..set(Records::Txt(VERSION))
            }),
            RecordType::Soa => self.soa_at(owner, authority, node),
            // RFC 8482: one record set is enough.
            RecordType::Any => {
                let mut kinds = KINDS.into_iter();
                kinds.find_map(|kind| self.records(owner, kind, authority, node))
            }
            RecordType::Cname | RecordType::Other(_) => None,
        }
    }

    /// Records of type A or AAAA.
    fn addresses<'a>(
        &'a self,
        owner: NameRef<'a>,
        family: IpFamily,
        node: &Node<'a>,
    ) -> Option<RecordSet<'a>> {
        let ttl = self.config.options.ttl;
        let set = |v4, v6| match family {
            IpFamily::V4 => v4_set(owner, ttl, v4),
            IpFamily::V6 => v6_set(owner, ttl, v6),
        };
        match node {
            Node::Server => set(&self.config.server_v4, &self.config.server_v6),
            Node::Service(a) | Node::Port(a, _) => set(a.v4.as_slice(), a.v6.as_slice()),
            Node::Endpoint(a, index) => set(a.endpoint_v4(*index), a.endpoint_v6(*index)),
            Node::Address(ip) => (IpFamily::of(*ip) == family).then_some(RecordSet {
                owner,
                ttl,
                records: match ip {
                    IpAddr::V4(ip) => Records::OneA(*ip),
                    IpAddr::V6(ip) => Records::OneAaaa(*ip),
                },
            }),
            Node::Missing
            | Node::Empty
            | Node::Apex
            | Node::Version
            | Node::Alias(_)
            | Node::Srv(..)
            | Node::Pointers(_) => None,
        }
    }

    fn soa_at<'a>(
        &'a self,
        owner: NameRef<'a>,
        authority: &'a Authority,
        node: &Node<'a>,
    ) -> Option<RecordSet<'a>> {
        // The apex of a tree of one address has its PTR record too.
        let at_address = matches!(node, Node::Pointers(_)) && owner == authority.apex.as_ref();
        let has = matches!(node, Node::Apex) || at_address;
        has.then(|| RecordSet {
            owner,
            ..self.soa(authority)
        })
    }

    pub(super) fn additional<'a>(&'a self, set: &RecordSet<'a>) -> Additional<'a> {
        let of = match &set.records {
            Records::Srv(addressed, srv) => {
                AdditionalOf::Targets(addressed, srv.list.as_slice().iter(), None)
            }
            Records::Ns(host) => {
                AdditionalOf::Host(*host, &self.config.server_v4, &self.config.server_v6)
            }
            Records::A(_)
            | Records::OneA(_)
            | Records::Aaaa(_)
            | Records::OneAaaa(_)
            | Records::Cname(_)
            | Records::Ptr(_)
            | Records::Txt(_)
            | Records::Soa(_) => AdditionalOf::Nothing,
        };
        Additional(of, self.config.options.ttl)
    }

    pub(super) fn soa<'a>(&self, authority: &'a Authority) -> RecordSet<'a> {
        let ttl = self.config.options.ttl;
        RecordSet {
            owner: authority.apex.as_ref(),
            ttl: ttl.min(MAX_SOA_TTL),
            records: Records::Soa(Soa {
                mname: authority.mname.as_ref(),
                rname: authority.rname.as_ref(),
                serial: self.serial,
                refresh: 7200,
                retry: 1800,
                expire: 86_400,
                minimum: ttl,
            }),
        }
    }
}

impl<'a> Node<'a> {
    fn srv(&self) -> Option<(&'a Addressed, &'a SrvSet)> {
        match self {
            Self::Service(addressed) => Some((addressed, &addressed.more.all)),
            Self::Srv(addressed, srv) | Self::Port(addressed, srv) => Some((addressed, srv)),
            Self::Missing
            | Self::Empty
            | Self::Apex
            | Self::Version
            | Self::Server
            | Self::Alias(_)
            | Self::Endpoint(..)
            | Self::Address(_)
            | Self::Pointers(_) => None,
        }
    }

    fn pointers(&self) -> Option<&'a [DnsName]> {
        if let Self::Pointers(targets) = self {
            Some(targets)
        } else {
            None
        }
    }
}

fn srv_set<'a>(
    owner: NameRef<'a>,
    ttl: u32,
    addressed: &'a Addressed,
    srv: &'a SrvSet,
) -> Option<RecordSet<'a>> {
    (srv.list.len() > 0).then_some(RecordSet {
        owner,
        ttl,
        records: Records::Srv(addressed, srv),
    })
}
