//! A pod resolves the name of a Service and connects to what it got.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use svc_core::dns::{
    ClusterDomain, DnsName, Zone, ZoneOptions, pod_search_list, search_candidates,
};
use svc_core::{IpFamily, NamespacedName};

use super::screen::Screen;
use super::show::tcp_service;
use super::world::{CLIENT, World};
use crate::dns::answer::NDOTS;
use crate::dns::{Transport, respond};
use crate::sandbox::{Namespace, Outcome, Transport as L4, probe};

const DNS_PORT: u16 = 53;
const TIMEOUT: Duration = Duration::from_secs(2);
const TYPE_A: [u8; 2] = [0, 1];
const CLASS_IN: [u8; 2] = [0, 1];

/// Shows it; whether all of it was as it should be.
pub(crate) fn show(world: &World, screen: &mut Screen) -> Result<bool, Box<dyn Error>> {
    screen.title("Names: a pod asks the DNS server on the node");
    let (Some((service, at)), Some(node)) = (tcp_service(world), world.node_address(IpFamily::V4))
    else {
        screen.line("there is no TCP Service");
        return Ok(true);
    };
    let mut zone = Zone::new(ZoneOptions::new("cluster.local".parse::<ClusterDomain>()?))?;
    zone.rebuild(world.planner.state());
    let server = Server::start(world.sandbox.node(), SocketAddr::new(node, DNS_PORT), zone)?;

    let name = short_name(&service.name);
    let client = world
        .sandbox
        .pod(CLIENT)
        .ok_or("the client is gone")?
        .namespace();
    let candidates = candidates(&name)?;
    let found = client.run(|| resolve(server.at, &candidates))??;
    drop(server);
    let Some((full, ip)) = found else {
        screen.check(false, &format!("{name} has no address"));
        return Ok(false);
    };
    screen.check(ip == at.ip(), &format!("{name} is {full} {ip}"));
    let outcome = probe(
        client,
        None,
        SocketAddr::new(ip, at.port()),
        L4::Tcp,
        TIMEOUT,
    )?;
    let answered = matches!(outcome, Outcome::Answered { .. });
    screen.check(answered, &format!("connected to it: {outcome}"));
    Ok(ip == at.ip() && answered)
}

/// `ngx-svc.my-namespace`, as a pod of another namespace would say it.
fn short_name(service: &NamespacedName) -> String {
    format!("{}.{}", service.name, service.namespace)
}

fn candidates(name: &str) -> Result<Vec<DnsName>, Box<dyn Error>> {
    let domain = "cluster.local".parse::<ClusterDomain>()?;
    let search = pod_search_list(&domain, "default", &[])?;
    Ok(search_candidates(name, &search, NDOTS)?)
}

/// Asks for each name in turn, as a resolver does, until one has an address.
fn resolve(server: SocketAddr, names: &[DnsName]) -> io::Result<Option<(DnsName, IpAddr)>> {
    let socket = UdpSocket::bind(("0.0.0.0", 0))?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    for name in names {
        socket.send_to(&question(name), server)?;
        let mut answer = [0; 512];
        let length = socket.recv(&mut answer)?;
        if let Some(ip) = first_address(answer.get(..length).unwrap_or_default()) {
            return Ok(Some((name.clone(), ip)));
        }
    }
    Ok(None)
}

/// A query for the IPv4 addresses of a name.
fn question(name: &DnsName) -> Vec<u8> {
    let mut message = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.to_string().trim_end_matches('.').split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(TYPE_A.into_iter().chain(CLASS_IN));
    message
}

/// The address in an answer that holds one record: its last four bytes.
fn first_address(message: &[u8]) -> Option<IpAddr> {
    let answers = u16::from_be_bytes([*message.get(6)?, *message.get(7)?]);
    let address: [u8; 4] = *message.last_chunk()?;
    (answers == 1).then(|| IpAddr::from(address))
}

/// A DNS server over UDP in a namespace, until it is dropped.
#[derive(Debug)]
struct Server {
    at: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(on: &Namespace, at: SocketAddr, zone: Zone) -> Result<Self, Box<dyn Error>> {
        let socket = on.run(|| UdpSocket::bind(at))??;
        // How long a stop may take.
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut packet = [0; 512];
            while !stopped.load(Ordering::Relaxed) {
                // A timeout, or a client that is gone already.
                let Ok((length, client)) = socket.recv_from(&mut packet) else {
                    continue;
                };
                let query = packet.get(..length).unwrap_or_default();
                if let Some(answer) = respond(&zone, query, Transport::Udp) {
                    // The client asks again if this is lost.
                    let _ = socket.send_to(&answer, client);
                }
            }
        });
        Ok(Self {
            at,
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It cannot panic; if it did, the demo has shown that already.
            drop(thread.join());
        }
    }
}
