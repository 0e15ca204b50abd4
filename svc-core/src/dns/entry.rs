//! The records of one Service: a function of the Service, its slices and the options.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::slice;

use super::domain::ClusterDomain;
use super::endpoint::Published;
use super::name::{DnsName, Label, NameError, NameRef};
use super::rule::NameRule;
use super::table::Keyed;
use super::zone::ZoneOptions;
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::{Name, NamespacedName};
use crate::net::{Protocol, parse_ip};
use crate::object::{EndpointSlice, Service, ServiceType};

/// All that a zone holds of one Service.
///
/// The order of the fields is that in memory: what an address look-up needs comes first, as each
/// line of memory that it touches costs more than all else.
#[derive(Clone, Debug, PartialEq)]
#[repr(C)]
pub(super) struct ServiceEntry {
    key: EntryKey,
    pub(super) data: ServiceData,
    pub(super) diagnostics: Box<[Diagnostic]>,
    pub(super) service: NamespacedName,
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
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all Services are of the large one, and a box would be one more miss"
)]
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
    /// SRV records of all ports, at the name of the Service.
    pub(super) all: SrvSet,
    /// Whether the addresses are those of endpoints, not the Service's own.
    headless: bool,
    /// Published endpoints, sorted by the octets of their labels.
    pub(super) endpoints: Box<[EndpointEntry]>,
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
    pub(super) name: Name,
    pub(super) protocol: Protocol,
    pub(super) set: SrvSet,
}

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

/// A list that needs no allocation for one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum Few<T> {
    #[default]
    Nothing,
    One(T),
    Many(Box<[T]>),
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

impl Keyed for Arc<ServiceEntry> {
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

impl ServiceEntry {
    /// The records of a Service.
    pub(super) fn build(
        service: &Service,
        slices: &[Arc<EndpointSlice>],
        options: &ZoneOptions,
    ) -> Self {
        let mut builder = Builder {
            service,
            domain: &options.domain,
            diagnostics: Vec::new(),
        };
        let data = builder.data(slices, options);
        Self {
            key: EntryKey::new(&service.name),
            data: data.unwrap_or(ServiceData::Nothing),
            diagnostics: builder.diagnostics.into(),
            service: service.name.clone(),
        }
    }

    /// Targets of PTR records by address.
    ///
    /// One endpoint name for each address, the first in order.
    pub(super) fn pointers(&self) -> BTreeMap<(IpAddr, PointerKind), DnsName> {
        let mut pointers = BTreeMap::new();
        let ServiceData::Addressed(addressed) = &self.data else {
            return pointers;
        };
        for endpoint in &addressed.endpoints {
            for ip in addressed.addresses_of(endpoint) {
                let key = (ip, PointerKind::Endpoint);
                pointers.entry(key).or_insert_with(|| endpoint.name.clone());
            }
        }
        if !addressed.headless {
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
        // The index of the Service itself is out of range.
        let endpoint = self.endpoints.get(srv.target as usize);
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
        self.endpoints
            .get(index)
            .map_or(&[], |endpoint| endpoint.v4.of(&self.endpoint_v4))
    }

    pub(super) fn endpoint_v6(&self, index: usize) -> &[Ipv6Addr] {
        self.endpoints
            .get(index)
            .map_or(&[], |endpoint| endpoint.v6.of(&self.endpoint_v6))
    }

    /// The endpoint with a label in lower case.
    pub(super) fn endpoint(&self, label: Label<'_>) -> Option<usize> {
        self.endpoints
            .binary_search_by(|endpoint| first_label(&endpoint.name).cmp(label.octets()))
            .ok()
    }

    pub(super) fn port(&self, name: Label<'_>, protocol: Protocol) -> Option<&PortEntry> {
        self.ports
            .as_slice()
            .iter()
            .find(|port| port.protocol == protocol && port.name.as_bytes() == name.octets())
    }

    /// The port with a label in lower case as its alias.
    pub(super) fn port_alias(&self, label: Label<'_>) -> Option<&PortEntry> {
        let reserved = self
            .reserved
            .binary_search_by(|text| text.as_bytes().cmp(label.octets()));
        if reserved.is_ok() {
            return None;
        }
        self.ports
            .as_slice()
            .iter()
            .find(|port| port.name.as_bytes() == label.octets())
    }

    fn addresses_of(&self, endpoint: &EndpointEntry) -> impl Iterator<Item = IpAddr> {
        let v4 = endpoint.v4.of(&self.endpoint_v4).iter().copied();
        let v6 = endpoint.v6.of(&self.endpoint_v6).iter().copied();
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

struct Builder<'a> {
    service: &'a Service,
    domain: &'a ClusterDomain,
    diagnostics: Vec<Diagnostic>,
}

impl Builder<'_> {
    fn data(
        &mut self,
        slices: &[Arc<EndpointSlice>],
        options: &ZoneOptions,
    ) -> Option<ServiceData> {
        let service = self.service;
        let valid = NameRule::Service
            .check(&service.name.name)
            .and(NameRule::Namespace.check(&service.name.namespace));
        if let Err(problem) = valid {
            self.report("metadata.name", DiagnosticReason::Invalid, problem);
            return None;
        }
        let name = self.domain.service(&service.name);
        let name = self.checked("metadata.name", name)?;
        if service.service_type == ServiceType::ExternalName {
            return self.external();
        }
        let published = Published::collect(slices, options);
        if service.headless {
            if published.labels.is_empty() {
                return None;
            }
            return Some(self.addressed(name, &published));
        }
        let hidden = options.ignore_empty_services && published.labels.is_empty();
        if service.cluster_ips.is_empty() || hidden {
            return None;
        }
        Some(self.addressed(name, &published))
    }

    fn external(&mut self) -> Option<ServiceData> {
        const FIELD: &str = "spec.externalName";
        let text = self.service.external_name.as_deref().unwrap_or_default();
        if let Err(problem) = NameRule::ExternalName.check(text) {
            self.report(FIELD, DiagnosticReason::Invalid, problem);
            return None;
        }
        if parse_ip(text.strip_suffix('.').unwrap_or(text)).is_some() {
            self.report(FIELD, DiagnosticReason::Invalid, "an address is no name");
            return None;
        }
        self.checked(FIELD, text.parse()).map(ServiceData::External)
    }

    fn addressed(&mut self, name: DnsName, published: &Published) -> ServiceData {
        let addresses: Vec<IpAddr> = match self.service.headless {
            true => published.addresses().into_iter().collect(),
            false => distinct(&self.service.cluster_ips),
        };
        let mut endpoints = Vec::with_capacity(published.labels.len());
        let (mut endpoint_v4, mut endpoint_v6) = (Vec::new(), Vec::new());
        let mut index_of = BTreeMap::new();
        for (label, ips) in &published.labels {
            let endpoint = self.domain.endpoint(label, &self.service.name);
            let Some(name) = self.checked("hostname", endpoint) else {
                continue;
            };
            // At most u32::MAX endpoints: one takes more than four octets of memory.
            index_of.insert(label, u32::try_from(endpoints.len()).unwrap_or(SERVICE));
            endpoints.push(EndpointEntry {
                name,
                v4: append(&mut endpoint_v4, ips.iter().filter_map(v4_of)),
                v6: append(&mut endpoint_v6, ips.iter().filter_map(v6_of)),
            });
        }
        let (ports, all) = match self.service.headless {
            true => self.endpoint_ports(published, &index_of),
            false => self.service_ports(addresses.len()),
        };
        ServiceData::Addressed(Addressed {
            name,
            headless: self.service.headless,
            v4: addresses.iter().filter_map(v4_of).collect(),
            v6: addresses.iter().filter_map(v6_of).collect(),
            all,
            ports: ports.into_iter().collect(),
            endpoints: endpoints.into(),
            endpoint_v4: endpoint_v4.into(),
            endpoint_v6: endpoint_v6.into(),
            reserved: published
                .reserved
                .iter()
                .map(|l| l.as_str().into())
                .collect(),
        })
    }

    /// SRV records of a Service with ClusterIPs: its own ports, its own name.
    fn service_ports(&mut self, addresses: usize) -> (Vec<PortEntry>, SrvSet) {
        let mut ports = Vec::new();
        let mut all = BTreeSet::new();
        for port in &self.service.ports {
            let srv = Srv {
                target: SERVICE,
                port: port.port,
            };
            all.insert(srv);
            let set = SrvSet {
                list: Few::One(srv),
                weight: weight(addresses),
            };
            ports.extend(self.port_entry(&port.name, port.protocol, set));
        }
        let all = SrvSet {
            list: all.into_iter().collect(),
            weight: weight(addresses * self.service.ports.len()),
        };
        (ports, all)
    }

    /// SRV records of a headless Service: the ports of its slices, the names of its endpoints.
    fn endpoint_ports(
        &mut self,
        published: &Published,
        index_of: &BTreeMap<&String, u32>,
    ) -> (Vec<PortEntry>, SrvSet) {
        let mut ports = Vec::new();
        let mut all = BTreeSet::new();
        let mut pairs_in_all = 0;
        for ((name, protocol), pairs) in &published.ports {
            let srv = |(port, label): &(u16, String)| {
                index_of.get(label).map(|target| Srv {
                    target: *target,
                    port: *port,
                })
            };
            let list: BTreeSet<Srv> = pairs.iter().filter_map(srv).collect();
            pairs_in_all += pairs.len();
            all.extend(&list);
            let set = SrvSet {
                list: list.into_iter().collect(),
                weight: weight(pairs.len()),
            };
            ports.extend(self.port_entry(name, *protocol, set));
        }
        let all = SrvSet {
            list: all.into_iter().collect(),
            weight: weight(pairs_in_all),
        };
        (ports, all)
    }

    fn port_entry(&mut self, name: &Name, protocol: Protocol, set: SrvSet) -> Option<PortEntry> {
        // An unnamed port has no SRV owner, and that is no mistake.
        if name.is_empty() || set.list.len() == 0 {
            return None;
        }
        let owner = self.domain.srv(name, protocol, &self.service.name);
        self.checked("spec.ports[].name", owner)?;
        Some(PortEntry {
            name: name.clone(),
            protocol,
            set,
        })
    }

    fn checked(&mut self, field: &str, name: Result<DnsName, NameError>) -> Option<DnsName> {
        match name {
            Ok(name) => Some(name),
            Err(error) => {
                self.report(field, DiagnosticReason::Invalid, error);
                None
            }
        }
    }

    fn report(&mut self, field: &str, reason: DiagnosticReason, problem: impl ToString) {
        let message = alloc::format!("no DNS record: {}", problem.to_string());
        let object = &self.service.name;
        let kind = ObjectKind::Service;
        self.diagnostics
            .push(Diagnostic::error(kind, object, field, reason, message));
    }
}

fn v4_of(ip: &IpAddr) -> Option<Ipv4Addr> {
    match ip {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    }
}

fn v6_of(ip: &IpAddr) -> Option<Ipv6Addr> {
    match ip {
        IpAddr::V4(_) => None,
        IpAddr::V6(v6) => Some(*v6),
    }
}

fn append<T>(list: &mut Vec<T>, values: impl Iterator<Item = T>) -> Span {
    let position = |list: &Vec<T>| u32::try_from(list.len()).unwrap_or(u32::MAX);
    let start = position(list);
    list.extend(values);
    Span {
        start,
        end: position(list),
    }
}

/// Addresses in their order, each once.
fn distinct(ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut list: Vec<IpAddr> = Vec::with_capacity(ips.len());
    for ip in ips.iter().map(IpAddr::to_canonical) {
        if !list.contains(&ip) {
            list.push(ip);
        }
    }
    list
}

/// An even share of 100 for each of `count` pairs of address and port, at least 1.
fn weight(count: usize) -> u16 {
    let share = 100_usize.checked_div(count).unwrap_or(1).max(1);
    u16::try_from(share).unwrap_or(1)
}
