//! The packet-flow cases that every backend is held to.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

use backend_iptables::{Config, Host, Program, capabilities};
use serde_json::Value as Json;
use svc_core::config::{ModeChoice, ProxyMode, read};
use svc_core::wire::{Conversion, Document, Object};
use svc_core::{
    ClusterState, Event, Flow, IpFamily, Masquerade, NodeConfig, Plan, Verdict, WatchEvent,
};

mod common;

const CASES: &str = include_str!("data/flows.json");

/// Number of cases with an answer for iptables, so that none gets lost.
const COUNT: usize = 163;

#[test]
fn every_case_has_the_answer_of_iptables() {
    let cases: Json = serde_json::from_str(CASES).unwrap();
    let mut count = 0;
    let mut wrong = Vec::new();
    for case in cases["cases"].as_array().unwrap() {
        let Some(expect) = case["expect"].get("iptables") else {
            continue;
        };
        count += 1;
        let (plan, flow) = plan_and_flow(&cases, case);
        let config = Config::new(plan.family);
        let program = Program::of(&config, &common::ruleset(&config, &plan));
        let got = program.evaluate(&Host::of(&plan), &flow);
        if got != verdict(expect) {
            wrong.push(format!("{}: {flow}: {got}, wanted {expect}", case["id"]));
        }
        assert_eq!(
            got,
            capabilities::route(&config, &plan, &flow),
            "{}",
            case["id"]
        );
    }
    assert_eq!(wrong, Vec::<String>::new());
    assert_eq!(count, COUNT);
}

fn plan_and_flow(cases: &Json, case: &Json) -> (Plan, Flow) {
    let mut objects: Vec<Json> = Vec::new();
    for object in case["objects"].as_array().unwrap() {
        match object.as_str() {
            Some(name) => objects.extend(cases["fixtures"][name].as_array().unwrap().clone()),
            None => objects.push(object.clone()),
        }
    }
    let config = match case["config"].as_str() {
        Some(name) => cases["configs"][name].clone(),
        None => case["config"].clone(),
    };
    let config: svc_core::wire::Value = serde_json::from_value(config).unwrap();
    let (proxy, _) = read(&config, ModeChoice::Fixed(ProxyMode::Iptables));
    let node = NodeConfig::new(case["node"].as_str().unwrap(), proxy);
    let source = case["from"].as_str().unwrap().parse().unwrap();
    let (to, protocol) = case["to"].as_str().unwrap().rsplit_once('/').unwrap();
    let flow = Flow::new(source, to.parse().unwrap(), protocol.parse().unwrap());
    let state = state(objects);
    let plan = Plan::compute(&state, &node, IpFamily::of(flow.destination.ip()));
    (plan, flow)
}

fn state(objects: Vec<Json>) -> ClusterState {
    let mut conversion = Conversion::default();
    let mut state = ClusterState::new();
    for object in objects {
        let value: svc_core::wire::Value = serde_json::from_value(object).unwrap();
        for object in Document::from_value(value).objects {
            let event = match object.unwrap() {
                Object::Service(wire) => {
                    let service = conversion.service(&wire).0.unwrap();
                    Event::Service(WatchEvent::Apply(service))
                }
                Object::EndpointSlice(wire) => {
                    let slice = conversion.endpoint_slice(&wire).0.unwrap();
                    Event::EndpointSlice(WatchEvent::Apply(slice))
                }
                Object::Node(wire) => {
                    Event::Node(WatchEvent::Apply(conversion.node(&wire).0.unwrap()))
                }
                Object::ServiceCidr(wire) => {
                    let cidr = conversion.service_cidr(&wire).0.unwrap();
                    Event::ServiceCidr(WatchEvent::Apply(cidr))
                }
                Object::Pod(_)
                | Object::Namespace(_)
                | Object::Endpoints(_)
                | Object::Workload(..)
                | Object::Unknown { .. } => panic!("no use for such an object"),
            };
            state.apply(event);
        }
    }
    state
}

fn verdict(expect: &Json) -> Verdict {
    match expect["verdict"].as_str().unwrap() {
        "reject" => Verdict::Reject,
        "drop" => Verdict::Drop,
        "pass" => Verdict::Pass,
        _ => {
            let target = |endpoint: &Json| svc_core::Target {
                endpoint: endpoint["address"].as_str().unwrap().parse().unwrap(),
                masquerade: match endpoint["masquerade"].as_bool().unwrap() {
                    true => Masquerade::Always,
                    false => Masquerade::Never,
                },
            };
            let endpoints = expect["endpoints"].as_array().unwrap().iter();
            let mut targets: Vec<_> = endpoints.map(target).collect();
            targets.sort();
            Verdict::Forward(targets)
        }
    }
}
