//! `svcctl expose`: a Service for an object, as `kubectl expose --dry-run=client` makes it.

use std::error::Error;
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::{Map, Value, json};
use svc_core::object::{ContainerKind, ContainerPort, Labels, WorkloadKind};
use svc_core::{DEFAULT_NAMESPACE, NamespacedName, Protocol, validate, wire};

use super::endpoints::ObjectOutput;
use super::objects::{ManifestArgs, NotFound, ObjectName, worse};
use super::yaml;
use crate::manifest::Manifests;

/// Prints a Service that exposes an object
///
/// It is what kubectl expose --dry-run=client -o yaml prints; DaemonSets and StatefulSets, which
/// kubectl refuses, are exposed by the same rules.
#[derive(Clone, Debug, clap::Args)]
pub struct ExposeArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// KIND/NAME: deploy, ds, rs, sts, po or svc, or their long names
    object: Target,
    /// Port of the Service; without it, the ports of the containers or of the Service
    #[arg(long)]
    port: Option<u16>,
    /// Port of the pods, a number or a name; without it, the port of the Service
    #[arg(long, value_name = "PORT")]
    target_port: Option<String>,
    /// Name of the Service; without it, that of the object
    #[arg(long)]
    name: Option<String>,
    /// Type of the Service
    #[arg(long = "type", value_name = "TYPE")]
    service_type: Option<String>,
    /// TCP, UDP or SCTP; without it, that of each port, or TCP
    #[arg(long)]
    protocol: Option<Protocol>,
    /// None or ClientIP
    #[arg(long, value_name = "AFFINITY")]
    session_affinity: Option<Affinity>,
    /// Address outside the cluster that nodes accept
    #[arg(long, value_name = "IP")]
    external_ip: Option<String>,
    /// Address to ask a load balancer for; only with --type=LoadBalancer
    #[arg(long, value_name = "IP")]
    load_balancer_ip: Option<String>,
    /// Address in the cluster, or None for a headless Service
    #[arg(long, value_name = "IP")]
    cluster_ip: Option<String>,
    /// KEY=VALUE,…: selector instead of that of the object
    #[arg(long, value_name = "LABELS")]
    selector: Option<Pairs>,
    /// KEY=VALUE,…: labels instead of those of the object
    #[arg(short, long, value_name = "LABELS")]
    labels: Option<Pairs>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: ObjectOutput,
}

/// Kinds that can be exposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Workload(WorkloadKind),
    Pod,
    Service,
}

/// What is exposed: a kind and a name.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    kind: Kind,
    name: ObjectName,
}

/// `spec.sessionAffinity`, in the API's spelling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Affinity {
    #[value(name = "None")]
    None,
    #[value(name = "ClientIP")]
    ClientIp,
}

/// Labels on a command line.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Pairs(Labels);

/// What an object says about its pods.
struct Exposed {
    name: NamespacedName,
    labels: Labels,
    selector: Labels,
    by_expression: bool,
    ports: Vec<(u16, Protocol)>,
}

/// An object cannot be exposed, or the command line does not fit it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExposeError {
    /// There is no such object.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// A Service selects by equality only; name a selector.
    #[error("{0} selects by expressions, which a Service cannot: give --selector")]
    ByExpression(String),
    /// Nothing tells which pods are meant; name a selector.
    #[error("{0} has no labels to select by: give --selector")]
    NoSelector(String),
    /// The object has no ports, which only a headless Service can do without; name one.
    #[error("{0} has no ports: give --port")]
    NoPorts(String),
}

/// The text is no KIND/NAME.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("must be KIND/NAME with KIND deploy, ds, rs, sts, po or svc")]
struct NoTarget;

/// The text is no list of labels.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("must be KEY=VALUE, several with commas between")]
struct NoPairs;

/// Longest default name of a Service: that of a DNS label.
const MAX_NAME: usize = 63;

/// Runs the command.
///
/// # Errors
/// When the object is missing or cannot be exposed so.
pub fn run(args: &ExposeArgs) -> Result<ExitCode, Box<dyn Error>> {
    let (manifests, code) = args.manifests.read();
    let exposed = exposed(&manifests, args)?;
    let service = service(args, &exposed)?;
    match args.output {
        ObjectOutput::Yaml => print!("{}", yaml::document(&service)),
        ObjectOutput::Json => println!("{service:#}"),
    }
    let refused = refused(service)?;
    for error in &refused {
        eprintln!("error: an API server would refuse this: {error}");
    }
    Ok(worse(code, !refused.is_empty()))
}

/// Why an API server would not take the Service.
fn refused(mut service: Value) -> Result<Vec<validate::FieldError>, serde_json::Error> {
    let metadata = &mut service["metadata"];
    if metadata["namespace"].is_null() {
        // The client names it beside the object.
        metadata["namespace"] = DEFAULT_NAMESPACE.into();
    }
    let mut service: wire::Service = serde_json::from_value(service)?;
    Ok(validate::create(&mut service).err().unwrap_or_default())
}

fn exposed(manifests: &Manifests, args: &ExposeArgs) -> Result<Exposed, NotFound> {
    let Target { kind, name } = &args.object;
    let title = kind.title();
    match kind {
        Kind::Workload(kind) => {
            let all = manifests.workloads.iter().filter(|w| w.kind == *kind);
            let found = args
                .manifests
                .find(title, name, all.map(|w| (&w.name, w)))?;
            Ok(Exposed {
                name: found.name.clone(),
                labels: found.labels.clone(),
                selector: found.selector.clone(),
                by_expression: found.selects_by_expression,
                ports: container_ports(&found.ports),
            })
        }
        Kind::Pod => {
            let all = manifests.pods.iter().map(|pod| (&pod.name, pod));
            let found = args.manifests.find(title, name, all)?;
            Ok(Exposed {
                name: found.name.clone(),
                labels: found.labels.clone(),
                selector: found.labels.clone(),
                by_expression: false,
                ports: container_ports(&found.ports),
            })
        }
        Kind::Service => {
            let all = manifests
                .services
                .iter()
                .map(|service| (&service.name, service));
            let found = args.manifests.find(title, name, all)?;
            let wire = manifests.wire_services.get(&found.name);
            Ok(Exposed {
                name: found.name.clone(),
                labels: wire.map(wire_labels).unwrap_or_default(),
                selector: found.selector.clone(),
                by_expression: false,
                ports: found.ports.iter().map(|p| (p.port, p.protocol)).collect(),
            })
        }
    }
}

/// Ports of what the pods are for: those of a sidecar are its own business.
fn container_ports(ports: &[ContainerPort]) -> Vec<(u16, Protocol)> {
    let ports = ports.iter();
    ports
        .filter(|port| match port.container {
            ContainerKind::Regular => true,
            ContainerKind::Sidecar => false,
        })
        .map(|port| (port.port, port.protocol))
        .collect()
}

fn wire_labels(service: &wire::Service) -> Labels {
    let metadata = service.metadata.value();
    let labels = metadata.and_then(|metadata| metadata.labels.value());
    let pairs = labels.into_iter().flatten();
    pairs
        .map(|(key, value)| (key.as_str().into(), value.text().into()))
        .collect()
}

/// The Service as the client would send it: without what the server fills in.
fn service(args: &ExposeArgs, exposed: &Exposed) -> Result<Value, ExposeError> {
    let title = || format!("{} {}", args.object.kind.title(), exposed.name);
    let selector = match &args.selector {
        Some(Pairs(selector)) => selector,
        None if exposed.by_expression => return Err(ExposeError::ByExpression(title())),
        None => &exposed.selector,
    };
    if selector.is_empty() {
        return Err(ExposeError::NoSelector(title()));
    }
    let ports = ports(args, exposed);
    let mut spec = json!({ "selector": map(selector) });
    if !ports.is_empty() {
        spec["ports"] = ports.into();
    } else if args.cluster_ip.as_deref() != Some("None") {
        return Err(ExposeError::NoPorts(title()));
    }
    let balanced = args.service_type.as_deref() == Some("LoadBalancer");
    let affinity = args.session_affinity.map(|affinity| match affinity {
        Affinity::None => "None".to_owned(),
        Affinity::ClientIp => "ClientIP".to_owned(),
    });
    let texts = [
        ("type", args.service_type.as_ref()),
        ("clusterIP", args.cluster_ip.as_ref()),
        ("sessionAffinity", affinity.as_ref()),
        (
            "loadBalancerIP",
            args.load_balancer_ip.as_ref().filter(|_| balanced),
        ),
    ];
    for (key, text) in texts {
        if let Some(text) = text {
            spec[key] = text.as_str().into();
        }
    }
    if let Some(ip) = &args.external_ip {
        spec["externalIPs"] = json!([ip]);
    }
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(args, exposed),
        "spec": spec,
        "status": { "loadBalancer": {} },
    }))
}

fn metadata(args: &ExposeArgs, exposed: &Exposed) -> Value {
    let default_name = exposed.name.name.chars().take(MAX_NAME).collect();
    let name: String = args.name.clone().unwrap_or(default_name);
    let mut metadata = json!({ "creationTimestamp": null, "name": name });
    // Without a namespace the Service would not find the pods again.
    let namespace = &*exposed.name.namespace;
    if args.manifests.namespace.is_some() || namespace != DEFAULT_NAMESPACE {
        metadata["namespace"] = namespace.into();
    }
    let labels = args
        .labels
        .as_ref()
        .map_or(&exposed.labels, |pairs| &pairs.0);
    if !labels.is_empty() {
        metadata["labels"] = map(labels);
    }
    metadata
}

/// The ports: one number after the other, and each with every protocol that the object has it for.
fn ports(args: &ExposeArgs, exposed: &Exposed) -> Vec<Value> {
    let mut numbers: Vec<u16> = Vec::new();
    match args.port {
        Some(port) => numbers.push(port),
        None => exposed.ports.iter().for_each(|(port, _)| {
            if !numbers.contains(port) {
                numbers.push(*port);
            }
        }),
    }
    let many = numbers.len() > 1;
    let mut ports = Vec::new();
    for (i, number) in numbers.into_iter().enumerate() {
        let protocols = protocols(args, exposed, number);
        let several = protocols.len() > 1;
        for protocol in protocols {
            let mut port = json!({
                "port": number,
                "protocol": protocol.to_string(),
                "targetPort": target_port(args, number),
            });
            let place = i + 1;
            if several {
                port["name"] = format!("port-{place}-{}", protocol.lower()).into();
            } else if many {
                port["name"] = format!("port-{place}").into();
            }
            ports.push(port);
        }
    }
    ports
}

fn protocols(args: &ExposeArgs, exposed: &Exposed, number: u16) -> Vec<Protocol> {
    if let Some(protocol) = args.protocol {
        return vec![protocol];
    }
    let mut protocols = Vec::new();
    for (port, protocol) in &exposed.ports {
        if *port == number && !protocols.contains(protocol) {
            protocols.push(*protocol);
        }
    }
    if protocols.is_empty() {
        protocols.push(Protocol::Tcp);
    }
    protocols
}

fn target_port(args: &ExposeArgs, port: u16) -> Value {
    let Some(text) = &args.target_port else {
        return port.into();
    };
    match text.parse::<i64>() {
        Ok(number) => number.into(),
        Err(_) => text.as_str().into(),
    }
}

fn map(labels: &Labels) -> Value {
    let pairs = labels.iter();
    let pairs = pairs.map(|(key, value)| (key.to_string(), Value::String(value.to_string())));
    Value::Object(pairs.collect::<Map<_, _>>())
}

impl Kind {
    fn title(self) -> &'static str {
        match self {
            Self::Workload(WorkloadKind::Deployment) => "Deployment",
            Self::Workload(WorkloadKind::DaemonSet) => "DaemonSet",
            Self::Workload(WorkloadKind::ReplicaSet) => "ReplicaSet",
            Self::Workload(WorkloadKind::StatefulSet) => "StatefulSet",
            Self::Pod => "Pod",
            Self::Service => "Service",
        }
    }
}

impl FromStr for Target {
    type Err = NoTarget;

    fn from_str(text: &str) -> Result<Self, NoTarget> {
        let (kind, name) = text.split_once('/').ok_or(NoTarget)?;
        let kind = match kind.to_ascii_lowercase().as_str() {
            "deploy" | "deployment" | "deployments" => Kind::Workload(WorkloadKind::Deployment),
            "ds" | "daemonset" | "daemonsets" => Kind::Workload(WorkloadKind::DaemonSet),
            "rs" | "replicaset" | "replicasets" => Kind::Workload(WorkloadKind::ReplicaSet),
            "sts" | "statefulset" | "statefulsets" => Kind::Workload(WorkloadKind::StatefulSet),
            "po" | "pod" | "pods" => Kind::Pod,
            "svc" | "service" | "services" => Kind::Service,
            _ => return Err(NoTarget),
        };
        if name.is_empty() || name.contains('/') {
            return Err(NoTarget);
        }
        let name = name.parse().map_err(|_| NoTarget)?;
        Ok(Self { kind, name })
    }
}

impl FromStr for Pairs {
    type Err = NoPairs;

    fn from_str(text: &str) -> Result<Self, NoPairs> {
        let mut labels = Labels::new();
        for pair in text.split(',') {
            let (key, value) = pair.split_once('=').ok_or(NoPairs)?;
            if key.is_empty() {
                return Err(NoPairs);
            }
            labels.insert(key.into(), value.into());
        }
        Ok(Self(labels))
    }
}
