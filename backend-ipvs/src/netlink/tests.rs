//! Messages byte by byte, as `linux/ip_vs.h`, `linux/genetlink.h` and `linux/rtnetlink.h` say.
//!
//! Numbers are in host order, which these tests take to be little-endian.
#![cfg(target_endian = "little")]

use std::net::IpAddr;

use svc_core::{IpFamily, Protocol};

use super::ipvs::{Codec, family_id, family_request};
use super::{Message, route, write};
use crate::key::{Destination, Method, Persistence, Server, ServerId};
use crate::scheduler::Scheduler;
use crate::system::{Counted, HeldId, Request};

const V4: Codec = Codec {
    kind: 0x1e,
    family: IpFamily::V4,
};
const V6: Codec = Codec {
    kind: 0x1e,
    family: IpFamily::V6,
};

fn hex(bytes: &[u8]) -> String {
    let words = bytes.chunks(4).map(|word| {
        let digits = word.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<String>()
    });
    words.collect::<Vec<_>>().join(" ")
}

fn check(message: &Message, expected: &[&str]) {
    let mut bytes = Vec::new();
    write(&mut bytes, message, 0x5, 7);
    assert_eq!(hex(&bytes), expected.join(" "));
}

fn web() -> ServerId {
    ServerId::At(Protocol::Tcp, "10.96.0.1:80".parse().unwrap())
}

#[test]
fn a_family_is_asked_for_by_name() {
    check(
        &family_request(),
        &[
            "20000000 10000500 07000000 00000000",
            "03010000",                   // CTRL_CMD_GETFAMILY, version 1
            "09000200 49505653 00000000", // CTRL_ATTR_FAMILY_NAME "IPVS"
        ],
    );
    let answer = [
        1, 2, 0, 0, // header
        9, 0, 2, 0, b'I', b'P', b'V', b'S', 0, 0, 0, 0, // name
        6, 0, 1, 0, 0x1e, 0, 0, 0, // id
    ];
    assert_eq!(family_id(&answer), Some(0x1e));
    assert_eq!(family_id(&answer[..16]), None);
}

#[test]
fn a_virtual_server_of_ipv4() {
    let request = Request::NewServer(web(), Server::new(Scheduler::RoundRobin));
    check(
        &V4.request(&request),
        &[
            "68000000 1e000500 07000000 00000000",
            "01010000",          // IPVS_CMD_NEW_SERVICE, version 1
            "54000180",          // IPVS_CMD_ATTR_SERVICE, nested
            "06000100 02000000", // AF_INET
            "06000200 06000000", // TCP
            "14000300 0a600001 00000000 00000000 00000000", // address
            "06000400 00500000", // port 80, network order
            "07000600 72720000", // "rr"
            "0c000700 00000000 3d000000", // flags and their mask
            "08000800 00000000", // timeout
            "08000900 ffffffff", // netmask
        ],
    );
}

#[test]
fn a_marked_virtual_server_of_ipv6_that_remembers_clients() {
    let mut server = Server::new(Scheduler::Maglev);
    server.persistence = Some(Persistence {
        seconds: 10_800,
        prefix_len: 128,
    });
    let id = ServerId::Marked(Protocol::Udp, 0x5300_0005);
    check(
        &V6.request(&Request::SetServer(id, server)),
        &[
            "4c000000 1e000500 07000000 00000000",
            "02010000",                   // IPVS_CMD_SET_SERVICE
            "38000180",                   // IPVS_CMD_ATTR_SERVICE
            "06000100 0a000000",          // AF_INET6
            "08000500 05000053",          // mark
            "07000600 6d680000",          // "mh"
            "0c000700 11000000 3d000000", // persistent, second flag
            "08000800 302a0000",          // timeout
            "08000900 80000000",          // prefix length
        ],
    );
}

#[test]
fn a_destination() {
    let at = "10.64.1.2:8080".parse().unwrap();
    check(
        &V4.request(&Request::NewDestination(web(), at, Destination::SERVING)),
        &[
            "8c000000 1e000500 07000000 00000000",
            "05010000", // IPVS_CMD_NEW_DEST
            "30000180", // the virtual server
            "06000100 02000000",
            "06000200 06000000",
            "14000300 0a600001 00000000 00000000 00000000",
            "06000400 00500000",
            "48000280", // IPVS_CMD_ATTR_DEST
            "14000100 0a400102 00000000 00000000 00000000",
            "06000200 1f900000", // port 8080, network order
            "06000b00 02000000", // AF_INET
            "08000300 00000000", // masquerade
            "08000400 01000000", // weight
            "08000500 00000000", // upper threshold
            "08000600 00000000", // lower threshold
        ],
    );
    check(
        &V4.request(&Request::DeleteDestination(web(), at)),
        &[
            "6c000000 1e000500 07000000 00000000",
            "07010000", // IPVS_CMD_DEL_DEST
            "30000180",
            "06000100 02000000",
            "06000200 06000000",
            "14000300 0a600001 00000000 00000000 00000000",
            "06000400 00500000",
            "28000280",
            "14000100 0a400102 00000000 00000000 00000000",
            "06000200 1f900000",
            "06000b00 02000000",
        ],
    );
}

#[test]
fn timeouts_and_lists() {
    check(
        &V4.set_timeouts(900, 0, 300),
        &[
            "2c000000 1e000500 07000000 00000000",
            "0c010000", // IPVS_CMD_SET_CONFIG
            "08000400 84030000",
            "08000500 00000000",
            "08000600 2c010000",
        ],
    );
    check(
        &V4.list_servers(),
        &["14000000 1e000500 07000000 00000000", "04010000"],
    );
}

/// An answer holds what a request says, and more.
#[test]
fn answers_read_back() {
    for id in [web(), ServerId::Marked(Protocol::Tcp, 0x5300_0004)] {
        let mut server = Server::new(Scheduler::SourceHashing);
        server.flags = Server::FLAG_1 | Server::FLAG_3;
        server.persistence = Some(Persistence {
            seconds: 5,
            prefix_len: 24,
        });
        let message = V4.request(&Request::NewServer(id, server.clone()));
        let held = V4.read_server(&message.body).unwrap();
        assert_eq!(held.server, server);
        match (id, held.id) {
            (ServerId::Marked(_, mark), HeldId::Marked(found)) => assert_eq!(mark, found),
            (ServerId::At(protocol, at), HeldId::At(p, a)) => assert_eq!((protocol, at), (p, a)),
            (_, other) => panic!("{other:?}"),
        }
        assert_eq!(V6.read_server(&message.body), None);
    }
    let at = "[fd00::1]:53".parse().unwrap();
    let id = ServerId::At(Protocol::Udp, at);
    let value = Destination {
        weight: 3,
        method: Method::Other(3),
    };
    let mut message = V6.request(&Request::NewDestination(id, at, value));
    assert_eq!(V6.read_destination(&message.body), None);
    // Active and inactive connections, which only answers hold.
    let counts: [u8; 16] = [8, 0, 7, 0, 2, 0, 0, 0, 8, 0, 8, 0, 1, 0, 0, 0];
    let destination = message.body.len() - 0x48;
    message.body[destination] += 16;
    message.body.extend(counts);
    let counted = Counted {
        value,
        connections: 3,
    };
    assert_eq!(V6.read_destination(&message.body), Some((at, counted)));
}

#[test]
fn cut_answers_are_passed_over() {
    let message = V4.request(&Request::NewServer(
        web(),
        Server::new(Scheduler::RoundRobin),
    ));
    for len in 0..message.body.len() {
        let _ = V4.read_server(&message.body[..len]);
        let _ = V4.read_destination(&message.body[..len]);
        let _ = route::read_link(&message.body[..len]);
        let _ = route::read_address(&message.body[..len], IpFamily::V6);
    }
}

#[test]
fn a_dummy_link_and_its_addresses() {
    check(
        &route::new_link("svc4"),
        &[
            "3c000000 10000506 07000000 00000000", // RTM_NEWLINK, create, exclusive
            "00000000 00000000 01000000 01000000", // up
            "09000300 73766334 00000000",          // IFLA_IFNAME
            "10001280 0a000100 64756d6d 79000000", // IFLA_LINKINFO { IFLA_INFO_KIND "dummy" }
        ],
    );
    check(
        &route::new_address(9, IpAddr::from([10, 96, 0, 1])),
        &[
            "28000000 14000506 07000000 00000000", // RTM_NEWADDR
            "022000fe 09000000",                   // /32, scope host, link 9
            "08000200 0a600001",                   // IFA_LOCAL
            "08000100 0a600001",                   // IFA_ADDRESS
        ],
    );
    check(
        &route::delete_address(9, "fd00::1".parse().unwrap()),
        &[
            "54000000 15000500 07000000 00000000", // RTM_DELADDR
            "0a800200 09000000",                   // /128, no duplicate detection
            "14000200 fd000000 00000000 00000000 00000001",
            "14000100 fd000000 00000000 00000000 00000001",
            "14000600 00000000 ffffffff 00000000 00000000", // deprecated
        ],
    );
}
