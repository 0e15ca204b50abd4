//! Connections that last.

use examples::sandbox::{Session, Transport};
use svc_core::object::EndpointSlice;

use crate::lab::{Lab, PATIENCE, UnderTest, at, ip, slice};

/// A connection goes on when its endpoint leaves the Service, and when the Service is gone and
/// nobody serves new connections to its address.
pub(crate) fn survive(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    lab.apply(WEB, &slices(&["1", "2"]));
    // The pods of the other endpoints run, too.
    lab.apply(WEB, &slices(&["3"]));
    lab.apply(WEB, &slices(&["1", "2"]));
    let mut sessions = open_sessions(&mut lab);
    ask_all(&mut sessions, "at first");
    lab.replace(WEB, &slices(&["3"]));
    ask_all(&mut sessions, "without its endpoint");
    for (from, to, endpoint) in [
        ("10.64.1.200", "10.96.0.10", "10.64.1.3"),
        ("fd10:64:0:1::200", "fd10:96::10", "fd10:64:0:1::3"),
    ] {
        let expect = format!("forward {}", at(endpoint, 8080));
        lab.check(from, at(to, 80), Transport::Tcp, &expect);
    }
    lab.replace("", &[]);
    let [unallocated, _] = under_test.unserved();
    ask_all(&mut sessions, "without its Service");
    for (from, to) in [
        ("10.64.1.200", "10.96.0.10"),
        ("fd10:64:0:1::200", "fd10:96::10"),
    ] {
        lab.check(from, at(to, 80), Transport::Tcp, unallocated);
    }
    ask_all(&mut sessions, "beside packets to nobody");
}

fn open_sessions(lab: &mut Lab) -> Vec<Session> {
    let mut sessions = Vec::new();
    for (from, to) in [
        ("10.64.1.200", at("10.96.0.10", 80)),
        ("198.18.0.10", at("10.96.0.10", 80)),
        ("203.0.113.7", at("198.18.0.10", 30_080)),
        ("fd10:64:0:1::200", at("fd10:96::10", 80)),
        ("2001:db8:a::10", at("fd10:96::10", 80)),
        ("2600:5200::7", at("2001:db8:a::10", 30_080)),
    ] {
        let namespace = lab.world.namespace_for(ip(from)).unwrap();
        let session = Session::open(namespace, Some(ip(from)), to, Transport::Tcp, PATIENCE);
        sessions.push(session.unwrap());
    }
    sessions
}

fn ask_all(sessions: &mut [Session], when: &str) {
    for session in sessions {
        let pod = session.pod().to_owned();
        for _ in 0..20 {
            let outcome = session.ask(PATIENCE).unwrap();
            assert_eq!(outcome.pod(), Some(pod.as_str()), "{when}: {outcome}");
        }
    }
}

/// Slices of both families with endpoints on the node.
pub(crate) fn slices(hosts: &[&str]) -> Vec<EndpointSlice> {
    let of = |prefix: &str| {
        let addresses: Vec<String> = hosts.iter().map(|host| format!("{prefix}{host}")).collect();
        let endpoints: Vec<_> = addresses.iter().map(|ip| (ip.as_str(), "n1")).collect();
        slice("web", &endpoints)
    };
    vec![of("10.64.1."), of("fd10:64:0:1::")]
}

/// A dual-stack Service.
pub(crate) const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  type: NodePort
  clusterIP: 10.96.0.10
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  sessionAffinity: None
  ports:
  - {name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}
  - {name: u, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}
"#;
