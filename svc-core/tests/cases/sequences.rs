//! Sequences of connections and changes, on a model of a kernel that does what the plan says:
//! it picks one of the plan's targets and keeps a client at it as long as the plan says.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde_json::Value as Json;
use svc_core::config::ProxyMode;
use svc_core::{FrontendAddress, Planner, ServicePortName, Verdict};

use super::{Cases, apply, family, flow, mode};

/// Who is kept at an endpoint: a client of a service port. IPVS keeps a client at each front end
/// apart (B-163).
type PinKey = (ServicePortName, Option<FrontendAddress>, IpAddr);

struct Model {
    planner: Planner,
    mode: ProxyMode,
    pins: BTreeMap<PinKey, (SocketAddr, u64)>,
    /// What each client of a named step reached.
    reached: BTreeMap<String, Vec<SocketAddr>>,
    /// A number that changes with every choice.
    turn: usize,
}

impl Model {
    /// Opens a connection at a time and says where it goes.
    fn connect(&mut self, from: IpAddr, to: &str, now: u64) -> SocketAddr {
        let flow = flow(&from.to_string(), to);
        let plan = self.planner.plan(family(&flow));
        let decision = plan.decide(&flow);
        let Verdict::Forward(targets) = decision.verdict else {
            panic!("{flow}: {}", decision.verdict);
        };
        let answering = decision.frontend.unwrap();
        self.turn += 7;
        let fresh = targets[self.turn % 13 % targets.len()].endpoint;
        let Some(affinity) = answering.plan.affinity else {
            return fresh;
        };
        let at = answering.frontend().unwrap().at;
        let apart = (self.mode == ProxyMode::Ipvs).then_some(at);
        let key = (answering.name.clone(), apart, from);
        let held = self.pins.get(&key).filter(|(endpoint, since)| {
            let young = now - since <= u64::from(affinity.timeout_seconds);
            young && targets.iter().any(|target| target.endpoint == *endpoint)
        });
        let endpoint = held.map_or(fresh, |(endpoint, _)| *endpoint);
        self.pins.insert(key, (endpoint, now));
        endpoint
    }

    fn step(&mut self, step: &Json) {
        let now = step["at"].as_u64().unwrap();
        if let Some(objects) = step["apply"].as_array() {
            apply(&mut self.planner, objects);
        }
        if let Some(name) = step["connect"].as_str() {
            let from: IpAddr = step["from"].as_str().unwrap().parse().unwrap();
            let clients = step["clients"].as_u64().unwrap();
            let clients = (0..clients).map(|k| client(from, u32::try_from(k).unwrap()));
            let to = step["to"].as_str().unwrap();
            let reached: Vec<_> = clients
                .map(|client| self.connect(client, to, now))
                .collect();
            self.expect(&step["expect"], &reached);
            self.reached.insert(name.to_owned(), reached);
        }
        if let Some(to) = step["realServers"]["to"].as_str() {
            self.real_servers(to, &step["realServers"]["weights"]);
        }
    }

    fn expect(&self, expect: &Json, reached: &[SocketAddr]) {
        let addresses = |list: &[SocketAddr]| list.iter().map(SocketAddr::ip).collect::<Vec<_>>();
        for (what, wanted) in expect.as_object().into_iter().flatten() {
            match (what.as_str(), wanted.as_str()) {
                ("oneOf", _) => {
                    let one_of = wanted.as_array().unwrap().iter();
                    let one_of: Vec<&str> = one_of.map(|w| w.as_str().unwrap()).collect();
                    assert!(
                        reached
                            .iter()
                            .all(|e| one_of.contains(&e.to_string().as_str()))
                    );
                }
                ("sameAs", Some(name)) => {
                    assert_eq!(addresses(&self.reached[name]), addresses(reached));
                }
                ("notAllSameAs", Some(name)) => {
                    assert_ne!(addresses(&self.reached[name]), addresses(reached));
                }
                (other, _) => panic!("no expectation {other}"),
            }
        }
    }

    /// Weight 1 is what the plan has; what it has no more drains in the backend.
    fn real_servers(&self, to: &str, weights: &Json) {
        let flow = flow("203.0.113.10", to);
        let Verdict::Forward(targets) = self.planner.plan(family(&flow)).route(&flow) else {
            panic!("{to} is not forwarded");
        };
        let planned: Vec<String> = targets.iter().map(|t| t.endpoint.to_string()).collect();
        let wanted = weights
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, weight)| **weight == 1);
        assert_eq!(
            planned,
            wanted.map(|(server, _)| server.clone()).collect::<Vec<_>>()
        );
    }
}

fn client(first: IpAddr, k: u32) -> IpAddr {
    match first {
        IpAddr::V4(ip) => IpAddr::V4((ip.to_bits() + k).into()),
        IpAddr::V6(ip) => IpAddr::V6((ip.to_bits() + u128::from(k)).into()),
    }
}

#[test]
fn every_sequence_passes() {
    let cases = Cases::read(include_str!("../data/sequences.json"));
    let sequences = cases.file["sequences"].as_array().unwrap();
    assert!(sequences.len() >= 10);
    for case in sequences {
        for backend in case["backends"].as_array().unwrap() {
            let mode = mode(backend.as_str().unwrap());
            let mut model = Model {
                planner: cases.planner(case, mode),
                mode,
                pins: BTreeMap::new(),
                reached: BTreeMap::new(),
                turn: 0,
            };
            apply(&mut model.planner, &cases.objects(case));
            println!("{} in {}", case["id"], mode.name());
            for step in case["steps"].as_array().unwrap() {
                model.step(step);
            }
        }
    }
}
