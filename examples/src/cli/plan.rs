//! `svcctl plan`: everything a node does, or the ruleset that does it.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::json;
use svc_core::config::{IpvsConfig, ProxyMode};
use svc_core::{
    Endpoint, Frontend, FrontendAddress, FrontendKind, IpFamily, LocalDetector, Masquerade, Plan,
    Protocol, Render, Route, Ruleset, Scope, ServicePortPlan, SourceRanges, address_text, render,
};

use super::input::InputArgs;
use super::unproxied;

/// Prints the plan of a node
#[derive(Clone, Debug, clap::Args)]
pub struct PlanArgs {
    #[command(flatten)]
    input: InputArgs,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: PlanOutput,
}

/// What is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum PlanOutput {
    /// The plan, for people
    #[default]
    Text,
    /// The plan, for programs; stable
    Json,
    /// The nf_tables tables of both families, in nft's syntax as far as that reaches
    Nft,
    /// The same for programs that read nft's JSON; what that has no words for is left away
    NftJson,
    /// The chains of both families, as iptables-save prints them, with the Services that rules are for
    Iptables,
    /// The virtual servers of both families, as ipvsadm -Sn prints them after a sync
    Ipvsadm,
}

impl PlanOutput {
    fn mode(self) -> Option<ProxyMode> {
        match self {
            Self::Text | Self::Json => None,
            Self::Nft | Self::NftJson => Some(ProxyMode::Nftables),
            Self::Iptables => Some(ProxyMode::Iptables),
            Self::Ipvsadm => Some(ProxyMode::Ipvs),
        }
    }
}

/// Runs the command.
pub fn run(args: &PlanArgs) -> ExitCode {
    if args.output == PlanOutput::NftJson && cfg!(not(feature = "nft-json")) {
        eprintln!("error: built without the feature `nft-json`; -o nft prints the same for people");
        return ExitCode::from(super::USAGE);
    }
    let input = args.input.load(args.output.mode());
    let code = input.report();
    let plans = IpFamily::ALL.map(|family| input.planner.plan(family));
    match args.output {
        PlanOutput::Json => {
            let unproxied = unproxied::to_json(input.planner.state());
            println!("{:#}", json!({ "plans": plans, "not_proxied": unproxied }));
        }
        PlanOutput::Nft => plans.iter().for_each(|plan| print!("{}", nft(plan))),
        #[cfg(feature = "nft-json")]
        PlanOutput::NftJson => super::nft_json::print(&plans.each_ref().map(nftables)),
        // Refused above.
        #[cfg(not(feature = "nft-json"))]
        PlanOutput::NftJson => {}
        PlanOutput::Iptables => plans.iter().for_each(|plan| print!("{}", iptables(plan))),
        PlanOutput::Ipvsadm => match ipvsadm(&plans, &input.planner.config().proxy.ipvs) {
            Ok(text) => print!("{text}"),
            Err(error) => return super::fail(&error),
        },
        PlanOutput::Text => {
            print!("{}", plans.iter().map(to_text).collect::<String>());
            print!("{}", unproxied::to_text(input.planner.state()));
        }
    }
    code
}

/// The nf_tables ruleset of a plan, as text.
fn nft(plan: &Plan) -> String {
    backend_nftables::Listing(&nftables(plan)).to_string()
}

/// The nf_tables ruleset of a plan.
fn nftables(plan: &Plan) -> Ruleset<backend_nftables::Key, backend_nftables::Value> {
    let table = crate::backend::NFTABLES_TABLE;
    render(
        &mut backend_nftables::Renderer::new(table, plan.family),
        plan,
    )
}

/// The iptables ruleset of a plan.
fn iptables(plan: &Plan) -> String {
    let config = backend_iptables::Config::new(plan.family);
    let mut renderer = backend_iptables::Renderer::new(config);
    let ruleset = render(&mut renderer, plan);
    let program = backend_iptables::Program::of(&config, &ruleset);
    let mut listing = backend_iptables::Listing::new(&program, plan.family);
    for (name, port) in &plan.service_ports {
        listing.name(name, &renderer.service_port(&plan.node, name, port));
    }
    format!("# {}\n{listing}", plan.family)
}

/// The virtual servers of plans, as ipvsadm prints them.
fn ipvsadm(plans: &[Plan], config: &IpvsConfig) -> Result<String, backend_ipvs::UnknownScheduler> {
    let settings = crate::ipvs_proxy::settings(config)?;
    let render = |plan: &Plan| {
        let mut renderer = backend_ipvs::Renderer::new(settings.clone(), plan.family);
        render(&mut renderer, plan)
    };
    let rulesets: Vec<_> = plans
        .iter()
        .map(|plan| (plan.family, render(plan)))
        .collect();
    let rulesets: Vec<_> = rulesets
        .iter()
        .map(|(family, rules)| (*family, rules))
        .collect();
    Ok(backend_ipvs::ipvsadm(&rulesets))
}

/// A plan for people.
pub fn to_text(plan: &Plan) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = node(&mut text, plan);
    for (name, port) in &plan.service_ports {
        let _ = service_port(&mut text, &name.to_string(), name.protocol, port);
    }
    for (name, check) in &plan.health_checks {
        let (port, local) = (check.port, check.local_endpoints);
        let _ = writeln!(
            text,
            "{name}: health check on port {port}, {local} local endpoints"
        );
    }
    text.push('\n');
    text
}

fn node(text: &mut String, plan: &Plan) -> std::fmt::Result {
    let node = &plan.node;
    let zone = node.zone.as_deref().unwrap_or("none");
    writeln!(text, "{} on node {:?}, zone {zone}", plan.family, node.name)?;
    writeln!(text, "  addresses         {}", joined(&node.addresses))?;
    writeln!(
        text,
        "  node ports at     {}",
        joined(&node.node_ports.addresses)
    )?;
    writeln!(text, "  service ranges    {}", joined(&node.service_cidrs))?;
    let pods = match &node.local_detector {
        LocalDetector::None => "unknown".to_owned(),
        LocalDetector::Cidr(net) => format!("sources in {net}"),
        LocalDetector::Bridge(name) => format!("packets from interface {name}"),
        LocalDetector::InterfacePrefix(name) => format!("packets from interfaces {name}*"),
    };
    writeln!(text, "  pods              {pods}\n")
}

fn service_port(
    text: &mut String,
    name: &str,
    protocol: Protocol,
    plan: &ServicePortPlan,
) -> std::fmt::Result {
    writeln!(text, "{name} {protocol}")?;
    if let Some(affinity) = plan.affinity {
        writeln!(
            text,
            "  a client stays with its endpoint for {} s",
            affinity.timeout_seconds
        )?;
    }
    for frontend in &plan.frontends {
        frontend_text(text, protocol, frontend)?;
    }
    for (title, endpoints) in [("cluster", &plan.cluster), ("local", &plan.local)] {
        if !endpoints.is_empty() {
            let list: Vec<String> = endpoints.iter().map(Endpoint::to_string).collect();
            writeln!(text, "  {title:<8} {}", list.join(" "))?;
        }
    }
    Ok(())
}

fn frontend_text(text: &mut String, protocol: Protocol, frontend: &Frontend) -> std::fmt::Result {
    let at = match frontend.at {
        FrontendAddress::Ip(socket) => address_text(socket, protocol),
        FrontendAddress::NodePort(port) => format!("node port {port}/{}", protocol.lower()),
    };
    let kind = match frontend.kind {
        FrontendKind::ClusterIp => "ClusterIP",
        FrontendKind::LoadBalancerIp => "load balancer",
        FrontendKind::ExternalIp => "external IP",
        FrontendKind::NodePort => "",
    };
    let routes = &frontend.routes;
    let all = [
        ("pods", routes.pod),
        ("node", routes.node),
        ("others", routes.external),
    ];
    let mut told: Vec<String> = Vec::new();
    if all.iter().all(|(_, route)| *route == routes.pod) {
        told.push(format!("all: {}", route(&routes.pod)));
    } else {
        told.extend(all.iter().map(|(who, r)| format!("{who}: {}", route(r))));
    }
    if let SourceRanges::Only(ranges) = &frontend.sources {
        told.push(format!("only from {}", joined(ranges)));
    }
    if !frontend.shadowed.is_empty() {
        told.push(format!("but not at {}", joined(&frontend.shadowed)));
    }
    writeln!(text, "  {at:<28} {kind:<13} {}", told.join(", "))
}

fn route(route: &Route) -> String {
    match route {
        Route::Reject => "reject".into(),
        Route::Drop => "drop".into(),
        Route::Forward { to, masquerade } => {
            let to = match to {
                Scope::Cluster => "cluster",
                Scope::Local => "local",
            };
            match masquerade {
                Masquerade::Never => to.into(),
                Masquerade::Always => format!("{to} masqueraded"),
            }
        }
    }
}

fn joined<T: ToString>(list: &[T]) -> String {
    match list {
        [] => "none".into(),
        _ => list.iter().map(T::to_string).collect::<Vec<_>>().join(" "),
    }
}
