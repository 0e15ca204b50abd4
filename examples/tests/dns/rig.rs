//! A running server and the manifests that it serves.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::wire::{Message, query};

const PATIENCE: Duration = Duration::from_secs(10);

/// A running server; it ends with the test.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    said: Receiver<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn command(manifests: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dns-server"));
    command.arg("--manifests").arg(manifests).args(more);
    command.stderr(Stdio::piped()).stdin(Stdio::null());
    command
}

impl Server {
    pub(crate) fn start(manifests: &Path, more: &[&str]) -> Self {
        let mut command = command(manifests, more);
        let mut child = command.args(["--listen", "127.0.0.1:0"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = lines
            .find_map(|line| line.unwrap().strip_prefix("serving on ")?.parse().ok())
            .unwrap();
        let (sender, said) = channel();
        // Whatever it says later is read, so that it never waits for us.
        std::thread::spawn(move || {
            for line in lines {
                // The test may have ended.
                let _ = sender.send(line.unwrap_or_default());
            }
        });
        Self {
            child,
            address,
            said,
        }
    }

    /// Waits until it says something.
    #[allow(dead_code)] // Not every test that has this file listens.
    pub(crate) fn until_said(&self, text: &str) {
        while !self.said.recv_timeout(PATIENCE).unwrap().contains(text) {}
    }

    /// How it ended, once it does.
    #[allow(dead_code)] // Not every test that has this file ends it.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    #[allow(dead_code)] // Not every test that has this file asks.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn udp(&self, name: &str, kind: u16) -> Message {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(&query(42, name, kind, Some(1232))).unwrap();
        let mut buffer = [0; 4096];
        let length = socket.recv(&mut buffer).unwrap();
        let message = Message::read(&buffer[..length]).unwrap();
        assert_eq!(message.id, 42);
        message
    }

    pub(crate) fn tcp(&self, name: &str, kind: u16) -> Message {
        let mut stream = TcpStream::connect(self.address).unwrap();
        // In small pieces, as a network may deliver them.
        let packet = query(43, name, kind, None);
        let framed = [
            &u16::try_from(packet.len()).unwrap().to_be_bytes()[..],
            &packet,
        ]
        .concat();
        for piece in framed.chunks(5) {
            stream.write_all(piece).unwrap();
        }
        read_answer(&mut stream)
    }
}

pub(crate) fn read_answer(stream: &mut TcpStream) -> Message {
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::read(&answer).unwrap()
}

pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dns-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Replaces a file at once, as editors and kubelets do.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let fresh = self.0.join("fresh");
        fs::write(&fresh, text).unwrap();
        fs::rename(fresh, self.0.join(name)).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn service(name: &str, ip: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: {ip}, clusterIPs: [{ip}], ports: [{{name: http, port: 80}}]}}\n---\n"
    )
}

pub(crate) fn external(name: &str, target: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{type: ExternalName, externalName: {target}}}\n---\n"
    )
}

pub(crate) fn data(message: &Message) -> Vec<String> {
    message.sections[0]
        .iter()
        .map(|record| record.3.clone())
        .collect()
}
