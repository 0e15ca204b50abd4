//! `svcctl get`: objects as tables.

use std::process::ExitCode;

use svc_core::object::{EndpointSlice, Pod, PodPhase, Service, ServicePort, ServiceType};
use svc_core::{NamespacedName, wire};

use super::input::level;
use super::objects::{ManifestArgs, worse};
use super::table::{joined, table};
use crate::cluster::Cluster;
use crate::manifest::Manifests;

/// Prints a table of Pods, Services or EndpointSlices
///
/// Services have the addresses that a cluster would give them, slices are made of Pods. Ages and
/// restarts, which manifests do not have, are left out.
#[derive(Clone, Debug, clap::Args)]
pub struct GetArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// What is listed
    #[arg(value_enum)]
    kind: Kind,
    /// More columns
    #[arg(short, long, value_enum, default_value_t)]
    output: GetOutput,
}

/// What can be listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// Pods
    #[value(aliases = ["pod", "po"])]
    Pods,
    /// Services
    #[value(aliases = ["service", "svc"])]
    Services,
    /// EndpointSlices
    #[value(name = "endpointslices", aliases = ["endpointslice"])]
    EndpointSlices,
}

/// Which columns a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum GetOutput {
    /// The usual ones
    #[default]
    Text,
    /// More
    Wide,
}

/// How many endpoints a slice shows unless the table is wide.
const SHOWN: usize = 3;

/// Runs the command.
pub fn run(args: &GetArgs) -> ExitCode {
    let (manifests, mut code) = args.manifests.read_with_remarks();
    let (head, rows) = match args.kind {
        Kind::Pods => pods(args, &manifests),
        Kind::Services | Kind::EndpointSlices => {
            let cluster = Cluster::of(&manifests);
            for diagnostic in &cluster.diagnostics {
                eprintln!("{}: {diagnostic}", level(diagnostic));
                let error = diagnostic.severity == svc_core::Severity::Error;
                code = worse(code, error);
            }
            match args.kind {
                Kind::EndpointSlices => slices(args, &cluster),
                Kind::Pods | Kind::Services => services(args, &cluster, &manifests),
            }
        }
    };
    match rows.is_empty() {
        true => eprintln!("note: the manifests have none of these"),
        false => print!("{}", table(&head, &rows)),
    }
    code
}

type Table = (Vec<&'static str>, Vec<Vec<String>>);

/// A table whose first columns name the object; the last `wide` ones are only in a wide table.
fn rows<'a, T: 'a>(
    args: &GetArgs,
    head: &[&'static str],
    wide: usize,
    objects: impl IntoIterator<Item = &'a T>,
    cells: impl Fn(&'a T) -> (&'a NamespacedName, Vec<String>),
) -> Table {
    let all = args.manifests.namespace.is_none();
    let columns = match args.output {
        GetOutput::Wide => head.len(),
        GetOutput::Text => head.len() - wide,
    };
    let mut titles = vec!["NAMESPACE", "NAME"];
    titles.extend(head.iter().take(columns));
    let mut rows: Vec<Vec<String>> = objects
        .into_iter()
        .map(cells)
        .filter(|(name, _)| args.manifests.wants(&name.namespace))
        .map(|(name, cells)| {
            let mut row = vec![name.namespace.to_string(), name.name.to_string()];
            row.extend(cells.into_iter().take(columns));
            row
        })
        .collect();
    if !all {
        titles.remove(0);
        rows.iter_mut().for_each(|row| {
            row.remove(0);
        });
    }
    (titles, rows)
}

fn pods(args: &GetArgs, manifests: &Manifests) -> Table {
    let head = ["READY", "STATUS", "IP", "NODE"];
    rows(args, &head, 2, &manifests.pods, |pod: &Pod| {
        let node = pod.node.as_deref().unwrap_or("<none>");
        let cells = vec![
            if pod.ready { "True" } else { "False" }.to_owned(),
            status(pod).to_owned(),
            joined(&pod.ips, ","),
            node.to_owned(),
        ];
        (&pod.name, cells)
    })
}

fn status(pod: &Pod) -> &'static str {
    if pod.terminating {
        return "Terminating";
    }
    match pod.phase {
        PodPhase::Pending => "Pending",
        PodPhase::Running => "Running",
        PodPhase::Succeeded => "Succeeded",
        PodPhase::Failed => "Failed",
        PodPhase::Unknown => "Unknown",
    }
}

fn services(args: &GetArgs, cluster: &Cluster, manifests: &Manifests) -> Table {
    let head = ["TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)", "SELECTOR"];
    rows(args, &head, 1, &cluster.services, |service: &Service| {
        let selector = service.selector.iter();
        let cells = vec![
            type_text(service.service_type).to_owned(),
            cluster_ip(service),
            external(service, manifests.wire_services.get(&service.name)),
            joined(service.ports.iter().map(port), ","),
            joined(selector.map(|(key, value)| format!("{key}={value}")), ","),
        ];
        (&service.name, cells)
    })
}

/// A type as the API spells it.
pub fn type_text(service_type: ServiceType) -> &'static str {
    match service_type {
        ServiceType::ClusterIp => "ClusterIP",
        ServiceType::NodePort => "NodePort",
        ServiceType::LoadBalancer => "LoadBalancer",
        ServiceType::ExternalName => "ExternalName",
    }
}

/// `None` of a headless Service, or the first ClusterIP.
pub fn cluster_ip(service: &Service) -> String {
    match service.headless {
        true => "None".into(),
        false => joined(service.cluster_ips.first(), ","),
    }
}

fn external(service: &Service, wire: Option<&wire::Service>) -> String {
    match service.service_type {
        ServiceType::ExternalName => joined(&service.external_name, ","),
        ServiceType::ClusterIp | ServiceType::NodePort => joined(&service.external_ips, ","),
        ServiceType::LoadBalancer => {
            let ips = service.ingress.iter().map(|ingress| ingress.ip.to_string());
            let names = wire.map_or_else(Vec::new, host_names);
            let external = service.external_ips.iter().map(ToString::to_string);
            let all: Vec<String> = ips.chain(names).chain(external).collect();
            match all.is_empty() {
                true => "<pending>".into(),
                false => joined(all, ","),
            }
        }
    }
}

/// Host names in the status of a Service that stand for addresses, as some load balancers have.
pub fn host_names(service: &wire::Service) -> Vec<String> {
    let status = service.status.value();
    let balancer = status.and_then(|status| status.load_balancer.value());
    let entries = balancer.into_iter().flat_map(|b| b.ingress.members());
    entries
        .filter(|entry| entry.ip.text().is_empty())
        .map(|entry| entry.hostname.text().replace('\n', " "))
        .filter(|name| !name.is_empty())
        .collect()
}

fn port(port: &ServicePort) -> String {
    let number = port.port;
    let protocol = port.protocol;
    match port.node_port {
        Some(node_port) => format!("{number}:{node_port}/{protocol}"),
        None => format!("{number}/{protocol}"),
    }
}

fn slices(args: &GetArgs, cluster: &Cluster) -> Table {
    let head = ["ADDRESSTYPE", "PORTS", "ENDPOINTS", "SERVICE", "NODES"];
    let shown = match args.output {
        GetOutput::Wide => usize::MAX,
        GetOutput::Text => SHOWN,
    };
    let slices = &cluster.endpoint_slices;
    rows(args, &head, 2, slices, |slice: &EndpointSlice| {
        let endpoints = slice.endpoints.iter();
        let nodes = endpoints
            .clone()
            .map(|e| e.node.as_deref().unwrap_or("<none>"));
        let addresses: Vec<String> = endpoints.map(|e| e.address.to_string()).collect();
        let cells = vec![
            slice.family.to_string(),
            unset(
                slice
                    .ports
                    .iter()
                    .map(|port| port.port.to_string())
                    .collect(),
            ),
            first(&addresses, shown),
            slice.service.to_string(),
            unset(nodes.map(str::to_owned).collect()),
        ];
        (&slice.name, cells)
    })
}

fn unset(list: Vec<String>) -> String {
    match list.is_empty() {
        true => "<unset>".into(),
        false => list.join(","),
    }
}

/// The first of a list, and how many more there are.
pub fn first(list: &[String], shown: usize) -> String {
    let more = list.len().saturating_sub(shown);
    let some = unset(list.iter().take(shown).cloned().collect());
    match more {
        0 => some,
        _ => format!("{some} + {more} more..."),
    }
}
