use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::notes::Notes;
use super::{Conversion, Converted, PodNames, entry, has_label, labels, port};
use crate::diagnostic::{DiagnosticReason, ObjectKind};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{
    Conditions, EndpointExtra, EndpointPort, EndpointSlice, EndpointSubset, Endpoints,
    HEADLESS_LABEL, Hints, MANAGED_BY_LABEL, SERVICE_NAME_LABEL, SKIP_MIRROR_LABEL, SliceEndpoint,
    TRIGGER_TIME_ANNOTATION,
};
use crate::time::from_rfc3339;
use crate::wire::endpoint_slice as wire;
use crate::wire::field::Field;
use crate::wire::metadata::ObjectReference;

/// Annotation of Endpoints that serve as a lock and are no endpoints of a Service.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

/// Extras of one object, each allocated once.
type Extras = BTreeMap<EndpointExtra, Arc<EndpointExtra>>;

impl Conversion {
    /// Converts an EndpointSlice.
    ///
    /// `None` when it has no name, no Service (B-223), or no address type of an IP family (B-042).
    /// An endpoint without a usable address (B-056) or a port without a name or number
    /// (B-026, B-028) is left out, and the rest is kept.
    pub fn endpoint_slice(&mut self, slice: &wire::EndpointSlice) -> Converted<EndpointSlice> {
        let found = self.identify(ObjectKind::EndpointSlice, &slice.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let mut labels = labels(&mut notes, &metadata.labels, "metadata.labels");
        for reserved in [SERVICE_NAME_LABEL, MANAGED_BY_LABEL, HEADLESS_LABEL] {
            labels.remove(reserved);
        }
        let family = address_family(&mut notes, slice);
        let service = entry(&metadata.labels, SERVICE_NAME_LABEL);
        if service.is_empty() {
            let path = format_args!("metadata.labels[{SERVICE_NAME_LABEL}]");
            notes.required(path, "must name the Service of the slice");
        }
        let (Some(family), false) = (family, service.is_empty()) else {
            return (None, notes.finish());
        };
        let managed_by = entry(&metadata.labels, MANAGED_BY_LABEL);
        let object = EndpointSlice {
            name,
            service: self.names.share(service),
            family,
            ports: self.slice_ports(&mut notes, slice),
            endpoints: self.slice_endpoints(&mut notes, slice, family),
            headless: has_label(metadata, HEADLESS_LABEL),
            managed_by: (!managed_by.is_empty()).then(|| self.names.share(managed_by)),
            labels: (!labels.is_empty()).then(|| Arc::new(labels)),
            // One that is no time is no sample, and no error (B-235).
            trigger_time: from_rfc3339(entry(&metadata.annotations, TRIGGER_TIME_ANNOTATION)),
        };
        (Some(object), notes.finish())
    }

    /// Converts Endpoints; `None` only when they have no name.
    pub fn endpoints(&mut self, endpoints: &wire::Endpoints) -> Converted<Endpoints> {
        let found = self.identify(ObjectKind::Endpoints, &endpoints.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let labels = labels(&mut notes, &metadata.labels, "metadata.labels");
        let leader = metadata.annotations.value();
        let leader = leader.is_some_and(|annotations| annotations.contains_key(LEADER));
        let mut extras = Extras::new();
        let subsets = notes
            .members(&endpoints.subsets, "subsets")
            .into_iter()
            .map(|(index, subset)| self.subset(&mut notes, &mut extras, index, subset))
            .collect();
        let object = Endpoints {
            name,
            skip_mirror: leader || entry(&metadata.labels, SKIP_MIRROR_LABEL) == "true",
            labels,
            subsets,
        };
        (Some(object), notes.finish())
    }

    fn slice_ports(
        &mut self,
        notes: &mut Notes,
        slice: &wire::EndpointSlice,
    ) -> Box<[EndpointPort]> {
        let ports = notes.members(&slice.ports, "ports");
        ports
            .into_iter()
            .filter_map(|(index, port)| {
                let path = format!("ports[{index}]");
                if port.name == Field::Unset {
                    let message = "must be set, to \"\" for the unnamed port";
                    notes.required(format_args!("{path}.name"), message);
                }
                notes.value(&port.name, format_args!("{path}.name"))?;
                self.endpoint_port(notes, &path, port)
            })
            .collect()
    }

    fn endpoint_port(
        &mut self,
        notes: &mut Notes,
        path: &str,
        wire: &wire::EndpointPort,
    ) -> Option<EndpointPort> {
        let name = notes.value(&wire.name, format_args!("{path}.name"));
        let protocol = notes.protocol(&wire.protocol, format_args!("{path}.protocol"));
        let number = notes.value(&wire.port, format_args!("{path}.port"));
        if wire.port == Field::Unset {
            notes.required(format_args!("{path}.port"), "must be set");
        }
        let app_path = format_args!("{path}.appProtocol");
        let app_protocol = self.optional_name(notes, &wire.app_protocol, app_path);
        Some(EndpointPort {
            name: self.names.share(name.map_or("", String::as_str)),
            port: port(notes, *number?, format_args!("{path}.port"))?,
            protocol: protocol?,
            app_protocol,
        })
    }

    fn slice_endpoints(
        &mut self,
        notes: &mut Notes,
        slice: &wire::EndpointSlice,
        family: IpFamily,
    ) -> Box<[SliceEndpoint]> {
        let mut extras = Extras::new();
        let endpoints = notes.members(&slice.endpoints, "endpoints");
        endpoints
            .into_iter()
            .filter_map(|(index, endpoint)| {
                self.slice_endpoint(notes, &mut extras, index, endpoint, family)
            })
            .collect()
    }

    fn slice_endpoint(
        &mut self,
        notes: &mut Notes,
        extras: &mut Extras,
        index: usize,
        wire: &wire::Endpoint,
        family: IpFamily,
    ) -> Option<SliceEndpoint> {
        let address = slice_address(notes, index, wire, family)?;
        let node_path = format_args!("endpoints[{index}].nodeName");
        let zone_path = format_args!("endpoints[{index}].zone");
        let hostname_path = format_args!("endpoints[{index}].hostname");
        let hostname = notes.text(&wire.hostname, hostname_path);
        let extra = EndpointExtra {
            hints: self.hints(notes, index, wire),
            zone: self.optional_name(notes, &wire.zone, zone_path),
            hostname: hostname.map(Into::into),
            pod: self.pod_name(&wire.target_ref),
        };
        Some(SliceEndpoint {
            address,
            conditions: conditions(notes, index, wire),
            node: self.optional_name(notes, &wire.node_name, node_path),
            extra: shared(extras, extra),
        })
    }

    fn hints(&mut self, notes: &mut Notes, index: usize, wire: &wire::Endpoint) -> Hints {
        let path = format!("endpoints[{index}].hints");
        let Some(hints) = notes.value(&wire.hints, format_args!("{path}")) else {
            return Hints::default();
        };
        let mut names = |field, path: &str| -> Box<[Name]> {
            let members = notes.members(field, path);
            members
                .into_iter()
                .filter_map(|(i, hint): (usize, &wire::Hint)| {
                    self.optional_name(notes, &hint.name, format_args!("{path}[{i}].name"))
                })
                .collect()
        };
        Hints {
            zones: names(&hints.for_zones, &format!("{path}.forZones")),
            nodes: names(&hints.for_nodes, &format!("{path}.forNodes")),
        }
    }

    /// The name of the Pod that an endpoint stands for; references to other kinds are not used.
    fn pod_name(&self, target: &Field<ObjectReference>) -> Option<Name> {
        match self.pod_names {
            PodNames::Drop => None,
            PodNames::Keep => {
                let target = target.value()?;
                let name = target.name.text();
                (target.kind.text() == "Pod" && !name.is_empty()).then(|| name.into())
            }
        }
    }

    fn subset(
        &mut self,
        notes: &mut Notes,
        extras: &mut Extras,
        index: usize,
        subset: &wire::EndpointSubset,
    ) -> EndpointSubset {
        let mut endpoints = Vec::new();
        let groups = [
            ("addresses", &subset.addresses, Conditions::READY),
            (
                "notReadyAddresses",
                &subset.not_ready_addresses,
                Conditions::NOT_READY,
            ),
        ];
        for (field, addresses, conditions) in groups {
            let path = format!("subsets[{index}].{field}");
            for (i, address) in notes.members(addresses, &path) {
                let path = format!("{path}[{i}]");
                let endpoint = self.subset_endpoint(notes, extras, &path, address, conditions);
                endpoints.extend(endpoint);
            }
        }
        let ports_path = format!("subsets[{index}].ports");
        let ports = notes.members(&subset.ports, &ports_path);
        let ports = ports
            .into_iter()
            .filter_map(|(i, port)| self.endpoint_port(notes, &format!("{ports_path}[{i}]"), port));
        EndpointSubset {
            ports: ports.collect(),
            endpoints: endpoints.into(),
        }
    }

    fn subset_endpoint(
        &mut self,
        notes: &mut Notes,
        extras: &mut Extras,
        path: &str,
        wire: &wire::EndpointAddress,
        conditions: Conditions,
    ) -> Option<SliceEndpoint> {
        let text = notes.text(&wire.ip, format_args!("{path}.ip"));
        if wire.ip == Field::Unset {
            notes.required(format_args!("{path}.ip"), "must be set");
        }
        let address = notes.ip(text?, format_args!("{path}.ip"))?;
        let hostname = notes.text(&wire.hostname, format_args!("{path}.hostname"));
        let extra = EndpointExtra {
            hostname: hostname.map(Into::into),
            pod: self.pod_name(&wire.target_ref),
            ..EndpointExtra::default()
        };
        let node_path = format_args!("{path}.nodeName");
        Some(SliceEndpoint {
            address,
            conditions,
            node: self.optional_name(notes, &wire.node_name, node_path),
            extra: shared(extras, extra),
        })
    }
}

fn shared(extras: &mut Extras, extra: EndpointExtra) -> Option<Arc<EndpointExtra>> {
    if extra == EndpointExtra::default() {
        return None;
    }
    if let Some(known) = extras.get(&extra) {
        return Some(known.clone());
    }
    let allocated = Arc::new(extra.clone());
    extras.insert(extra, allocated.clone());
    Some(allocated)
}

fn address_family(notes: &mut Notes, slice: &wire::EndpointSlice) -> Option<IpFamily> {
    let path = format_args!("addressType");
    if slice.address_type == Field::Unset {
        notes.required(path, "must be IPv4 or IPv6");
    }
    match notes.value(&slice.address_type, path)?.as_str() {
        "IPv4" => Some(IpFamily::V4),
        "IPv6" => Some(IpFamily::V6),
        other => {
            notes.unsupported(path, "IPv4 or IPv6", other);
            None
        }
    }
}

fn slice_address(
    notes: &mut Notes,
    index: usize,
    wire: &wire::Endpoint,
    family: IpFamily,
) -> Option<core::net::IpAddr> {
    let path = format_args!("endpoints[{index}].addresses");
    let addresses = notes.value(&wire.addresses, path);
    let Some(first) = addresses.and_then(|addresses| addresses.first()) else {
        if !matches!(wire.addresses, Field::Wrong(_)) {
            notes.required(path, "must have an address");
        }
        return None;
    };
    let path = format_args!("endpoints[{index}].addresses[0]");
    let text = notes.value(first, path).map_or("", String::as_str);
    if text.trim().is_empty() {
        if !matches!(first, Field::Wrong(_)) {
            notes.required(path, "must be an address");
        }
        return None;
    }
    let ip = notes.ip(text, path)?;
    if IpFamily::of(ip) != family {
        let message = format!("must be {family} as addressType says, is {ip}");
        notes.error(path, DiagnosticReason::Invalid, message);
        return None;
    }
    Some(ip)
}

fn conditions(notes: &mut Notes, index: usize, wire: &wire::Endpoint) -> Conditions {
    let path = format_args!("endpoints[{index}].conditions");
    let Some(conditions) = notes.value(&wire.conditions, path) else {
        return Conditions::READY;
    };
    let mut read = |field, name: &str| {
        let path = format_args!("endpoints[{index}].conditions.{name}");
        notes.value(field, path).copied()
    };
    Conditions {
        ready: read(&conditions.ready, "ready").unwrap_or(true),
        serving: read(&conditions.serving, "serving").unwrap_or(true),
        terminating: read(&conditions.terminating, "terminating").unwrap_or(false),
    }
}
