//! A Service as validation reads it: one value per field, wrong types already reported.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::check::Check;
use crate::time::from_rfc3339;
use crate::wire::{
    Field, IntOrString, Metadata, Service, ServicePort, ServiceSpec, ServiceStatus, Shape,
    StringMap,
};

/// `clusterIPs` of a headless Service.
pub(super) const NONE: &str = "None";

/// The fields of a Service. Where the API has a pointer, `None` is an unset field.
#[derive(Default)]
pub(super) struct View<'a> {
    pub(super) name: &'a str,
    pub(super) generate_name: &'a str,
    pub(super) namespace: &'a str,
    pub(super) labels: Option<&'a StringMap>,
    pub(super) annotations: Option<&'a StringMap>,
    pub(super) service_type: &'a str,
    pub(super) cluster_ip: &'a str,
    pub(super) cluster_ips: Vec<&'a str>,
    pub(super) ip_families: Vec<&'a str>,
    pub(super) ip_family_policy: Option<&'a str>,
    pub(super) ports: Vec<PortView<'a>>,
    pub(super) selector: Option<&'a StringMap>,
    pub(super) external_ips: Vec<&'a str>,
    pub(super) external_name: &'a str,
    pub(super) load_balancer_ip: &'a str,
    pub(super) load_balancer_class: Option<&'a str>,
    pub(super) source_ranges: Vec<&'a str>,
    pub(super) session_affinity: &'a str,
    pub(super) affinity_config: Option<AffinityView>,
    pub(super) internal_traffic_policy: Option<&'a str>,
    pub(super) external_traffic_policy: &'a str,
    pub(super) health_check_node_port: i64,
    pub(super) allocate_node_ports: Option<bool>,
    pub(super) traffic_distribution: Option<&'a str>,
}

/// One port of a Service.
pub(super) struct PortView<'a> {
    pub(super) name: &'a str,
    pub(super) protocol: &'a str,
    pub(super) app_protocol: Option<&'a str>,
    pub(super) port: i64,
    pub(super) target_port: Option<&'a IntOrString>,
    pub(super) node_port: i64,
}

/// `sessionAffinityConfig`.
pub(super) struct AffinityView {
    /// `clientIP`, when set.
    pub(super) client_ip: Option<TimeoutView>,
}

/// `sessionAffinityConfig.clientIP`.
pub(super) struct TimeoutView {
    pub(super) timeout_seconds: Option<i64>,
}

impl<'a> View<'a> {
    /// Reads a Service and reports the fields of the wrong type, which an API server cannot decode.
    pub(super) fn of(service: &'a Service, check: &mut Check) -> Self {
        let mut view = Self::default();
        if let Some(metadata) = check.value(&service.metadata, "metadata") {
            view.name = check.text(&metadata.name, "metadata.name");
            view.generate_name = check.text(&metadata.generate_name, "metadata.generateName");
            view.namespace = check.text(&metadata.namespace, "metadata.namespace");
            view.labels = map(check, &metadata.labels, "metadata.labels");
            view.annotations = map(check, &metadata.annotations, "metadata.annotations");
            read_rest_of_metadata(metadata, check);
        }
        if let Some(spec) = check.value(&service.spec, "spec") {
            view.read_spec(spec, check);
        }
        if let Some(status) = check.value(&service.status, "status") {
            read_status(status, check);
        }
        view
    }

    /// Reads a Service that was accepted before.
    pub(super) fn stored(service: &'a Service) -> Self {
        Self::of(service, &mut Check::default())
    }

    fn read_spec(&mut self, spec: &'a ServiceSpec, check: &mut Check) {
        self.service_type = check.text(&spec.service_type, "spec.type");
        self.cluster_ip = check.text(&spec.cluster_ip, "spec.clusterIP");
        self.cluster_ips = check.texts(&spec.cluster_ips, "spec.clusterIPs");
        self.ip_families = check.texts(&spec.ip_families, "spec.ipFamilies");
        self.ip_family_policy = optional(check, &spec.ip_family_policy, "spec.ipFamilyPolicy");
        self.ports = ports(check, &spec.ports);
        self.selector = map(check, &spec.selector, "spec.selector");
        self.external_ips = check.texts(&spec.external_ips, "spec.externalIPs");
        self.external_name = check.text(&spec.external_name, "spec.externalName");
        self.load_balancer_ip = check.text(&spec.load_balancer_ip, "spec.loadBalancerIP");
        let class = &spec.load_balancer_class;
        self.load_balancer_class = optional(check, class, "spec.loadBalancerClass");
        let ranges = &spec.load_balancer_source_ranges;
        self.source_ranges = check.texts(ranges, "spec.loadBalancerSourceRanges");
        self.session_affinity = check.text(&spec.session_affinity, "spec.sessionAffinity");
        self.affinity_config = affinity(check, spec);
        let policy = &spec.internal_traffic_policy;
        self.internal_traffic_policy = optional(check, policy, "spec.internalTrafficPolicy");
        let policy = &spec.external_traffic_policy;
        self.external_traffic_policy = check.text(policy, "spec.externalTrafficPolicy");
        let port = &spec.health_check_node_port;
        self.health_check_node_port = number(check, port, "spec.healthCheckNodePort");
        let allocate = &spec.allocate_load_balancer_node_ports;
        let path = "spec.allocateLoadBalancerNodePorts";
        self.allocate_node_ports = check.value(allocate, path).copied();
        let publish = &spec.publish_not_ready_addresses;
        check.value(publish, "spec.publishNotReadyAddresses");
        let distribution = &spec.traffic_distribution;
        self.traffic_distribution = optional(check, distribution, "spec.trafficDistribution");
    }

    pub(super) fn is_headless(&self) -> bool {
        self.cluster_ips == [NONE]
    }

    pub(super) fn is_load_balancer(&self) -> bool {
        self.service_type == "LoadBalancer"
    }

    pub(super) fn is_external_name(&self) -> bool {
        self.service_type == "ExternalName"
    }

    /// Whether an externalTrafficPolicy makes sense (B-353).
    pub(super) fn is_externally_accessible(&self) -> bool {
        match self.service_type {
            "NodePort" | "LoadBalancer" => true,
            "ClusterIP" => !self.external_ips.is_empty(),
            _ => false,
        }
    }

    pub(super) fn needs_health_check(&self) -> bool {
        self.is_load_balancer() && self.external_traffic_policy == "Local"
    }

    /// An annotation, when it is set.
    pub(super) fn annotation(&self, key: &str) -> Option<&'a str> {
        Some(self.annotations?.get(key)?.text())
    }
}

fn ports<'a>(check: &mut Check, field: &'a Field<Vec<Field<ServicePort>>>) -> Vec<PortView<'a>> {
    let members = check
        .value(field, "spec.ports")
        .map_or(&[][..], Vec::as_slice);
    let mut views = Vec::with_capacity(members.len());
    for (i, member) in members.iter().enumerate() {
        let path = format!("spec.ports[{i}]");
        let mut view = PortView {
            name: "",
            protocol: "",
            app_protocol: None,
            port: 0,
            target_port: None,
            node_port: 0,
        };
        if let Some(port) = check.value(member, &path) {
            view.name = check.text(&port.name, format_args!("{path}.name"));
            view.protocol = check.text(&port.protocol, format_args!("{path}.protocol"));
            let app_protocol = format!("{path}.appProtocol");
            view.app_protocol = optional(check, &port.app_protocol, &app_protocol);
            view.port = number(check, &port.port, &format!("{path}.port"));
            let target_port = format_args!("{path}.targetPort");
            view.target_port = check.value(&port.target_port, target_port);
            view.node_port = number(check, &port.node_port, &format!("{path}.nodePort"));
        }
        views.push(view);
    }
    views
}

fn affinity(check: &mut Check, spec: &ServiceSpec) -> Option<AffinityView> {
    let path = "spec.sessionAffinityConfig";
    let config = check.value(&spec.session_affinity_config, path)?;
    let path = format!("{path}.clientIP");
    let client_ip = check.value(&config.client_ip, &path);
    let path = format!("{path}.timeoutSeconds");
    Some(AffinityView {
        client_ip: client_ip.map(|client_ip| TimeoutView {
            timeout_seconds: check.value(&client_ip.timeout_seconds, &path).copied(),
        }),
    })
}

/// Metadata that no rule is about: it only has to be of the right type.
fn read_rest_of_metadata(metadata: &Metadata, check: &mut Check) {
    check.value(&metadata.uid, "metadata.uid");
    check.value(&metadata.resource_version, "metadata.resourceVersion");
    let times = [
        ("metadata.creationTimestamp", &metadata.creation_timestamp),
        ("metadata.deletionTimestamp", &metadata.deletion_timestamp),
    ];
    for (path, time) in times {
        if let Some(time) = check.value(time, path)
            && from_rfc3339(time).is_none()
        {
            let detail = "a time such as 2026-01-05T08:00:00Z";
            check.invalid(path, time.as_str(), detail);
        }
    }
}

/// A status is not used on creation and checked on its own later, but whatever has a field of the
/// wrong type is no Service at all.
fn read_status(status: &ServiceStatus, check: &mut Check) {
    let Some(balancer) = check.value(&status.load_balancer, "status.loadBalancer") else {
        return;
    };
    let path = "status.loadBalancer.ingress";
    let ingress = check.value(&balancer.ingress, path);
    for (i, entry) in ingress.into_iter().flatten().enumerate() {
        let path = format!("{path}[{i}]");
        if let Some(entry) = check.value(entry, &path) {
            check.value(&entry.ip, format_args!("{path}.ip"));
            check.value(&entry.hostname, format_args!("{path}.hostname"));
            check.value(&entry.ip_mode, format_args!("{path}.ipMode"));
        }
    }
}

fn number(check: &mut Check, field: &Field<i64>, path: &str) -> i64 {
    check.value(field, path).copied().unwrap_or(0)
}

fn optional<'f>(check: &mut Check, field: &'f Field<String>, path: &str) -> Option<&'f str> {
    check.value(field, path).map(String::as_str)
}

/// A map, when it is set; its values of the wrong type are reported.
fn map<'f>(check: &mut Check, field: &'f Field<StringMap>, path: &str) -> Option<&'f StringMap>
where
    StringMap: Shape,
{
    let map = check.value(field, path)?;
    for (key, value) in map {
        check.value(value, format_args!("{path}[{key}]"));
    }
    Some(map)
}
