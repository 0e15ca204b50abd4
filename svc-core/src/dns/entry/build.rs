//! Makes the records of a Service out of the objects.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::super::domain::ClusterDomain;
use super::super::endpoint::Published;
use super::super::name::{DnsName, NameError};
use super::super::rule::NameRule;
use super::super::zone::ZoneOptions;
use super::{
    Addressed, EndpointEntry, EntryKey, Few, More, PortEntry, PortName, SERVICE, ServiceData,
    ServiceEntry, Span, Srv, SrvSet,
};
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::Name;
use crate::net::{Protocol, parse_ip};
use crate::object::{EndpointSlice, Service, ServiceType};

impl ServiceEntry {
    /// The records of a Service.
    pub(in crate::dns) fn build(
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
            diagnostics: match builder.diagnostics {
                list if list.is_empty() => None,
                list => Some(list.into()),
            },
        }
    }
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
        let more = More {
            all,
            headless: self.service.headless,
            endpoints: endpoints.into(),
            endpoint_v4: endpoint_v4.into(),
            endpoint_v6: endpoint_v6.into(),
            reserved: published
                .reserved
                .iter()
                .map(|l| l.as_str().into())
                .collect(),
        };
        ServiceData::Addressed(Addressed {
            name,
            v4: addresses.iter().filter_map(v4_of).collect(),
            v6: addresses.iter().filter_map(v6_of).collect(),
            ports: ports.into_iter().collect(),
            more: Arc::new(more),
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
            name: PortName::new(name),
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
