//! Other hosts and the loopback addresses of a node (CVE-2020-8558).

use std::process::Command;
use std::time::Duration;

use examples::sandbox::{Namespace, Outcome, Server, Transport, probe};

use crate::rig::{IPTABLES, NFTABLES, NODE_IP, Rig};

const KEY: &str = "net/ipv4/conf/all/route_localnet";
const SECRET: &str = "127.0.0.1:4242";
const NODE_PORT: &str = "127.0.0.1:30080";
/// Long enough for an answer on this link, short enough for packets that are dropped.
const SOON: Duration = Duration::from_secs(2);

fn ask(from: &Namespace, to: &str) -> Outcome {
    probe(from, None, to.parse().unwrap(), Transport::Tcp, SOON).unwrap()
}

/// A host on the node's link that takes 127.0.0.1 for an address of the node.
fn neighbour(rig: &Rig) -> &Namespace {
    let outside = rig.sandbox.outside();
    // Its own loopback addresses would be nearer, and answers from such an address be martians.
    outside.set_sysctls(&[(KEY, "1")]).unwrap();
    for route in [
        "del local 127.0.0.1 dev lo table local",
        "del local 127.0.0.0/8 dev lo table local",
        &format!("add 127.0.0.1/32 via {NODE_IP} dev n1 onlink"),
    ] {
        let args = route.split(' ');
        let run = || Command::new("ip").arg("route").args(args).output().unwrap();
        let output = outside.run(run).unwrap();
        assert!(output.status.success(), "{route}: {output:?}");
    }
    outside
}

/// With node ports on 127.0.0.1 the kernel would let other hosts through to it; the rules do not: neither to
/// what listens there, nor to node ports, which are for the node alone.
pub(crate) fn guarded() {
    for (variant, node_ports) in [
        ("nft", "0.0.0.0/0"),
        ("legacy", "0.0.0.0/0"),
        ("nft", "127.0.0.0/8"),
    ] {
        let rig = Rig::new();
        let node = rig.sandbox.node();
        let at = [(Transport::Tcp, SECRET.parse().unwrap())];
        let _secret = Server::start(node, "secret", &at).unwrap();
        let args = ["--variant", variant, "--nodeport-addresses", node_ports];
        let mut agent = rig.start(IPTABLES, &args);
        rig.await_synced(&mut agent);
        // Its rules stay, and nobody mends what is done to them below.
        agent.stop();
        assert_eq!(node.sysctl(KEY).unwrap(), "1");
        let neighbour = neighbour(&rig);
        assert_eq!(ask(node, SECRET).pod(), Some("secret"));
        assert!(ask(node, NODE_PORT).pod().is_some());
        for to in [SECRET, NODE_PORT] {
            assert_eq!(ask(neighbour, to), Outcome::TimedOut, "{variant}, {to}");
        }
        let open = ask(neighbour, &format!("{NODE_IP}:30080"));
        assert_eq!(open.pod().is_some(), node_ports == "0.0.0.0/0", "{open:?}");

        // It is these rules that keep it out.
        let program = format!("iptables-{variant}");
        let delete = |rule: &str| {
            rig.tool(&program, &rule.split(' ').collect::<Vec<_>>(), "");
        };
        delete("-t nat -D SVC-NODEPORTS ! -s 127.0.0.0/8 -d 127.0.0.0/8 -j RETURN");
        assert!(ask(neighbour, NODE_PORT).pod().is_some());
        delete(GUARD);
        assert_eq!(ask(neighbour, SECRET).pod(), Some("secret"));
    }
}

/// nftables never asks the kernel for that.
pub(crate) fn never_needed() {
    let rig = Rig::new();
    let node = rig.sandbox.node();
    let at = [(Transport::Tcp, SECRET.parse().unwrap())];
    let _secret = Server::start(node, "secret", &at).unwrap();
    let mut agent = rig.start(NFTABLES, &["--nodeport-addresses", "0.0.0.0/0,127.0.0.0/8"]);
    rig.await_synced(&mut agent);
    assert_eq!(node.sysctl(KEY).unwrap(), "0");
    let neighbour = neighbour(&rig);
    let open = ask(neighbour, &format!("{NODE_IP}:30080"));
    assert!(open.pod().is_some(), "{open:?}");
    for to in [SECRET, NODE_PORT] {
        assert_eq!(ask(neighbour, to), Outcome::TimedOut, "{to}");
    }
    agent.stop();
}

const GUARD: &str = "-D SVC-INPUT ! -s 127.0.0.0/8 -d 127.0.0.0/8 -m conntrack ! --ctstate \
                     RELATED,ESTABLISHED,DNAT -j DROP";
