//! `svcctl explain`: what happens to one packet, and why.

use std::error::Error;
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::str::FromStr;

use serde_json::{Value, json};
use svc_core::dns::{ClusterDomain, RecordType, ZoneOptions};
use svc_core::{Explanation, Flow, IpFamily, Origin, Protocol, Reason, Verdict, explain_verdict};

use super::Output;
use super::balancer::Balancer;
use super::input::{Input, InputArgs};
use crate::backend::Backend;
use crate::dns::answer::{cli_search, zone_of};

/// Explains what a node does with the first packet of a connection
#[derive(Clone, Debug, clap::Args)]
pub struct ExplainArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Source address
    #[arg(long, value_name = "IP")]
    from: IpAddr,
    /// Destination: IP:PORT/PROTO, [IPv6]:PORT/PROTO or NAME:PORT/PROTO
    #[arg(long, value_name = "ADDRESS")]
    to: Destination,
    /// Whose ruleset answers
    #[arg(long, value_enum, default_value_t)]
    backend: Backend,
    /// Interface that the packet comes in through, for detectors by interface
    #[arg(long, value_name = "NAME")]
    interface: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Where a packet goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To an address.
    Address(SocketAddr, Protocol),
    /// To a name that is resolved first.
    Name(String, u16, Protocol),
}

/// The text is no destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be IP:PORT/PROTO, [IPv6]:PORT/PROTO or NAME:PORT/PROTO with PROTO tcp, udp or sctp")]
pub struct NoDestination;

impl FromStr for Destination {
    type Err = NoDestination;

    fn from_str(text: &str) -> Result<Self, NoDestination> {
        let (at, protocol) = text.rsplit_once('/').ok_or(NoDestination)?;
        let protocol = protocol.parse().map_err(|_| NoDestination)?;
        if let Ok(socket) = at.parse::<SocketAddr>() {
            return Ok(Self::Address(socket, protocol));
        }
        let (name, port) = at.rsplit_once(':').ok_or(NoDestination)?;
        let port = port.parse().map_err(|_| NoDestination)?;
        if name.is_empty() || name.contains([':', '[', ' ']) {
            return Err(NoDestination);
        }
        Ok(Self::Name(name.to_owned(), port, protocol))
    }
}

/// Runs the command.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let input = args.input.load(args.backend.mode());
    let code = input.report();
    let (destination, protocol) = match resolve(&input, &args.to) {
        Ok(found) => found,
        Err(error) => return super::fail(&*error),
    };
    let flow = Flow {
        source: args.from,
        destination,
        protocol,
        interface: args.interface.as_deref().map(Into::into),
    };
    match explained(&input, args.backend, &flow) {
        Ok(explanation) => {
            let balancer = Balancer::of(&input, &flow, &explanation);
            match args.output {
                Output::Json => {
                    let mut value = to_json(&explanation);
                    value["load_balancer"] =
                        balancer.as_ref().map_or(Value::Null, Balancer::to_json);
                    println!("{value}");
                }
                Output::Text => {
                    print!("{}", to_text(&flow, &explanation));
                    print!(
                        "{}",
                        balancer.as_ref().map(Balancer::to_text).unwrap_or_default()
                    );
                }
            }
            code
        }
        Err(fault) => super::fail(&*fault),
    }
}

/// Namespace whose resolver completes a name that is no whole one.
const NAMESPACE: &str = "default";

/// The address of a destination; a name has the first address that a pod would get for it.
fn resolve(input: &Input, to: &Destination) -> Result<(SocketAddr, Protocol), Box<dyn Error>> {
    let (name, port, protocol) = match to {
        Destination::Address(socket, protocol) => return Ok((*socket, *protocol)),
        Destination::Name(name, port, protocol) => (name, *port, *protocol),
    };
    let options = ZoneOptions::new("cluster.local".parse::<ClusterDomain>()?);
    let zone = zone_of(&input.manifests, options)?;
    for kind in [RecordType::A, RecordType::Aaaa] {
        let answer = cli_search(&zone, NAMESPACE, name, kind)?;
        let records = || answer["answers"].as_array().into_iter().flatten();
        let data = || records().filter_map(|record| record["data"].as_str());
        if let Some(ip) = data().find_map(|data| data.parse().ok()) {
            return Ok((SocketAddr::new(ip, port), protocol));
        }
        if let Some(alias) = records().find(|record| record["type"] == "CNAME") {
            let target = alias["data"].as_str().unwrap_or_default();
            let why =
                format!("{name}: a Service of type ExternalName, not proxied: a CNAME of {target}");
            return Err(why.into());
        }
    }
    Err(format!("{name}: the zone has no address for this name").into())
}

/// Explains a flow by the plan of its family; the verdict is that of a backend's ruleset.
fn explained(input: &Input, backend: Backend, flow: &Flow) -> Result<Explanation, Box<dyn Error>> {
    let plan = input.planner.plan(IpFamily::of(flow.destination.ip()));
    let verdict = backend.verdict(&plan, flow)?;
    Ok(explain_verdict(&plan, input.planner.state(), flow, verdict))
}

/// The stable form for programs.
pub fn to_json(explanation: &Explanation) -> Value {
    let decision = &explanation.decision;
    let verdict = match &decision.verdict {
        Verdict::Forward(_) => "forward",
        Verdict::Reject => "reject",
        Verdict::Drop => "drop",
        Verdict::Pass => "pass",
    };
    let endpoints: Vec<Value> = explanation
        .endpoints
        .iter()
        .map(|endpoint| {
            json!({
                "address": endpoint.address.to_string(),
                "masquerade": endpoint.masquerade.is_some(),
                "masqueradeReason": endpoint.masquerade,
                "share": format!("1/{}", endpoint.of),
                "node": endpoint.node,
                "pod": endpoint.pod,
            })
        })
        .collect();
    let left_out: Vec<Value> = explanation
        .left_out
        .iter()
        .map(|left| {
            json!({
                "address": left.address.to_string(),
                "reason": left.reason,
                "node": left.node,
                "pod": left.pod,
            })
        })
        .collect();
    let service = decision
        .frontend
        .as_ref()
        .filter(|_| decision.verdict != Verdict::Pass);
    json!({
        "verdict": verdict,
        "service": service.map(|answering| answering.name.to_string()),
        "endpoints": endpoints,
        "reason": decision.reason,
        "origin": decision.origin,
        "left_out": left_out,
    })
}

/// The form for people.
pub fn to_text(flow: &Flow, explanation: &Explanation) -> String {
    let decision = &explanation.decision;
    let mut text = format!("{flow} ({})\n", origin(decision.origin));
    // Writing to a string cannot fail.
    let _ = match &decision.verdict {
        Verdict::Forward(targets) => {
            let one = if targets.len() == 1 {
                "endpoint"
            } else {
                "endpoints"
            };
            writeln!(text, "  forward to one of {} {one}", targets.len())
        }
        Verdict::Reject => writeln!(text, "  reject: ICMP port unreachable"),
        Verdict::Drop => writeln!(text, "  drop: no answer at all"),
        Verdict::Pass => writeln!(text, "  pass: the proxy leaves it alone"),
    };
    if let Some(answering) = &decision.frontend {
        let kind = answering.frontend().map(|frontend| frontend.kind);
        let kind = kind.map(|kind| format!(" by {kind:?}")).unwrap_or_default();
        let _ = writeln!(text, "  service  {}{kind}", answering.name);
    }
    let _ = writeln!(
        text,
        "  reason   {:?}: {}",
        decision.reason,
        words(decision.reason)
    );
    for endpoint in &explanation.endpoints {
        let source = match endpoint.masquerade {
            None => "sees the client's address".to_owned(),
            Some(reason) => format!("sees the node's address ({reason:?})"),
        };
        let place = place(endpoint.pod.as_deref(), endpoint.node.as_deref());
        let _ = writeln!(
            text,
            "  -> {:<22} 1/{}{place}, {source}",
            endpoint.address, endpoint.of
        );
    }
    for left in &explanation.left_out {
        let place = place(left.pod.as_deref(), left.node.as_deref());
        let _ = writeln!(text, "  not {:<21} {:?}{place}", left.address, left.reason);
    }
    text
}

fn place(pod: Option<&str>, node: Option<&str>) -> String {
    let pod = pod.map(|pod| format!(" {pod}")).unwrap_or_default();
    let node = node.map(|node| format!(" on {node}")).unwrap_or_default();
    format!("{pod}{node}")
}

fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Pod => "from a pod",
        Origin::Node => "from the node itself",
        Origin::External => "from outside",
    }
}

/// A reason in words.
pub fn words(reason: Reason) -> &'static str {
    match reason {
        Reason::ClusterIp => "the ClusterIP has the port, the internal traffic policy decides",
        Reason::LoadBalancerIp => "a load-balancer address, the external traffic policy decides",
        Reason::ExternalIp => "an external address, the external traffic policy decides",
        Reason::NodePort => "a node port, the external traffic policy decides",
        Reason::PodShortCircuit => "policy Local, but a pod asks: any endpoint will do",
        Reason::NodeShortCircuit => "policy Local, but the node itself asks: any endpoint will do",
        Reason::NoEndpoints => "no endpoint is usable on any node",
        Reason::NoLocalEndpoints => "the policy is Local and no usable endpoint is on this node",
        Reason::SourceNotAllowed => "the source is outside loadBalancerSourceRanges",
        Reason::UnknownPort => "the address is a ClusterIP, but no Service has this port",
        Reason::UnallocatedAddress => "the address is in the service range, but no Service has it",
        Reason::NotANodePortAddress => "a node port, but this address does not serve node ports",
        Reason::NotAService => "no Service has this address and port",
        Reason::OtherFamily => "source and destination are not of one family",
    }
}
