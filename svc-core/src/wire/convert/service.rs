use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::notes::Notes;
use super::{Conversion, Converted, entry, has_label, labels, port};
use crate::diagnostic::{DiagnosticReason, ObjectKind};
use crate::name::NamespacedName;
use crate::net::IpFamily;
use crate::object::{
    HEADLESS_LABEL, IngressIp, IpFamilyPolicy, IpMode, SERVICE_PROXY_NAME_LABEL, Service,
    ServiceExtra, ServicePort, ServiceType, TargetPort, TrafficDistribution, TrafficPolicy,
};
use crate::time::from_rfc3339;
use crate::wire::field::{Field, IntOrString};
use crate::wire::metadata::Metadata;
use crate::wire::service as wire;

/// Seconds of client-IP affinity when none are given (B-334).
const DEFAULT_AFFINITY_SECONDS: u32 = 10_800;
/// The longest client-IP affinity, a day (B-347).
const MAX_AFFINITY_SECONDS: u32 = 86_400;
const TOPOLOGY_MODE: &str = "service.kubernetes.io/topology-mode";
const TOPOLOGY_HINTS: &str = "service.kubernetes.io/topology-aware-hints";
/// A copy of the whole object that a client keeps there; of no use here and large.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

impl Conversion {
    /// Converts a Service; `None` only when it has no name.
    ///
    /// A port, address or range that cannot be read is left out, and the rest is kept (B-050).
    /// Unset fields get the API server's defaults (B-334).
    pub fn service(&mut self, service: &wire::Service) -> Converted<Service> {
        let found = self.identify(ObjectKind::Service, &service.metadata);
        let mut notes = found.notes;
        let (Some(name), Some(metadata)) = (found.name, found.metadata) else {
            return (None, notes.finish());
        };
        let nothing = wire::ServiceSpec::default();
        let spec = notes.value(&service.spec, format_args!("spec"));
        let spec = spec.unwrap_or(&nothing);
        let mut object = self.service_spec(&mut notes, name, spec);
        let status = notes.value(&service.status, format_args!("status"));
        object.ingress = status.map_or_else(Vec::new, |status| ingress(&mut notes, status));
        object.service_proxy_name = has_label(metadata, SERVICE_PROXY_NAME_LABEL);
        object.headless_label = has_label(metadata, HEADLESS_LABEL);
        object.created = created(&mut notes, metadata);
        object.terminating = !metadata.deletion_timestamp.is_empty();
        object.extra = self.service_extra(&mut notes, metadata, spec);
        (Some(object), notes.finish())
    }

    fn service_spec(
        &mut self,
        notes: &mut Notes,
        name: NamespacedName,
        spec: &wire::ServiceSpec,
    ) -> Service {
        let mut name = name;
        name.name = self.names.share(&name.name);
        let mut object = Service::named(name);
        object.service_type = service_type(notes, spec);
        addresses(notes, spec, &mut object);
        object.ip_family_policy = ip_family_policy(notes, spec);
        object.ports = self.service_ports(notes, spec);
        let needs_ports = !object.headless && object.service_type != ServiceType::ExternalName;
        if needs_ports && spec.ports.members().next().is_none() {
            notes.required(format_args!("spec.ports"), "must have at least one entry");
        }
        object.selector = labels(notes, &spec.selector, "spec.selector");
        if object.service_type == ServiceType::ExternalName {
            object.external_name = notes
                .text(&spec.external_name, format_args!("spec.externalName"))
                .map(Into::into);
            if object.external_name.is_none() {
                notes.required(format_args!("spec.externalName"), "must be set");
            }
        }
        policies(notes, spec, &mut object);
        object.client_ip_affinity_seconds = affinity_seconds(notes, spec);
        let health_check = format_args!("spec.healthCheckNodePort");
        object.health_check_node_port =
            non_zero_port(notes, &spec.health_check_node_port, health_check);
        object
    }

    fn service_ports(&mut self, notes: &mut Notes, spec: &wire::ServiceSpec) -> Vec<ServicePort> {
        let mut seen = BTreeSet::new();
        let mut ports = Vec::new();
        for (index, port) in notes.members(&spec.ports, "spec.ports") {
            let Some(port) = self.service_port(notes, index, port) else {
                continue;
            };
            if !seen.insert((port.name.clone(), port.protocol)) {
                let message = format!(
                    "another port has the name {:?} and protocol {}",
                    port.name, port.protocol
                );
                let path = format_args!("spec.ports[{index}].name");
                notes.error(path, DiagnosticReason::Duplicate, message);
                continue;
            }
            ports.push(port);
        }
        ports
    }

    fn service_port(
        &mut self,
        notes: &mut Notes,
        index: usize,
        wire: &wire::ServicePort,
    ) -> Option<ServicePort> {
        let path = format!("spec.ports[{index}]");
        let name = self.optional_name(notes, &wire.name, format_args!("{path}.name"));
        let protocol = notes.protocol(&wire.protocol, format_args!("{path}.protocol"));
        let number = match notes.value(&wire.port, format_args!("{path}.port")) {
            Some(number) => port(notes, *number, format_args!("{path}.port")),
            None => {
                if wire.port == Field::Unset {
                    notes.required(format_args!("{path}.port"), "must be set");
                }
                None
            }
        };
        let node_port = non_zero_port(notes, &wire.node_port, format_args!("{path}.nodePort"));
        let app_path = format_args!("{path}.appProtocol");
        let app_protocol = self.optional_name(notes, &wire.app_protocol, app_path);
        let (protocol, port) = (protocol?, number?);
        Some(ServicePort {
            name: name.unwrap_or_else(|| self.names.share("")),
            protocol,
            port,
            target_port: self.target_port(notes, &path, wire, port),
            node_port,
            app_protocol,
        })
    }

    fn target_port(
        &mut self,
        notes: &mut Notes,
        path: &str,
        wire: &wire::ServicePort,
        own: u16,
    ) -> TargetPort {
        let path = format_args!("{path}.targetPort");
        match notes.value(&wire.target_port, path) {
            None | Some(IntOrString::Int(0)) => TargetPort::Number(own),
            Some(IntOrString::Text(text)) if text.is_empty() => TargetPort::Number(own),
            Some(IntOrString::Text(text)) => TargetPort::Name(self.names.share(text)),
            Some(IntOrString::Int(number)) => {
                TargetPort::Number(port(notes, *number, path).unwrap_or(own))
            }
        }
    }

    fn service_extra(
        &mut self,
        notes: &mut Notes,
        metadata: &Metadata,
        spec: &wire::ServiceSpec,
    ) -> Option<Box<ServiceExtra>> {
        let mut all_labels = labels(notes, &metadata.labels, "metadata.labels");
        all_labels.remove(SERVICE_PROXY_NAME_LABEL);
        all_labels.remove(HEADLESS_LABEL);
        let mut annotations = labels(notes, &metadata.annotations, "metadata.annotations");
        annotations.remove(LAST_APPLIED);
        let mode = [TOPOLOGY_MODE, TOPOLOGY_HINTS]
            .map(|key| entry(&metadata.annotations, key))
            .into_iter()
            .find(|mode| !mode.is_empty());
        let class_path = format_args!("spec.loadBalancerClass");
        let ip_path = format_args!("spec.loadBalancerIP");
        let extra = ServiceExtra {
            labels: all_labels,
            load_balancer_class: self.optional_name(notes, &spec.load_balancer_class, class_path),
            load_balancer_ip: notes
                .text(&spec.load_balancer_ip, ip_path)
                .and_then(|text| notes.ip(text, ip_path)),
            topology_mode: mode.map(|mode| self.names.share(mode)),
            annotations,
        };
        (extra != ServiceExtra::default()).then(|| Box::new(extra))
    }
}

fn service_type(notes: &mut Notes, spec: &wire::ServiceSpec) -> ServiceType {
    let path = format_args!("spec.type");
    match notes.text(&spec.service_type, path) {
        None | Some("ClusterIP") => ServiceType::ClusterIp,
        Some("NodePort") => ServiceType::NodePort,
        Some("LoadBalancer") => ServiceType::LoadBalancer,
        Some("ExternalName") => ServiceType::ExternalName,
        Some(other) => {
            let known = "ClusterIP, NodePort, LoadBalancer or ExternalName";
            notes.unsupported(path, known, other);
            ServiceType::ClusterIp
        }
    }
}

/// Fills in `clusterIPs`, `headless`, `ipFamilies`, `externalIPs` and source ranges.
fn addresses(notes: &mut Notes, spec: &wire::ServiceSpec, object: &mut Service) {
    let mut families = Vec::new();
    for (index, text) in notes.members(&spec.ip_families, "spec.ipFamilies") {
        match text.as_str() {
            "IPv4" => families.push(IpFamily::V4),
            "IPv6" => families.push(IpFamily::V6),
            other => {
                let path = format_args!("spec.ipFamilies[{index}]");
                notes.unsupported(path, "IPv4 or IPv6", other);
            }
        }
    }
    object.ip_families = families;
    object.external_ips = notes.ips(&spec.external_ips, "spec.externalIPs");
    let ranges_path = "spec.loadBalancerSourceRanges";
    object.load_balancer_source_ranges =
        notes.cidrs(&spec.load_balancer_source_ranges, ranges_path);

    let first = notes.text(&spec.cluster_ip, format_args!("spec.clusterIP"));
    let all = notes.members(&spec.cluster_ips, "spec.clusterIPs");
    let texts: Vec<(String, &str)> = if all.is_empty() {
        let first = first.map(|text| (String::from("spec.clusterIP"), text));
        first.into_iter().collect()
    } else {
        all.into_iter()
            .map(|(i, text)| (format!("spec.clusterIPs[{i}]"), text.as_str()))
            .collect()
    };
    object.headless = first == Some("None") || texts.first().is_some_and(|(_, t)| *t == "None");
    if object.headless || object.service_type == ServiceType::ExternalName {
        return;
    }
    for (position, (path, text)) in texts.iter().enumerate() {
        match notes.ip(text, format_args!("{path}")) {
            Some(ip) => object.cluster_ips.push(ip),
            // The position of a family is that of its address (B-044), so both go.
            None if position + 1 < texts.len() && position < object.ip_families.len() => {
                object.ip_families.remove(object.cluster_ips.len());
            }
            None => {}
        }
    }
}

fn ip_family_policy(notes: &mut Notes, spec: &wire::ServiceSpec) -> Option<IpFamilyPolicy> {
    let path = format_args!("spec.ipFamilyPolicy");
    match notes.text(&spec.ip_family_policy, path)? {
        "SingleStack" => Some(IpFamilyPolicy::SingleStack),
        "PreferDualStack" => Some(IpFamilyPolicy::PreferDualStack),
        "RequireDualStack" => Some(IpFamilyPolicy::RequireDualStack),
        other => {
            let known = "SingleStack, PreferDualStack or RequireDualStack";
            notes.unsupported(path, known, other);
            None
        }
    }
}

fn policies(notes: &mut Notes, spec: &wire::ServiceSpec, object: &mut Service) {
    let internal = format_args!("spec.internalTrafficPolicy");
    object.internal_traffic_policy = match notes.text(&spec.internal_traffic_policy, internal) {
        Some(text) => traffic_policy(notes, text, internal),
        None => TrafficPolicy::Cluster,
    };
    let external = format_args!("spec.externalTrafficPolicy");
    object.external_traffic_policy = match notes.text(&spec.external_traffic_policy, external) {
        Some(text) => traffic_policy(notes, text, external),
        None => TrafficPolicy::Cluster,
    };
    let path = format_args!("spec.publishNotReadyAddresses");
    let publish = notes.value(&spec.publish_not_ready_addresses, path);
    object.publish_not_ready_addresses = publish.copied().unwrap_or(false);
    let path = format_args!("spec.allocateLoadBalancerNodePorts");
    let allocate = notes.value(&spec.allocate_load_balancer_node_ports, path);
    object.allocate_load_balancer_node_ports = allocate.copied();
    let path = format_args!("spec.trafficDistribution");
    object.traffic_distribution = match notes.text(&spec.traffic_distribution, path) {
        None => None,
        Some("PreferClose" | "PreferSameZone") => Some(TrafficDistribution::PreferSameZone),
        Some("PreferSameNode") => Some(TrafficDistribution::PreferSameNode),
        Some(other) => {
            let known = "PreferSameZone, PreferSameNode or PreferClose";
            notes.unsupported(path, known, other);
            None
        }
    };
}

fn traffic_policy(notes: &mut Notes, text: &str, path: core::fmt::Arguments<'_>) -> TrafficPolicy {
    match text {
        "Cluster" => TrafficPolicy::Cluster,
        "Local" => TrafficPolicy::Local,
        other => {
            notes.unsupported(path, "Cluster or Local", other);
            TrafficPolicy::Cluster
        }
    }
}

fn affinity_seconds(notes: &mut Notes, spec: &wire::ServiceSpec) -> Option<u32> {
    let path = format_args!("spec.sessionAffinity");
    match notes.text(&spec.session_affinity, path)? {
        "None" => return None,
        "ClientIP" => {}
        other => {
            notes.unsupported(path, "None or ClientIP", other);
            return None;
        }
    }
    let config_path = format_args!("spec.sessionAffinityConfig");
    let config = notes.value(&spec.session_affinity_config, config_path);
    let client_path = format_args!("spec.sessionAffinityConfig.clientIP");
    let client = config.and_then(|config| notes.value(&config.client_ip, client_path));
    let path = format_args!("spec.sessionAffinityConfig.clientIP.timeoutSeconds");
    let seconds = client.and_then(|client| notes.value(&client.timeout_seconds, path));
    let Some(&seconds) = seconds else {
        return Some(DEFAULT_AFFINITY_SECONDS);
    };
    let in_range = u32::try_from(seconds)
        .ok()
        .filter(|seconds| (1..=MAX_AFFINITY_SECONDS).contains(seconds));
    if in_range.is_none() {
        let message = format!("must be 1 to {MAX_AFFINITY_SECONDS}, is {seconds}");
        notes.error(path, DiagnosticReason::Invalid, message);
    }
    Some(in_range.unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

/// A port of which 0 means none.
fn non_zero_port(
    notes: &mut Notes,
    field: &Field<i64>,
    path: core::fmt::Arguments<'_>,
) -> Option<u16> {
    match notes.value(field, path)? {
        0 => None,
        number => port(notes, *number, path),
    }
}

fn ingress(notes: &mut Notes, status: &wire::ServiceStatus) -> Vec<IngressIp> {
    let path = format_args!("status.loadBalancer");
    let Some(balancer) = notes.value(&status.load_balancer, path) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for (index, entry) in notes.members(&balancer.ingress, "status.loadBalancer.ingress") {
        let path = format!("status.loadBalancer.ingress[{index}]");
        let Some(text) = notes.text(&entry.ip, format_args!("{path}.ip")) else {
            continue;
        };
        let ip = notes.ip(text, format_args!("{path}.ip"));
        let mode = match notes.text(&entry.ip_mode, format_args!("{path}.ipMode")) {
            None | Some("VIP") => Some(IpMode::Vip),
            Some("Proxy") => Some(IpMode::Proxy),
            Some(other) => {
                notes.unsupported(format_args!("{path}.ipMode"), "VIP or Proxy", other);
                None
            }
        };
        if let (Some(ip), Some(mode)) = (ip, mode) {
            found.push(IngressIp { ip, mode });
        }
    }
    found
}

fn created(notes: &mut Notes, metadata: &Metadata) -> i64 {
    let path = format_args!("metadata.creationTimestamp");
    let Some(text) = notes.text(&metadata.creation_timestamp, path) else {
        return 0;
    };
    let seconds = from_rfc3339(text);
    if seconds.is_none() {
        notes.invalid(path, "a time such as 2026-01-05T08:00:00Z", text);
    }
    seconds.unwrap_or(0)
}
