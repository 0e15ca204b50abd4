//! An API server for tests: lists, pages, watches, bookmarks, streaming lists, and all that goes
//! wrong with them.
//!
//! ```text
//!  test ──put, delete, bookmark, fail──► Store ◄──reads── ApiServer ◄──HTTP/1.1, plain or TLS── program
//!       ◄──────────── Asked ───────────────┘                                                  under test
//! ```
//!
//! A [`Store`] outlives the servers before it, so that one can go and another one come back on the
//! same port with the same objects. Nothing in here waits for time to pass.

mod fault;
mod http;
mod selector;
mod serve;
mod store;
#[cfg(feature = "cluster")]
mod tls;
mod watch;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

pub use fault::{End, Fault, On};
pub use store::{Store, Streaming};

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// `GET` or `POST`.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: BTreeMap<String, String>,
    /// The value of the header `Authorization`; empty without one.
    pub authorization: String,
    /// What was posted.
    pub body: String,
    /// When it had been read.
    pub at: Instant,
}

impl Asked {
    /// A parameter of the query; empty when it is not there.
    pub fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    /// Whether this starts a watch.
    pub fn is_watch(&self) -> bool {
        self.parameter("watch") == "true"
    }
}

/// How a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP.
    Plain,
    /// HTTPS, with the certificate of the tests.
    #[cfg(feature = "cluster")]
    Tls,
}

/// A running server; it and all its connections end when this is dropped.
#[derive(Debug)]
pub struct ApiServer {
    address: SocketAddr,
    transport: Transport,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Arc<Store>,
    stopped: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl ApiServer {
    /// Serves a store on a free port of loopback.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(store: &Arc<Store>, transport: Transport) -> io::Result<Self> {
        Self::start_at(([127, 0, 0, 1], 0).into(), store, transport)
    }

    /// Serves a store on an address, such as the one of a server that is gone.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_at(
        address: SocketAddr,
        store: &Arc<Store>,
        transport: Transport,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            store: store.clone(),
            stopped: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = shared.clone();
        let acceptor = thread::Builder::new()
            .name("api-server".into())
            .spawn(move || accept(&listener, transport, &accepting))?;
        Ok(Self {
            address,
            transport,
            shared,
            acceptor: Some(acceptor),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A kubeconfig for it.
    pub fn kubeconfig(&self) -> String {
        let (scheme, authority) = match self.transport {
            Transport::Plain => ("http", String::new()),
            #[cfg(feature = "cluster")]
            Transport::Tls => {
                let data = base64(tls::AUTHORITY.as_bytes());
                ("https", format!(", certificate-authority-data: {data}"))
            }
        };
        let mut text = String::from("apiVersion: v1\nkind: Config\ncurrent-context: test\n");
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "clusters: [{{name: test, cluster: {{server: \"{scheme}://{}\"{authority}}}}}]\n\
             users: [{{name: test, user: {{token: test-token}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address
        );
        text
    }

    /// Cuts all connections and goes on to listen.
    pub fn cut_connections(&self) {
        self.shared.cut();
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        // Wakes the acceptor; if it is gone already there is nobody to wake.
        let _ = TcpStream::connect(self.address);
        self.shared.cut();
        self.shared.store.wake();
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
        // One that was accepted in the meantime.
        self.shared.cut();
    }
}

impl Shared {
    fn cut(&self) {
        let mut connections = lock(&self.connections);
        for connection in connections.drain(..) {
            // It may be closed already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn accept(listener: &TcpListener, transport: Transport, shared: &Arc<Shared>) {
    for connection in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(connection) = connection else { continue };
        // Events are small and each one counts.
        let _ = connection.set_nodelay(true);
        if let Ok(handle) = connection.try_clone() {
            lock(&shared.connections).push(handle);
        }
        let shared = shared.clone();
        let handle = connection.try_clone();
        // A thread that cannot start drops its connection.
        let _ = thread::Builder::new()
            .name("api-client".into())
            .spawn(move || {
                // The other side sees that the connection ends; there is nobody else to tell.
                let _ = match transport {
                    Transport::Plain => serve::connection(connection, &shared),
                    #[cfg(feature = "cluster")]
                    Transport::Tls => tls::accept(connection)
                        .and_then(|connection| serve::connection(connection, &shared)),
                };
                // The list of connections holds it open otherwise.
                if let Ok(handle) = handle {
                    let _ = handle.shutdown(Shutdown::Both);
                }
            });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(feature = "cluster")]
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let mut word = 0u32;
        for at in 0..3 {
            word = word << 8 | u32::from(chunk.get(at).copied().unwrap_or(0));
        }
        for digit in 0..4 {
            let value = (word >> (18 - 6 * digit)) & 63;
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[value as usize])),
                false => text.push('='),
            }
        }
    }
    text
}
