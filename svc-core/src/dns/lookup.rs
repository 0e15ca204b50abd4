//! From a name and type to an answer.

use core::fmt::{self, Write};
use core::net::IpAddr;

use super::answer::{
    Additional, AdditionalOf, Answer, Rcode, RecordSet, RecordType, Records, Soa, v4_set, v6_set,
};
use super::domain::{Branch, ParsedName};
use super::entry::{Addressed, ServiceData, SrvSet};
use super::name::{DnsName, Folded, Label, MAX_LABEL, NameRef};
use super::reverse::{Reversed, bits_of, full_length};
use super::rule::NameRule;
use super::zone::{AddressOctets, Authority, PodNames, Zone};

/// Version of the specification, as `dns-version` says it.
const VERSION: &str = "1.1.0";
/// Time to live of the version, which no option changes (specification 2.2).
const VERSION_TTL: u32 = 28_800;
/// Longest time to live of SOA records.
const MAX_SOA_TTL: u32 = 300;
/// Most CNAMEs that are followed.
const MAX_CHAIN: usize = 10;

/// What is at a name.
enum Node<'a> {
    /// Nothing, and nothing below.
    Missing,
    /// No record, but the name exists.
    Empty,
    Apex,
    Version,
    /// The server itself.
    Server,
    Service(&'a Addressed),
    /// A CNAME.
    Alias(&'a DnsName),
    Srv(&'a Addressed, &'a SrvSet),
    /// Addresses of a Service and SRV records of one port.
    Port(&'a Addressed, &'a SrvSet),
    Endpoint(&'a Addressed, usize),
    Address(IpAddr),
    Pointers(&'a [DnsName]),
}

impl Zone {
    /// What the zone answers to a question of class IN.
    ///
    /// The cost depends neither on the number of Services nor on the outcome.
    pub fn lookup<'a>(&'a self, name: NameRef<'a>, record_type: RecordType) -> Answer<'a> {
        let mut answer = Answer::empty(Rcode::NoError);
        let mut owner = name;
        for _ in 0..MAX_CHAIN {
            let Some((authority, node)) = self.find(Folded::new(owner).as_ref()) else {
                match answer.answers.is_empty() {
                    true => answer.rcode = Rcode::Refused,
                    false => answer.outside = Some(owner),
                }
                return answer;
            };
            let Node::Alias(target) = node else {
                self.finish(&mut answer, owner, record_type, authority, &node);
                return answer;
            };
            let seen = |set: &RecordSet<'_>| set.owner == target.as_ref();
            let looped = owner == target.as_ref() || answer.answers.iter().any(seen);
            answer.answers.push(RecordSet {
                owner,
                ttl: self.config.options.ttl,
                records: Records::Cname(target.as_ref()),
            });
            if looped || matches!(record_type, RecordType::Cname | RecordType::Any) {
                return answer;
            }
            owner = target.as_ref();
        }
        // A longer chain ends where it is: the client may go on from the last target.
        answer
    }

    /// Adds what the last name of a chain has, or the proof that it has nothing.
    fn finish<'a>(
        &'a self,
        answer: &mut Answer<'a>,
        owner: NameRef<'a>,
        record_type: RecordType,
        authority: &'a Authority,
        node: &Node<'a>,
    ) {
        if let Some(set) = self.records(owner, record_type, authority, node) {
            answer.additional = self.additional(&set, node);
            answer.answers.push(set);
            return;
        }
        if matches!(node, Node::Missing) {
            answer.rcode = match self.is_complete() {
                true => Rcode::NxDomain,
                false => Rcode::ServFail,
            };
        }
        if answer.rcode != Rcode::ServFail {
            answer.authority = Some(self.soa(authority));
        }
    }

    /// The authority for a name in lower case and what is there; nothing outside of all zones.
    fn find<'a>(&'a self, name: NameRef<'_>) -> Option<(&'a Authority, Node<'a>)> {
        if let Some(reversed) = Reversed::decode(name)
            && let Some(found) = self.find_reverse(&reversed, name)
        {
            return Some(found);
        }
        let node = match self.config.options.domain.parse(name) {
            ParsedName::OutOfZone | ParsedName::Reverse(_) | ParsedName::ReversePrefix(_) => {
                return None;
            }
            ParsedName::Invalid => Node::Missing,
            ParsedName::Apex => Node::Apex,
            ParsedName::DnsVersion => Node::Version,
            ParsedName::DnsRoot | ParsedName::Root(_) => Node::Empty,
            ParsedName::NsHost => Node::Server,
            ParsedName::Namespace { branch, namespace } => self.namespace_node(branch, namespace),
            ParsedName::Service { service, namespace } => self.service_node(service, namespace),
            ParsedName::Protocol {
                protocol,
                service,
                namespace,
            } => {
                let addressed = self.addressed(service, namespace);
                let ports = addressed.map_or(&[][..], |addressed| addressed.ports.as_slice());
                Node::empty_if(ports.iter().any(|port| port.protocol == protocol))
            }
            ParsedName::Srv {
                port,
                protocol,
                service,
                namespace,
            } => self
                .addressed(service, namespace)
                .and_then(|a| a.port(port, protocol).map(|port| Node::Srv(a, &port.set)))
                .unwrap_or(Node::Missing),
            ParsedName::EndpointOrPort {
                label,
                service,
                namespace,
            } => self
                .addressed(service, namespace)
                .map_or(Node::Missing, |a| self.endpoint_node(a, label)),
            ParsedName::PodAddress {
                ip,
                label,
                namespace,
            } => self.pod_node(ip, label, namespace),
            ParsedName::PodLabel { label, namespace } => {
                Node::empty_if(self.names_pod(label, namespace))
            }
            ParsedName::PodAlias {
                ip,
                label,
                pod,
                namespace,
            } => self.pod_alias_node(ip, label, pod, namespace),
        };
        Some((&self.config.primary, node))
    }

    fn service(&self, service: Label<'_>, namespace: Label<'_>) -> Option<&ServiceData> {
        let key = (namespace.octets(), service.octets());
        self.services.find(key).map(|entry| &entry.data)
    }

    fn service_node(&self, service: Label<'_>, namespace: Label<'_>) -> Node<'_> {
        match self.service(service, namespace) {
            None | Some(ServiceData::Nothing) => Node::Missing,
            Some(ServiceData::External(target)) => Node::Alias(target),
            Some(ServiceData::Addressed(addressed)) => Node::Service(addressed),
        }
    }

    fn addressed(&self, service: Label<'_>, namespace: Label<'_>) -> Option<&Addressed> {
        match self.service(service, namespace)? {
            ServiceData::Nothing | ServiceData::External(_) => None,
            ServiceData::Addressed(addressed) => Some(addressed),
        }
    }

    /// An endpoint comes first, a port second and only as an option.
    fn endpoint_node<'a>(&self, addressed: &'a Addressed, label: Label<'_>) -> Node<'a> {
        if let Some(index) = addressed.endpoint(label) {
            return Node::Endpoint(addressed, index);
        }
        let alias = self.config.options.port_alias;
        let port = addressed.port_alias(label).filter(|_| alias);
        port.map_or(Node::Missing, |port| Node::Port(addressed, &port.set))
    }

    fn namespace_node(&self, branch: Branch, namespace: Label<'_>) -> Node<'_> {
        let hidden = match (branch, self.config.options.pods) {
            (Branch::Pod, PodNames::Disabled) => true,
            (Branch::Pod, PodNames::Verified | PodNames::Insecure) | (Branch::Service, _) => false,
        };
        Node::empty_if(!hidden && self.has_namespace(namespace.octets()))
    }

    fn pod_node(&self, ip: IpAddr, label: Label<'_>, namespace: Label<'_>) -> Node<'_> {
        let known = match self.config.options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => self.has_namespace(namespace.octets()),
            PodNames::Verified => {
                let octets = AddressOctets::of(ip);
                let key = (namespace.octets(), octets.as_slice());
                self.pod_addresses.find(key).is_some() && is_dashed(ip, label)
            }
        };
        match known {
            true => Node::Address(ip),
            false => Node::empty_if(self.names_pod(label, namespace)),
        }
    }

    fn pod_alias_node(
        &self,
        ip: IpAddr,
        label: Label<'_>,
        pod: Label<'_>,
        namespace: Label<'_>,
    ) -> Node<'_> {
        let key = (namespace.octets(), pod.octets());
        let owns = match self.config.options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => true,
            PodNames::Verified => {
                let entry = self.pods.find(key);
                entry.is_some_and(|e| e.ips.as_slice().contains(&ip)) && is_dashed(ip, label)
            }
        };
        match owns && self.names_pod(pod, namespace) {
            true => Node::Address(ip),
            false => Node::Missing,
        }
    }

    /// Whether an alias lies below a label: it may be the name of a Pod with one label.
    fn names_pod(&self, pod: Label<'_>, namespace: Label<'_>) -> bool {
        let options = &self.config.options;
        let text = core::str::from_utf8(pod.octets());
        if !options.pod_alias || !text.is_ok_and(|text| NameRule::Hostname.check(text).is_ok()) {
            return false;
        }
        match options.pods {
            PodNames::Disabled => false,
            PodNames::Insecure => self.has_namespace(namespace.octets()),
            PodNames::Verified => {
                let key = (namespace.octets(), pod.octets());
                self.pods.find(key).is_some()
            }
        }
    }

    fn find_reverse<'a>(
        &'a self,
        reversed: &Reversed,
        name: NameRef<'_>,
    ) -> Option<(&'a Authority, Node<'a>)> {
        let full = full_length(reversed.family);
        let lengths = self.config.lengths.iter();
        let authority = lengths
            .filter(|(family, length)| *family == reversed.family && *length <= reversed.length)
            .find_map(|(family, length)| {
                let bits = reversed.bits & !low_bits(full - length);
                self.config.reverse.get(&(*family, *length, bits))
            })?;
        let at_apex = name == authority.apex.as_ref();
        let node = if reversed.extra > 0 {
            server_node(name, authority)
        } else if reversed.is_complete() {
            let pointers = self.pointers(reversed.family);
            match pointers.find(bits_of(reversed.address())) {
                Some(pointers) => Node::Pointers(pointers.targets()),
                None if at_apex => Node::Apex,
                None => Node::Missing,
            }
        } else if at_apex {
            Node::Apex
        } else {
            let last = reversed.bits | low_bits(full - reversed.length);
            let pointers = self.pointers(reversed.family);
            Node::empty_if(pointers.any_between(reversed.bits, last))
        };
        Some((authority, node))
    }

    /// The records of a type that a name has.
    fn records<'a>(
        &'a self,
        owner: NameRef<'a>,
        record_type: RecordType,
        authority: &'a Authority,
        node: &Node<'a>,
    ) -> Option<RecordSet<'a>> {
        let ttl = self.config.options.ttl;
        if record_type == RecordType::Any {
            // RFC 8482: one record set is enough.
            const KINDS: [RecordType; 6] = [
                RecordType::A,
                RecordType::Aaaa,
                RecordType::Srv,
                RecordType::Ptr,
                RecordType::Txt,
                RecordType::Soa,
            ];
            let mut kinds = KINDS.into_iter();
            return kinds.find_map(|kind| self.records(owner, kind, authority, node));
        }
        let set = |records| {
            Some(RecordSet {
                owner,
                ttl,
                records,
            })
        };
        match (node, record_type) {
            // The apex of a tree of one address has its PTR record too.
            (Node::Pointers(_), RecordType::Soa) if owner != authority.apex.as_ref() => None,
            (Node::Apex | Node::Pointers(_), RecordType::Soa) => Some(RecordSet {
                owner,
                ..self.soa(authority)
            }),
            (Node::Apex, RecordType::Ns) => set(Records::Ns(authority.mname.as_ref())),
            (Node::Version, RecordType::Txt) => Some(RecordSet {
                owner,
                ttl: VERSION_TTL,
                records: Records::Txt(VERSION),
            }),
            (Node::Server, RecordType::A) => v4_set(owner, ttl, &self.config.server_v4),
            (Node::Server, RecordType::Aaaa) => v6_set(owner, ttl, &self.config.server_v6),
            (Node::Service(a) | Node::Port(a, _), RecordType::A) => {
                v4_set(owner, ttl, a.v4.as_slice())
            }
            (Node::Service(a) | Node::Port(a, _), RecordType::Aaaa) => {
                v6_set(owner, ttl, a.v6.as_slice())
            }
            (Node::Service(a), RecordType::Srv) => srv_set(owner, ttl, a, &a.all),
            (Node::Srv(a, srv) | Node::Port(a, srv), RecordType::Srv) => {
                srv_set(owner, ttl, a, srv)
            }
            (Node::Endpoint(a, index), RecordType::A) => v4_set(owner, ttl, a.endpoint_v4(*index)),
            (Node::Endpoint(a, index), RecordType::Aaaa) => {
                v6_set(owner, ttl, a.endpoint_v6(*index))
            }
            (Node::Address(IpAddr::V4(ip)), RecordType::A) => set(Records::OneA(*ip)),
            (Node::Address(IpAddr::V6(ip)), RecordType::Aaaa) => set(Records::OneAaaa(*ip)),
            (Node::Pointers(targets), RecordType::Ptr) => set(Records::Ptr(targets)),
            _ => None,
        }
    }

    fn additional<'a>(&'a self, set: &RecordSet<'a>, node: &Node<'a>) -> Additional<'a> {
        let of = match (&set.records, node) {
            (Records::Srv(addressed, srv), _) => {
                AdditionalOf::Targets(addressed, srv.list.as_slice().iter(), None)
            }
            (Records::Ns(host), _) => {
                AdditionalOf::Host(*host, &self.config.server_v4, &self.config.server_v6)
            }
            _ => AdditionalOf::Nothing,
        };
        Additional(of, self.config.options.ttl)
    }

    fn soa<'a>(&self, authority: &'a Authority) -> RecordSet<'a> {
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

impl Node<'_> {
    fn empty_if(exists: bool) -> Self {
        match exists {
            true => Self::Empty,
            false => Self::Missing,
        }
    }
}

/// The server's own name and its parent, which every zone has.
fn server_node<'a>(name: NameRef<'_>, authority: &Authority) -> Node<'a> {
    let mname = authority.mname.as_ref();
    let parent = mname.octets().get(3..).unwrap_or_default();
    if name == mname {
        Node::Server
    } else {
        Node::empty_if(name.octets() == parent)
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

fn low_bits(count: u8) -> u128 {
    match count {
        128.. => u128::MAX,
        _ => (1 << count) - 1,
    }
}

/// Whether a label in lower case is the canonical one of an address; allocates nothing.
fn is_dashed(ip: IpAddr, label: Label<'_>) -> bool {
    let mut rest = Rest(label.octets());
    let written = write!(rest, "{}", ip.to_canonical());
    match (written, rest.0) {
        (Ok(()), []) => !label.octets().ends_with(b"-"),
        (Ok(()), b"0") => label.octets().ends_with(b"-0"),
        (Ok(()), [..]) | (Err(_), _) => false,
    }
}

/// What is left of a label while the text of an address is written over it.
struct Rest<'a>(&'a [u8]);

impl Write for Rest<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for octet in text.bytes() {
            let (first, rest) = self.0.split_first().ok_or(fmt::Error)?;
            let same = match octet {
                b'.' | b':' => *first == b'-',
                other => *first == other,
            };
            if !same || self.0.len() > MAX_LABEL {
                return Err(fmt::Error);
            }
            self.0 = rest;
        }
        Ok(())
    }
}
