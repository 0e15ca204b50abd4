//! From one proxy to another without a failed connection.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::rig::{Agent, IPTABLES, NFTABLES, Rig, end_stream, stream_on};
use crate::starts::rooted;

/// Ours to ours: iptables to nftables and back, under a steady stream of new connections.
pub(crate) fn own_backends() {
    let rig = Rig::new();
    let mut first = rig.start(IPTABLES, &["--variant", "nft"]);
    rig.await_synced(&mut first);
    let loops = rig.stream();
    stream_on(&loops, 200);
    first.stop();
    stream_on(&loops, 50);
    let mut second = rig.start(NFTABLES, &["--take-over"]);
    second.until_logged("removed rules of iptables-proxy in iptables-nft, IPv6");
    assert!(!rig.tool("iptables-nft-save", &[], "").contains("SVC-"));
    stream_on(&loops, 300);
    second.stop();
    let mut third = rig.start(IPTABLES, &["--variant", "nft", "--take-over"]);
    third.until_logged("removed rules of nftables-proxy, IPv6");
    assert!(
        !rig.tool("nft", &["list", "tables"], "")
            .contains("svc-proxy")
    );
    stream_on(&loops, 300);
    end_stream(loops);
    third.stop();
}

/// Without the programs of iptables nobody can say what is in it: that is told.
pub(crate) fn without_programs() {
    let rig = Rig::new();
    let bare = rig.folder.join("bare");
    let script = format!("#!/bin/sh\nPATH=/nowhere exec {NFTABLES} \"$@\"\n");
    fs::write(&bare, script).unwrap();
    fs::set_permissions(&bare, fs::Permissions::from_mode(0o755)).unwrap();
    let mut agent = rig.start(bare.to_str().unwrap(), &["--take-over"]);
    agent.until_logged("not installed: iptables-legacy-save, ip6tables-legacy-save");
    agent.stop();
}

/// Nor can root without `CAP_NET_RAW` say what is in iptables-legacy, as in a container.
pub(crate) fn without_net_raw() {
    let rig = Rig::new();
    rig.tool("iptables-legacy-restore", &["--noflush"], KUBE_PROXY);
    let mut agent = Agent::start_by(rooted("+net_admin"), NFTABLES, &rig, &["--take-over"]);
    agent.until_logged("tables of iptables-legacy that cannot be read, which takes CAP_NET_RAW");
    agent.stop();
    let left = rig.tool("iptables-legacy-save", &[], "");
    assert!(left.contains(":KUBE-SVC-WEB"), "{left}");
    let mut able = rig.start(NFTABLES, &["--take-over"]);
    able.until_logged("removed kube-proxy's chains in iptables-legacy, IPv4");
    let log = able.stop();
    assert!(!log.contains("CAP_NET_RAW"), "{log}");
}

/// kube-proxy's rules, in the shape that it gives them, are named; without `--take-over` they stay.
pub(crate) fn kube_proxy() {
    for variant in ["legacy", "nft"] {
        let rig = Rig::new();
        let restore = format!("iptables-{variant}-restore");
        let save = format!("iptables-{variant}-save");
        rig.tool(&restore, &["--noflush"], KUBE_PROXY);
        let loops = rig.stream();
        stream_on(&loops, 200);
        let mut watching = rig.start(NFTABLES, &[]);
        watching.until_logged(&format!(
            "there are kube-proxy's chains in iptables-{variant}, IPv4"
        ));
        watching.until_logged("--take-over removes");
        assert!(rig.tool(&save, &[], "").contains(":KUBE-SVC-WEB"));
        watching.stop();
        stream_on(&loops, 100);
        let mut agent = rig.start(NFTABLES, &["--take-over"]);
        agent.until_logged(&format!(
            "removed kube-proxy's chains in iptables-{variant}, IPv4"
        ));
        let left = rig.tool(&save, &[], "");
        assert!(!left.contains("KUBE-SVC"), "{left}");
        // That of the kubelet stays (B-271).
        assert!(left.contains(":KUBE-KUBELET-CANARY"), "{left}");
        stream_on(&loops, 300);
        end_stream(loops);
        agent.stop();
    }
}

/// Two endpoints behind a ClusterIP and a node port, as kube-proxy in iptables mode has them.
const KUBE_PROXY: &str = "\
*mangle
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PROXY-CANARY - [0:0]
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-EXT-WEB - [0:0]
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-PROXY-CANARY - [0:0]
:KUBE-SEP-A - [0:0]
:KUBE-SEP-B - [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-SVC-WEB - [0:0]
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-SERVICES -d 10.96.0.10/32 -p tcp -m tcp --dport 80 -j KUBE-SVC-WEB
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-NODEPORTS -p tcp -m tcp --dport 30080 -j KUBE-EXT-WEB
-A KUBE-EXT-WEB -j KUBE-MARK-MASQ
-A KUBE-EXT-WEB -j KUBE-SVC-WEB
-A KUBE-SVC-WEB -m statistic --mode random --probability 0.5 -j KUBE-SEP-A
-A KUBE-SVC-WEB -j KUBE-SEP-B
-A KUBE-SEP-A -s 10.64.1.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p tcp -m tcp -j DNAT --to-destination 10.64.1.1:8080
-A KUBE-SEP-B -s 10.64.1.2/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-B -p tcp -m tcp -j DNAT --to-destination 10.64.1.2:8080
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
";
