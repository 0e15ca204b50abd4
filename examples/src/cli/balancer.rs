//! The way from an outside load balancer to the nodes, as a part of `svcctl explain`.

use std::fmt::Write;

use serde_json::{Value, json};
use svc_core::load_balancer::{HealthCheck, NodeHealth, NodeTarget, Request, nodes};
use svc_core::{Explanation, Flow, IpFamily, Protocol};

use super::input::Input;

/// What a load balancer does before a node sees a packet for one port of a Service.
#[derive(Clone, Debug)]
pub(super) struct Balancer {
    request: Request,
    port: u16,
    protocol: Protocol,
    node_port: Option<u16>,
    nodes: Vec<NodeTarget>,
}

impl Balancer {
    /// That of the Service which answers a flow, if it is of type LoadBalancer.
    pub(super) fn of(input: &Input, flow: &Flow, explanation: &Explanation) -> Option<Self> {
        let answering = explanation.decision.frontend.as_ref()?;
        let state = input.planner.state();
        let service = state.service(&answering.name.service)?;
        let (request, _) = Request::of(service);
        let request = request?;
        let named = service.ports.iter().find(|port| {
            port.name == answering.name.port && port.protocol == answering.name.protocol
        })?;
        Some(Self {
            nodes: nodes(&request, state, IpFamily::of(flow.destination.ip())),
            port: named.port,
            protocol: named.protocol,
            node_port: named.node_port,
            request,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let (kind, port) = match self.request.health_check {
            HealthCheck::Node(port) => ("Node", port),
            HealthCheck::Endpoints(port) => ("Endpoints", port),
        };
        let nodes = self.nodes.iter().map(|target| {
            json!({
                "node": target.node,
                "address": target.address.map(|ip| ip.to_string()),
                "health": target.health,
                "takesTraffic": target.health.takes_traffic(),
            })
        });
        json!({
            "port": self.port,
            "protocol": self.protocol.to_string(),
            "nodePort": self.node_port,
            "healthCheck": {"kind": kind, "port": port, "path": "/healthz"},
            "nodes": nodes.collect::<Vec<_>>(),
        })
    }

    pub(super) fn to_text(&self) -> String {
        let way = match self.node_port {
            Some(port) => format!("node port {port}"),
            None => "the same address and port".to_owned(),
        };
        let mut text = format!("  balancer {}/{} to {way}\n", self.port, self.protocol);
        let port = match self.request.health_check {
            HealthCheck::Node(port) | HealthCheck::Endpoints(port) => port,
        };
        for target in &self.nodes {
            let address = target.address.map(|ip| format!(" {ip}"));
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "    {} {}{}: {}",
                match target.health.takes_traffic() {
                    true => "->",
                    false => "not",
                },
                target.node,
                address.unwrap_or_default(),
                words(target.health, port)
            );
        }
        text
    }
}

fn words(health: NodeHealth, port: u16) -> String {
    match health {
        NodeHealth::Healthy => format!("healthy, :{port}/healthz of the proxy says 200"),
        NodeHealth::HasEndpoints => format!("has ready endpoints, :{port} says 200"),
        NodeHealth::NoLocalEndpoints => format!("has no ready endpoint, :{port} says 503"),
        NodeHealth::Leaving => format!("is leaving, :{port}/healthz of the proxy says 503"),
    }
}
