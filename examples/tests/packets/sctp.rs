//! SCTP associations; for kernels that have them.

use std::collections::BTreeSet;
use std::time::Duration;

use examples::sandbox::{Session, Transport, probe};
use svc_core::object::EndpointSlice;

use crate::lab::{Lab, PATIENCE, UnderTest, at, ip, slice};

struct Family {
    pod: &'static str,
    node: &'static str,
    client: &'static str,
    cluster_ip: &'static str,
    endpoints: [&'static str; 2],
}

const FAMILIES: [Family; 2] = [
    Family {
        pod: "10.64.1.200",
        node: "198.18.0.10",
        client: "203.0.113.7",
        cluster_ip: "10.96.0.10",
        endpoints: ["10.64.1.1", "10.64.2.1"],
    },
    Family {
        pod: "fd10:64:0:1::200",
        node: "2001:db8:a::10",
        client: "2600:5200::7",
        cluster_ip: "fd10:96::10",
        endpoints: ["fd10:64:0:1::1", "fd10:64:0:2::1"],
    },
];

/// ClusterIP and node port from pods, the node and outside, an endpoint that reaches itself, and a
/// Service without endpoints.
pub(crate) fn associations(under_test: &UnderTest) {
    assert!(Transport::Sctp.is_available(), "this kernel has no SCTP");
    let mut lab = Lab::new(under_test);
    lab.apply(WEB, &slices(2));
    for family in &FAMILIES {
        let cluster_ip = at(family.cluster_ip, 60);
        let node_port = at(family.node, 30_060);
        let mut answered = BTreeSet::new();
        for (source, to, keeps_address) in [
            (family.pod, cluster_ip, true),
            (family.node, cluster_ip, false),
            (family.client, cluster_ip, false),
            (family.pod, node_port, false),
            (family.client, node_port, false),
        ] {
            for _ in 0..ATTEMPTS {
                let outcome = lab.attempt(ip(source), to, Transport::Sctp);
                let seen = outcome.seen_source().map(|at| at.ip() == ip(source));
                assert_eq!(seen, Some(keeps_address), "{source} -> {to}: {outcome}");
                answered.extend(outcome.pod().map(str::to_owned));
            }
        }
        let all = family
            .endpoints
            .map(|endpoint| at(endpoint, 6060).to_string());
        assert_eq!(answered, BTreeSet::from(all));
        lasts(&mut lab, family);
    }
    lab.apply(WEB, &slices(1));
    for family in &FAMILIES {
        let [first, _] = family.endpoints;
        let to = at(family.cluster_ip, 60);
        let outcome = lab.attempt(ip(first), to, Transport::Sctp);
        let endpoint = at(first, 6060).to_string();
        assert_eq!(outcome.pod(), Some(&*endpoint), "{outcome}");
        assert_ne!(outcome.seen_source().unwrap().ip(), ip(first), "{outcome}");
    }
    lab.apply(WEB, &slices(0));
    for family in &FAMILIES {
        let frontends = [at(family.cluster_ip, 60), at(family.node, 30_060)];
        for to in frontends {
            for source in [family.node, family.client] {
                let namespace = lab.world.namespace_for(ip(source)).unwrap();
                let from = Some(ip(source));
                let seen = probe(namespace, from, to, Transport::Sctp, NOTHING).unwrap();
                // SCTP sockets learn of ICMP errors by chance only: the refusal may not show.
                assert!(seen.pod().is_none(), "{source} -> {to}: {seen}");
            }
        }
    }
}

/// An association carries more than one message.
fn lasts(lab: &mut Lab, family: &Family) {
    let namespace = lab.world.namespace_for(ip(family.client)).unwrap();
    let from = Some(ip(family.client));
    let to = at(family.node, 30_060);
    let mut session = Session::open(namespace, from, to, Transport::Sctp, PATIENCE).unwrap();
    for _ in 0..3 {
        let answer = session.ask(PATIENCE).unwrap();
        assert!(answer.pod().is_some(), "{answer}");
    }
}

fn slices(endpoints: usize) -> Vec<EndpointSlice> {
    let of = |family: &Family| {
        let [first, second] = family.endpoints;
        slice("web", &[(first, "n1"), (second, "n2")][..endpoints])
    };
    FAMILIES.iter().map(of).collect()
}

/// From each source to each front end: five of them miss one of two endpoints by chance once in
/// five hundred million times.
const ATTEMPTS: u32 = 6;

/// How long nothing may come of an attempt.
const NOTHING: Duration = Duration::from_millis(500);

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
  - {name: s, protocol: SCTP, port: 60, targetPort: 6060, nodePort: 30060}
"#;
