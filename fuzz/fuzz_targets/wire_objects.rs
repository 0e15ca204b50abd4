//! Any JSON is converted without a panic, and what comes out is planned without one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::config::{ModeChoice, read};
use svc_core::wire::{Conversion, Document, Object, Value};
use svc_core::{Event, IpFamily, NodeConfig, Planner, WatchEvent};

fuzz_target!(|bytes: &[u8]| {
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return;
    };
    let (proxy, _) = read(&value, ModeChoice::FromFile);
    let mut planner = Planner::new(NodeConfig::new("n1", proxy));
    planner.handle(Event::Service(WatchEvent::Init));
    planner.handle(Event::EndpointSlice(WatchEvent::Init));
    let mut conversion = Conversion::default();
    for object in Document::from_value(value).objects.into_iter().flatten() {
        let event = match object {
            Object::Service(service) => {
                let (service, _) = conversion.service(&service);
                service.map(|service| Event::Service(WatchEvent::InitApply(service)))
            }
            Object::EndpointSlice(slice) => {
                let (slice, _) = conversion.endpoint_slice(&slice);
                slice.map(|slice| Event::EndpointSlice(WatchEvent::InitApply(slice)))
            }
            Object::Node(node) => {
                let (node, _) = conversion.node(&node);
                node.map(|node| Event::Node(WatchEvent::Apply(node)))
            }
            _ => None,
        };
        if let Some(event) = event {
            planner.handle(event);
        }
    }
    planner.handle(Event::Service(WatchEvent::InitDone));
    planner.handle(Event::EndpointSlice(WatchEvent::InitDone));
    planner.delta();
    for family in IpFamily::ALL {
        assert_eq!(planner.plan(family).lint(), Vec::<String>::new());
    }
});
