//! The smallest HTTP server that a probe and a scraper need.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

/// Longest request that is read; the first line is all that counts.
const MAX_REQUEST: u64 = 4096;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients that are answered at once; more wait for each other.
const MOST_AT_ONCE: usize = 16;

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// `GET` and the like.
    pub method: String,
    /// The path, without what follows `?`.
    pub path: String,
    /// Names and values after the `?`, decoded.
    pub query: Vec<(String, String)>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Status code.
    pub status: u16,
    /// Headers beside those of the length and the connection.
    pub headers: Vec<(&'static str, String)>,
    /// What follows them.
    pub body: String,
}

/// Answers requests; called by several threads at once.
pub type Answer = Arc<dyn Fn(&Request) -> Page + Send + Sync>;

impl Request {
    /// Reads the first line of a request; `None` if there is none.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let (method, target) = (words.next()?, words.next()?);
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(name), decoded(value))
        };
        Some(Self {
            method: method.into(),
            path: path.into(),
            query: pairs.map(pair).collect(),
        })
    }

    /// A value of the query.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.iter();
        pairs.find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
}

impl Page {
    /// Plain text, as Prometheus wants it.
    pub fn text(status: u16, body: impl Into<String>) -> Self {
        let kind = "text/plain; version=0.0.4";
        Self {
            status,
            headers: vec![("Content-Type", kind.into())],
            body: body.into(),
        }
    }

    /// JSON.
    pub fn json(status: u16, body: impl Into<String>) -> Self {
        Self {
            status,
            headers: vec![("Content-Type", "application/json".into())],
            body: body.into(),
        }
    }

    fn head(&self) -> String {
        let reason = match self.status {
            200 => "OK",
            400 => "Bad Request",
            404 => "Not Found",
            405 => "Method Not Allowed",
            503 => "Service Unavailable",
            _ => "",
        };
        let mut head = format!("HTTP/1.1 {} {reason}\r\n", self.status);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let length = self.body.len();
        head + &format!("Content-Length: {length}\r\nConnection: close\r\n\r\n")
    }
}

/// The answer to a request that only reads.
pub fn reading(request: &Request, page: impl FnOnce(&str) -> Page) -> Page {
    match request.method.as_str() {
        "GET" | "HEAD" => page(&request.path),
        _ => Page::text(405, ""),
    }
}

/// Answers until the listener fails; a slow client holds up nobody but itself.
///
/// # Errors
/// What the listener says.
pub fn serve(listener: &TcpListener, answer: &Answer) -> io::Result<()> {
    let busy = Arc::new(AtomicUsize::new(0));
    loop {
        match listener.accept() {
            Ok((stream, _)) => take(stream, answer, &busy),
            Err(error) if is_passing(&error) => {}
            // Out of descriptors: those who are served give theirs back.
            Err(error) if error.raw_os_error() == Some(nix::libc::EMFILE) => {
                thread::sleep(PATIENCE / 20);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Whether an error of `accept` says nothing of the next call.
pub fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted | io::ErrorKind::WouldBlock
    )
}

/// Answers one client, on a thread of its own if there are not too many.
pub fn take(stream: TcpStream, answer: &Answer, busy: &Arc<AtomicUsize>) {
    if busy.fetch_add(1, Ordering::Relaxed) < MOST_AT_ONCE {
        let (answer, busy) = (answer.clone(), busy.clone());
        let spawned = thread::Builder::new().name("http".into()).spawn(move || {
            // A client that fails is its own concern.
            let _ = converse(stream, &answer);
            busy.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_ok() {
            return;
        }
    } else {
        let _ = converse(stream, answer);
    }
    // Of the client that was answered here, or that no thread was to be had for.
    let _ = busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
}

fn converse(mut stream: TcpStream, answer: &Answer) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    let mut limited = (&stream).take(MAX_REQUEST);
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match limited.read(&mut chunk)? {
            0 => break,
            count => request.extend_from_slice(&chunk[..count]),
        }
    }
    let text = String::from_utf8_lossy(&request);
    let line = text.lines().next().unwrap_or_default();
    let Some(request) = Request::parse(line) else {
        return Ok(());
    };
    let page = answer(&request);
    stream.write_all(page.head().as_bytes())?;
    match request.method.as_str() {
        "HEAD" => Ok(()),
        _ => stream.write_all(page.body.as_bytes()),
    }
}

/// Undoes `%3A` and `+`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (byte, after.get(..2).and_then(hex)) {
            (b'%', Some(value)) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
            }
            (b'+', _) => bytes.push(b' '),
            (byte, _) => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_line_is_taken_apart() {
        let line = "GET /explain?from=fd00%3A%3A1&to=10.0.0.1:80/tcp&x HTTP/1.1";
        let request = Request::parse(line).unwrap();
        assert_eq!((&*request.method, &*request.path), ("GET", "/explain"));
        assert_eq!(request.value("from"), Some("fd00::1"));
        assert_eq!(request.value("to"), Some("10.0.0.1:80/tcp"));
        assert_eq!(request.value("x"), Some(""));
        assert_eq!(request.value("y"), None);
        assert_eq!(Request::parse("GET"), None);
        assert_eq!(decoded("%zz%4"), "%zz%4");
    }
}
