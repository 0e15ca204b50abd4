//! Any packet gets an answer that a strict reader understands, within its limit, or none.
#![no_main]

// The pure part of the example server, which is too heavy to be a dependency.
#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../examples/src/dns"]
mod dns {
    pub mod message;
    pub mod respond;
    mod writer;
}
#[allow(dead_code)]
#[path = "../../examples/tests/dns/wire.rs"]
mod wire;

use std::sync::LazyLock;

use dns::message::Packet;
use dns::respond::{Order, Outcome, Outside, Policy, Transport, limit, respond_into};
use libfuzzer_sys::fuzz_target;
use svc_core::dns::{PodNames, Zone, ZoneOptions};
use svc_core::testing::Scenario;

static ZONE: LazyLock<Zone> = LazyLock::new(zone);

fuzz_target!(|bytes: &[u8]| {
    let Some((choice, packet)) = bytes.split_first() else {
        return;
    };
    let transport = [Transport::Udp, Transport::Tcp][usize::from(choice & 1)];
    let policy = Policy {
        max_udp: [1232, 512, 0, 65535][usize::from(choice >> 1 & 3)],
        order: [Order::Rotated, Order::Fixed][usize::from(choice >> 3 & 1)],
        outside: [Outside::Refuse, Outside::Forward][usize::from(choice >> 4 & 1)],
    };
    let mut out = Vec::new();
    match respond_into(&ZONE, packet, transport, &policy, &mut out) {
        Outcome::Silence | Outcome::Forward => {}
        Outcome::Answer(_) | Outcome::Continue(_) => {
            let answer = wire::Message::read(&out).expect("a good message");
            assert_eq!(answer.id.to_be_bytes(), packet[..2]);
            if let Packet::Query(query) = Packet::read(packet) {
                assert!(out.len() <= limit(&query, transport, &policy), "{answer:?}");
                assert_eq!(answer.question, query.question);
            }
        }
    }
});

fn zone() -> Zone {
    let scenario: Scenario = include_str!("dns_messages.txt")
        .parse()
        .expect("a scenario");
    let options = ZoneOptions {
        reverse: vec!["10.0.0.0/8".parse().expect("a prefix")],
        pods: PodNames::Insecure,
        port_alias: true,
        ..ZoneOptions::new("k".parse().expect("a name"))
    };
    let mut zone = Zone::new(options).expect("good options");
    zone.rebuild(&scenario.state());
    zone
}
