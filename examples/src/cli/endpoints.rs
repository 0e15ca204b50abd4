//! `svcctl endpoints`: the EndpointSlices that a cluster would make.

use std::process::ExitCode;

use serde_json::{Map, Value, json};
use svc_core::endpoints;
use svc_core::object::{EndpointPort, EndpointSlice, SliceEndpoint};
use svc_core::{NamespacedName, Severity};

use super::input::level;
use super::objects::{ManifestArgs, NotFound, ObjectName, worse};
use super::yaml;
use crate::cluster::Cluster;
use crate::manifest::Manifests;

/// Prints the EndpointSlices that the controllers would make of Services and Pods
#[derive(Clone, Debug, clap::Args)]
pub struct EndpointsArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Only those of this Service: NAME or NS/NAME
    service: Option<ObjectName>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: ObjectOutput,
}

/// How objects are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ObjectOutput {
    /// YAML, one document for each object
    #[default]
    Yaml,
    /// JSON; several objects as a List
    Json,
}

/// Runs the command.
///
/// # Errors
/// When there is no such Service.
pub fn run(args: &EndpointsArgs) -> Result<ExitCode, NotFound> {
    let (manifests, mut code) = args.manifests.read_with_remarks();
    let cluster = Cluster::of(&manifests);
    for diagnostic in &cluster.diagnostics {
        eprintln!("{}: {diagnostic}", level(diagnostic));
        code = worse(code, diagnostic.severity == Severity::Error);
    }
    let only = match &args.service {
        None => None,
        Some(wanted) => Some(service(&args.manifests, &manifests, wanted)?),
    };
    let slices: Vec<Value> = cluster
        .endpoint_slices
        .iter()
        .filter(|slice| args.manifests.wants(&slice.name.namespace))
        .filter(|slice| {
            only.as_ref()
                .is_none_or(|only| *only == slice.service_name())
        })
        .map(to_object)
        .collect();
    match args.output {
        ObjectOutput::Yaml => print!("{}", yaml::documents(&slices)),
        ObjectOutput::Json => {
            let list = json!({ "apiVersion": "v1", "kind": "List", "items": slices });
            println!("{list:#}");
        }
    }
    Ok(code)
}

fn service(
    args: &ManifestArgs,
    manifests: &Manifests,
    wanted: &ObjectName,
) -> Result<NamespacedName, NotFound> {
    let names = manifests.services.iter().map(|s| (&s.name, s.name.clone()));
    args.find("Service", wanted, names)
}

/// A slice as the API has it.
pub fn to_object(slice: &EndpointSlice) -> Value {
    let labels: Map<String, Value> = endpoints::labels(slice)
        .iter()
        .map(|(key, value)| (key.to_string(), text(value)))
        .collect();
    let endpoint = |endpoint: &SliceEndpoint| endpoint_object(slice, endpoint);
    let mut object = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": text(&slice.name.name),
            "namespace": text(&slice.name.namespace),
            "labels": labels,
        },
        "addressType": slice.family,
        "endpoints": slice.endpoints.iter().map(endpoint).collect::<Vec<_>>(),
        "ports": slice.ports.iter().map(port_object).collect::<Vec<_>>(),
    });
    let annotations: Map<String, Value> = endpoints::annotations(slice)
        .iter()
        .map(|(key, value)| (key.to_string(), text(value)))
        .collect();
    if !annotations.is_empty() {
        object["metadata"]["annotations"] = annotations.into();
    }
    object
}

fn port_object(port: &EndpointPort) -> Value {
    let mut object = json!({
        "name": text(&port.name),
        "port": port.port,
        "protocol": port.protocol.to_string(),
    });
    if let Some(protocol) = &port.app_protocol {
        object["appProtocol"] = text(protocol);
    }
    object
}

fn endpoint_object(slice: &EndpointSlice, endpoint: &SliceEndpoint) -> Value {
    let conditions = endpoint.conditions;
    let mut object = json!({
        "addresses": [endpoint.address.to_string()],
        "conditions": {
            "ready": conditions.ready,
            "serving": conditions.serving,
            "terminating": conditions.terminating,
        },
    });
    if let Some(node) = &endpoint.node {
        object["nodeName"] = text(node);
    }
    let Some(extra) = &endpoint.extra else {
        return object;
    };
    if let Some(zone) = &extra.zone {
        object["zone"] = text(zone);
    }
    if let Some(hostname) = &extra.hostname {
        object["hostname"] = text(hostname);
    }
    if let Some(pod) = &extra.pod {
        let namespace = text(&slice.name.namespace);
        object["targetRef"] = json!({ "kind": "Pod", "name": text(pod), "namespace": namespace });
    }
    let hints = [
        ("forZones", &extra.hints.zones),
        ("forNodes", &extra.hints.nodes),
    ];
    for (key, names) in hints.into_iter().filter(|(_, names)| !names.is_empty()) {
        let names: Vec<Value> = names
            .iter()
            .map(|name| json!({ "name": text(name) }))
            .collect();
        object["hints"][key] = names.into();
    }
    object
}

fn text(name: &svc_core::Name) -> Value {
    Value::String(name.to_string())
}
