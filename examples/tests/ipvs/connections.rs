//! Connections through IPVS.

use std::time::Duration;

use backend_ipvs::{Settings, StrictArp, setting};
use examples::sandbox::{Session, Transport};

use crate::lab::{PATIENCE, at, ip, slice};
use crate::objects::load_modules;
use crate::stage::Stage;

/// A stage with the settings that IPVS needs.
fn stage() -> Stage {
    load_modules();
    let mut stage = Stage::new(Settings::default());
    let kernel = &mut stage.families[0].kernel;
    let node = stage.world.sandbox().node();
    let wanted = setting::wanted(StrictArp::Off, "6.1");
    node.run(|| kernel.set(&wanted).unwrap()).unwrap();
    stage
}

/// A client stays with its endpoint at one address and port.
pub(crate) fn persistence() {
    let mut stage = stage();
    let sticky = WEB.replace("ports:", "sessionAffinity: ClientIP\n  ports:");
    let all = |prefix: &str| {
        let ips: Vec<String> = (1..4).map(|n| format!("{prefix}{n}")).collect();
        let ips: Vec<(&str, &str)> = ips.iter().map(|ip| (ip.as_str(), "n1")).collect();
        slice("web", &ips)
    };
    stage.apply(&sticky, &[all("10.64.1."), all("fd10:64:0:1::")]);
    for (to, clients) in [
        ("10.96.0.10", ["10.64.1.200", "10.64.1.201", "203.0.113.7"]),
        (
            "fd10:96::10",
            ["fd10:64:0:1::200", "fd10:64:0:1::201", "2600:5200::7"],
        ),
    ] {
        let mut chosen = Vec::new();
        for client in clients {
            let answers: Vec<String> = (0..6)
                .map(|_| {
                    let outcome = stage.attempt(client, at(to, 80), Transport::Tcp);
                    outcome
                        .pod()
                        .unwrap_or_else(|| panic!("{outcome}"))
                        .to_owned()
                })
                .collect();
            assert!(answers.iter().all(|pod| *pod == answers[0]), "{answers:?}");
            chosen.push(answers[0].clone());
        }
        // Round robin gives the three clients three endpoints.
        chosen.sort();
        chosen.dedup();
        assert_eq!(chosen.len(), 3, "{chosen:?}");
    }
}

/// A removed endpoint keeps its connection and gets no other; it goes with the connection.
pub(crate) fn draining() {
    let mut stage = stage();
    for (service_ip, client, [one, two]) in [
        ("10.96.0.10", "10.64.1.200", ["10.64.1.1", "10.64.1.2"]),
        (
            "fd10:96::10",
            "fd10:64:0:1::200",
            ["fd10:64:0:1::1", "fd10:64:0:1::2"],
        ),
    ] {
        stage.apply(WEB, &[slice("web", &[(one, "n1"), (two, "n1")])]);
        let to = at(service_ip, 80);
        let from = ip(client);
        // Until one has the first endpoint.
        let mut session = (0..2)
            .map(|_| {
                let namespace = stage.namespace(client);
                Session::open(namespace, Some(from), to, Transport::Tcp, PATIENCE).unwrap()
            })
            .find(|session| session.pod() == at(one, 8080).to_string())
            .unwrap();
        stage.apply(WEB, &[slice("web", &[(two, "n1")])]);
        let drained = format!("{} -m -w 0", at(one, 8080));
        let held = stage.command("ipvsadm -Sn");
        assert!(held.contains(&drained), "{held}");
        for _ in 0..6 {
            let outcome = stage.attempt(client, to, Transport::Tcp);
            assert!(
                outcome.pod().is_some_and(|pod| !pod.contains(one)),
                "{outcome}"
            );
        }
        let answer = session.ask(PATIENCE).unwrap();
        assert!(
            answer.pod().is_some_and(|pod| pod.contains(one)),
            "{answer}"
        );
        advance(&mut stage, 60);
        assert!(stage.command("ipvsadm -Sn").contains(&drained));
        // A verification leaves it alone, too.
        for family in &mut stage.families {
            family.reconciler.verify();
        }
        stage.sync();
        assert!(stage.command("ipvsadm -Sn").contains(&drained));
        assert!(session.ask(PATIENCE).unwrap().pod().is_some());
        // It comes back while it is drained.
        stage.apply(WEB, &[slice("web", &[(one, "n1"), (two, "n1")])]);
        let back = format!("{} -m -w 1", at(one, 8080));
        assert!(stage.command("ipvsadm -Sn").contains(&back));
        stage.apply(WEB, &[slice("web", &[(two, "n1")])]);
        assert!(session.ask(PATIENCE).unwrap().pod().is_some());
        // The bound.
        advance(&mut stage, 15 * 60);
        let held = stage.command("ipvsadm -Sn");
        assert!(!held.contains(&at(one, 8080).to_string()), "{held}");
    }
}

/// The connections of the last endpoint outlive it, too; new ones are refused. So it is under a
/// Local policy, where pods have destinations of their own.
pub(crate) fn draining_the_last() {
    let mut stage = stage();
    let local = WEB.replace(
        "  clusterIPs",
        "  type: LoadBalancer\n  externalTrafficPolicy: Local\n  clusterIPs",
    );
    let local = format!(
        "{}status: {{loadBalancer: {{ingress: [{{ip: 192.0.2.31, ipMode: VIP}}]}}}}\n",
        local.trim_start()
    );
    stage.apply(&local, &[slice("web", &[("10.64.1.1", "n1")])]);
    let to = at("192.0.2.31", 80);
    let mut sessions: Vec<Session> = ["10.64.1.200", "203.0.113.7"]
        .map(|client| {
            let namespace = stage.namespace(client);
            Session::open(namespace, Some(ip(client)), to, Transport::Tcp, PATIENCE).unwrap()
        })
        .into();
    for slices in [
        // Only a remote endpoint, then none.
        vec![slice("web", &[("10.64.2.1", "n2")])],
        Vec::new(),
    ] {
        stage.apply(&local, &slices);
        for session in &mut sessions {
            let answer = session.ask(PATIENCE).unwrap();
            assert_eq!(answer.pod(), Some("10.64.1.1:8080"), "{answer}");
        }
    }
    for client in ["10.64.1.200", "203.0.113.7"] {
        let outcome = stage.attempt(client, to, Transport::Tcp);
        assert!(outcome.pod().is_none(), "{outcome}");
    }
}

/// Lets time pass.
fn advance(stage: &mut Stage, seconds: u64) {
    stage.now += Duration::from_secs(seconds);
    let (families, now) = (&mut stage.families, stage.now);
    let node = stage.world.sandbox().node();
    let advance = || {
        for family in families {
            family.kernel.advance(now).unwrap();
        }
    };
    node.run(advance).unwrap();
}

const WEB: &str = r#"
apiVersion: v1
kind: Service
metadata: {name: web, namespace: demo}
spec:
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  clusterIP: 10.96.0.10
  ipFamilies: [IPv4, IPv6]
  ports: [{name: t, port: 80}]
"#;
