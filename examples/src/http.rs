//! The smallest HTTP server that a probe and a scraper need.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Longest request that is read; the first line is all that counts.
const MAX_REQUEST: usize = 4096;
/// How long a client may take to ask, however many bytes it sends at a time.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same for one that comes while so many are served that all others wait for it.
const HURRY: Duration = Duration::from_millis(100);
/// How long a client may take to read the answer.
const READS: Duration = Duration::from_secs(20);
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
            let _ = converse(stream, &answer, PATIENCE, READS);
            busy.fetch_sub(1, Ordering::Relaxed);
        });
        if spawned.is_ok() {
            return;
        }
    } else {
        let _ = converse(stream, answer, HURRY, HURRY);
    }
    // Of the client that was answered here, or that no thread was to be had for.
    let _ = busy.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
}

fn converse(stream: TcpStream, answer: &Answer, asks: Duration, reads: Duration) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    let mut timed = Timed::new(&stream, asks);
    let mut request = Vec::new();
    let mut chunk = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < MAX_REQUEST {
        match timed.read(&mut chunk)? {
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
    let mut timed = Timed::new(&stream, reads);
    timed.write_all(page.head().as_bytes())?;
    match request.method.as_str() {
        "HEAD" => Ok(()),
        _ => timed.write_all(page.body.as_bytes()),
    }
}

/// A stream of which all calls together may take so long: a timeout of each call would let a client
/// that sends a byte a second stay for an hour.
struct Timed<'a> {
    stream: &'a TcpStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    fn new(stream: &'a TcpStream, patience: Duration) -> Self {
        let until = Instant::now() + patience;
        Self { stream, until }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        match self.until.saturating_duration_since(Instant::now()) {
            Duration::ZERO => Err(io::ErrorKind::TimedOut.into()),
            left => Ok(Some(left)),
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(to)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
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
    use std::net::SocketAddr;

    use super::*;

    fn server() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let page = |path: &str| match path {
            "/" => Page::text(200, "here\n"),
            _ => Page::text(404, ""),
        };
        let answer: Answer = Arc::new(move |request| reading(request, page));
        thread::spawn(move || serve(&listener, &answer));
        at
    }

    fn say(at: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut text = String::new();
        // What comes before a reset counts.
        let _ = stream.read_to_string(&mut text);
        text
    }

    #[test]
    fn what_does_not_read_a_known_page_is_refused() {
        let at = server();
        let head = |request: &str| say(at, request).lines().next().map(str::to_owned);
        assert_eq!(head("GET / HTTP/1.1\r\n\r\n").unwrap(), "HTTP/1.1 200 OK");
        for method in ["POST", "PUT", "DELETE", "CONNECT", "get"] {
            let refused = head(&format!("{method} / HTTP/1.1\r\n\r\n")).unwrap();
            assert!(refused.starts_with("HTTP/1.1 405"), "{method}: {refused}");
        }
        for path in ["/x", "//", "/../etc/passwd", "http://else/"] {
            let refused = head(&format!("GET {path} HTTP/1.1\r\n\r\n")).unwrap();
            assert!(refused.starts_with("HTTP/1.1 404"), "{path}: {refused}");
        }
        for text in ["\r\n\r\n", "GET\r\n\r\n", "\0\0\r\n\r\n"] {
            assert_eq!(say(at, text), "", "{text:?}");
        }
    }

    #[test]
    fn a_request_is_read_up_to_its_limit() {
        let at = server();
        // No end of the line, ever: what fits is answered, without waiting for more.
        let start = Instant::now();
        let answer = say(at, &format!("GET /{}", "a".repeat(MAX_REQUEST)));
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 404"),
            "{answer}"
        );
        assert!(start.elapsed() < PATIENCE);
    }

    #[test]
    fn a_client_that_sends_a_byte_at_a_time_is_cut_off() {
        let mut stream = TcpStream::connect(server()).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        let start = Instant::now();
        let ended = |read: io::Result<usize>| match read {
            Ok(count) => count == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        // A read that waits in vain is the time between two bytes.
        while stream.write_all(b"G").is_ok() && !ended(stream.read(&mut [0])) {
            assert!(start.elapsed() < PATIENCE * 5, "still served");
        }
        assert!(start.elapsed() >= PATIENCE / 2, "cut off at once");
    }

    #[test]
    fn silent_clients_hold_up_nobody_for_long() {
        let at = server();
        let connect = |_| TcpStream::connect(at).unwrap();
        let silent: Vec<TcpStream> = (0..MOST_AT_ONCE * 2).map(connect).collect();
        let start = Instant::now();
        let answer = say(at, "GET / HTTP/1.1\r\n\r\n");
        assert!(answer.ends_with("here\n"), "{answer}");
        // Were each waited for, it would take half a minute.
        assert!(start.elapsed() < PATIENCE * 4, "{:?}", start.elapsed());
        drop(silent);
    }

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
