//! The responder as a function of octets: the cases on the wire, and packets that are none.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[path = "dns/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use examples::dns::answer::{cli_answer, zone_of};
use examples::dns::{Transport, respond};
use examples::manifest::{Source, read_with_stdin};
use serde_json::{Value, json};
use svc_core::dns::{PodNames, RecordType, Zone, ZoneOptions};
use wire::{Message, query};

const CASES: &str = include_str!("../../svc-core/tests/data/dns-cases.json");

fn fixture() -> (Value, Zone) {
    let cases: Value = serde_json::from_str(CASES).unwrap();
    let fixture = &cases["fixture"];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": fixture["objects"]});
    let manifests = read_with_stdin(&[Source::Stdin], &mut list.to_string().as_bytes());
    assert_eq!(manifests.problems, []);
    let texts = |key: &str| -> Vec<String> {
        let items = fixture[key].as_array().into_iter().flatten();
        items.map(|v| v.as_str().unwrap().to_owned()).collect()
    };
    let options = ZoneOptions {
        reverse: texts("reverse_cidrs")
            .iter()
            .map(|c| c.parse().unwrap())
            .collect(),
        server_ips: texts("server_ips")
            .iter()
            .map(|ip| ip.parse().unwrap())
            .collect(),
        pods: PodNames::Verified,
        ..ZoneOptions::new("cluster.local".parse().unwrap())
    };
    let zone = zone_of(&manifests, options).unwrap();
    (cases, zone)
}

fn key(name: &str, ttl: u64, kind: &str, data: &str) -> String {
    let fields: Vec<&str> = data.split(' ').collect();
    let data = match (kind, fields.as_slice()) {
        ("SRV", [_, _, port, target]) => format!("{port} {target}"),
        ("SOA", [mname, rname, _, rest @ ..]) => format!("{mname} {rname} {}", rest.join(" ")),
        ("TXT", [text]) => format!("\"{}\"", text.trim_matches('"')),
        _ => data.to_owned(),
    };
    format!("{name} {ttl} {kind} {data}").to_lowercase()
}

fn expected(records: &Value) -> BTreeSet<String> {
    let text = |r: &Value, field: &str| r[field].as_str().unwrap().to_owned();
    let one = |r: &Value| {
        let ttl = r["ttl"].as_u64().unwrap();
        key(&text(r, "name"), ttl, &text(r, "type"), &text(r, "data"))
    };
    records.as_array().into_iter().flatten().map(one).collect()
}

fn ask(zone: &Zone, packet: &[u8], transport: Transport) -> Message {
    let response = respond(zone, packet, transport).unwrap();
    Message::read(&response).unwrap()
}

#[test]
fn the_cases_hold_on_the_wire() {
    let (cases, zone) = fixture();
    let mut checked = 0;
    for case in cases["cases"].as_array().unwrap() {
        let skipped = ["options", "qclass", "transport"];
        let kind: RecordType = case["qtype"].as_str().unwrap().parse().unwrap();
        let expect = &case["expect"];
        if skipped.iter().any(|field| case.get(field).is_some())
            || expect["answers_any"] == json!(true)
            || case["qname"].as_str().unwrap().contains('\\')
            || matches!(kind, RecordType::Other(251 | 252))
        {
            continue;
        }
        checked += 1;
        let name = case["qname"].as_str().unwrap();
        let message = ask(
            &zone,
            &query(7, name, kind.number(), Some(1232)),
            Transport::Udp,
        );
        let got: BTreeSet<String> = message.sections[0]
            .iter()
            .map(|(name, ttl, kind, data)| key(name, u64::from(*ttl), kind, data))
            .collect();
        assert_eq!(got, expected(&expect["answers"]), "{case}");
        assert_eq!(
            message.sections[1].len(),
            usize::from(expect["authority_soa"] == json!(true))
        );
        let rcodes = [
            "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED",
        ];
        assert_eq!(
            json!(rcodes[usize::from(message.rcode)]),
            expect["rcode"],
            "{case}"
        );
        assert_eq!(message.opt, Some(1232));
        // The command says the same as the wire.
        let said = cli_answer(&zone, name, kind).unwrap();
        assert_eq!(said["rcode"], expect["rcode"]);
        assert_eq!(expected(&said["answers"]), got);
    }
    assert!(checked > 190, "only {checked}");
}

#[test]
fn rfc1035_headers_are_refused_as_they_deserve() {
    let (_, zone) = fixture();
    let good = query(0x1234, "web.shop.svc.cluster.local", 1, None);
    let rcode = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = good.clone();
        change(&mut packet);
        let response = respond(&zone, &packet, Transport::Udp)?;
        let message = Message::read(&response).unwrap();
        assert_eq!(message.id, 0x1234);
        Some(message.rcode)
    };
    assert_eq!(rcode(&|_| ()), Some(0));
    assert_eq!(rcode(&|p| p[2] |= 0x80), None, "a response");
    assert_eq!(rcode(&|p| p.truncate(11)), None, "no header");
    assert_eq!(rcode(&|p| p[2] |= 4 << 3), Some(4), "opcode NOTIFY");
    assert_eq!(rcode(&|p| p[5] = 0), Some(1), "no question");
    assert_eq!(rcode(&|p| p[5] = 2), Some(1), "two questions");
    assert_eq!(rcode(&|p| p[4] = 0xff), Some(1), "65,281 questions");
    let many = |p: &mut Vec<u8>| p[6..12].fill(0xff);
    assert_eq!(rcode(&many), Some(1), "196,605 records that are not there");
    assert_eq!(
        rcode(&|p| p.resize(65_535, 0)),
        Some(0),
        "octets behind the end"
    );
    assert_eq!(rcode(&|p| p.truncate(20)), Some(1), "cut question");
    assert_eq!(rcode(&|p| p[11] = 1), Some(1), "a record that is not there");
    assert_eq!(
        rcode(&|p| p[12] = 0xc0),
        Some(1),
        "a pointer in the question"
    );
    let end = good.len();
    assert_eq!(rcode(&|p| p[end - 1] = 3), Some(5), "class CH");
    assert_eq!(rcode(&|p| p[end - 3] = 252), Some(5), "AXFR");
}

#[test]
fn rfc6891_versions_and_copies_of_opt() {
    let (_, zone) = fixture();
    let good = query(1, "web.shop.svc.cluster.local", 1, Some(4096));
    assert_eq!(ask(&zone, &good, Transport::Udp).opt, Some(1232));
    let mut version = good.clone();
    let at = version.len() - 5;
    version[at] = 1;
    assert_eq!(ask(&zone, &version, Transport::Udp).rcode, 16);
    let mut twice = good.clone();
    let opt = good[good.len() - 11..].to_vec();
    twice.extend(opt);
    twice[11] = 2;
    assert_eq!(ask(&zone, &twice, Transport::Udp).rcode, 1);
}

#[test]
fn rfc1035_long_answers_are_cut_over_udp_alone() {
    let (_, zone) = fixture();
    let name = "big.data.svc.cluster.local";
    for (edns, kind) in [(None, 1), (Some(100), 1), (Some(600), 33), (Some(1232), 33)] {
        let packet = query(9, name, kind, edns);
        let response = respond(&zone, &packet, Transport::Udp).unwrap();
        assert!(response.len() <= usize::from(edns.unwrap_or(512).max(512)));
        let message = Message::read(&response).unwrap();
        assert_ne!(message.flags & 0x0200, 0, "TC");
        let whole = ask(&zone, &packet, Transport::Tcp);
        assert_eq!(whole.sections[0].len(), 60);
        assert_eq!(whole.flags & 0x0200, 0);
    }
}

#[test]
fn addresses_rotate_with_the_identifier() {
    let (_, zone) = fixture();
    let first = |id| {
        let packet = query(id, "db.data.svc.cluster.local", 1, None);
        ask(&zone, &packet, Transport::Udp).sections[0][0].3.clone()
    };
    let firsts: BTreeSet<String> = (0..4).map(first).collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn no_packet_breaks_the_responder() {
    let (_, zone) = fixture();
    let names = [
        "_pg._tcp.db.data.svc.cluster.local",
        "ext-chain.legacy.svc.cluster.local",
    ];
    let mut answered = 0;
    for name in names {
        let good = query(1, name, 33, Some(1232));
        for at in 0..good.len() {
            let cut = respond(&zone, &good[..at], Transport::Udp);
            assert_eq!(cut.is_none(), at < 12);
            for value in [0, 1, 0x3f, 0x40, 0x7f, 0x80, 0xc0, 0xff] {
                let mut packet = good.clone();
                packet[at] = value;
                for transport in [Transport::Udp, Transport::Tcp] {
                    if let Some(response) = respond(&zone, &packet, transport) {
                        answered += 1;
                        // Names may hold any octets, so only the form is read.
                        Message::read(&response).unwrap();
                    }
                }
            }
        }
    }
    assert!(answered > 1000);
}
