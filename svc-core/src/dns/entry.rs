//! The records of one Service: a function of the Service, its slices and the options.

mod build;

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::slice;

use super::name::{DnsName, Label, NameRef};
use super::table::Keyed;
use crate::diagnostic::Diagnostic;
use crate::name::{Name, NamespacedName};
use crate::net::Protocol;

/// All that a zone holds of one Service.
///
/// The order of the fields is that in memory: what an address look-up needs comes first, as each
/// line of memory that it touches costs more than all else. What few queries need is apart, so
/// that a change of a part of the zone copies little.
#[derive(Clone, Debug, PartialEq)]
#[repr(C)]
pub(super) struct ServiceEntry {
    key: EntryKey,
    pub(super) data: ServiceData,
    /// None where there are none.
    diagnostics: Option<Arc<[Diagnostic]>>,
}

/// Namespace and name, close to what they are the key of as long as they are not very long.
#[derive(Clone, Debug, PartialEq)]
enum EntryKey {
    Short {
        namespace: u8,
        length: u8,
        octets: [u8; SHORT_KEY],
    },
    Long(NamespacedName),
}

const SHORT_KEY: usize = 45;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum ServiceData {
    /// No record: the name does not exist.
    Nothing,
    /// The target of a CNAME.
    External(DnsName),
    /// Addresses, ports and endpoints.
    Addressed(Addressed),
}

/// Records of a Service with addresses; in the order of [`ServiceEntry`].
#[derive(Clone, Debug, PartialEq)]
#[repr(C)]
pub(super) struct Addressed {
    pub(super) v4: Few<Ipv4Addr>,
    pub(super) v6: Few<Ipv6Addr>,
    /// The name of the Service.
    pub(super) name: DnsName,
    /// Named ports whose SRV owner can exist.
    pub(super) ports: Few<PortEntry>,
    pub(super) more: Arc<More>,
}

/// What is needed for endpoints and for SRV records at the name of a Service.
#[derive(Debug, PartialEq)]
pub(super) struct More {
    /// SRV records of all ports, at the name of the Service.
    pub(super) all: SrvSet,
    /// Whether the addresses are those of endpoints, not the Service's own.
    headless: bool,
    /// Published endpoints, sorted by the octets of their labels.
    endpoints: Box<[EndpointEntry]>,
    endpoint_v4: Box<[Ipv4Addr]>,
    endpoint_v6: Box<[Ipv6Addr]>,
    /// Sorted labels that are no port alias.
    reserved: Box<[Box<str>]>,
}

/// SRV records that share an owner, sorted by target.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct SrvSet {
    pub(super) list: Few<Srv>,
    pub(super) weight: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Srv {
    /// Index of an endpoint, or [`SERVICE`].
    pub(super) target: u32,
    pub(super) port: u16,
}

/// The target of SRV records that is the Service itself.
pub(super) const SERVICE: u32 = u32::MAX;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct PortEntry {
    pub(super) name: PortName,
    pub(super) protocol: Protocol,
    pub(super) set: SrvSet,
}

/// The name of a port, in its entry: behind a pointer it would be one more miss for each query for
/// SRV records. Ports of Services have at most 15 octets, those of slices may have 63.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum PortName {
    Short {
        length: u8,
        octets: [u8; SHORT_PORT],
    },
    Long(Name),
}

const SHORT_PORT: usize = 22;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct EndpointEntry {
    pub(super) name: DnsName,
    v4: Span,
    v6: Span,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    start: u32,
    end: u32,
}

/// A list that needs no allocation for one value, and none for a copy.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Few<T> {
    #[default]
    Nothing,
    One(T),
    Many(Arc<[T]>),
}

impl<T> Few<T> {
    pub(super) fn as_slice(&self) -> &[T] {
        match self {
            Self::Nothing => &[],
            Self::One(one) => slice::from_ref(one),
            Self::Many(many) => many,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.as_slice().len()
    }

    pub(super) fn get(&self, at: usize) -> Option<&T> {
        self.as_slice().get(at)
    }
}

impl<T> FromIterator<T> for Few<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let mut values: Vec<T> = values.into_iter().collect();
        match values.len() {
            0 | 1 => values.pop().map_or(Self::Nothing, Self::One),
            _ => Self::Many(values.into()),
        }
    }
}

impl Keyed for ServiceEntry {
    fn key(&self) -> (&[u8], &[u8]) {
        match &self.key {
            EntryKey::Short {
                namespace,
                length,
                octets,
            } => {
                let key = octets.get(..usize::from(*length)).unwrap_or_default();
                key.split_at_checked(usize::from(*namespace))
                    .unwrap_or_default()
            }
            EntryKey::Long(name) => (name.namespace.as_bytes(), name.name.as_bytes()),
        }
    }
}

impl EntryKey {
    fn new(name: &NamespacedName) -> Self {
        let (namespace, service) = (name.namespace.as_bytes(), name.name.as_bytes());
        let key = [namespace, service].concat();
        let mut octets = [0; SHORT_KEY];
        let lengths = (u8::try_from(namespace.len()), u8::try_from(key.len()));
        match (octets.get_mut(..key.len()), lengths) {
            (Some(octets_of_key), (Ok(namespace), Ok(length))) => {
                octets_of_key.copy_from_slice(&key);
                Self::Short {
                    namespace,
                    length,
                    octets,
                }
            }
            (_, _) => Self::Long(name.clone()),
        }
    }
}

impl PortName {
    fn new(name: &Name) -> Self {
        let mut octets = [0; SHORT_PORT];
        match (octets.get_mut(..name.len()), u8::try_from(name.len())) {
            (Some(start), Ok(length)) => {
                start.copy_from_slice(name.as_bytes());
                Self::Short { length, octets }
            }
            (_, _) => Self::Long(name.clone()),
        }
    }

    pub(super) fn octets(&self) -> &[u8] {
        match self {
            Self::Short { length, octets } => {
                octets.get(..usize::from(*length)).unwrap_or_default()
            }
            Self::Long(name) => name.as_bytes(),
        }
    }
}

impl ServiceEntry {
    /// The Service.
    pub(super) fn service(&self) -> NamespacedName {
        let (namespace, name) = self.key();
        let text = |octets| String::from_utf8_lossy(octets);
        NamespacedName::new(&*text(namespace), &*text(name))
    }

    /// What the Service cannot have, and why.
    pub(super) fn diagnostics(&self) -> &[Diagnostic] {
        self.diagnostics.as_deref().unwrap_or_default()
    }

    /// Targets of PTR records by address.
    ///
    /// One endpoint name for each address, the first in order.
    pub(super) fn pointers(&self) -> BTreeMap<(IpAddr, PointerKind), DnsName> {
        let mut pointers = BTreeMap::new();
        let ServiceData::Addressed(addressed) = &self.data else {
            return pointers;
        };
        for endpoint in &addressed.more.endpoints {
            for ip in addressed.addresses_of(endpoint) {
                let key = (ip, PointerKind::Endpoint);
                pointers.entry(key).or_insert_with(|| endpoint.name.clone());
            }
        }
        if !addressed.more.headless {
            let v4 = addressed.v4.as_slice().iter().copied().map(IpAddr::V4);
            let v6 = addressed.v6.as_slice().iter().copied().map(IpAddr::V6);
            for ip in v4.chain(v6) {
                pointers.insert((ip, PointerKind::Service), addressed.name.clone());
            }
        }
        pointers
    }
}

/// What a PTR record points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PointerKind {
    Service,
    Endpoint,
}

impl Addressed {
    /// The name that a SRV record points to.
    pub(super) fn target(&self, srv: &Srv) -> NameRef<'_> {
        // The list is not looked at in vain: it is elsewhere in memory.
        let endpoint = match srv.target {
            SERVICE => None,
            index => self.more.endpoints.get(index as usize),
        };
        endpoint
            .map_or(&self.name, |endpoint| &endpoint.name)
            .as_ref()
    }

    pub(super) fn target_v4(&self, srv: &Srv) -> &[Ipv4Addr] {
        match srv.target {
            SERVICE => self.v4.as_slice(),
            index => self.endpoint_v4(index as usize),
        }
    }

    pub(super) fn target_v6(&self, srv: &Srv) -> &[Ipv6Addr] {
        match srv.target {
            SERVICE => self.v6.as_slice(),
            index => self.endpoint_v6(index as usize),
        }
    }

    pub(super) fn endpoint_v4(&self, index: usize) -> &[Ipv4Addr] {
        self.more
            .endpoints
            .get(index)
            .map_or(&[], |endpoint| endpoint.v4.of(&self.more.endpoint_v4))
    }

    pub(super) fn endpoint_v6(&self, index: usize) -> &[Ipv6Addr] {
        self.more
            .endpoints
            .get(index)
            .map_or(&[], |endpoint| endpoint.v6.of(&self.more.endpoint_v6))
    }

    /// The endpoint with a label in lower case.
    pub(super) fn endpoint(&self, label: Label<'_>) -> Option<usize> {
        self.more
            .endpoints
            .binary_search_by(|endpoint| first_label(&endpoint.name).cmp(label.octets()))
            .ok()
    }

    pub(super) fn port(&self, name: Label<'_>, protocol: Protocol) -> Option<&PortEntry> {
        self.ports
            .as_slice()
            .iter()
            .find(|port| port.protocol == protocol && port.name.octets() == name.octets())
    }

    /// The port with a label in lower case as its alias.
    pub(super) fn port_alias(&self, label: Label<'_>) -> Option<&PortEntry> {
        let reserved = self
            .more
            .reserved
            .binary_search_by(|text| text.as_bytes().cmp(label.octets()));
        if reserved.is_ok() {
            return None;
        }
        self.ports
            .as_slice()
            .iter()
            .find(|port| port.name.octets() == label.octets())
    }

    fn addresses_of(&self, endpoint: &EndpointEntry) -> impl Iterator<Item = IpAddr> {
        let v4 = endpoint.v4.of(&self.more.endpoint_v4).iter().copied();
        let v6 = endpoint.v6.of(&self.more.endpoint_v6).iter().copied();
        v4.map(IpAddr::V4).chain(v6.map(IpAddr::V6))
    }
}

impl Span {
    fn of<T>(self, list: &[T]) -> &[T] {
        list.get(self.start as usize..self.end as usize)
            .unwrap_or(&[])
    }
}

fn first_label(name: &DnsName) -> &[u8] {
    name.as_ref().labels().next().map_or(&[], Label::octets)
}
