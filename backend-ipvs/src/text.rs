//! Rulesets in the words of ipvsadm.

use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

use svc_core::{IpFamily, Protocol, Ruleset};

use crate::key::{Destination, Key, Method, Server, ServerId, Value};

/// What `ipvsadm -Sn` prints of virtual servers and destinations after a sync, ours alone.
///
/// The bound addresses and the companion table, which ipvsadm does not know, are left out.
pub fn ipvsadm(rulesets: &[(IpFamily, &Ruleset<Key, Value>)]) -> String {
    let mut lines: Vec<(Order, String)> = Vec::new();
    for (family, ruleset) in rulesets {
        for (key, value) in *ruleset {
            match (key, value) {
                (Key::Server(id), Value::Server(server)) => {
                    let order = order(*family, *id, None);
                    lines.push((order, server_line(*family, *id, server)));
                }
                (Key::Destination(id, at), Value::Destination(value)) => {
                    let order = order(*family, *id, Some(*at));
                    lines.push((order, destination_line(*family, *id, *at, *value)));
                }
                (
                    Key::Companion(_)
                    | Key::Link
                    | Key::Address(_)
                    | Key::Server(_)
                    | Key::Destination(..),
                    _,
                ) => {}
            }
        }
    }
    lines.sort_unstable();
    lines.into_iter().map(|(_, line)| line).collect()
}

/// ipvsadm sorts by mark, family, protocol, address and port; its addresses are signed numbers.
type Order = (u32, IpFamily, Option<(u8, Place)>, Option<Place>);
type Place = (Vec<i32>, u16);

fn order(family: IpFamily, id: ServerId, destination: Option<SocketAddr>) -> Order {
    let destination = destination.map(place);
    match id {
        ServerId::Marked(_, mark) => (mark, family, None, destination),
        ServerId::At(protocol, at) => {
            (0, family, Some((protocol.number(), place(at))), destination)
        }
    }
}

fn place(at: SocketAddr) -> Place {
    let words = match at.ip() {
        IpAddr::V4(ip) => vec![ip.to_bits().cast_signed()],
        IpAddr::V6(ip) => {
            let octets = ip.octets();
            let (words, _) = octets.as_chunks::<4>();
            words.iter().map(|word| i32::from_be_bytes(*word)).collect()
        }
    };
    (words, at.port())
}

pub(crate) fn server_line(family: IpFamily, id: ServerId, server: &Server) -> String {
    let mut line = format!("-A {} -s {}", name(family, id), server.scheduler);
    if let Some(persistence) = server.persistence {
        // Writing to a string cannot fail.
        let _ = write!(line, " -p {}", persistence.seconds);
        let bits = persistence.prefix_len;
        let _ = match family {
            IpFamily::V4 if bits != 32 => write!(line, " -M {}", mask(bits)),
            IpFamily::V6 if bits != 128 => write!(line, " -M {bits}"),
            IpFamily::V4 | IpFamily::V6 => Ok(()),
        };
    }
    let flags = flags(server);
    if !flags.is_empty() {
        let _ = write!(line, " -b {}", flags.join(","));
    }
    line.push('\n');
    line
}

pub(crate) fn destination_line(
    family: IpFamily,
    id: ServerId,
    at: SocketAddr,
    destination: Destination,
) -> String {
    let method = match destination.method {
        Method::Masquerade => "-m",
        // Not ours.
        Method::Other(2) => "-i",
        Method::Other(_) => "-g",
    };
    let (name, weight) = (name(family, id), destination.weight);
    format!("-a {name} -r {at} {method} -w {weight}\n")
}

fn name(family: IpFamily, id: ServerId) -> String {
    match (id, family) {
        (ServerId::Marked(_, mark), IpFamily::V4) => format!("-f {mark}"),
        (ServerId::Marked(_, mark), IpFamily::V6) => format!("-f {mark} -6"),
        (ServerId::At(Protocol::Tcp, at), _) => format!("-t {at}"),
        (ServerId::At(Protocol::Udp, at), _) => format!("-u {at}"),
        (ServerId::At(Protocol::Sctp, at), _) => format!("--sctp-service {at}"),
    }
}

/// ipvsadm knows names for the flags of two schedulers.
fn flags(server: &Server) -> Vec<String> {
    let names: [(u32, &str); 3] = [
        (Server::FLAG_1, "fallback"),
        (Server::FLAG_2, "port"),
        (Server::FLAG_3, ""),
    ];
    let set = names
        .iter()
        .zip(1..)
        .filter(|((flag, _), _)| server.flags & flag != 0);
    let word = |((_, name), number): (&(u32, &str), u32)| match (&*server.scheduler, *name) {
        (scheduler @ ("sh" | "mh"), name) if !name.is_empty() => format!("{scheduler}-{name}"),
        (_, _) => format!("flag-{number}"),
    };
    set.map(word).collect()
}

fn mask(bits: u8) -> IpAddr {
    let mask = u32::MAX.checked_shl(32 - u32::from(bits.min(32)));
    IpAddr::from(mask.unwrap_or(0).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use crate::key::Persistence;
    use crate::scheduler::Scheduler;

    use super::*;

    #[test]
    fn marks_come_last_and_families_in_turn() {
        let mut v4: Ruleset<Key, Value> = Ruleset::new();
        let mut v6 = v4.clone();
        let add = |ruleset: &mut Ruleset<Key, Value>, id, server| {
            ruleset.insert(Key::Server(id), Value::Server(server));
            let at = "10.64.1.1:8080".parse().unwrap();
            let value = Value::Destination(Destination::SERVING);
            ruleset.insert(Key::Destination(id, at), value);
        };
        let id = |protocol, at: &str| ServerId::At(protocol, at.parse().unwrap());
        let mut sticky = Server::new(Scheduler::RoundRobin);
        sticky.persistence = Some(Persistence {
            seconds: 10,
            prefix_len: 24,
        });
        let marked = ServerId::Marked(Protocol::Tcp, 0x5300_0004);
        add(&mut v4, marked, Server::new(Scheduler::Maglev));
        add(&mut v4, id(Protocol::Udp, "10.96.0.1:53"), sticky);
        add(
            &mut v6,
            id(Protocol::Sctp, "[fd00::1]:9"),
            Server::new(Scheduler::LeastConnection),
        );
        v4.insert(
            Key::Server(id(Protocol::Udp, "192.0.2.1:53")),
            Value::Server(Server::new(Scheduler::RoundRobin)),
        );
        let text = ipvsadm(&[(IpFamily::V6, &v6), (IpFamily::V4, &v4)]);
        assert_eq!(
            text,
            "-A -u 192.0.2.1:53 -s rr\n\
             -A -u 10.96.0.1:53 -s rr -p 10 -M 255.255.255.0\n\
             -a -u 10.96.0.1:53 -r 10.64.1.1:8080 -m -w 1\n\
             -A --sctp-service [fd00::1]:9 -s lc\n\
             -a --sctp-service [fd00::1]:9 -r 10.64.1.1:8080 -m -w 1\n\
             -A -f 1392508932 -s mh -b mh-port\n\
             -a -f 1392508932 -r 10.64.1.1:8080 -m -w 1\n"
        );
    }
}
