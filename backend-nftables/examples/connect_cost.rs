//! Prints what a TCP connection through a Service costs, beside one that meets no rules at all.
//!
//! Run as root: `cargo run --release -p backend-nftables --example connect_cost [SERVICES]`. Works in a
//! network namespace of its own, with client, Service and endpoint on its loopback interface, so
//! that the difference is that of rules, translation and connection tracking alone. The two are measured in turn, several times.

use std::error::Error;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Instant;

use backend_nftables::{Kernel, Renderer};
use nix::sched::{CloneFlags, unshare};
use svc_core::testing::Scenario;
use svc_core::{IpFamily, Plan, Reconciler};

const ROUNDS: usize = 5;
/// Few enough that all rounds find free ports.
const CONNECTS: usize = 1_000;
const ENDPOINT: &str = "10.64.0.1:8080";

fn main() -> Result<(), Box<dyn Error>> {
    let services: u32 = match std::env::args().nth(1) {
        Some(services) => services.parse()?,
        None => 10_000,
    };
    unshare(CloneFlags::CLONE_NEWNET)?;
    for command in [
        "link set lo up",
        "address add 10.64.0.1/32 dev lo",
        "address add 10.64.0.2/32 dev lo",
        // The client is a pod, so that nothing is masqueraded.
        "route add 10.128.0.0/9 dev lo src 10.64.0.2",
    ] {
        let status = Command::new("ip").args(command.split(' ')).status()?;
        if !status.success() {
            return Err(format!("ip {command}: {status}").into());
        }
    }
    let listener = TcpListener::bind(ENDPOINT)?;
    std::thread::spawn(move || listener.incoming().for_each(drop));
    let plan = plan(services)?;
    // The last Service, as a list would find it last.
    let service = SocketAddr::new((0x0a80_0000 + services).to_be_bytes().into(), 80);
    let mut kernel = Kernel::open("connect-cost", IpFamily::V4)?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        without.push(median(ENDPOINT.parse()?)?);
        load(&plan, &mut kernel)?;
        with.push(median(service)?);
        kernel.cleanup()?;
    }
    let (without, with) = (least(&without), least(&with));
    println!("{services} Services; medians of {CONNECTS} connects, the best of {ROUNDS} rounds");
    println!("no rules          {without:6.2} us");
    println!("through a Service {with:6.2} us");
    println!("ratio             {:6.3}", with / without);
    Ok(())
}

fn plan(services: u32) -> Result<Plan, Box<dyn Error>> {
    let mut text = String::from(
        "config mode=nftables cluster-cidr=10.64.0.0/10\nnode n1 198.18.0.10\ncidr 10.128.0.0/9\n",
    );
    for service in 1..=services {
        let [a, b, c, d] = (0x0a80_0000 + service).to_be_bytes();
        text += &format!(
            "service s{service} ip={a}.{b}.{c}.{d} port=80\nslice s{service}-a s{service} port=8080 10.64.0.1@n1\n"
        );
    }
    let scenario: Scenario = text.parse().map_err(|error| format!("{error:?}"))?;
    Ok(scenario.plan(IpFamily::V4))
}

fn load(plan: &Plan, kernel: &mut Kernel) -> Result<(), Box<dyn Error>> {
    let mut reconciler = Reconciler::new(Renderer::new("connect-cost", plan.family), plan.family);
    let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
    reconciler.settle(kernel, 5)?;
    Ok(())
}

/// Microseconds of the median connect.
fn median(to: SocketAddr) -> Result<f64, Box<dyn Error>> {
    let mut times = Vec::with_capacity(CONNECTS);
    for _ in 0..CONNECTS {
        let start = Instant::now();
        let stream = TcpStream::connect(to)?;
        times.push(start.elapsed());
        drop(stream);
    }
    times.sort_unstable();
    let median = times.get(CONNECTS / 2).ok_or("no connects")?;
    Ok(median.as_secs_f64() * 1e6)
}

fn least(times: &[f64]) -> f64 {
    times.iter().copied().fold(f64::INFINITY, f64::min)
}
