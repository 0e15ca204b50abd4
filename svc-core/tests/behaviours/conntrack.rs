//! Group 14: which entries of the connection-tracking table are stale.

use proptest::prelude::*;
use svc_core::IpFamily::V4;
use svc_core::conntrack::{
    ConntrackEntry, Direction, StaleFlows, StaleReason, may_make_stale, retired,
};
use svc_core::testing::{Aims, Source, bytes, histories};
use svc_core::{FrontendAddress, IpFamily, Plan, Protocol};

use crate::{change, cluster, plan};

const DNS: &str = "service dns type=LoadBalancer ip=10.96.0.10 port=53/udp@30053 vip=192.0.2.1 \
                   proxied=192.0.2.3 external=192.0.2.2\n";

/// `"CLIENT > DESTINATION < ENDPOINT"`, of UDP.
fn entry(text: &str) -> ConntrackEntry {
    let parts: Vec<&str> = text
        .split([' ', '<', '>'])
        .filter(|part| !part.is_empty())
        .collect();
    let (client, to, endpoint) = (parts[0], parts[1], parts[2]);
    let client = format!("{client}:40000").parse().unwrap();
    ConntrackEntry {
        protocol: Protocol::Udp,
        original: Direction {
            source: client,
            destination: to.parse().unwrap(),
        },
        reply: Direction {
            source: endpoint.parse().unwrap(),
            destination: client,
        },
    }
}

#[track_caller]
fn judge(text: &str, cases: &[(&str, Option<StaleReason>)]) {
    let stale = StaleFlows::of(&plan(text, V4));
    for (entry_text, reason) in cases {
        assert_eq!(stale.judge(&entry(entry_text)), *reason, "{entry_text}");
    }
}

fn dns(endpoints: &str) -> String {
    format!("{DNS} slice dns-1 dns port=53/udp {endpoints}")
}

#[test]
fn b178_a_pass_is_needed_when_udp_ports_lose_something_or_get_their_first_endpoint() {
    let any = |before: &str, after: &str| change(before, after).iter().any(may_make_stale);
    assert!(any(&dns("10.64.1.1 10.64.1.2"), &dns("10.64.1.1")));
    assert!(any(&dns(""), &dns("10.64.1.1")));
    assert!(any(&dns("10.64.1.1"), ""));
    // Unlike upstream, an address that a Service lost is noticed too.
    assert!(any(
        &dns("10.64.1.1"),
        &dns("10.64.1.1").replace("vip=192.0.2.1 ", "")
    ));
    let tcp = |text: String| text.replace("/udp", "/tcp");
    assert!(!any(&tcp(dns("10.64.1.1")), &tcp(dns("10.64.1.2"))));
    assert!(!any(
        &dns("10.64.1.1"),
        &dns("10.64.1.1").replace("type=", "affinity=60 type=")
    ));
}

#[test]
fn b179_a_pass_that_failed_is_made_up_for() {
    // The judgement knows no history: whatever happened before, this entry is stale.
    let stale = Some(StaleReason::NotServing);
    let cases = [("10.64.1.9 > 10.96.0.10:53 < 10.64.1.7:53", stale)];
    judge(&dns("10.64.1.1"), &cases);
    judge(&dns("10.64.1.1 10.64.1.2"), &cases);
}

#[test]
fn b181_only_udp_entries_are_touched() {
    let text = dns("10.64.1.1").replace("/udp", "/tcp");
    let mut gone = entry("10.64.1.9 > 10.96.0.10:53 < 10.64.1.7:53");
    assert_eq!(StaleFlows::of(&plan(&text, V4)).judge(&gone), None);
    let stale = StaleFlows::of(&plan(&dns("10.64.1.1"), V4));
    for protocol in [Protocol::Tcp, Protocol::Sctp] {
        gone.protocol = protocol;
        assert_eq!(stale.judge(&gone), None);
    }
}

#[test]
fn b182_without_serving_endpoint_dead_entries_go_all_the_same() {
    // Upstream leaves them, and a client sends to a dead address for hours.
    let text = dns("10.64.1.1!dead");
    judge(
        &text,
        &[
            (
                "10.64.1.9 > 10.96.0.10:53 < 10.64.1.1:53",
                Some(StaleReason::NotServing),
            ),
            // Never forwarded: a new entry would be no better.
            ("10.64.1.9 > 10.96.0.10:53 < 10.96.0.10:53", None),
        ],
    );
}

#[test]
fn b183_entries_to_endpoints_that_are_gone_are_stale_at_every_front_end() {
    let stale = Some(StaleReason::NotServing);
    judge(
        &dns("10.64.1.1"),
        &[
            ("10.64.1.9 > 10.96.0.10:53 < 10.64.1.7:53", stale),
            ("203.0.113.7 > 192.0.2.1:53 < 10.64.1.7:53", stale),
            ("203.0.113.7 > 192.0.2.2:53 < 10.64.1.7:53", stale),
            ("203.0.113.7 > 198.18.0.10:30053 < 10.64.1.7:53", stale),
            // Of ipMode Proxy: not ours (B-134).
            ("203.0.113.7 > 192.0.2.3:53 < 10.64.1.7:53", None),
            ("10.64.1.9 > 10.96.0.10:53 < 10.64.1.1:53", None),
            ("203.0.113.7 > 198.18.0.10:30053 < 10.64.1.1:53", None),
        ],
    );
}

#[test]
fn b184_every_serving_endpoint_protects_its_entries() {
    // Terminating, on another node, in another zone, against the policy: established flows stay.
    let text =
        dns("10.64.1.1@n1+za 10.64.1.2@n1!terminating+za 10.64.2.1@n2+zb 10.64.2.2@n2!serving+zb")
            .replace("type=", "itp=Local etp=Local type=");
    let served = ["10.64.1.1", "10.64.1.2", "10.64.2.1", "10.64.2.2"];
    let entries: Vec<String> = served
        .iter()
        .map(|ip| format!("10.64.1.9 > 10.96.0.10:53 < {ip}:53"))
        .collect();
    let cases: Vec<(&str, _)> = entries.iter().map(|entry| (entry.as_str(), None)).collect();
    judge(&text, &cases);
}

#[test]
fn b185_the_port_of_the_endpoint_matters() {
    let stale = Some(StaleReason::NotServing);
    judge(
        &dns("10.64.1.1"),
        &[("10.64.1.9 > 10.96.0.10:53 < 10.64.1.1:5353", stale)],
    );
}

#[test]
fn b186_entries_from_before_there_were_endpoints_are_stale() {
    let stale = Some(StaleReason::NeverForwarded);
    judge(
        &dns("10.64.1.1"),
        &[("10.64.1.9 > 10.96.0.10:53 < 10.96.0.10:53", stale)],
    );
}

#[test]
fn b187_a_node_port_counts_at_node_ports_addresses_only() {
    // A flow to somebody else's port of that number only passes by.
    judge(
        &dns("10.64.1.1"),
        &[
            ("10.64.1.9 > 203.0.113.50:30053 < 203.0.113.50:30053", None),
            ("10.64.1.9 > 198.18.0.12:30053 < 198.18.0.12:30053", None),
            // Not the primary address: this mode serves no node ports there.
            ("203.0.113.7 > 198.18.1.10:30053 < 10.64.1.7:53", None),
        ],
    );
}

#[test]
fn b188_a_cluster_ip_port_is_not_held_against_a_node_port_of_its_number() {
    let text = format!(
        "{}\n service web ip=10.96.0.2 port=30053/udp\n slice web-1 web port=9000/udp 10.64.1.5",
        dns("10.64.1.1")
    );
    judge(
        &text,
        &[("10.64.1.9 > 10.96.0.2:30053 < 10.64.1.5:9000", None)],
    );
}

#[test]
fn b189_other_ports_of_a_service_address_are_left_alone() {
    judge(
        &dns("10.64.1.1"),
        &[
            ("10.64.1.9 > 10.96.0.10:54 < 10.96.0.10:54", None),
            ("10.64.1.9 > 10.96.0.10:54 < 10.64.1.7:54", None),
        ],
    );
}

#[test]
fn entries_of_a_service_that_is_gone_are_stale_once_its_front_ends_are_named() {
    let before = dns("10.64.1.1");
    let mut stale = StaleFlows::of(&plan("", V4));
    let entries = [
        "10.64.1.9 > 10.96.0.10:53 < 10.64.1.1:53",
        "203.0.113.7 > 192.0.2.1:53 < 10.64.1.1:53",
        "203.0.113.7 > 198.18.0.10:30053 < 10.64.1.1:53",
    ];
    // They could be another proxy's.
    assert!(entries.iter().all(|e| stale.judge(&entry(e)).is_none()));
    let deltas = change(&before, "");
    stale.retire(deltas.iter().flat_map(retired));
    for text in entries {
        assert_eq!(
            stale.judge(&entry(text)),
            Some(StaleReason::FrontendGone),
            "{text}"
        );
    }
    // Not forwarded, so not of the Service that is gone.
    assert_eq!(
        stale.judge(&entry("10.64.1.9 > 10.96.0.10:53 < 10.96.0.10:53")),
        None
    );
    assert_eq!(
        stale.judge(&entry("10.64.1.9 > 203.0.113.5:30053 < 10.64.1.1:53")),
        None
    );
}

#[test]
fn only_front_ends_that_go_are_retired() {
    let retired = |before: &str, after: &str| -> Vec<String> {
        let deltas = change(before, after);
        let found = deltas.iter().flat_map(retired);
        found.map(|at| format!("{at:?}")).collect()
    };
    let two = "service dns type=LoadBalancer ip=10.96.0.10 port=53/udp vip=192.0.2.1
               slice dns-1 dns port=53/udp 10.64.1.1";
    // Other endpoints.
    assert!(retired(two, &two.replace("10.64.1.1", "10.64.1.2")).is_empty());
    let left = retired(two, &two.replace("vip=192.0.2.1", ""));
    assert_eq!(left, ["Ip(192.0.2.1:53)"]);
    // Another Service takes over the address.
    assert!(retired(two, &two.replace("dns ", "names ")).is_empty());
    assert_eq!(retired(two, "").len(), 2);
    assert!(retired(&two.replace("/udp", ""), "").is_empty());
}

#[test]
fn b190_a_large_table_is_judged_in_one_pass() {
    let services: Vec<String> = (0..200)
        .map(|n| {
            format!(
                "service s{n} ip=10.96.1.{n} port=53/udp
                 slice s{n}-1 s{n} port=53/udp 10.64.1.{n}"
            )
        })
        .collect();
    let stale = StaleFlows::of(&plan(&services.join("\n"), V4));
    let good = entry("10.64.1.9 > 10.96.1.7:53 < 10.64.1.7:53");
    let bad = entry("10.64.1.9 > 10.96.1.7:53 < 10.64.1.8:53");
    let table = (0..100_000).map(|n| if n % 100 == 0 { bad } else { good });
    let found = stale.stale(table);
    assert_eq!(found.len(), 1_000);
    assert!(found.iter().all(|(entry, _)| *entry == bad));
}

#[test]
fn an_entry_of_the_other_family_is_left_alone() {
    let gone = entry("10.64.1.9 > 10.96.0.10:53 < 10.64.1.7:53");
    let stale = StaleFlows::of(&cluster(&dns("10.64.1.1")).plan(IpFamily::V6));
    assert_eq!(stale.judge(&gone), None);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What stays in the table maps no front end to anything that does not serve it, and no entry
    /// that a plan has just made is stale.
    #[test]
    fn no_entry_maps_a_front_end_to_what_does_not_serve_it(
        history in histories(), aim in bytes(2),
    ) {
        let state = history.state();
        let mut aim = Source::new(&aim);
        for family in IpFamily::ALL {
            let plan = Plan::compute(&state, &history.last_config(), family);
            let stale = StaleFlows::of(&plan);
            let aims = Aims::of(&plan);
            for _ in 0..30 {
                let (flow, other) = (aims.flow(&mut aim), aims.flow(&mut aim));
                let decision = plan.decide(&flow);
                let entry = |endpoint| ConntrackEntry {
                    protocol: Protocol::Udp,
                    original: Direction { source: (flow.source, 4000).into(), destination: flow.destination },
                    reply: Direction { source: endpoint, destination: (flow.source, 4000).into() },
                };
                if flow.protocol != Protocol::Udp {
                    continue;
                }
                if let svc_core::Verdict::Forward(targets) = &decision.verdict {
                    for target in targets {
                        prop_assert_eq!(stale.judge(&entry(target.endpoint)), None);
                    }
                }
                let entry = entry(other.destination);
                let forwarded = entry.reply.source != entry.original.destination;
                let here = |at| match at {
                    FrontendAddress::Ip(_) => true,
                    // Elsewhere on the node a plan may refuse, but it forwards nothing.
                    FrontendAddress::NodePort(_) => {
                        plan.node.node_ports.serve(flow.destination.ip())
                    }
                };
                if let Some(answering) = &decision.frontend
                    && answering.frontend().is_some_and(|frontend| here(frontend.at))
                    && forwarded
                    && stale.judge(&entry).is_none()
                {
                    let serving = answering.plan.serving.iter();
                    prop_assert!(serving.map(|e| e.socket()).any(|e| e == entry.reply.source));
                }
            }
        }
    }
}
