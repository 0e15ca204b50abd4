//! ClientIP affinity.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::thread;
use std::time::{Duration, Instant};

use examples::sandbox::Transport;
use svc_core::IpFamily;

use crate::lab::{Endpoint, Lab, TRANSPORTS, UnderTest, at, port, slice};

/// So many that chance does not send all of them to the same of three endpoints twice: 3^-40.
const CLIENTS: u8 = 40;

/// A client reaches the same endpoint through every front end, and another for good when that
/// endpoint goes.
pub(crate) fn pins(under_test: &UnderTest) {
    for family in IpFamily::ALL {
        for transport in TRANSPORTS {
            one_port(&mut Lab::new(under_test), family, transport);
        }
    }
}

fn one_port(lab: &mut Lab, family: IpFamily, transport: Transport) {
    let clients = add_clients(lab, family);
    let frontends = frontends(family, transport);
    let ask = |lab: &mut Lab, to: SocketAddr| -> Vec<Endpoint> {
        clients
            .iter()
            .map(|c| lab.reach(*c, to, transport))
            .collect()
    };
    let all = endpoints(family);
    lab.apply(&sticky(10_800), &[slice("sticky", &all)]);
    let first = ask(lab, frontends[0]);
    assert!(distinct(&first) > 1, "{first:?}");
    for _ in 0..3 {
        for to in frontends {
            assert_eq!(ask(lab, to), first, "through {to}");
        }
    }
    // Another Service comes and goes meanwhile: pins outlive a sync that does not concern them.
    let other = sticky(10_800)
        .replace("name: sticky", "name: other")
        .replace(".60\"", ".61\"")
        .replace("::60\"", "::61\"")
        .replace("300", "301")
        .replace("192.0.2.60", "192.0.2.61");
    lab.apply(
        &format!("{}---{other}", sticky(10_800)),
        &[slice("sticky", &all)],
    );
    assert_eq!(ask(lab, frontends[1]), first, "beside another Service");

    let gone = first[0];
    let left: Vec<_> = all
        .iter()
        .copied()
        .filter(|(ip, _)| at(ip, gone.port()) != gone)
        .collect();
    lab.change(slice("sticky", &left));
    lab.forget_connections();
    let second = ask(lab, frontends[0]);
    for (before, now) in first.iter().zip(&second) {
        assert_ne!(*now, gone, "it is gone");
        assert!(
            before == now || *before == gone,
            "{before} was left for {now}"
        );
    }
    lab.change(slice("sticky", &all));
    for to in frontends {
        assert_eq!(ask(lab, to), second, "after {gone} came back, through {to}");
    }
    lab.apply(
        &sticky(10_800).replace("ClientIP", "None"),
        &[slice("sticky", &all)],
    );
    assert_ne!(ask(lab, frontends[0]), second, "without affinity");
}

/// Pins end a while after the latest connection, and not before.
pub(crate) fn timeout(under_test: &UnderTest) {
    for family in IpFamily::ALL {
        let mut lab = Lab::new(under_test);
        let clients = add_clients(&mut lab, family);
        lab.apply(&sticky(TIMEOUT), &[slice("sticky", &endpoints(family))]);
        // A machine so busy that a client comes too late shows nothing; a few times it may be.
        let shown = (0..5).any(|_| timeout_shown(&mut lab, &clients, family));
        assert!(shown, "clients were kept waiting too long, five times");
    }
}

/// Seconds.
const TIMEOUT: u32 = 2;

fn timeout_shown(lab: &mut Lab, clients: &[IpAddr], family: IpFamily) -> bool {
    let transport = Transport::Tcp;
    let [cluster_ip, virtual_ip, _] = frontends(family, transport);
    let (busy, idle) = clients.split_at(4);
    let pinned: Vec<Endpoint> = busy
        .iter()
        .map(|c| lab.reach(*c, cluster_ip, transport))
        .collect();
    let before: Vec<Endpoint> = idle
        .iter()
        .map(|c| lab.reach(*c, cluster_ip, transport))
        .collect();
    let limit = Duration::from_secs(TIMEOUT.into());
    let (start, mut latest) = (Instant::now(), Instant::now());
    while start.elapsed() < limit * 2 + limit / 4 {
        // Time has to pass here: it is what the affinity is about.
        thread::sleep(limit / 10);
        for (client, pinned) in busy.iter().zip(&pinned) {
            let now = lab.reach(*client, virtual_ip, transport);
            if latest.elapsed() > limit / 2 {
                return false;
            }
            assert_eq!(now, *pinned, "{client} came again in time");
        }
        latest = Instant::now();
    }
    let after: Vec<Endpoint> = idle
        .iter()
        .map(|c| lab.reach(*c, cluster_ip, transport))
        .collect();
    assert_ne!(after, before, "clients came again too late");
    true
}

fn add_clients(lab: &mut Lab, family: IpFamily) -> Vec<IpAddr> {
    let address = |host: u8| match family {
        IpFamily::V4 => IpAddr::from(Ipv4Addr::new(203, 0, 113, host)),
        IpFamily::V6 => Ipv6Addr::new(0x2600, 0x5200, 0, 9, 0, 0, 0, host.into()).into(),
    };
    let clients: Vec<IpAddr> = (10..10 + CLIENTS).map(address).collect();
    lab.world.add_clients("clients", &clients).unwrap();
    clients
}

/// ClusterIP, load balancer and node port.
fn frontends(family: IpFamily, transport: Transport) -> [SocketAddr; 3] {
    let (cluster_ip, virtual_ip, node) = match family {
        IpFamily::V4 => ("10.96.0.60", "192.0.2.60", "198.18.0.10"),
        IpFamily::V6 => ("fd10:96::60", "2001:db8:60::60", "2001:db8:a::10"),
    };
    [
        at(cluster_ip, port(transport)),
        at(virtual_ip, port(transport)),
        at(node, 30_000 + port(transport)),
    ]
}

fn endpoints(family: IpFamily) -> [(&'static str, &'static str); 3] {
    match family {
        IpFamily::V4 => [
            ("10.64.1.1", "n1"),
            ("10.64.1.2", "n1"),
            ("10.64.2.1", "n2"),
        ],
        IpFamily::V6 => [
            ("fd10:64:0:1::1", "n1"),
            ("fd10:64:0:1::2", "n1"),
            ("fd10:64:0:2::1", "n2"),
        ],
    }
}

fn distinct(endpoints: &[Endpoint]) -> usize {
    endpoints.iter().collect::<BTreeSet<_>>().len()
}

fn sticky(timeout_seconds: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: sticky, namespace: demo}}
spec:
  type: LoadBalancer
  clusterIP: "10.96.0.60"
  clusterIPs: ["10.96.0.60", "fd10:96::60"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  sessionAffinity: ClientIP
  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {timeout_seconds}}}}}
  ports:
  - {{name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}}
  - {{name: u, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}}
status: {{loadBalancer: {{ingress: [{{ip: "192.0.2.60"}}, {{ip: "2001:db8:60::60"}}]}}}}
"#
    )
}
