//! Servers that say who they are and whom they see.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread::{self, JoinHandle};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, SockaddrStorage, bind, listen, setsockopt, sockopt,
};

use super::client::new_socket;
use super::{Error, Namespace, Transport};

/// Servers of one pod: any number of ports, one thread.
///
/// A TCP connection is greeted with a line `NAME PEER` and then echoes what it receives until the
/// client closes it. An SCTP association does the same, but waits for the client to begin. A UDP
/// datagram is answered with the same line. Stops when dropped, and closes
/// its connections then.
#[derive(Debug)]
pub struct Server {
    listening: Vec<(Transport, SocketAddr)>,
    /// Closed to stop the thread.
    stop: Option<UnixStream>,
    worker: Option<JoinHandle<()>>,
}

impl Server {
    /// Listens in a namespace and answers under a name; port 0 takes a free one.
    ///
    /// Returns once every port is open.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] with the address that could not be listened on, [`Error::Thread`], or
    /// those of [`Namespace::run`].
    pub fn start(
        namespace: &Namespace,
        name: &str,
        addresses: &[(Transport, SocketAddr)],
    ) -> Result<Self, Error> {
        let failed = |source| Error::Thread {
            namespace: namespace.name().to_owned(),
            source,
        };
        let (stop, stopped) = UnixStream::pair().map_err(failed)?;
        let mut sockets = Sockets::new(name, stopped);
        let listening = namespace.run(|| sockets.listen(addresses))?.map_err(
            |((transport, address), source)| Error::Socket {
                operation: format!("listen on {address}/{transport}"),
                namespace: namespace.name().to_owned(),
                source,
            },
        )?;
        // Sockets stay in the namespace they were made in; the thread need not be there.
        let worker = thread::Builder::new()
            .name(format!("serve {name}"))
            .spawn(move || sockets.serve())
            .map_err(failed)?;
        Ok(Self {
            listening,
            stop: Some(stop),
            worker: Some(worker),
        })
    }

    /// Where it listens, with the ports that were chosen.
    pub fn listening(&self) -> &[(Transport, SocketAddr)] {
        &self.listening
    }

    /// Closes every socket and waits for the thread.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(worker) = self.worker.take() {
            // A panic there was printed by the runtime; the sockets are closed either way.
            drop(worker.join());
        }
    }
}

/// The sockets of one server.
struct Sockets {
    name: String,
    stopped: UnixStream,
    listeners: Vec<(Transport, TcpListener)>,
    datagrams: Vec<UdpSocket>,
    connections: Vec<Connection>,
}

/// A connection and what it could not yet send.
struct Connection {
    stream: TcpStream,
    /// Said when the client has begun.
    greeting: Vec<u8>,
    unsent: Vec<u8>,
}

type ListenError = ((Transport, SocketAddr), Errno);

impl Sockets {
    fn new(name: &str, stopped: UnixStream) -> Self {
        Self {
            name: name.to_owned(),
            stopped,
            listeners: Vec::new(),
            datagrams: Vec::new(),
            connections: Vec::new(),
        }
    }

    fn listen(
        &mut self,
        addresses: &[(Transport, SocketAddr)],
    ) -> Result<Vec<(Transport, SocketAddr)>, ListenError> {
        addresses
            .iter()
            .map(|(transport, address)| {
                self.listen_on(*transport, *address)
                    .map(|address| (*transport, address))
                    .map_err(|errno| ((*transport, *address), errno))
            })
            .collect()
    }

    fn listen_on(&mut self, transport: Transport, address: SocketAddr) -> nix::Result<SocketAddr> {
        let socket = server_socket(transport, address)?;
        let local = match transport {
            Transport::Tcp | Transport::Sctp => {
                listen(&socket, Backlog::new(BACKLOG)?)?;
                // What the standard library does with it is the same for both.
                let listener = TcpListener::from(socket);
                let local = listener.local_addr();
                self.listeners.push((transport, listener));
                local
            }
            Transport::Udp => {
                let datagrams = UdpSocket::from(socket);
                let local = datagrams.local_addr();
                self.datagrams.push(datagrams);
                local
            }
        };
        local.map_err(|error| errno_of(&error))
    }

    /// Answers until the other end of `stopped` is closed.
    fn serve(mut self) {
        while let Some(ready) = self.wait() {
            for listener in ready.listeners {
                self.accept(listener);
            }
            for datagrams in ready.datagrams {
                self.answer(datagrams);
            }
            // From the back, so that removing one leaves the places of the others.
            for place in ready.connections.into_iter().rev() {
                if self
                    .connections
                    .get_mut(place)
                    .is_some_and(|one| one.echo().is_err())
                {
                    self.connections.swap_remove(place);
                }
            }
        }
    }

    /// Waits for work; `None` is the sign to stop.
    fn wait(&self) -> Option<Ready> {
        let mut fds = vec![PollFd::new(self.stopped.as_fd(), PollFlags::POLLIN)];
        fds.extend(
            self.listeners
                .iter()
                .map(|(_, one)| PollFd::new(one.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(
            self.datagrams
                .iter()
                .map(|one| PollFd::new(one.as_fd(), PollFlags::POLLIN)),
        );
        fds.extend(
            self.connections
                .iter()
                .map(|one| PollFd::new(one.stream.as_fd(), one.interest())),
        );
        while let Err(errno) = poll(&mut fds, PollTimeout::NONE) {
            if errno != Errno::EINTR {
                return None;
            }
        }
        let mut happened = fds.iter().map(|fd| fd.any().unwrap_or(false));
        if happened.next() == Some(true) {
            return None;
        }
        let mut places = |count| {
            let ready: Vec<bool> = happened.by_ref().take(count).collect();
            ready
                .into_iter()
                .enumerate()
                .filter_map(|(place, ready)| ready.then_some(place))
                .collect()
        };
        Some(Ready {
            listeners: places(self.listeners.len()),
            datagrams: places(self.datagrams.len()),
            connections: places(self.connections.len()),
        })
    }

    fn accept(&mut self, place: usize) {
        let Some((transport, listener)) = self.listeners.get(place) else {
            return;
        };
        loop {
            match listener.accept() {
                Ok((stream, peer)) => {
                    let greeting = greeting(&self.name, peer).into_bytes();
                    let (greeting, unsent) = match transport {
                        Transport::Tcp | Transport::Udp => (Vec::new(), greeting),
                        // What the server says at once may overtake, on another processor, its
                        // last packet of the handshake, and is then discarded for three seconds.
                        Transport::Sctp => (greeting, Vec::new()),
                    };
                    let mut connection = Connection {
                        stream,
                        greeting,
                        unsent,
                    };
                    if connection.begin().is_ok() {
                        self.connections.push(connection);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if of_one_client(&error) => {}
                Err(_) => {
                    // Out of files: without a listener the others go on, and `poll` does not spin.
                    self.listeners.swap_remove(place);
                    return;
                }
            }
        }
    }

    fn answer(&self, place: usize) {
        let Some(socket) = self.datagrams.get(place) else {
            return;
        };
        let mut datagram = [0; 2048];
        while let Ok((_, peer)) = socket.recv_from(&mut datagram) {
            // A datagram may be lost anyway; the client's deadline covers this one too.
            drop(socket.send_to(greeting(&self.name, peer).as_bytes(), peer));
        }
    }
}

/// Places of the sockets that have something to do, ascending.
struct Ready {
    listeners: Vec<usize>,
    datagrams: Vec<usize>,
    connections: Vec<usize>,
}

impl Connection {
    fn begin(&mut self) -> io::Result<()> {
        self.stream.set_nonblocking(true)?;
        // SCTP has an option of its own for it; answers there wait for nothing to be answered.
        let _ = self.stream.set_nodelay(true);
        self.flush()
    }

    fn interest(&self) -> PollFlags {
        // Nothing more is read while the client does not take its answers.
        if self.unsent.is_empty() {
            PollFlags::POLLIN
        } else {
            PollFlags::POLLOUT
        }
    }

    /// Sends back what was received; an error is the end of the connection.
    fn echo(&mut self) -> io::Result<()> {
        self.flush()?;
        let mut bytes = [0; 16 * 1024];
        while self.unsent.is_empty() {
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    self.unsent.append(&mut self.greeting);
                    self.unsent.extend(bytes.iter().take(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn server_socket(transport: Transport, address: SocketAddr) -> nix::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let socket = new_socket(transport, family)?;
    if transport == Transport::Tcp {
        // A pod restarted under its old address finds connections of its predecessor in TIME_WAIT.
        setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    }
    if address.is_ipv6() {
        // So that 0.0.0.0 and [::] can both be listened on.
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

fn greeting(name: &str, peer: SocketAddr) -> String {
    format!("{name} {peer}\n")
}

/// Whether a failed `accept` concerns only the connection that was accepted.
fn of_one_client(error: &io::Error) -> bool {
    !matches!(
        errno_of(error),
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOBUFS
            | Errno::ENOMEM
            | Errno::EINVAL
            | Errno::EBADF
    )
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

/// Connections waiting to be accepted, for each port.
const BACKLOG: i32 = 128;
