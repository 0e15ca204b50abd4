//! Names that are not ours: their queries go to one resolver, and its answers come back.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::socket::SockaddrStorage;
use svc_core::dns::DnsName;

use super::merge::merge;
use super::message::{CLASS_IN, HEADER, Packet, Query, rcode};
use super::metrics::{Metrics, add};
use super::respond::{Policy, Transport, base_flags, limit};
use super::tcp::read_within;
use super::udp::Destination;
use super::writer::{Writer, flag};

/// Sockets towards the resolver: their ports make answers hard to forge.
const SOCKETS: usize = 8;
/// How often an identifier is drawn that nobody waits with: one of 64 is taken at most.
const DRAWS: usize = 8;
/// Most queries that wait at one socket.
const MAX_WAITING: usize = 1024;
/// How long the resolver may take.
const TIMEOUT: Duration = Duration::from_secs(3);
/// How often overdue queries are looked for.
const SWEEP: Duration = Duration::from_millis(250);

/// Who gets an answer.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) socket: Arc<UdpSocket>,
    pub(super) address: SockaddrStorage,
    /// Which of our addresses it asked.
    pub(super) asked: Destination,
}

/// The start of an answer and the name that the rest is about.
pub(super) type Chain = Option<(Vec<u8>, DnsName)>;

/// Sends queries to a resolver and its answers to clients.
#[derive(Debug)]
pub(super) struct Forwarder {
    upstream: SocketAddr,
    sockets: Vec<Arc<Socket>>,
    turn: AtomicUsize,
    random: RandomState,
    policy: Policy,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Socket {
    udp: UdpSocket,
    waiting: Mutex<BTreeMap<u16, Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    client: Client,
    query: Vec<u8>,
    chain: Chain,
    /// The question that was sent, which the answer has to repeat.
    question: Vec<u8>,
    deadline: Instant,
}

impl Forwarder {
    pub(super) fn start(
        upstream: SocketAddr,
        policy: Policy,
        metrics: Arc<Metrics>,
    ) -> io::Result<Arc<Self>> {
        let any: SocketAddr = match upstream {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = |_| {
            let udp = UdpSocket::bind(any)?;
            // Not connected: that would hold on to a local address until the end, also when the node has it no more.
            udp.set_read_timeout(Some(SWEEP))?;
            let waiting = Mutex::default();
            Ok(Arc::new(Socket { udp, waiting }))
        };
        let forwarder = Arc::new(Self {
            upstream,
            sockets: (0..SOCKETS).map(socket).collect::<io::Result<_>>()?,
            turn: AtomicUsize::new(0),
            random: RandomState::new(),
            policy,
            metrics,
        });
        for socket in forwarder.sockets.clone() {
            let forwarder = forwarder.clone();
            let builder = thread::Builder::new().name("dns-forward".into());
            builder.spawn(move || forwarder.receive(&socket))?;
        }
        Ok(forwarder)
    }

    /// Sends a query on; when that cannot be, gives the response that says so.
    pub(super) fn submit(&self, client: Client, query: &[u8], chain: Chain) -> Result<(), Vec<u8>> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let socket = &self.sockets[turn % self.sockets.len()];
        let failure = || failure(query, Transport::Udp, &self.policy);
        let Packet::Query(read) = Packet::read(query) else {
            return Err(failure());
        };
        let mut waiting = socket.waiting();
        // Not the client's identifier: who can see one could forge the other.
        let mut drawn = (0..DRAWS).map(|draw| self.random.hash_one((turn, draw)) as u16);
        let free = drawn.find(|id| !waiting.contains_key(id));
        let Some(id) = free.filter(|_| waiting.len() < MAX_WAITING) else {
            add(&self.metrics.forward_failures, 1);
            return Err(failure());
        };
        let (packet, question) = outgoing(id, &read, &chain);
        let entry = Waiting {
            client,
            query: query.to_vec(),
            chain,
            question,
            deadline: Instant::now() + TIMEOUT,
        };
        waiting.insert(id, entry);
        drop(waiting);
        // A query that is not sent is overdue like one that is lost.
        let _ = socket.udp.send_to(&packet, self.upstream);
        add(&self.metrics.forwarded, 1);
        Ok(())
    }

    /// Asks over TCP and waits for the answer.
    pub(super) fn ask(&self, query: &[u8], chain: Chain) -> Vec<u8> {
        let Packet::Query(read) = Packet::read(query) else {
            return failure(query, Transport::Tcp, &self.policy);
        };
        add(&self.metrics.forwarded, 1);
        let id = self.random.hash_one(Instant::now()) as u16;
        let (packet, question) = outgoing(id, &read, &chain);
        let answer = exchange(self.upstream, &packet).ok();
        let answer = answer.filter(|answer| answers(answer, id, &question));
        let answer = answer.and_then(|a| self.finish(&read, &chain, &a, Transport::Tcp));
        answer.unwrap_or_else(|| {
            add(&self.metrics.forward_failures, 1);
            failure(query, Transport::Tcp, &self.policy)
        })
    }

    fn receive(&self, socket: &Socket) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        let mut sweep = Instant::now() + SWEEP;
        loop {
            // Errors are timeouts, or say that the resolver is not there: then queries get overdue.
            match socket.udp.recv_from(&mut buffer) {
                Ok((length, from)) if self.is_upstream(from) => {
                    self.deliver(socket, &buffer[..length]);
                }
                Ok(_) | Err(_) => {}
            }
            let now = Instant::now();
            if now >= sweep {
                sweep = now + SWEEP;
                self.give_up(socket, now);
            }
        }
    }

    fn is_upstream(&self, from: SocketAddr) -> bool {
        from.ip() == self.upstream.ip() && from.port() == self.upstream.port()
    }

    fn deliver(&self, socket: &Socket, answer: &[u8]) {
        let Some(id) = answer.first_chunk().copied().map(u16::from_be_bytes) else {
            return;
        };
        let mut waiting = socket.waiting();
        if !waiting
            .get(&id)
            .is_some_and(|w| answers(answer, id, &w.question))
        {
            return;
        }
        let Some(entry) = waiting.remove(&id) else {
            return;
        };
        drop(waiting);
        let response = match Packet::read(&entry.query) {
            Packet::Query(query) => self.finish(&query, &entry.chain, answer, Transport::Udp),
            Packet::Noise | Packet::Bad(..) => None,
        };
        let response =
            response.unwrap_or_else(|| failure(&entry.query, Transport::Udp, &self.policy));
        entry.client.send(&response);
    }

    fn give_up(&self, socket: &Socket, now: Instant) {
        let mut waiting = socket.waiting();
        let overdue: Vec<u16> = waiting
            .iter()
            .filter(|(_, entry)| entry.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in overdue {
            if let Some(entry) = waiting.remove(&id) {
                add(&self.metrics.forward_failures, 1);
                let response = failure(&entry.query, Transport::Udp, &self.policy);
                entry.client.send(&response);
            }
        }
    }

    /// Makes the resolver's answer the response to a client.
    fn finish(
        &self,
        query: &Query<'_>,
        chain: &Chain,
        answer: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let limit = limit(query, transport, &self.policy);
        if let Some((start, _)) = chain {
            return merge(query, start, answer, limit, &self.policy);
        }
        let mut response = answer.to_vec();
        if response.len() > limit {
            response.truncate(HEADER + query.question.len());
            response[2] |= (flag::TRUNCATED >> 8) as u8;
            response[6..HEADER].fill(0);
        }
        response[..2].copy_from_slice(&query.header.id.to_be_bytes());
        Some(response)
    }
}

impl Socket {
    fn waiting(&self) -> MutexGuard<'_, BTreeMap<u16, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    fn send(&self, response: &[u8]) {
        // A client that is gone needs no answer.
        self.asked.answer(&self.socket, &self.address, response);
    }
}

/// The query for the resolver, and its question.
fn outgoing(id: u16, query: &Query<'_>, chain: &Chain) -> (Vec<u8>, Vec<u8>) {
    let mut question = match chain {
        Some((_, target)) => target.octets().to_vec(),
        None => query.name.octets().to_vec(),
    };
    question.extend_from_slice(&query.record_type.number().to_be_bytes());
    question.extend_from_slice(&CLASS_IN.to_be_bytes());
    let mut packet = Vec::with_capacity(HEADER + question.len() + 11);
    packet.extend_from_slice(&id.to_be_bytes());
    packet.extend_from_slice(&flag::RECURSION_DESIRED.to_be_bytes());
    let with_edns = chain.is_none() && query.edns.is_some();
    packet.extend_from_slice(&[0, 1, 0, 0, 0, 0, 0, u8::from(with_edns)]);
    packet.extend_from_slice(&question);
    if let (Some(edns), None) = (query.edns, chain) {
        packet.extend_from_slice(&[0, 0, 41]);
        packet.extend_from_slice(&edns.size.to_be_bytes());
        packet.extend_from_slice(&[0, 0, if edns.dnssec_ok { 0x80 } else { 0 }, 0, 0, 0]);
    }
    (packet, question)
}

/// Whether a message is the response to a question.
fn answers(message: &[u8], id: u16, question: &[u8]) -> bool {
    let end = HEADER + question.len();
    message.len() >= end
        && message[..2] == id.to_be_bytes()
        && message[2] & 0x80 != 0
        && message[4..6] == [0, 1]
        && message[HEADER..end].eq_ignore_ascii_case(question)
}

fn failure(query: &[u8], transport: Transport, policy: &Policy) -> Vec<u8> {
    let mut out = Vec::new();
    if let Packet::Query(query) = Packet::read(query) {
        let edns = query.edns.as_ref();
        let question = Some((query.name, query.question));
        let limit = limit(&query, transport, policy);
        let writer = Writer::new(&mut out, limit, query.header, question, edns);
        let flags = base_flags(query.header, policy);
        writer.finish(flags, rcode::SERVFAIL, edns.map(|e| (e, policy.max_udp)));
    }
    out
}

fn exchange(upstream: SocketAddr, packet: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&upstream, TIMEOUT)?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let length = u16::try_from(packet.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], packet].concat())?;
    let mut length = [0; 2];
    read_within(&mut stream, &mut length, TIMEOUT)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_within(&mut stream, &mut answer, TIMEOUT)?;
    Ok(answer)
}
