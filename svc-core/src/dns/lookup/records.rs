//! The records that a name has.

use core::net::IpAddr;

use super::super::answer::{
    Additional, AdditionalOf, RecordSet, RecordType, Records, Soa, v4_set, v6_set,
};
use super::super::entry::{Addressed, SrvSet};
use super::super::name::NameRef;
use super::super::zone::{Authority, Zone};
use super::Node;

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
            RecordType::A => self.v4_records(owner, node),
            RecordType::Aaaa => self.v6_records(owner, node),
            RecordType::Srv => match node {
                Node::Service(a) => srv_set(owner, ttl, a, &a.more.all),
                Node::Srv(a, srv) | Node::Port(a, srv) => srv_set(owner, ttl, a, srv),
                _ => None,
            },
            RecordType::Ptr => match node {
                Node::Pointers(targets) => Some(set(Records::Ptr(targets))),
                _ => None,
            },
            RecordType::Ns => match node {
                Node::Apex => Some(set(Records::Ns(authority.mname.as_ref()))),
                _ => None,
            },
            RecordType::Txt => match node {
                Node::Version => Some(RecordSet {
                    ttl: VERSION_TTL,
                    ..set(Records::Txt(VERSION))
                }),
                _ => None,
            },
            RecordType::Soa => self.soa_at(owner, authority, node),
            // RFC 8482: one record set is enough.
            RecordType::Any => {
                let mut kinds = KINDS.into_iter();
                kinds.find_map(|kind| self.records(owner, kind, authority, node))
            }
            RecordType::Cname | RecordType::Other(_) => None,
        }
    }

    fn v4_records<'a>(&'a self, owner: NameRef<'a>, node: &Node<'a>) -> Option<RecordSet<'a>> {
        let ttl = self.config.options.ttl;
        match node {
            Node::Server => v4_set(owner, ttl, &self.config.server_v4),
            Node::Service(a) | Node::Port(a, _) => v4_set(owner, ttl, a.v4.as_slice()),
            Node::Endpoint(a, index) => v4_set(owner, ttl, a.endpoint_v4(*index)),
            Node::Address(IpAddr::V4(ip)) => Some(RecordSet {
                owner,
                ttl,
                records: Records::OneA(*ip),
            }),
            _ => None,
        }
    }

    fn v6_records<'a>(&'a self, owner: NameRef<'a>, node: &Node<'a>) -> Option<RecordSet<'a>> {
        let ttl = self.config.options.ttl;
        match node {
            Node::Server => v6_set(owner, ttl, &self.config.server_v6),
            Node::Service(a) | Node::Port(a, _) => v6_set(owner, ttl, a.v6.as_slice()),
            Node::Endpoint(a, index) => v6_set(owner, ttl, a.endpoint_v6(*index)),
            Node::Address(IpAddr::V6(ip)) => Some(RecordSet {
                owner,
                ttl,
                records: Records::OneAaaa(*ip),
            }),
            _ => None,
        }
    }

    fn soa_at<'a>(
        &'a self,
        owner: NameRef<'a>,
        authority: &'a Authority,
        node: &Node<'a>,
    ) -> Option<RecordSet<'a>> {
        let has = match node {
            Node::Apex => true,
            // The apex of a tree of one address has its PTR record too.
            Node::Pointers(_) => owner == authority.apex.as_ref(),
            _ => false,
        };
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
