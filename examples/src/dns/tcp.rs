//! TCP connections: each has a thread, and there are only so many of them.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::metrics::Counters;
use super::respond::{Outcome, Transport, respond_into};
use super::server::Shared;

/// Most connections at a time; each takes a small thread.
const MAX_CONNECTIONS: usize = 256;
/// Most connections of one address.
const MAX_PER_CLIENT: usize = 64;
/// How long a connection may rest between queries (RFC 7766 6.2.3).
const IDLE: Duration = Duration::from_secs(10);
/// How long a query may take to arrive, and an answer to be taken.
const TRANSFER: Duration = Duration::from_secs(5);
/// Stack of a connection's thread.
const STACK: usize = 256 << 10;

/// Connections by client.
type Open = Arc<Mutex<BTreeMap<IpAddr, usize>>>;

/// Accepts connections until the listener fails.
pub(super) fn serve(
    listener: &TcpListener,
    shared: &Arc<Shared>,
    counters: &Arc<Counters>,
) -> io::Result<()> {
    let open = Open::default();
    loop {
        let (stream, peer) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if is_transient(&error) => {
                // Out of descriptors: the connection waits in the kernel; do not spin on it.
                thread::sleep(Duration::from_millis(20));
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(place) = Place::take(&open, peer.ip()) else {
            continue;
        };
        let (shared, counters) = (shared.clone(), counters.clone());
        let connection = move || {
            let _place = place;
            // A client that goes away or is too slow loses its connection; nothing else follows.
            let _ = converse(stream, &shared, &counters);
        };
        let builder = thread::Builder::new().stack_size(STACK);
        // Without a thread the connection is closed, as the closure that holds it is dropped.
        let _ = builder.name("dns-tcp".into()).spawn(connection);
    }
}

fn is_transient(error: &io::Error) -> bool {
    let kinds = [
        ErrorKind::Interrupted,
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
    ];
    kinds.contains(&error.kind()) || matches!(error.raw_os_error(), Some(12 | 23 | 24 | 105))
}

/// A place among the connections, given back when it is dropped.
struct Place {
    open: Open,
    client: IpAddr,
}

impl Place {
    fn take(open: &Open, client: IpAddr) -> Option<Self> {
        let mut clients = open.lock().unwrap_or_else(PoisonError::into_inner);
        let total: usize = clients.values().sum();
        let own = clients.get(&client).copied().unwrap_or(0);
        if total >= MAX_CONNECTIONS || own >= MAX_PER_CLIENT {
            return None;
        }
        clients.insert(client, own + 1);
        let open = open.clone();
        Some(Self { open, client })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

fn converse(mut stream: TcpStream, shared: &Shared, counters: &Counters) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(TRANSFER))?;
    let mut query = Vec::new();
    let mut out = Vec::new();
    loop {
        let mut length = [0; 2];
        read_within(&mut stream, &mut length, IDLE)?;
        query.resize(usize::from(u16::from_be_bytes(length)), 0);
        read_within(&mut stream, &mut query, TRANSFER)?;
        let before = Instant::now();
        let zone = shared.zone.load_full();
        let outcome = respond_into(&zone, &query, Transport::Tcp, &shared.policy, &mut out);
        match outcome {
            // What is not even a query has no place on a connection.
            Outcome::Silence => {
                counters.count_silence();
                return Ok(());
            }
            Outcome::Answer(kind) => counters.count(kind, before.elapsed()),
            Outcome::Forward => out = shared.forward_over_tcp(&query, None),
            Outcome::Continue(target) => {
                let chain = (std::mem::take(&mut out), target.to_name());
                out = shared.forward_over_tcp(&query, Some(chain));
            }
        }
        // An answer is never longer than the limit that it was written with.
        let length = u16::try_from(out.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &out].concat();
        stream.write_all(&framed)?;
    }
}

/// Reads exactly as much as fits, within a time for all of it: drops do not fill a bucket.
pub(super) fn read_within(
    stream: &mut TcpStream,
    mut buffer: &mut [u8],
    time: Duration,
) -> io::Result<()> {
    let deadline = Instant::now() + time;
    while !buffer.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(buffer) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => buffer = &mut buffer[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
