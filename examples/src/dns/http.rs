//! The smallest HTTP server that a probe and a scraper need.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

/// Longest request that is read; the first line is all that counts.
const MAX_REQUEST: u64 = 4096;
/// How long a client may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// A response: status, content type and body.
pub(super) struct Page {
    pub(super) status: &'static str,
    pub(super) body: String,
}

/// Answers requests one after another until the listener fails.
pub(super) fn serve(listener: &TcpListener, page: impl Fn(&str) -> Page) -> io::Result<()> {
    loop {
        let (stream, _) = match listener.accept() {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        // A client that fails is its own concern.
        let _ = answer(stream, &page);
    }
}

fn answer(mut stream: TcpStream, page: &impl Fn(&str) -> Page) -> io::Result<()> {
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
    let first = String::from_utf8_lossy(&request);
    let mut words = first.split_whitespace();
    let page = match (words.next(), words.next()) {
        (Some("GET" | "HEAD"), Some(path)) => page(path.split('?').next().unwrap_or(path)),
        (Some(_), _) => Page {
            status: "405 Method Not Allowed",
            body: String::new(),
        },
        (None, _) => return Ok(()),
    };
    let Page { status, body } = page;
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )
}
