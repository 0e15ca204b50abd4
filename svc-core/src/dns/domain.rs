use core::fmt;
use core::net::IpAddr;
use core::str::FromStr;

use ipnet::IpNet;

use super::name::{DnsName, Label, NameError, NameRef};
use super::reverse::{Reversed, dashed_address, dashed_to_address};
use crate::name::NamespacedName;
use crate::net::Protocol;

/// The domain of a cluster, such as `cluster.local.`: builds names below it and takes them apart.
///
/// ```
/// use svc_core::NamespacedName;
/// use svc_core::dns::{ClusterDomain, ParsedName};
///
/// let domain: ClusterDomain = "cluster.local".parse()?;
/// let name = domain.service(&NamespacedName::new("shop", "web"))?;
/// assert_eq!(name.to_string(), "web.shop.svc.cluster.local.");
/// assert!(matches!(domain.parse(name.as_ref()), ParsedName::Service { .. }));
/// # Ok::<(), svc_core::dns::NameError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterDomain(DnsName);

/// The part of the tree below a [`ClusterDomain`] that a namespace is seen in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// Below `svc`.
    Service,
    /// Below `pod`.
    Pod,
}

/// What a name says by its form alone, whether or not there is such an object.
///
/// Nothing is reserved: a namespace may be called `svc`, a Service `10-0-0-1`. Position decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParsedName<'a> {
    /// Neither below the domain nor an address in a reverse tree.
    OutOfZone,
    /// Below the domain, in a form that nothing ever has.
    Invalid,
    /// The domain itself.
    Apex,
    /// `dns-version`.
    DnsVersion,
    /// `dns`, the parent of the server's own name.
    DnsRoot,
    /// `ns.dns`, the server's own name.
    NsHost,
    /// `svc` or `pod`.
    Root(Branch),
    /// `<namespace>.svc` or `<namespace>.pod`.
    Namespace {
        /// In which part of the tree.
        branch: Branch,
        /// The namespace.
        namespace: Label<'a>,
    },
    /// `<service>.<namespace>.svc`.
    Service {
        /// The Service.
        service: Label<'a>,
        /// Its namespace.
        namespace: Label<'a>,
    },
    /// `_<protocol>.<service>.<namespace>.svc`, the parent of SRV names.
    Protocol {
        /// The protocol.
        protocol: Protocol,
        /// The Service.
        service: Label<'a>,
        /// Its namespace.
        namespace: Label<'a>,
    },
    /// `_<port>._<protocol>.<service>.<namespace>.svc`.
    Srv {
        /// Name of the port.
        port: Label<'a>,
        /// The protocol.
        protocol: Protocol,
        /// The Service.
        service: Label<'a>,
        /// Its namespace.
        namespace: Label<'a>,
    },
    /// `<endpoint>.<service>.<namespace>.svc`, or the alias `<port>.<service>.<namespace>.svc`.
    EndpointOrPort {
        /// Name of an endpoint, else of a port.
        label: Label<'a>,
        /// The Service.
        service: Label<'a>,
        /// Its namespace.
        namespace: Label<'a>,
    },
    /// `<dashed-address>.<namespace>.pod`.
    PodAddress {
        /// The address.
        ip: IpAddr,
        /// The label that was read as the address.
        label: Label<'a>,
        /// The namespace.
        namespace: Label<'a>,
    },
    /// `<label>.<namespace>.pod` with a label that is no address.
    PodLabel {
        /// The label.
        label: Label<'a>,
        /// The namespace.
        namespace: Label<'a>,
    },
    /// The alias `<dashed-address>.<pod>.<namespace>.pod`.
    PodAlias {
        /// The address.
        ip: IpAddr,
        /// The label that was read as the address.
        label: Label<'a>,
        /// Name of the Pod.
        pod: Label<'a>,
        /// Its namespace.
        namespace: Label<'a>,
    },
    /// A whole address in a reverse tree.
    Reverse(IpAddr),
    /// A prefix of addresses in a reverse tree, of whole octets or nibbles.
    ReversePrefix(IpNet),
}

impl ClusterDomain {
    /// The domain at a name.
    pub fn new(name: DnsName) -> Self {
        Self(name)
    }

    /// The name of the domain itself.
    pub fn apex(&self) -> &DnsName {
        &self.0
    }

    /// A name of labels below the domain, in lower case.
    ///
    /// # Errors
    /// [`NameError`] when a label or the whole is too long, or a label is empty.
    pub fn join(&self, labels: &[&str]) -> Result<DnsName, NameError> {
        DnsName::join(labels, self.0.as_ref())
    }

    /// `<service>.<namespace>.svc.<zone>` (specification 2.3.1, 2.4.1, 2.5).
    ///
    /// # Errors
    /// [`NameError`], as [`ClusterDomain::join`].
    pub fn service(&self, service: &NamespacedName) -> Result<DnsName, NameError> {
        self.join(&[&service.name, &service.namespace, "svc"])
    }

    /// `<endpoint>.<service>.<namespace>.svc.<zone>` (specification 2.4.1).
    ///
    /// The same form with the name of a port is the alias of a port.
    ///
    /// # Errors
    /// [`NameError`], as [`ClusterDomain::join`].
    pub fn endpoint(&self, label: &str, service: &NamespacedName) -> Result<DnsName, NameError> {
        self.join(&[label, &service.name, &service.namespace, "svc"])
    }

    /// `_<port>._<protocol>.<service>.<namespace>.svc.<zone>` (specification 2.3.2, 2.4.2).
    ///
    /// # Errors
    /// [`NameError`]; a port name of 63 octets fits no label, as the underscore takes one.
    pub fn srv(
        &self,
        port: &str,
        protocol: Protocol,
        service: &NamespacedName,
    ) -> Result<DnsName, NameError> {
        if port.is_empty() {
            return Err(NameError::EmptyLabel);
        }
        let port = alloc::format!("_{port}");
        let protocol = alloc::format!("_{}", protocol.lower());
        self.join(&[&port, &protocol, &service.name, &service.namespace, "svc"])
    }

    /// `<dashed-address>.<namespace>.pod.<zone>`.
    ///
    /// # Errors
    /// [`NameError`], as [`ClusterDomain::join`].
    pub fn pod(&self, ip: IpAddr, namespace: &str) -> Result<DnsName, NameError> {
        self.join(&[&dashed_address(ip), namespace, "pod"])
    }

    /// The alias `<dashed-address>.<pod>.<namespace>.pod.<zone>`.
    ///
    /// # Errors
    /// [`NameError`]; a Pod whose name has dots or more than 63 octets has no alias.
    pub fn pod_alias(&self, ip: IpAddr, pod: &NamespacedName) -> Result<DnsName, NameError> {
        if pod.name.contains('.') {
            return Err(NameError::NotOneName);
        }
        self.join(&[&dashed_address(ip), &pod.name, &pod.namespace, "pod"])
    }

    /// Says what a name means by its form.
    pub fn parse<'a>(&self, name: NameRef<'a>) -> ParsedName<'a> {
        match Below::cut(name, self.0.as_ref()) {
            Some(below) => parse_below(&below),
            None => parse_reverse(name),
        }
    }
}

impl FromStr for ClusterDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let name: DnsName = text.parse()?;
        DnsName::join::<&str>(&[], name.as_ref()).map(Self)
    }
}

impl fmt::Display for ClusterDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Most labels that a name below a cluster domain has.
const MOST_LABELS: usize = 5;

/// The labels of a name left of a domain.
pub(super) struct Below<'a> {
    labels: [Label<'a>; MOST_LABELS],
    count: usize,
}

impl<'a> Below<'a> {
    /// Cuts a domain off a name; only at the edge of a label.
    pub(super) fn cut(name: NameRef<'a>, domain: NameRef<'_>) -> Option<Self> {
        let (octets, domain) = (name.octets(), domain.octets());
        let edge = octets.len().checked_sub(domain.len())?;
        if !octets[edge..].eq_ignore_ascii_case(domain) {
            return None;
        }
        // An empty label stands for none; `count` says how many there are.
        let mut labels = [EMPTY; MOST_LABELS];
        let (mut at, mut count) = (0, 0);
        for label in name.labels() {
            if at >= edge {
                break;
            }
            if let Some(slot) = labels.get_mut(count) {
                *slot = label;
            }
            count += 1;
            at += 1 + label.octets().len();
        }
        (at == edge).then_some(Self { labels, count })
    }

    /// The labels from left to right; none when there are more than any name has.
    pub(super) fn labels(&self) -> Option<&[Label<'a>]> {
        self.labels.get(..self.count)
    }
}

const EMPTY: Label<'static> = Label::EMPTY;

fn parse_below<'a>(below: &Below<'a>) -> ParsedName<'a> {
    let Some(labels) = below.labels() else {
        return ParsedName::Invalid;
    };
    match *labels {
        [] => ParsedName::Apex,
        [label] => parse_top(label),
        [host, top] if top == *"dns" && host == *"ns" => ParsedName::NsHost,
        [ref rest @ .., top] if top == *"svc" => parse_service(rest),
        [ref rest @ .., top] if top == *"pod" => parse_pod(rest),
        [..] => ParsedName::Invalid,
    }
}

fn parse_top(label: Label<'_>) -> ParsedName<'_> {
    if label == *"svc" {
        ParsedName::Root(Branch::Service)
    } else if label == *"pod" {
        ParsedName::Root(Branch::Pod)
    } else if label == *"dns" {
        ParsedName::DnsRoot
    } else if label == *"dns-version" {
        ParsedName::DnsVersion
    } else {
        ParsedName::Invalid
    }
}

fn parse_service<'a>(labels: &[Label<'a>]) -> ParsedName<'a> {
    match *labels {
        [namespace] => ParsedName::Namespace {
            branch: Branch::Service,
            namespace,
        },
        [service, namespace] => ParsedName::Service { service, namespace },
        [label, service, namespace] => match label.octets() {
            [b'_', protocol @ ..] => match protocol_of(protocol) {
                Some(protocol) => ParsedName::Protocol {
                    protocol,
                    service,
                    namespace,
                },
                None => ParsedName::Invalid,
            },
            _ => ParsedName::EndpointOrPort {
                label,
                service,
                namespace,
            },
        },
        [port, protocol, service, namespace] => {
            let protocol = match protocol.octets() {
                [b'_', protocol @ ..] => protocol_of(protocol),
                _ => None,
            };
            match (port.without_underscore(), protocol) {
                (Some(port), Some(protocol)) => ParsedName::Srv {
                    port,
                    protocol,
                    service,
                    namespace,
                },
                (None, _) | (_, None) => ParsedName::Invalid,
            }
        }
        [] | [_, ..] => ParsedName::Invalid,
    }
}

fn protocol_of(text: &[u8]) -> Option<Protocol> {
    let same = |protocol: &Protocol| protocol.lower().as_bytes().eq_ignore_ascii_case(text);
    Protocol::ALL.into_iter().find(same)
}

fn parse_pod<'a>(labels: &[Label<'a>]) -> ParsedName<'a> {
    match *labels {
        [namespace] => ParsedName::Namespace {
            branch: Branch::Pod,
            namespace,
        },
        [label, namespace] => match dashed_to_address(label.octets()) {
            Some(ip) => ParsedName::PodAddress {
                ip,
                label,
                namespace,
            },
            None => ParsedName::PodLabel { label, namespace },
        },
        [label, pod, namespace] => match dashed_to_address(label.octets()) {
            Some(ip) => ParsedName::PodAlias {
                ip,
                label,
                pod,
                namespace,
            },
            None => ParsedName::Invalid,
        },
        [] | [_, ..] => ParsedName::Invalid,
    }
}

fn parse_reverse(name: NameRef<'_>) -> ParsedName<'_> {
    let Some(reversed) = Reversed::decode(name) else {
        return ParsedName::OutOfZone;
    };
    match (reversed.extra, reversed.is_complete()) {
        (0, true) => ParsedName::Reverse(reversed.address()),
        (0, false) => match IpNet::new(reversed.address(), reversed.length) {
            Ok(net) => ParsedName::ReversePrefix(net),
            Err(_) => ParsedName::OutOfZone,
        },
        (1.., _) => ParsedName::OutOfZone,
    }
}
