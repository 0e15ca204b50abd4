//! Clusters to try things on.

use svc_core::testing::Scenario;

/// Every kind of front end, policy and pool, in both families.
pub const EVERYTHING: &str = "
    config mode=nftables cluster-cidr=10.64.0.0/11 cluster-cidr=fd10:64::/48
    node n1 198.18.0.10 2001:db8:a::10 pods=10.64.1.0/24
    cidr 10.96.0.0/16 fd10:96::/112
    service web type=NodePort ip=10.96.0.1 ip=fd10:96::1 port=http:80/tcp@30080
    slice web-4 web port=http:8080 10.64.1.1@n1 10.64.2.1@n2 10.64.2.2@n2
    slice web-6 web port=http:8080 fd10:64:0:1::1@n1 fd10:64:0:2::1@n2
    service dns ip=10.96.0.2 ip=fd10:96::2 port=dns:53/udp port=dns-tcp:53/tcp port=x:5060/sctp
    slice dns-4 dns port=dns:53/udp port=dns-tcp:53/tcp port=x:5060/sctp 10.64.1.3@n1
    slice dns-6 dns port=dns:53/udp port=dns-tcp:53/tcp fd10:64:0:1::3@n1
    service local type=LoadBalancer ip=10.96.0.3 ip=fd10:96::3 port=80@30081 etp=Local vip=192.0.2.1 vip=2001:db8:f::1 range=203.0.113.0/25 range=2001:db8:c::/64 health=32000
    slice local-4 local port=80 10.64.1.4@n1 10.64.2.4@n2
    slice local-6 local port=80 fd10:64:0:1::4@n1 fd10:64:0:2::4@n2
    service far type=LoadBalancer ip=10.96.0.4 port=80@30082 etp=Local itp=Local vip=192.0.2.2 health=32001
    slice far-4 far port=80 10.64.2.5@n2
    service sticky ip=10.96.0.5 ip=fd10:96::5 port=80 external=192.0.2.3 external=2001:db8:f::3 affinity=600
    slice sticky-4 sticky port=80 10.64.1.6@n1 10.64.2.6@n2
    slice sticky-6 sticky port=80 fd10:64:0:1::6@n1 fd10:64:0:2::6@n2
    service empty ip=10.96.0.6 ip=fd10:96::6 port=80
";

/// Reads a scenario.
pub fn scenario(text: &str) -> Scenario {
    text.parse().unwrap()
}

/// So many Services with so many endpoints each, IPv4.
pub fn many(services: u32, endpoints: u32) -> Scenario {
    scenario(&many_text(services, endpoints))
}

/// The same as text.
pub fn many_text(services: u32, endpoints: u32) -> String {
    let mut text = String::from(
        "config mode=nftables cluster-cidr=10.64.0.0/10\nnode n1 198.18.0.10\ncidr 10.128.0.0/9\n",
    );
    for service in 0..services {
        let ip = std::net::Ipv4Addr::from(0x0a80_0001 + service);
        text += &format!(
            "service s{service} ip={ip} port=http:80\nslice s{service}-a s{service} port=http:8080"
        );
        for endpoint in 0..endpoints {
            let ip = std::net::Ipv4Addr::from(0x0a40_0001 + service * endpoints + endpoint);
            text += &format!(" {ip}@n{}", endpoint % 3 + 1);
        }
        text += "\n";
    }
    text
}
