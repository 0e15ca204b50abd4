//! Beside another agent that serves addresses of the service range.

use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use svc_core::IpFamily;

use crate::common::scenarios::{EVERYTHING, scenario};
use crate::{Proxy, in_namespace, nft};

#[test]
fn a_service_address_that_another_agent_serves_is_not_dropped() {
    in_namespace(|| {
        for command in [
            "link set lo up",
            "route add default dev lo",
            "address add 198.18.1.1 dev lo",
        ] {
            let status = Command::new("ip").args(command.split(' ')).status();
            assert!(status.unwrap().success(), "{command}");
        }
        let listener = TcpListener::bind("198.18.1.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let other = format!(
            "add table ip other; \
             add chain ip other nat {{ type nat hook output priority -100; }}; \
             add rule ip other nat ip daddr 10.96.200.1 tcp dport 80 dnat to 198.18.1.1:{port}"
        );
        let connects = |to: &str| {
            let to = to.parse().unwrap();
            TcpStream::connect_timeout(&to, Duration::from_millis(500)).is_ok()
        };
        let plan = scenario(EVERYTHING).plan(IpFamily::V4);
        // Whoever comes first.
        for other_first in [true, false] {
            let mut proxy = Proxy::new(&plan);
            if other_first {
                nft(&[&other]);
            }
            proxy.settle();
            if !other_first {
                nft(&[&other]);
            }
            assert!(connects("10.96.200.1:80"), "{other_first}");
            assert!(!connects("10.96.200.1:81"));
            nft(&["delete table ip other"]);
            assert!(!connects("10.96.200.1:80"));
            proxy.kernel.cleanup().unwrap();
        }
    });
}
