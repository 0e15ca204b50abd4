//! Recorded cases: single packets (`data/flows.json`) and sequences of connections and changes
//! (`data/sequences.json`), by way of wire objects, conversion, planner and plan.
#![allow(clippy::panic, clippy::unwrap_used)]

mod flows;
mod sequences;

use serde_json::Value as Json;
use svc_core::config::{ModeChoice, ProxyMode, read};
use svc_core::testing::parse_flow;
use svc_core::wire::{Conversion, Document, Object, Value};
use svc_core::{Event, Flow, IpFamily, NodeConfig, Planner, WatchEvent};

/// A file of cases: shared objects and configurations by name, and the cases.
struct Cases {
    file: Json,
}

impl Cases {
    fn read(text: &str) -> Self {
        Self {
            file: serde_json::from_str(text).unwrap(),
        }
    }

    /// The objects that a case names or holds itself.
    fn objects(&self, case: &Json) -> Vec<Json> {
        let mut objects = Vec::new();
        for entry in case["objects"].as_array().unwrap() {
            match entry.as_str() {
                Some(name) => {
                    objects.extend(self.file["fixtures"][name].as_array().unwrap().clone());
                }
                None => objects.push(entry.clone()),
            }
        }
        objects
    }

    /// A planner for the node and configuration of a case, without objects.
    fn planner(&self, case: &Json, mode: ProxyMode) -> Planner {
        let config = match case["config"].as_str() {
            Some(name) => &self.file["configs"][name],
            None => &case["config"],
        };
        let (config, remarks) = read(&value(config), ModeChoice::Fixed(mode));
        assert_eq!(remarks, [], "remarks about the configuration");
        let mut planner = Planner::new(NodeConfig::new(case["node"].as_str().unwrap(), config));
        for event in [WatchEvent::Init, WatchEvent::InitDone] {
            planner.handle(Event::Service(event));
        }
        for event in [WatchEvent::Init, WatchEvent::InitDone] {
            planner.handle(Event::EndpointSlice(event));
        }
        planner
    }
}

fn value(json: &Json) -> Value {
    serde_json::from_value(json.clone()).unwrap()
}

/// Creates or replaces objects.
fn apply(planner: &mut Planner, objects: &[Json]) {
    let mut conversion = Conversion::default();
    for object in objects {
        for object in Document::from_value(value(object)).objects {
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
                other @ (Object::Pod(_)
                | Object::Namespace(_)
                | Object::Endpoints(_)
                | Object::Workload(..)
                | Object::Unknown { .. }) => panic!("no case has {other:?}"),
            };
            planner.handle(event);
        }
    }
    planner.delta();
}

fn flow(from: &str, to: &str) -> Flow {
    parse_flow(&format!("{from} -> {to}")).unwrap()
}

fn family(flow: &Flow) -> IpFamily {
    IpFamily::of(flow.source)
}

fn mode(name: &str) -> ProxyMode {
    ProxyMode::ALL
        .into_iter()
        .find(|mode| mode.name() == name)
        .unwrap()
}
