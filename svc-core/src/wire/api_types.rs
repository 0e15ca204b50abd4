//! From the types of `k8s-openapi` to those of the wire, so that the rules exist once.
//!
//! Values are moved, not copied. The same code compiles for every Kubernetes version that
//! `k8s-openapi` can be built for: where versions differ in whether a list is optional, [`Members`]
//! takes both. Which version it is, is the choice of the program, never of this crate.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use k8s_openapi::api::networking::v1 as networking;
use k8s_openapi::api::{apps::v1 as apps, core::v1 as core, discovery::v1 as discovery};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString as ApiIntOrString;

use super::*;

/// A list that some versions of the API make optional.
trait Members<T> {
    fn members(self) -> Option<Vec<T>>;
}

impl<T> Members<T> for Vec<T> {
    fn members(self) -> Option<Vec<T>> {
        Some(self)
    }
}

impl<T> Members<T> for Option<Vec<T>> {
    fn members(self) -> Option<Vec<T>> {
        self
    }
}

fn list<T, U: From<T>>(members: impl Members<T>) -> Field<Vec<Field<U>>> {
    let members = members.members();
    let fields = members.map(|m| m.into_iter().map(|v| Field::Value(v.into())).collect());
    Field::from(fields)
}

fn record<T, U: From<T>>(value: Option<T>) -> Field<U> {
    Field::from(value.map(U::from))
}

fn number(value: Option<i32>) -> Field<i64> {
    record(value)
}

fn map(value: Option<BTreeMap<String, String>>) -> Field<StringMap> {
    let fields = value.map(|map| map.into_iter().map(|(k, v)| (k, Field::Value(v))).collect());
    Field::from(fields)
}

fn time(value: Option<meta::Time>) -> Field<String> {
    Field::from(value.map(|time| time.0.to_string()))
}

/// Moves the named fields of one struct to another; `kind` says how each is converted.
macro_rules! moved {
    ($from:ty => $to:ident { $($field:ident: $how:tt $($source:ident)?,)* }) => {
        // Structs such as `Service` have fields here that the other type implies.
        #[allow(clippy::needless_update)]
        impl From<$from> for $to {
            fn from(from: $from) -> Self {
                Self {
                    $($field: moved!(@$how from $field $($source)?),)*
                    ..Self::default()
                }
            }
        }
    };
    (@$how:tt $from:ident $field:ident $source:ident) => { moved!(@$how $from $source) };
    (@same $from:ident $field:ident) => { Field::from($from.$field) };
    (@whole $from:ident $field:ident) => { Field::Value($from.$field.into()) };
    (@record $from:ident $field:ident) => { record($from.$field) };
    (@list $from:ident $field:ident) => { list($from.$field) };
    (@map $from:ident $field:ident) => { map($from.$field) };
    (@number $from:ident $field:ident) => { number($from.$field) };
    (@instant $from:ident $field:ident) => { time(Some($from.$field)) };
    (@time $from:ident $field:ident) => { time($from.$field) };
}

moved!(meta::ObjectMeta => Metadata {
    name: same,
    generate_name: same,
    namespace: same,
    uid: same,
    resource_version: same,
    labels: map,
    annotations: map,
    creation_timestamp: time,
    deletion_timestamp: time,
});

moved!(core::ObjectReference => ObjectReference {
    kind: same,
    namespace: same,
    name: same,
    uid: same,
});

moved!(core::Service => Service {
    metadata: whole,
    spec: record,
    status: record,
});

moved!(core::ServiceSpec => ServiceSpec {
    service_type: same type_,
    cluster_ip: same,
    cluster_ips: list,
    ip_families: list,
    ip_family_policy: same,
    ports: list,
    selector: map,
    external_ips: list,
    external_name: same,
    load_balancer_ip: same,
    load_balancer_class: same,
    load_balancer_source_ranges: list,
    session_affinity: same,
    session_affinity_config: record,
    internal_traffic_policy: same,
    external_traffic_policy: same,
    health_check_node_port: number,
    publish_not_ready_addresses: same,
    allocate_load_balancer_node_ports: same,
    traffic_distribution: same,
});

moved!(core::ServicePort => ServicePort {
    name: same,
    protocol: same,
    app_protocol: same,
    port: whole,
    target_port: record,
    node_port: number,
});

impl From<ApiIntOrString> for IntOrString {
    fn from(from: ApiIntOrString) -> Self {
        match from {
            ApiIntOrString::Int(number) => Self::Int(number.into()),
            ApiIntOrString::String(text) => Self::Text(text),
        }
    }
}

moved!(core::SessionAffinityConfig => SessionAffinityConfig { client_ip: record, });
moved!(core::ClientIPConfig => ClientIpConfig { timeout_seconds: number, });
moved!(core::ServiceStatus => ServiceStatus { load_balancer: record, });
moved!(core::LoadBalancerStatus => LoadBalancerStatus { ingress: list, });
moved!(core::LoadBalancerIngress => Ingress {
    ip: same,
    hostname: same,
    ip_mode: same,
});

moved!(discovery::EndpointSlice => EndpointSlice {
    metadata: whole,
    address_type: same,
    endpoints: list,
    ports: list,
});

moved!(discovery::Endpoint => Endpoint {
    addresses: list,
    conditions: record,
    hostname: same,
    target_ref: record,
    node_name: same,
    zone: same,
    hints: record,
});

moved!(discovery::EndpointConditions => EndpointConditions {
    ready: same,
    serving: same,
    terminating: same,
});

moved!(discovery::EndpointHints => EndpointHints {
    for_zones: list,
    for_nodes: list,
});

moved!(discovery::ForZone => Hint { name: same, });
moved!(discovery::ForNode => Hint { name: same, });
moved!(discovery::EndpointPort => EndpointPort {
    name: same,
    protocol: same,
    port: number,
    app_protocol: same,
});

moved!(core::Endpoints => Endpoints {
    metadata: whole,
    subsets: list,
});

moved!(core::EndpointSubset => EndpointSubset {
    addresses: list,
    not_ready_addresses: list,
    ports: list,
});

moved!(core::EndpointAddress => EndpointAddress {
    ip: same,
    hostname: same,
    node_name: same,
    target_ref: record,
});

moved!(core::EndpointPort => EndpointPort {
    name: same,
    protocol: same,
    port: whole,
    app_protocol: same,
});

moved!(core::Node => Node {
    metadata: whole,
    spec: record,
    status: record,
});

moved!(core::NodeSpec => NodeSpec {
    pod_cidr: same,
    pod_cidrs: list,
    taints: list,
});

moved!(core::Taint => Taint {
    key: same,
    effect: same,
});

moved!(core::NodeStatus => NodeStatus {
    addresses: list,
    conditions: list,
    allocatable: record,
});

moved!(core::NodeAddress => NodeAddress {
    kind: same type_,
    address: same,
});

moved!(core::NodeCondition => Condition {
    kind: same type_,
    status: same,
    last_transition_time: time,
});

impl From<BTreeMap<String, ApiQuantity>> for Resources {
    fn from(mut from: BTreeMap<String, ApiQuantity>) -> Self {
        Self {
            cpu: Field::from(from.remove("cpu").map(|quantity| Quantity(quantity.0))),
        }
    }
}

moved!(core::Namespace => Namespace { metadata: whole, });

moved!(networking::ServiceCIDR => ServiceCidr {
    metadata: whole,
    spec: record,
    status: record,
});

moved!(networking::ServiceCIDRSpec => ServiceCidrSpec { cidrs: list, });
moved!(networking::ServiceCIDRStatus => ServiceCidrStatus { conditions: list, });
moved!(meta::Condition => Condition {
    kind: same type_,
    status: same,
    last_transition_time: instant,
});

moved!(core::Pod => Pod {
    metadata: whole,
    spec: record,
    status: record,
});

moved!(core::PodSpec => PodSpec {
    containers: list,
    init_containers: list,
    node_name: same,
    hostname: same,
    subdomain: same,
    host_network: same,
});

moved!(core::Container => Container {
    name: same,
    ports: list,
    restart_policy: same,
});

moved!(core::ContainerPort => ContainerPort {
    name: same,
    container_port: whole,
    protocol: same,
});

moved!(core::PodStatus => PodStatus {
    phase: same,
    pod_ip: same,
    pod_ips: list,
    conditions: list,
});

moved!(core::PodIP => PodIp { ip: same, });
moved!(core::PodCondition => Condition {
    kind: same type_,
    status: same,
    last_transition_time: time,
});

moved!(core::PodTemplateSpec => PodTemplate {
    metadata: record,
    spec: record,
});

moved!(meta::LabelSelector => LabelSelector {
    match_labels: map,
    match_expressions: list,
});

moved!(meta::LabelSelectorRequirement => MatchExpression {
    key: same,
    operator: same,
    values: list,
});

moved!(apps::Deployment => Workload { metadata: whole, spec: record, });
moved!(apps::DeploymentSpec => WorkloadSpec {
    replicas: number,
    selector: whole,
    template: whole,
});

moved!(apps::DaemonSet => Workload { metadata: whole, spec: record, });
moved!(apps::DaemonSetSpec => WorkloadSpec {
    selector: whole,
    template: whole,
});

moved!(apps::StatefulSet => Workload { metadata: whole, spec: record, });
moved!(apps::StatefulSetSpec => WorkloadSpec {
    replicas: number,
    selector: whole,
    template: whole,
});

moved!(apps::ReplicaSet => Workload { metadata: whole, spec: record, });
moved!(apps::ReplicaSetSpec => WorkloadSpec {
    replicas: number,
    selector: whole,
    template: record,
});
