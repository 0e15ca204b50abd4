//! `svcctl describe`: everything about one Service, as `kubectl describe` prints it.

use std::collections::BTreeSet;
use std::process::ExitCode;

use svc_core::config::{ProxyConfig, ProxyMode};
use svc_core::endpoints;
use svc_core::object::{
    IpFamilyPolicy, IpMode, Service, ServicePort, ServiceType, TargetPort, TrafficDistribution,
    TrafficPolicy,
};
use svc_core::wire::{self, StringMap};
use svc_core::{Diagnostic, NodeConfig, ObjectKind, Planner};

use super::get::{cluster_ip, first, host_names, type_text};
use super::objects::{ManifestArgs, NotFound, ObjectName};
use super::table::{joined, table};
use crate::cluster::{Cluster, feed};
use crate::manifest::Manifests;

/// Prints everything about one Service
#[derive(Clone, Debug, clap::Args)]
pub struct DescribeArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// What is described
    #[arg(value_enum)]
    kind: Kind,
    /// NAME or NS/NAME
    name: ObjectName,
}

/// What can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// A Service
    #[value(aliases = ["svc", "services"])]
    Service,
}

/// How many endpoints of a port are shown.
const SHOWN: usize = 3;
/// Width of the titles.
const WIDTH: usize = 26;

/// Runs the command.
///
/// # Errors
/// When there is no such Service.
pub fn run(args: &DescribeArgs) -> Result<ExitCode, NotFound> {
    let (manifests, code) = args.manifests.read();
    let Kind::Service = args.kind;
    let cluster = Cluster::of(&manifests);
    let all = cluster
        .services
        .iter()
        .map(|service| (&service.name, service));
    let service = args.manifests.find("Service", &args.name, all)?;
    let empty = wire::Service::default();
    let wire = manifests.wire_services.get(&service.name).unwrap_or(&empty);
    let events = events(&manifests, &cluster, service);
    print!("{}", to_text(service, wire, &cluster, &events));
    Ok(code)
}

/// What reading, allocation, slices and planning had to say about a Service.
fn events(manifests: &Manifests, cluster: &Cluster, service: &Service) -> BTreeSet<Diagnostic> {
    let config = NodeConfig::new("", ProxyConfig::default_for(ProxyMode::Nftables));
    let mut planner = Planner::new(config);
    feed(&mut planner, manifests, cluster);
    planner.delta();
    let (_, of_pods) = endpoints::slices(service, &manifests.pods, &manifests.topology());
    let of_objects = manifests.diagnostics.iter().map(|(_, d)| d);
    of_objects
        .chain(&cluster.diagnostics)
        .chain(planner.diagnostics())
        .filter(|d| d.kind == ObjectKind::Service && d.object == service.name)
        .cloned()
        .chain(of_pods)
        .collect()
}

fn to_text(
    service: &Service,
    wire: &wire::Service,
    cluster: &Cluster,
    events: &BTreeSet<Diagnostic>,
) -> String {
    let mut text = String::new();
    let metadata = wire.metadata.value();
    let labels = metadata.and_then(|metadata| metadata.labels.value());
    let annotations = metadata.and_then(|metadata| metadata.annotations.value());
    line(&mut text, "Name", &service.name.name);
    line(&mut text, "Namespace", &service.name.namespace);
    list(&mut text, "Labels", &pairs(labels, "="));
    list(&mut text, "Annotations", &pairs(annotations, ": "));
    let selector = service.selector.iter();
    let selector = joined(selector.map(|(key, value)| format!("{key}={value}")), ",");
    line(&mut text, "Selector", &selector);
    line(&mut text, "Type", type_text(service.service_type));
    addresses(&mut text, service, wire);
    for port in &service.ports {
        one_port(&mut text, service, port, cluster);
    }
    policies(&mut text, service);
    text + &event_text(events)
}

fn addresses(text: &mut String, service: &Service, wire: &wire::Service) {
    if let Some(policy) = service.ip_family_policy {
        let policy = match policy {
            IpFamilyPolicy::SingleStack => "SingleStack",
            IpFamilyPolicy::PreferDualStack => "PreferDualStack",
            IpFamilyPolicy::RequireDualStack => "RequireDualStack",
        };
        line(text, "IP Family Policy", policy);
    }
    let families = &service.ip_families;
    line(text, "IP Families", &joined(families, ","));
    line(text, "IP", &cluster_ip(service));
    let ips = match service.headless {
        true => "None".into(),
        false => joined(&service.cluster_ips, ","),
    };
    line(text, "IPs", &ips);
    if !service.external_ips.is_empty() {
        line(text, "External IPs", &joined(&service.external_ips, ","));
    }
    let spec = wire.spec.value();
    let wanted = spec.map_or("", |spec| spec.load_balancer_ip.text());
    if !wanted.is_empty() {
        line(text, "Desired LoadBalancer IP", wanted);
    }
    if let Some(name) = &service.external_name {
        line(text, "External Name", name);
    }
    let ips = service.ingress.iter().map(|ingress| match ingress.mode {
        IpMode::Vip => format!("{} (VIP)", ingress.ip),
        IpMode::Proxy => format!("{} (Proxy)", ingress.ip),
    });
    let ingress: Vec<String> = ips.chain(host_names(wire)).collect();
    if !ingress.is_empty() {
        line(text, "LoadBalancer Ingress", &ingress.join(", "));
    }
}

fn one_port(text: &mut String, service: &Service, port: &ServicePort, cluster: &Cluster) {
    let protocol = port.protocol;
    let name = match port.name.is_empty() {
        true => "<unset>",
        false => &port.name,
    };
    line(text, "Port", &format!("{name}  {}/{protocol}", port.port));
    let target = match &port.target_port {
        TargetPort::Number(number) => number.to_string(),
        TargetPort::Name(name) => name.to_string(),
    };
    line(text, "TargetPort", &format!("{target}/{protocol}"));
    if let Some(node_port) = port.node_port {
        line(text, "NodePort", &format!("{name}  {node_port}/{protocol}"));
    }
    let endpoints = ready_endpoints(service, port, cluster);
    let endpoints = match endpoints.is_empty() {
        true => String::new(),
        false => first(&endpoints, SHOWN),
    };
    line(text, "Endpoints", &endpoints);
}

/// Addresses of the ready endpoints of a port, in the order of the slices.
fn ready_endpoints(service: &Service, port: &ServicePort, cluster: &Cluster) -> Vec<String> {
    let slices = cluster.endpoint_slices.iter();
    let mut list = Vec::new();
    for slice in slices.filter(|slice| slice.service_name() == service.name) {
        let same = |p: &&svc_core::object::EndpointPort| {
            p.name == port.name && p.protocol == port.protocol
        };
        let Some(found) = slice.ports.iter().find(same) else {
            continue;
        };
        let ready = slice.endpoints.iter().filter(|e| e.conditions.ready);
        list.extend(ready.map(|e| std::net::SocketAddr::new(e.address, found.port).to_string()));
    }
    list
}

fn policies(text: &mut String, service: &Service) {
    match service.client_ip_affinity_seconds {
        None => line(text, "Session Affinity", "None"),
        Some(seconds) => {
            line(text, "Session Affinity", "ClientIP");
            line(text, "Affinity Timeout", &format!("{seconds} s"));
        }
    }
    let outside = match service.service_type {
        ServiceType::NodePort | ServiceType::LoadBalancer => true,
        ServiceType::ClusterIp => !service.external_ips.is_empty(),
        ServiceType::ExternalName => false,
    };
    if outside {
        let policy = policy(service.external_traffic_policy);
        line(text, "External Traffic Policy", policy);
    }
    if service.service_type != ServiceType::ExternalName {
        let policy = policy(service.internal_traffic_policy);
        line(text, "Internal Traffic Policy", policy);
    }
    if let Some(distribution) = service.traffic_distribution {
        let distribution = match distribution {
            TrafficDistribution::PreferSameZone => "PreferSameZone",
            TrafficDistribution::PreferSameNode => "PreferSameNode",
        };
        line(text, "Traffic Distribution", distribution);
    }
    if let Some(port) = service.health_check_node_port {
        line(text, "HealthCheck NodePort", &port.to_string());
    }
    if !service.load_balancer_source_ranges.is_empty() {
        let ranges = joined(&service.load_balancer_source_ranges, ",");
        line(text, "LoadBalancer Source Ranges", &ranges);
    }
}

fn policy(policy: TrafficPolicy) -> &'static str {
    match policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    }
}

fn event_text(events: &BTreeSet<Diagnostic>) -> String {
    if events.is_empty() {
        let mut text = String::new();
        line(&mut text, "Events", "<none>");
        return text;
    }
    let row = |event: &Diagnostic| {
        let message = match event.kind == ObjectKind::Service {
            true => format!("{}: {}", event.field, event.message),
            false => event.to_string(),
        };
        vec![
            "  Warning".to_owned(),
            format!("{:?}", event.reason),
            message.replace('\n', " "),
        ]
    };
    let mut rows = vec![vec!["  ----".into(), "------".into(), "-------".into()]];
    rows.extend(events.iter().map(row));
    format!(
        "Events:\n{}",
        table(&["  Type", "Reason", "Message"], &rows)
    )
}

fn pairs(map: Option<&StringMap>, separator: &str) -> Vec<String> {
    let pairs = map.into_iter().flatten();
    pairs
        .map(|(key, value)| format!("{key}{separator}{}", value.text()).replace('\n', " "))
        .collect()
}

/// One line for each of a list, only the first with the title.
fn list(text: &mut String, title: &str, values: &[String]) {
    let Some((head, rest)) = values.split_first() else {
        return line(text, title, "<none>");
    };
    line(text, title, head);
    for value in rest {
        text.push_str(&format!("{:WIDTH$}{value}\n", ""));
    }
}

fn line(text: &mut String, title: &str, value: &str) {
    let line = format!("{:<WIDTH$}{value}", format!("{title}:"));
    text.push_str(line.trim_end());
    text.push('\n');
}
