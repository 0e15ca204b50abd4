//! From a name and type to an answer.

mod pods;
mod records;

use core::net::IpAddr;

use super::answer::{Answer, Rcode, RecordSet, RecordType, Records};
use super::domain::{Branch, ParsedName};
use super::entry::{Addressed, ServiceData, SrvSet};
use super::name::{DnsName, Folded, Label, NameRef};
use super::reverse::{Reversed, full_length, low_bits};
use super::zone::{Authority, PodNames, Zone};
use crate::net::Protocol;

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
            answer.additional = self.additional(&set);
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
        let node = self.node(self.config.options.domain.parse(name))?;
        Some((&self.config.primary, node))
    }

    /// What is below the cluster's domain; nothing outside of it.
    fn node(&self, name: ParsedName<'_>) -> Option<Node<'_>> {
        Some(match name {
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
            } => protocol_node(self.addressed(service, namespace), protocol),
            ParsedName::Srv {
                port,
                protocol,
                service,
                namespace,
            } => srv_node(self.addressed(service, namespace), port, protocol),
            ParsedName::EndpointOrPort {
                label,
                service,
                namespace,
            } => self.endpoint_node(self.addressed(service, namespace), label),
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
        })
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
    fn endpoint_node<'a>(&self, addressed: Option<&'a Addressed>, label: Label<'_>) -> Node<'a> {
        let Some(addressed) = addressed else {
            return Node::Missing;
        };
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

    fn find_reverse<'a>(
        &'a self,
        reversed: &Reversed,
        name: NameRef<'_>,
    ) -> Option<(&'a Authority, Node<'a>)> {
        let Reversed { family, length, .. } = *reversed;
        let authority = self
            .config
            .reverse_authority(family, reversed.bits, length)?;
        let at_apex = name == authority.apex.as_ref();
        let node = if reversed.extra > 0 {
            server_node(name, authority)
        } else if reversed.is_complete() {
            match self.pointers.find(reversed.address()) {
                Some(targets) => Node::Pointers(targets),
                None if at_apex => Node::Apex,
                None => Node::Missing,
            }
        } else if at_apex {
            Node::Apex
        } else {
            let last = reversed.bits | low_bits(full_length(family) - length);
            Node::empty_if(self.pointers.any_between(family, reversed.bits, last))
        };
        Some((authority, node))
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

fn protocol_node<'a>(addressed: Option<&'a Addressed>, protocol: Protocol) -> Node<'a> {
    let ports = addressed.map_or(&[][..], |addressed| addressed.ports.as_slice());
    Node::empty_if(ports.iter().any(|port| port.protocol == protocol))
}

fn srv_node<'a>(addressed: Option<&'a Addressed>, port: Label<'_>, protocol: Protocol) -> Node<'a> {
    let found = addressed.and_then(|a| Some((a, a.port(port, protocol)?)));
    found.map_or(Node::Missing, |(a, port)| Node::Srv(a, &port.set))
}
