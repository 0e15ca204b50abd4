//! Front ends: what each answers to each source.

use crate::lab::{
    Lab, MASQUERADED, PLAIN, TRANSPORTS, UnderTest, at, forward, port, slice, target_port,
};

/// One family's part of the world.
struct Family {
    pod: &'static str,
    far_pod: &'static str,
    node: &'static str,
    client: &'static str,
    far_client: &'static str,
    cluster_ip: &'static str,
    free_ip: &'static str,
    virtual_ip: &'static str,
    /// Two on the node, one elsewhere.
    endpoints: [(&'static str, &'static str); 3],
}

const FAMILIES: [Family; 2] = [
    Family {
        pod: "10.64.1.200",
        far_pod: "10.64.2.200",
        node: "198.18.0.10",
        client: "203.0.113.7",
        far_client: "203.0.113.200",
        cluster_ip: "10.96.0.10",
        free_ip: "10.96.0.50",
        virtual_ip: "192.0.2.31",
        endpoints: [
            ("10.64.1.1", "n1"),
            ("10.64.1.2", "n1"),
            ("10.64.2.1", "n2"),
        ],
    },
    Family {
        pod: "fd10:64:0:1::200",
        far_pod: "fd10:64:0:2::200",
        node: "2001:db8:a::10",
        client: "2600:5200::7",
        far_client: "2600:5200:0:1::7",
        cluster_ip: "fd10:96::10",
        free_ip: "fd10:96::50",
        virtual_ip: "2001:db8:31::1",
        endpoints: [
            ("fd10:64:0:1::1", "n1"),
            ("fd10:64:0:1::2", "n1"),
            ("fd10:64:0:2::1", "n2"),
        ],
    },
];

impl Family {
    fn addresses(&self) -> [&'static str; 3] {
        self.endpoints.map(|(address, _)| address)
    }

    fn sources(&self) -> [&'static str; 4] {
        [self.pod, self.far_pod, self.node, self.client]
    }
}

/// IPv4 and IPv6, TCP and UDP, ClusterIP and node port, from every kind of source.
pub(crate) fn matrix(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    lab.apply(&web(""), &slices(|family| family.endpoints.to_vec()));
    for family in &FAMILIES {
        for transport in TRANSPORTS {
            let cluster_ip = at(family.cluster_ip, port(transport));
            let node_port = at(family.node, 30_000 + port(transport));
            let masqueraded = forward(&family.addresses(), transport, MASQUERADED);
            let plain = forward(&family.addresses(), transport, PLAIN);
            for source in family.sources() {
                let of_pod = [family.pod, family.far_pod].contains(&source);
                let expect = if of_pod { &plain } else { &masqueraded };
                lab.check(source, cluster_ip, transport, expect);
                lab.check(source, node_port, transport, &masqueraded);
            }
        }
    }
}

/// A pod that reaches itself through a Service is masqueraded, and only then.
pub(crate) fn hairpin(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    lab.apply(&web(""), &slices(|family| family.endpoints.to_vec()));
    for family in &FAMILIES {
        let [first, second, _] = family.addresses();
        for transport in TRANSPORTS {
            let to = at(family.cluster_ip, port(transport));
            let itself = at(first, target_port(transport));
            let expect = forward(&family.addresses(), transport, PLAIN);
            let expect = expect.replace(&itself.to_string(), &format!("{itself}{MASQUERADED}"));
            lab.check(first, to, transport, &expect);
            lab.check(first, itself, transport, "pass");
            lab.check(first, at(second, target_port(transport)), transport, "pass");
        }
    }
    // Alone it has no other choice.
    lab.apply(&web(""), &slices(|family| family.endpoints[..1].to_vec()));
    for family in &FAMILIES {
        let [first, ..] = family.addresses();
        for transport in TRANSPORTS {
            let to = at(family.cluster_ip, port(transport));
            lab.check(
                first,
                to,
                transport,
                &forward(&[first], transport, MASQUERADED),
            );
        }
    }
}

/// A pod in the node's own network: what others send it is delivered without being masqueraded, as
/// the plan says; what goes on to another node is.
pub(crate) fn host_network(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    let endpoints = |family: &Family| vec![(family.node, "n1"), family.endpoints[2]];
    lab.apply(&web(""), &slices(endpoints));
    for family in &FAMILIES {
        let [_, _, away] = family.addresses();
        for transport in TRANSPORTS {
            let here = at(family.node, target_port(transport));
            let away = at(away, target_port(transport));
            let mut targets = [here.to_string(), format!("{away}{MASQUERADED}")];
            // Sorted as addresses are.
            if away < here {
                targets.reverse();
            }
            let outside = format!("forward {}", targets.join(" "));
            let node_port = at(family.node, 30_000 + port(transport));
            lab.check_each(&[family.client, family.pod], node_port, transport, &outside);
            let cluster_ip = at(family.cluster_ip, port(transport));
            lab.check(family.client, cluster_ip, transport, &outside);
            let plain = outside.replace(MASQUERADED, PLAIN);
            lab.check(family.pod, cluster_ip, transport, &plain);
        }
    }
}

/// A Service without endpoints refuses, until it has one.
pub(crate) fn no_endpoints(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    for endpoints in [0, 1, 0] {
        lab.apply(
            &web(""),
            &slices(|family| family.endpoints[..endpoints].to_vec()),
        );
        for family in &FAMILIES {
            let [first, ..] = family.addresses();
            for transport in TRANSPORTS {
                let node_port = at(family.node, 30_000 + port(transport));
                let expect = match endpoints {
                    0 => "reject".to_owned(),
                    _ => forward(&[first], transport, MASQUERADED),
                };
                lab.check_each(&family.sources(), node_port, transport, &expect);
                let cluster_ip = at(family.cluster_ip, port(transport));
                let others = [family.node, family.client];
                lab.check_each(&others, cluster_ip, transport, &expect);
            }
        }
    }
}

/// Packets to addresses that no Service has, and to ports that a Service does not have.
pub(crate) fn unserved(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    let all = slices(|family| family.endpoints.to_vec());
    let free_taken = |name: &str| {
        web("")
            .replace("10.96.0.10", "10.96.0.50")
            .replace("fd10:96::10", "fd10:96::50")
            .replace("name: web", &format!("name: {name}"))
            .replace("type: NodePort", "type: ClusterIP")
            .replace(", nodePort: 30080", "")
            .replace(", nodePort: 30053", "")
    };
    let both = |name: &str| format!("{}---{}", web(""), free_taken(name));
    let [unallocated, unknown_port] = under_test.unserved();
    // The address is free, then of a Service without endpoints, then free again, then of another.
    let steps = [
        (web(""), unallocated),
        (both("late"), "reject"),
        (web(""), unallocated),
        (both("early"), "reject"),
    ];
    for (services, expect) in steps {
        lab.apply(&services, &all);
        for family in &FAMILIES {
            for transport in TRANSPORTS {
                let free = at(family.free_ip, port(transport));
                let unknown = at(family.cluster_ip, 99);
                lab.check_each(&family.sources(), free, transport, expect);
                lab.check_each(&family.sources(), unknown, transport, unknown_port);
            }
        }
    }
}

/// Source ranges: clients outside them are dropped, and the node unless it is in them; its load
/// balancer's own address may always come back.
pub(crate) fn source_ranges(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    for nodes_allowed in [false, true] {
        let nodes = match nodes_allowed {
            true => r#", "198.18.0.0/24", "2001:db8:a::/64""#,
            false => "",
        };
        let ranges =
            format!(r#"loadBalancerSourceRanges: ["203.0.113.0/25", "2600:5200::/64"{nodes}]"#);
        lab.apply(&web(&ranges), &slices(|family| family.endpoints.to_vec()));
        for family in &FAMILIES {
            for transport in TRANSPORTS {
                let to = at(family.virtual_ip, port(transport));
                let masqueraded = forward(&family.addresses(), transport, MASQUERADED);
                lab.check(family.client, to, transport, &masqueraded);
                let (node, virtual_ip) = (family.node, family.virtual_ip);
                let dropped = [family.far_client, family.pod, node];
                if nodes_allowed {
                    lab.check_each(&dropped[..2], to, transport, "drop");
                    lab.check_each(&[node, virtual_ip], to, transport, &masqueraded);
                } else {
                    lab.check_each(&dropped, to, transport, "drop");
                }
                let beside = at(family.node, 30_000 + port(transport));
                lab.check(family.far_client, beside, transport, &masqueraded);
            }
        }
    }
}

/// External policy Local: pods and the node get every endpoint, others those on the node with
/// their own address kept; and nobody else when there are none.
pub(crate) fn local_policy(under_test: &UnderTest) {
    let mut lab = Lab::new(under_test);
    let services = web("externalTrafficPolicy: Local");
    for local in [true, false] {
        let some = if local { 0..3 } else { 2..3 };
        lab.apply(
            &services,
            &slices(|family| family.endpoints[some.clone()].to_vec()),
        );
        for family in &FAMILIES {
            let addresses = family.addresses();
            let all = &addresses[some.clone()];
            for transport in TRANSPORTS {
                let frontends = [
                    at(family.node, 30_000 + port(transport)),
                    at(family.virtual_ip, port(transport)),
                ];
                for to in frontends {
                    for pod in [family.pod, family.far_pod] {
                        lab.check(pod, to, transport, &forward(all, transport, PLAIN));
                    }
                    let masqueraded = forward(all, transport, MASQUERADED);
                    lab.check(family.node, to, transport, &masqueraded);
                    let outside = match local {
                        true => forward(&addresses[..2], transport, PLAIN),
                        false => "drop".to_owned(),
                    };
                    lab.check(family.client, to, transport, &outside);
                }
            }
        }
    }
}

/// A dual-stack Service with every front end; `more` goes into its spec.
fn web(more: &str) -> String {
    format!(
        r#"
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: demo}}
spec:
  type: {}
  clusterIP: 10.96.0.10
  clusterIPs: ["10.96.0.10", "fd10:96::10"]
  ipFamilies: [IPv4, IPv6]
  ipFamilyPolicy: RequireDualStack
  ports:
  - {{name: t, protocol: TCP, port: 80, targetPort: 8080, nodePort: 30080}}
  - {{name: u, protocol: UDP, port: 53, targetPort: 5353, nodePort: 30053}}
  {more}
{}"#,
        if more.is_empty() {
            "NodePort"
        } else {
            "LoadBalancer"
        },
        if more.is_empty() {
            ""
        } else {
            r#"status: {loadBalancer: {ingress: [{ip: "192.0.2.31"}, {ip: "2001:db8:31::1"}]}}
"#
        },
    )
}

fn slices(
    endpoints: impl Fn(&Family) -> Vec<(&'static str, &'static str)>,
) -> Vec<svc_core::object::EndpointSlice> {
    let slices = FAMILIES.iter().map(|family| {
        let endpoints = endpoints(family);
        slice("web", &endpoints)
    });
    slices.collect()
}
