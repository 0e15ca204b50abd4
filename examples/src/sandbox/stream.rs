//! Clients that last: a loop of connections, and a connection that stays open.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::client::ask;
use super::connect::{Answer, Closing, Connection, Failure, Target};
use super::{Error, Namespace, Outcome, Transport};

/// What a [`ConnectLoop`] has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts that a pod answered.
    pub made: u64,
    /// Attempts that came to anything else.
    pub failed: u64,
    /// Answers of each pod.
    pub by_pod: BTreeMap<String, u64>,
    /// Failures in words, and how often each happened.
    pub failures: BTreeMap<String, u64>,
}

/// A client that asks again and again, about a thousand times a second, while others change
/// things.
#[derive(Debug)]
pub struct ConnectLoop {
    shared: Arc<Shared>,
    worker: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    counts: Mutex<Counts>,
}

impl ConnectLoop {
    /// Starts asking the server at `to`, each time on a new connection from a new port.
    ///
    /// # Errors
    ///
    /// Those of [`Namespace::spawn`].
    pub fn start(
        from: &Namespace,
        source: Option<IpAddr>,
        to: SocketAddr,
        transport: Transport,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared::default());
        let target = Target {
            source,
            source_port: 0,
            to,
            transport,
        };
        let of_worker = Arc::clone(&shared);
        let worker = from.spawn(move || of_worker.work(&target, timeout))?;
        Ok(Self {
            shared,
            worker: Some(worker),
        })
    }

    /// What was done so far.
    pub fn counts(&self) -> Counts {
        self.shared.lock().clone()
    }

    /// Waits for the attempt under way and stops.
    pub fn stop(mut self) -> Counts {
        self.finish();
        self.counts()
    }

    fn finish(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(worker) = self.worker.take() {
            worker.thread().unpark();
            // The worker counts and cannot panic; if it did, its counts would still stand.
            drop(worker.join());
        }
    }
}

impl Drop for ConnectLoop {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    fn work(&self, target: &Target, timeout: Duration) {
        let mut target = target.clone();
        let mut ports = SOURCE_PORTS.cycle();
        while !self.stop.load(Ordering::Relaxed) {
            target.source_port = ports.next().unwrap_or_default();
            let result = ask(&target, timeout, Closing::Abrupt);
            self.lock().add(result);
            thread::park_timeout(PAUSE);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        // Each update is one statement, so the counts are whole whatever happened to a holder.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn add(&mut self, result: Result<Outcome, Failure>) {
        let failure = match result {
            Ok(Outcome::Answered { pod, .. }) => {
                self.made += 1;
                *self.by_pod.entry(pod).or_default() += 1;
                return;
            }
            Ok(outcome) | Err(Failure::Outcome(outcome)) => outcome.to_string(),
            Err(Failure::Socket { operation, errno }) => {
                format!("cannot {operation}: {}", errno.desc())
            }
        };
        self.failed += 1;
        *self.failures.entry(failure).or_default() += 1;
    }
}

/// A connection, or a UDP port pair, that stays open and can be asked whether it still works.
#[derive(Debug)]
pub struct Session {
    namespace: String,
    connection: Connection,
    pod: String,
    seen_source: SocketAddr,
    asked: u64,
}

impl Session {
    /// Opens a session with the server at `to`.
    ///
    /// # Errors
    ///
    /// [`Error::NoSession`] with the outcome, [`Error::Socket`], or those of [`Namespace::run`].
    pub fn open(
        from: &Namespace,
        source: Option<IpAddr>,
        to: SocketAddr,
        transport: Transport,
        timeout: Duration,
    ) -> Result<Self, Error> {
        let target = Target {
            source,
            source_port: 0,
            to,
            transport,
        };
        let (connection, answer) = from
            .run(|| begin(&target, Instant::now() + timeout))?
            .or_else(|failure| {
                Err(Error::NoSession {
                    to,
                    outcome: failure.into_outcome(from.name())?,
                })
            })?;
        Ok(Self {
            namespace: from.name().to_owned(),
            connection,
            pod: answer.pod,
            seen_source: answer.seen_source,
            asked: 0,
        })
    }

    /// The pod at the other end.
    pub fn pod(&self) -> &str {
        &self.pod
    }

    /// The client's address as the pod sees it.
    pub fn seen_source(&self) -> SocketAddr {
        self.seen_source
    }

    /// Sends a line and waits for its answer: `Answered`, or what went wrong.
    ///
    /// A TCP or SCTP server sends the line back; a UDP server names itself again, and `pod` is whoever
    /// answered, which need not be the pod that the session began with.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when the socket itself failed.
    pub fn ask(&mut self, timeout: Duration) -> Result<Outcome, Error> {
        let start = Instant::now();
        match self.exchange(start + timeout) {
            Ok(()) => Ok(Outcome::Answered {
                pod: self.pod.clone(),
                seen_source: self.seen_source,
                took: start.elapsed(),
            }),
            Err(failure) => failure.into_outcome(&self.namespace),
        }
    }

    fn exchange(&mut self, deadline: Instant) -> Result<(), Failure> {
        self.asked += 1;
        let line = format!("line {}", self.asked);
        self.connection.send(format!("{line}\n").as_bytes())?;
        match self.connection.transport() {
            Transport::Tcp | Transport::Sctp => while self.connection.line(deadline)? != line {},
            Transport::Udp => {
                let answer = self.connection.answer(deadline)?;
                (self.pod, self.seen_source) = (answer.pod, answer.seen_source);
            }
        }
        Ok(())
    }
}

fn begin(target: &Target, deadline: Instant) -> Result<(Connection, Answer), Failure> {
    let mut connection = Connection::open(target, deadline, Closing::Orderly)?;
    connection.begin()?;
    let answer = connection.answer(deadline)?;
    Ok((connection, answer))
}

/// Source ports of loops with a source address, one after the other: a port that came again while
/// the network still remembers it would be the old connection. A TCP connection that the client cut
/// off while the server closed it is opened again by connection tracking, with its old server.
const SOURCE_PORTS: RangeInclusive<u16> = 10_000..=29_999;
/// Between two attempts, so that a loop leaves the processor to what it watches.
const PAUSE: Duration = Duration::from_millis(1);
