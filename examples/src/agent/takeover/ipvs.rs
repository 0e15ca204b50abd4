//! Virtual servers, of kube-proxy and of ourselves, and what kube-proxy's IPVS mode leaves beside them.
//!
//! Unlike a rule, a virtual server takes its connections with it: the kernel drops their packets. So
//! those that began before ours were installed get a while to end, and UDP flows, which go on, are
//! forgotten by connection tracking, where they still look like flows to the service address itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use backend_ipvs::error::Error;
use backend_ipvs::{HeldId, Key, Live, Request, Scheduler, ServerId, Settings, System};
use backend_nftables::netlink::Conntrack;
use nix::errno::Errno;
use svc_core::{IpFamily, Protocol};

use super::UNDER_WAY;
use super::iptables::run;
use crate::cli::one_line;
use crate::host::KUBE_LINK;
use crate::sandbox::Rtnl;

/// Removes the virtual servers of our IPVS backend, and what it has beside them.
pub(super) fn remove_own(family: IpFamily) -> Result<(), String> {
    // Its cleanup puts this back too, and whoever serves now forwards as well.
    let forwards = fs::read(IP_FORWARD).ok();
    replaced(family, || {
        let kernel = backend_ipvs::Kernel::open(&Settings::default(), family);
        let mut kernel = kernel.map_err(|error| one_line(&error))?;
        kernel.cleanup().map_err(|error| one_line(&error))
    })?;
    match forwards {
        Some(before) if fs::read(IP_FORWARD).ok().as_ref() != Some(&before) => {
            let failed = |error| format!("{IP_FORWARD}: {error}");
            fs::write(IP_FORWARD, before).map_err(failed)
        }
        Some(_) | None => Ok(()),
    }
}

/// Removes kube-proxy's virtual servers and its link (B-273). In IPVS mode it takes every virtual
/// server of the node for its own, and so its removal does; those of our backend stay.
pub(super) fn remove_kube_proxy() -> Result<(), String> {
    if Path::new(CONNECTIONS).exists() {
        for family in IpFamily::ALL {
            // Without any there is nothing to wait for.
            if !foreign(family)?.is_empty() {
                replaced(family, || remove(family, foreign(family)?))?;
            }
        }
    }
    let removed = Rtnl::open().and_then(|mut links| links.delete_link(KUBE_LINK));
    match removed {
        Ok(()) | Err(Errno::ENODEV) => Ok(()),
        Err(errno) => Err(format!("{}: {}", KUBE_LINK, errno.desc())),
    }
}

/// Removes kube-proxy's virtual servers of a family and at once makes ours, at the same front ends.
///
/// The kernel keeps the connections of a destination that goes, and they go on when one comes at the
/// same front end with the same address. What comes between the two is answered by nobody, so what
/// connection tracking knows of UDP is forgotten: a flow that began there would never be translated.
///
/// A scheduler that the kernel does not have is found out before anything is removed.
pub(in crate::agent) fn replace_kube_proxys_servers(
    family: IpFamily,
    scheduler: Scheduler,
    make: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let kernel = backend_ipvs::Kernel::open(&Settings::default(), family);
    let tried = kernel.and_then(|mut kernel| kernel.try_scheduler(scheduler));
    tried.map_err(|error| one_line(&error))?;
    let theirs = foreign(family)?;
    let udp = theirs.iter().filter_map(|id| match id {
        ServerId::At(Protocol::Udp, at) => Some(*at),
        ServerId::At(..) | ServerId::Marked(..) => None,
    });
    let udp = udp.collect();
    keeping_connections(|| {
        remove(family, theirs)?;
        make()
    })?;
    forget(family, &udp)
}

/// With `expire_nodest_conn` the kernel ends connections as soon as their destination is gone: not
/// while it is only replaced. Where the setting cannot be written they end.
fn keeping_connections(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = fs::read(EXPIRE_NODEST_CONN).ok();
    let changed = before.filter(|_| fs::write(EXPIRE_NODEST_CONN, "0\n").is_ok());
    let result = work();
    if let Some(before) = changed
        && let Err(error) = fs::write(EXPIRE_NODEST_CONN, before)
    {
        return result.and(Err(format!("{EXPIRE_NODEST_CONN}: {error}")));
    }
    result
}

/// Virtual servers that are not of our backend.
fn foreign(family: IpFamily) -> Result<Vec<ServerId>, String> {
    let settings = Settings::default();
    let kernel = backend_ipvs::Kernel::open(&settings, family);
    let own = match kernel.and_then(|mut kernel| kernel.read()) {
        Ok(held) => held,
        // Nothing of ours is beside a link that is none of ours.
        Err(Error::ForeignLink { .. }) => svc_core::Ruleset::new(),
        Err(error) => return Err(one_line(&error)),
    };
    let mut live = Live::open(&settings, family).map_err(|error| one_line(&error))?;
    let held = live.servers().map_err(|error| one_line(&error))?;
    let ids = held.iter().map(|one| match one.id {
        // The kernel knows a mark by itself, whatever the protocol.
        HeldId::Marked(mark) => ServerId::Marked(Protocol::Tcp, mark),
        HeldId::At(protocol, at) => ServerId::At(protocol, at),
    });
    let is_own = |id: &ServerId| match id {
        ServerId::At(..) => own.contains_key(&Key::Server(*id)),
        ServerId::Marked(_, mark) => Protocol::ALL.iter().any(|protocol| {
            let id = ServerId::Marked(*protocol, *mark);
            own.contains_key(&Key::Server(id))
        }),
    };
    Ok(ids.filter(|id| !is_own(id)).collect())
}

fn remove(family: IpFamily, servers: Vec<ServerId>) -> Result<(), String> {
    let live = Live::open(&Settings::default(), family);
    let mut live = live.map_err(|error| one_line(&error))?;
    let gone: Vec<Request> = servers.into_iter().map(Request::DeleteServer).collect();
    for answer in live.change(&gone).map_err(|error| one_line(&error))? {
        match answer {
            // Somebody was faster.
            Ok(()) | Err(Errno::ESRCH | Errno::ENOENT) => {}
            Err(errno) => return Err(format!("delete a virtual server: {}", errno.desc())),
        }
    }
    Ok(())
}

/// Removes virtual servers once their connections had time to end, and has their UDP flows start
/// again.
fn replaced(family: IpFamily, remove: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let before = udp_servers(family)?;
    drain();
    remove()?;
    let after = udp_servers(family)?;
    forget(family, &before.difference(&after).copied().collect())
}

fn udp_servers(family: IpFamily) -> Result<BTreeSet<SocketAddr>, String> {
    let live = Live::open(&Settings::default(), family);
    let held = live.and_then(|mut live| live.servers());
    let held = held.map_err(|error| one_line(&error))?;
    let udp = held.iter().filter_map(|one| match one.id {
        HeldId::At(Protocol::Udp, at) => Some(at),
        HeldId::At(..) | HeldId::Marked(_) => None,
    });
    Ok(udp.collect())
}

/// Waits for connections to end, and for packets that are on their way, but not for ever.
fn drain() {
    let deadline = Instant::now() + GRACE;
    loop {
        thread::sleep(UNDER_WAY);
        let connections = fs::read_to_string(CONNECTIONS).unwrap_or_default();
        if !any_open(&connections) || Instant::now() >= deadline {
            return;
        }
    }
}

/// Whether a TCP connection is between its first packet and its last in what the kernel lists: the
/// eighth word of a line is the state.
fn any_open(connections: &str) -> bool {
    connections.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        words.next() == Some("TCP") && words.nth(6).is_some_and(|state| OPEN.contains(&state))
    })
}

/// Deletes the entries of UDP flows to some front ends, so that their next packets are new.
fn forget(family: IpFamily, frontends: &BTreeSet<SocketAddr>) -> Result<(), String> {
    if frontends.is_empty() {
        return Ok(());
    }
    let mut table = Conntrack::open().map_err(|errno| errno.desc().to_owned())?;
    for one in table.udp(family).map_err(|error| one_line(&error))? {
        if frontends.contains(&one.entry.original.destination) {
            table.delete(&one).map_err(|error| one_line(&error))?;
        }
    }
    Ok(())
}

/// The sets of kube-proxy that there are; none without the program ipset.
pub(super) fn kube_proxy_sets() -> Vec<String> {
    let all = run("ipset", &["list", "-name"], "").unwrap_or_default();
    let own = all.lines().filter(|name| is_kube_proxys(name));
    own.map(str::to_owned).collect()
}

/// Removes the sets of kube-proxy, which its chains use: after those.
pub(super) fn remove_kube_proxy_sets() -> Result<(), String> {
    for name in kube_proxy_sets() {
        run("ipset", &["destroy", &name], "")?;
    }
    Ok(())
}

/// By their names in full, as other programs have sets whose names begin like these (B-299).
fn is_kube_proxys(set: &str) -> bool {
    let Some(rest) = set.strip_prefix("KUBE-") else {
        return false;
    };
    SETS.contains(&rest.strip_prefix("6-").unwrap_or(rest))
}

/// How long connections may take to end; the agent does nothing else meanwhile.
const GRACE: Duration = Duration::from_secs(2);
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";
const EXPIRE_NODEST_CONN: &str = "/proc/sys/net/ipv4/vs/expire_nodest_conn";
const CONNECTIONS: &str = "/proc/thread-self/net/ip_vs_conn";
/// States before the last packet.
const OPEN: [&str; 7] = [
    "SYN_SENT",
    "SYN_RECV",
    "ESTABLISHED",
    "FIN_WAIT",
    "CLOSE_WAIT",
    "LAST_ACK",
    "SYNACK",
];
/// Names of sets of kube-proxy, without `KUBE-` or `KUBE-6-`.
const SETS: [&str; 17] = [
    "LOOP-BACK",
    "CLUSTER-IP",
    "EXTERNAL-IP",
    "EXTERNAL-IP-LOCAL",
    "LOAD-BALANCER",
    "LOAD-BALANCER-FW",
    "LOAD-BALANCER-LOCAL",
    "LOAD-BALANCER-SOURCE-IP",
    "LOAD-BALANCER-SOURCE-CIDR",
    "NODE-PORT-TCP",
    "NODE-PORT-LOCAL-TCP",
    "NODE-PORT-UDP",
    "NODE-PORT-LOCAL-UDP",
    "NODE-PORT-SCTP-HASH",
    "NODE-PORT-LOCAL-SCTP-HASH",
    "HEALTH-CHECK-NODE-PORT",
    "IPVS-IPS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_of_others_are_not_kube_proxys() {
        for own in ["KUBE-CLUSTER-IP", "KUBE-6-LOOP-BACK", "KUBE-IPVS-IPS"] {
            assert!(is_kube_proxys(own), "{own}");
        }
        // kube-router's, and somebody's.
        for other in ["KUBE-SRC-AAAA", "KUBE-6-DST-AAAA", "CLUSTER-IP", "KUBE-"] {
            assert!(!is_kube_proxys(other), "{other}");
        }
    }

    #[test]
    fn a_connection_is_open_until_its_last_packet() {
        let list = |state: &str| {
            format!(
                "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n\
                 TCP C0A80001 8F3A 0A600010 0050 0A400101 1F90 {state}     10\n\
                 UDP C0A80001 8F3A 0A600010 0035 0A400101 14E9 UDP         10\n"
            )
        };
        assert!(any_open(&list("ESTABLISHED")) && any_open(&list("SYN_RECV")));
        assert!(!any_open(&list("CLOSE")) && !any_open(&list("TIME_WAIT")));
        assert!(!any_open(""));
    }
}
