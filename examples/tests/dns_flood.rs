//! Garbage without end costs a server neither an answer nor memory.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used)]

#[path = "dns/garbage.rs"]
mod garbage;
#[path = "dns/rig.rs"]
#[allow(dead_code)]
mod rig;
#[path = "dns/wire.rs"]
mod wire;

use std::fs;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use garbage::Garbage;
use rig::{Folder, Server, data, service};
use wire::{Message, query};

const PACKETS: u32 = 200_000;
/// Packets between two queries. So many fit into the buffer of a socket, so that none is lost: a query
/// that is answered shows that those before it were read.
const BETWEEN: u32 = 64;

/// Resident memory in KiB.
fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().strip_suffix(" kB").unwrap();
    number.parse().unwrap()
}

/// Processor time of all threads.
fn cpu(process: u32) -> Duration {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let nanoseconds = tasks.map(|task| {
        let text = fs::read_to_string(task.unwrap().path().join("schedstat")).unwrap();
        let (first, _) = text.split_once(' ').unwrap();
        first.parse::<u64>().unwrap()
    });
    Duration::from_nanos(nanoseconds.sum())
}

struct Client(UdpSocket);

impl Client {
    fn new(server: &Server) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.address).unwrap();
        let patience = Some(Duration::from_secs(10));
        socket.set_read_timeout(patience).unwrap();
        Self(socket)
    }

    /// Asks once, for something that is there or for something that is not.
    fn ask(&self, number: u32) {
        let id = u16::try_from(number % 0x1_0000).unwrap();
        let (name, addresses) = match number % 2 {
            0 => ("web.shop.svc.cluster.local", &["10.96.0.7"][..]),
            _ => ("no.shop.svc.cluster.local", &[][..]),
        };
        self.0.send(&query(id, name, 1, Some(1232))).unwrap();
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).unwrap();
        let message = Message::read(&buffer[..length]).unwrap();
        assert_eq!(message.id, id);
        assert_eq!(data(&message), addresses, "query {number}");
    }
}

#[test]
fn a_flood_of_garbage_loses_no_query_and_takes_no_memory() {
    let folder = Folder::new("flood");
    folder.write("a.yaml", &service("web", "10.96.0.7"));
    // One worker has one socket, which everything goes to.
    let server = Server::start(&folder.0, &["--workers", "1"]);
    let client = Client::new(&server);
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    flood.connect(server.address).unwrap();
    let mut garbage = Garbage::new();
    let mut round = |number| {
        for _ in 0..BETWEEN {
            flood.send(&garbage.packet()).unwrap();
        }
        client.ask(number);
    };
    // Once through everything: what is allocated once is allocated then.
    (0..50).for_each(&mut round);
    let (before, used, start) = (resident(server.id()), cpu(server.id()), Instant::now());
    let rounds = PACKETS / BETWEEN;
    (0..rounds).for_each(&mut round);
    let (after, used) = (resident(server.id()), cpu(server.id()) - used);
    println!(
        "{PACKETS} packets of garbage in {:.1?}: {rounds} of {rounds} queries answered, \
         {before} KiB before and {after} KiB after, {:.2?} of a processor for each packet",
        start.elapsed(),
        used / (PACKETS + rounds),
    );
    assert!(after < before + 1024, "{before} KiB, then {after} KiB");
}
