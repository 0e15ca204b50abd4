//! From IPVS to nftables under a steady stream of new connections.

use std::collections::BTreeSet;

use examples::sandbox::{Session, Transport};

use crate::objects::load_modules;
use crate::rig::{CLUSTER_IP, NFTABLES, PATIENCE, Rig, end_stream, stream_on};

const IPVS_PROXY: &str = env!("CARGO_BIN_EXE_ipvs-proxy");

/// Ours to ours, and back.
pub(crate) fn own_backends() {
    load_modules();
    let rig = Rig::new();
    let mut first = rig.start(IPVS_PROXY, &["--set-sysctls"]);
    rig.await_synced(&mut first);
    let loops = rig.stream();
    let mut session = udp(&rig);
    stream_on(&loops, 100);
    first.stop();
    stream_on(&loops, 50);
    assert!(rig.tool("ipvsadm", &["-Sn"], "").contains("10.96.0.10:80"));
    let mut second = rig.start(NFTABLES, &["--take-over"]);
    second.until_logged("our rules do what the plan says");
    second.until_logged("removed virtual servers of ipvs-proxy, IPv6");
    assert_eq!(rig.tool("ipvsadm", &["-Sn"], ""), "");
    let links = rig.tool("ip", &["-o", "link"], "");
    assert!(!links.contains("svc-ipvs"), "{links}");
    assert!(
        !rig.tool("nft", &["list", "tables"], "")
            .contains("svc-ipvs")
    );
    stream_on(&loops, 150);
    assert_goes_on(&mut session);
    second.stop();
    let mut third = rig.start(IPVS_PROXY, &["--set-sysctls", "--take-over"]);
    third.until_logged("removed rules of nftables-proxy, IPv6");
    assert!(
        !rig.tool("nft", &["list", "tables"], "")
            .contains("svc-proxy")
    );
    stream_on(&loops, 150);
    end_stream(loops);
    third.stop();
}

/// What kube-proxy leaves in IPVS mode (B-273, B-283, B-303): virtual servers, its link, chains and
/// sets. All of it goes; chains of the kubelet and sets of others stay.
pub(crate) fn b273_what_kube_proxy_leaves_goes() {
    load_modules();
    let rig = Rig::new();
    leave_what_kube_proxy_leaves(&rig);
    let loops = rig.stream();
    let mut session = udp(&rig);
    stream_on(&loops, 100);

    let mut watching = rig.start(NFTABLES, &[]);
    for found in [
        "there are kube-proxy's chains in iptables-nft, IPv4",
        "there are kube-proxy's virtual servers (kube-ipvs0)",
        "there are kube-proxy's ipsets",
        "--take-over removes",
    ] {
        watching.until_logged(found);
    }
    // The kernel lists servers in any order.
    let held = rig.tool("ipvsadm", &["-Sn"], "");
    assert_eq!(lines(&held), lines(KUBE_SERVERS));
    watching.stop();
    stream_on(&loops, 50);

    let mut agent = rig.start(NFTABLES, &["--take-over"]);
    agent.until_logged("removed kube-proxy's ipsets");
    assert_eq!(rig.tool("ipvsadm", &["-Sn"], ""), "");
    assert_others_are_gone(&rig);
    stream_on(&loops, 150);
    end_stream(loops);
    assert_goes_on(&mut session);
    let log = agent.stop();
    assert!(!log.contains("cannot remove"), "{log}");
}

/// IPVS after IPVS: kube-proxy's virtual servers are at the very front ends, so they go first.
pub(crate) fn kube_proxys_servers_make_way() {
    load_modules();
    let rig = Rig::new();
    leave_what_kube_proxy_leaves(&rig);
    let mut session = udp(&rig);
    let to = format!("{CLUSTER_IP}:80").parse().unwrap();
    let mut long =
        Session::open(rig.sandbox.outside(), None, to, Transport::Tcp, PATIENCE).unwrap();

    // Ours cannot be there beside them, and nobody's are touched.
    let mut watching = rig.start(IPVS_PROXY, &["--set-sysctls"]);
    watching.until_logged("virtual server 10.96.0.10:80/tcp exists and is not ours");
    watching.until_logged("--take-over removes");
    assert!(lines(KUBE_SERVERS).is_subset(&lines(&servers(&rig))));
    watching.stop();
    let loops = rig.stream();
    stream_on(&loops, 50);
    end_stream(loops);

    let mut agent = rig.start(IPVS_PROXY, &["--set-sysctls", "--take-over"]);
    agent.until_logged("our virtual servers are in the place of kube-proxy's");
    agent.until_logged("removed kube-proxy's ipsets");
    let held = servers(&rig);
    assert!(lines(KUBE_SERVERS).is_subset(&lines(&held)), "{held}");
    let addresses = rig.tool("ip", &["-o", "addr"], "");
    assert!(
        addresses.contains("svc-ipvs4    inet 10.96.0.10/32"),
        "{addresses}"
    );
    assert_others_are_gone(&rig);
    let loops = rig.stream();
    stream_on(&loops, 150);
    end_stream(loops);
    assert_goes_on(&mut session);
    // What began before goes on, and the kernel is as it was told to be.
    let expires = "/proc/sys/net/ipv4/vs/expire_nodest_conn";
    assert_eq!(rig.tool("cat", &[expires], ""), "1\n");
    let outcome = long.ask(PATIENCE).unwrap();
    assert!(outcome.pod().is_some(), "{outcome:?}");
    rig.await_metric(
        &mut agent,
        "svc_proxy_service_ports{ip_family=\"IPv4\"}",
        |n| n > 1.0,
    );
    let quarantined = rig.metric(&agent.metrics, "svc_proxy_quarantined_service_port");
    assert_eq!(quarantined, None);
    let log = agent.stop();
    assert!(!log.contains("cannot remove"), "{log}");
}

/// What a kube-proxy of IPVS mode leaves when it is stopped.
fn leave_what_kube_proxy_leaves(rig: &Rig) {
    // The kernel loads modules for the rules now, and not while a stream keeps an emulated machine busy.
    let mut first = rig.start(NFTABLES, &[]);
    rig.await_synced(&mut first);
    first.stop();
    rig.tool("nft", &["flush", "ruleset"], "");
    let node = rig.sandbox.node();
    node.set_sysctls(&[("net/ipv4/vs/conntrack", "1")]).unwrap();
    for words in KUBE_LINK {
        let words: Vec<&str> = words.split(' ').collect();
        rig.tool("ip", &words, "");
    }
    rig.tool("ipset", &["restore"], KUBE_SETS);
    rig.tool("ipvsadm", &["-R"], KUBE_SERVERS);
    rig.tool("iptables-nft-restore", &["--noflush"], KUBE_CHAINS);
}

/// Link, sets and chains of kube-proxy are gone; those of the kubelet and of others are not.
fn assert_others_are_gone(rig: &Rig) {
    let links = rig.tool("ip", &["-o", "link"], "");
    assert!(!links.contains("kube-ipvs0"), "{links}");
    assert_eq!(rig.tool("ipset", &["list", "-name"], ""), "KUBE-SRC-AAAA\n");
    let left = rig.tool("iptables-nft-save", &[], "");
    let chains = left.lines().filter(|line| line.starts_with(':'));
    let chains: Vec<&str> = chains.filter(|line| line.contains("KUBE-")).collect();
    assert_eq!(
        chains,
        [":KUBE-FIREWALL - [0:0]", ":KUBE-ROUTER-INPUT - [0:0]"],
        "{left}"
    );
}

fn servers(rig: &Rig) -> String {
    rig.tool("ipvsadm", &["-Sn"], "")
}

fn lines(text: &str) -> BTreeSet<&str> {
    text.lines().collect()
}

fn udp(rig: &Rig) -> Session {
    let to = format!("{CLUSTER_IP}:53").parse().unwrap();
    Session::open(rig.sandbox.outside(), None, to, Transport::Udp, PATIENCE).unwrap()
}

/// A UDP flow that began through IPVS is answered again; one answer may be lost on the way.
fn assert_goes_on(session: &mut Session) {
    let answers = (0..3).map(|_| session.ask(PATIENCE / 10).unwrap());
    let outcomes: Vec<_> = answers.collect();
    let answered = |outcome: &examples::sandbox::Outcome| outcome.pod().is_some();
    assert!(outcomes.iter().skip(1).all(answered), "{outcomes:?}");
}

const KUBE_LINK: [&str; 3] = [
    "link add kube-ipvs0 type dummy",
    "addr add 10.96.0.10/32 dev kube-ipvs0",
    "addr add 10.96.0.20/32 dev kube-ipvs0",
];

/// As `ipvsadm -Sn` prints it.
const KUBE_SERVERS: &str = "\
-A -t 10.96.0.10:80 -s rr
-a -t 10.96.0.10:80 -r 10.64.1.1:8080 -m -w 1
-a -t 10.96.0.10:80 -r 10.64.1.2:8080 -m -w 1
-A -t 198.18.0.10:30080 -s rr
-a -t 198.18.0.10:30080 -r 10.64.1.1:8080 -m -w 1
-a -t 198.18.0.10:30080 -r 10.64.1.2:8080 -m -w 1
-A -u 10.96.0.10:53 -s rr
-a -u 10.96.0.10:53 -r 10.64.1.1:5353 -m -w 1
-a -u 10.96.0.10:53 -r 10.64.1.2:5353 -m -w 1
";

const KUBE_SETS: &str = "\
create KUBE-LOOP-BACK hash:ip,port,ip
create KUBE-CLUSTER-IP hash:ip,port
create KUBE-NODE-PORT-TCP bitmap:port range 0-65535
create KUBE-IPVS-IPS hash:ip
create KUBE-6-CLUSTER-IP hash:ip,port family inet6
create KUBE-SRC-AAAA hash:ip
add KUBE-CLUSTER-IP 10.96.0.10,tcp:80
add KUBE-CLUSTER-IP 10.96.0.10,udp:53
add KUBE-NODE-PORT-TCP 30080
add KUBE-IPVS-IPS 10.96.0.10
add KUBE-LOOP-BACK 10.64.1.1,tcp:8080,10.64.1.1
";

const KUBE_CHAINS: &str = "\
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-LOAD-BALANCER - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
-A KUBE-NODE-PORT -p tcp -m set --match-set KUBE-NODE-PORT-TCP dst -j KUBE-MARK-MASQ
-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE
COMMIT
*filter
:KUBE-FIREWALL - [0:0]
:KUBE-ROUTER-INPUT - [0:0]
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-PROXY-FIREWALL - [0:0]
:KUBE-SOURCE-RANGES-FIREWALL - [0:0]
:KUBE-IPVS-FILTER - [0:0]
:KUBE-IPVS-OUT-FILTER - [0:0]
-A INPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-FILTER
-A INPUT -j KUBE-ROUTER-INPUT
-A INPUT -j KUBE-FIREWALL
-A INPUT -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A INPUT -m comment --comment \"kubernetes health check rules\" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment \"kube-proxy firewall rules\" -j KUBE-PROXY-FIREWALL
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A OUTPUT -m comment --comment \"kubernetes ipvs access filter\" -j KUBE-IPVS-OUT-FILTER
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW -m set --match-set KUBE-IPVS-IPS dst -j REJECT
-A KUBE-IPVS-OUT-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
COMMIT
";
