//! What the demo shows.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use svc_core::object::{Labels, Pod, Service, ServicePort, Workload};
use svc_core::{Flow, IpFamily, Protocol, explain};

use super::names;
use super::screen::Screen;
use super::world::{CLIENT, World};
use crate::cli::explain::to_text;
use crate::sandbox::{ConnectLoop, Counts, Namespace, Outcome, Transport, probe};

/// Requests from one place to one front end.
const REQUESTS: u32 = 60;
const TIMEOUT: Duration = Duration::from_secs(2);

/// Shows everything; whether all of it was as it should be.
pub(crate) fn all(world: &mut World, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    let mut good = rules(world, screen)?;
    good &= spread(world, screen)?;
    explanation(world, screen);
    good &= names::show(world, screen)?;
    good &= churn(world, screen)?;
    Ok(good)
}

/// The rules come into the kernel.
fn rules(world: &mut World, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    screen.title("Manifests to plan to kernel");
    let (written, took) = world.sync()?;
    for service in &world.services {
        let ips: Vec<String> = service
            .cluster_ips
            .iter()
            .map(ToString::to_string)
            .collect();
        let ports: Vec<String> = service.ports.iter().map(port_text).collect();
        let (name, ips, ports) = (&service.name, ips.join(" "), ports.join(" "));
        screen.line(&format!("{name}: {ips}, {ports}"));
    }
    screen.check(
        written > 0,
        &format!("{written} kernel objects written in {took:.1?}, without an nft process"),
    );
    let (again, _) = world.sync()?;
    screen.check(again == 0, "a second sync writes nothing");
    Ok(written > 0 && again == 0)
}

fn port_text(port: &ServicePort) -> String {
    let node_port = port.node_port.map(|port| format!(", node port {port}"));
    format!(
        "{}/{}{}",
        port.port,
        port.protocol.lower(),
        node_port.unwrap_or_default()
    )
}

/// Requests from everywhere to everything.
fn spread(world: &World, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    screen.title("Requests: who answers, and how often");
    let mut good = true;
    for service in &world.services {
        for port in &service.ports {
            for (title, at) in frontends(world, service, port) {
                for (place, from) in world.places() {
                    let counts = ask(from, at, port.protocol)?;
                    let answers: Vec<String> = counts
                        .by_pod
                        .iter()
                        .map(|(pod, n)| format!("{pod} {n}"))
                        .collect();
                    let even = even(&counts, pods_of(world, service));
                    good &= even;
                    let row = format!("{place} -> {title:<11} {at:<23} {}", answers.join("  "));
                    screen.check(even, &row);
                    for (failure, n) in &counts.failures {
                        screen.line(&format!("          {n} x {failure}"));
                    }
                }
            }
        }
    }
    Ok(good)
}

fn frontends(
    world: &World,
    service: &Service,
    port: &ServicePort,
) -> Vec<(&'static str, SocketAddr)> {
    let mut found = Vec::new();
    for family in IpFamily::ALL {
        let cluster_ip = service
            .cluster_ip(family)
            .filter(|_| port.node_port.is_none());
        found.extend(cluster_ip.map(|ip| ("ClusterIP", SocketAddr::new(ip, port.port))));
        let node = world
            .node_address(family)
            .filter(|_| service.cluster_ip(family).is_some());
        let node_port = node.zip(port.node_port);
        found.extend(node_port.map(|(ip, port)| ("node port", SocketAddr::new(ip, port))));
    }
    found
}

fn pods_of(world: &World, service: &Service) -> usize {
    let selected = world.pods.iter().filter(|pod| {
        let mut terms = service.selector.iter();
        terms.all(|(label, value)| pod.labels.get(label) == Some(value))
    });
    selected.count()
}

/// Every pod answered, nothing failed. How evenly is left to chance: with 60 requests to three
/// pods, one stays without an answer once in ten thousand million runs.
fn even(counts: &Counts, pods: usize) -> bool {
    counts.failed == 0 && counts.by_pod.len() == pods && pods > 0
}

fn ask(from: &Namespace, to: SocketAddr, protocol: Protocol) -> Result<Counts, Box<dyn Error>> {
    let transport = Transport::of(protocol).ok_or("there are no SCTP sockets here")?;
    let mut counts = Counts::default();
    for _ in 0..REQUESTS {
        match probe(from, None, to, transport, TIMEOUT)? {
            Outcome::Answered { pod, .. } => {
                counts.made += 1;
                *counts.by_pod.entry(pod).or_default() += 1;
            }
            other @ (Outcome::Refused(_)
            | Outcome::Blocked
            | Outcome::Silent
            | Outcome::TimedOut
            | Outcome::Unreachable(_)) => {
                counts.failed += 1;
                *counts.failures.entry(other.to_string()).or_default() += 1;
            }
        }
    }
    Ok(counts)
}

/// One packet in words.
fn explanation(world: &World, screen: &mut Screen) {
    screen.title("Why: svcctl explain of one such packet");
    let client = world
        .sandbox
        .pod(CLIENT)
        .and_then(|pod| pod.spec().addresses.first().copied());
    let target = tcp_service(world).map(|(_, at)| at);
    if let (Some(source), Some(at)) = (client, target) {
        let flow = Flow::new(source, at, Protocol::Tcp);
        let plan = world.planner.plan(IpFamily::of(at.ip()));
        screen.line(&to_text(
            &flow,
            &explain(&plan, world.planner.state(), &flow),
        ));
    }
}

/// The first TCP Service with an IPv4 ClusterIP, one without node ports if there is one.
pub(crate) fn tcp_service(world: &World) -> Option<(Service, SocketAddr)> {
    let found = |service: &Service| {
        let mut ports = service.ports.iter();
        let port = ports.find(|port| port.protocol == Protocol::Tcp)?;
        let ip = service.cluster_ip(IpFamily::V4)?;
        Some((service.clone(), SocketAddr::new(ip, port.port)))
    };
    let internal = |service: &&Service| service.ports.iter().all(|port| port.node_port.is_none());
    let services = world.services.iter();
    services
        .clone()
        .filter(internal)
        .find_map(found)
        .or_else(|| services.clone().find_map(found))
}

/// A pod goes and another one comes while a client keeps connecting.
fn churn(world: &mut World, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    screen.title("A pod is replaced while a client keeps connecting");
    let Some((service, at)) = tcp_service(world) else {
        screen.line("there is no TCP Service");
        return Ok(true);
    };
    let Some((old, workload)) = replaceable(world, &service) else {
        screen.line("no workload has pods for it");
        return Ok(true);
    };
    let client = world
        .sandbox
        .pod(CLIENT)
        .ok_or("the client is gone")?
        .namespace();
    let connects = ConnectLoop::start(client, None, at, Transport::Tcp, TIMEOUT)?;
    let new = replace(world, screen, &connects, &old, &workload)?;

    let counts = connects.stop();
    let by_pod: BTreeMap<&String, &u64> = counts.by_pod.iter().collect();
    screen.line(&format!("{by_pod:?}"));
    let replaced = counts.by_pod.contains_key(&*new.name.name);
    let good = counts.failed == 0 && replaced;
    screen.check(
        good,
        &format!("{} connections made, {} failed", counts.made, counts.failed),
    );
    for (failure, n) in &counts.failures {
        screen.line(&format!("{n} x {failure}"));
    }
    Ok(good)
}

/// A pod that a Service selects, and a workload to make one like it from.
fn replaceable(world: &World, service: &Service) -> Option<(Pod, Workload)> {
    let selected = |labels: &Labels| {
        service
            .selector
            .iter()
            .all(|(label, value)| labels.get(label) == Some(value))
    };
    let pod = world.pods.iter().find(|pod| selected(&pod.labels))?;
    let mut workloads = world.workloads.iter();
    let workload = workloads.find(|w| selected(&w.template_labels))?;
    Some((pod.clone(), workload.clone()))
}

/// Starts a pod, then ends an old one, and lets a client connect often between all steps.
fn replace(
    world: &mut World,
    screen: &mut Screen,
    connects: &ConnectLoop,
    old: &Pod,
    workload: &Workload,
) -> Result<Pod, Box<dyn Error>> {
    let steady = || wait_for(connects, 200);
    steady()?;
    let new = world.start_pod(workload)?;
    let (_, added) = world.sync()?;
    screen.line(&format!(
        "{} with {} is in the rules after {added:.1?}",
        new.name.name,
        ip(&new)
    ));
    steady()?;
    world.terminate(old);
    let (_, removed) = world.sync()?;
    screen.line(&format!(
        "{} with {} is out of the rules after {removed:.1?}",
        old.name.name,
        ip(old)
    ));
    // What was on its way to the old pod ends; then it may go.
    steady()?;
    world.stop_pod(old)?;
    world.sync()?;
    steady()?;
    Ok(new)
}

fn ip(pod: &Pod) -> String {
    pod.ips.first().map(ToString::to_string).unwrap_or_default()
}

/// Waits until so many more attempts have ended.
fn wait_for(connects: &ConnectLoop, more: u64) -> Result<(), Box<dyn Error>> {
    let ended = || {
        let counts = connects.counts();
        counts.made + counts.failed
    };
    let (target, deadline) = (ended() + more, Instant::now() + Duration::from_secs(10));
    while ended() < target {
        if Instant::now() > deadline {
            return Err("the client does not get any further".into());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
