//! Packets of established connections meet no rule: real ones, in a network namespace.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;

use backend_nftables::{Kernel, Renderer};
use common::TABLE;
use common::scenarios::scenario;
use nix::sched::{CloneFlags, unshare};
use svc_core::{IpFamily, Plan, Reconciler};

const MESSAGES: usize = 500;

#[test]
fn only_the_first_packet_of_a_connection_meets_a_rule() {
    let test = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        run("ip link set lo up");
        run("ip address add 10.64.1.1/32 dev lo");
        run("ip route add 10.96.0.0/16 dev lo");
        let plan = scenario(
            "config mode=nftables cluster-cidr=10.64.0.0/11\n node n1 198.18.0.10\n cidr 10.96.0.0/16
            service web ip=10.96.0.1 port=80\n slice web-4 web port=8080 10.64.1.1@n1",
        )
        .plan(IpFamily::V4);
        let mut reconciler = Reconciler::new(Renderer::new(TABLE, plan.family), plan.family);
        let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(&plan);
        delta.node = Some(plan.node.clone());
        reconciler.change(&delta);
        let mut kernel = Kernel::open(TABLE, IpFamily::V4).unwrap();
        reconciler.settle(&mut kernel, 3).unwrap();
        for hook in ["prerouting", "output", "postrouting"] {
            run(&format!("nft insert rule ip {TABLE} {hook} counter"));
        }
        let listener = TcpListener::bind("10.64.1.1:8080").unwrap();
        let mut client = TcpStream::connect("10.96.0.1:80").unwrap();
        let (mut server, _) = listener.accept().unwrap();
        let first = counted();
        // The hook of packets that the node sends has seen the first one, others may have too.
        assert!((1..=4).contains(&first), "{first}");
        for _ in 0..MESSAGES {
            client.write_all(b"a").unwrap();
            server.read_exact(&mut [0]).unwrap();
            server.write_all(b"b").unwrap();
            client.read_exact(&mut [0]).unwrap();
        }
        assert_eq!(counted(), first);
        // A new connection is seen.
        drop(TcpStream::connect("10.96.0.1:80").unwrap());
        assert!(counted() > first);
    });
    if let Err(panic) = test.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Packets that the rules with counters have seen.
fn counted() -> u64 {
    let listed = run(&format!("nft list table ip {TABLE}"));
    let counts = listed.split("counter packets ").skip(1);
    let counts = counts.map(|rest| rest.split(' ').next().unwrap().parse::<u64>().unwrap());
    counts.sum()
}

fn run(command: &str) -> String {
    let mut words = command.split(' ');
    let output = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}
