//! Rules of other proxies beside ours: found, named, and removed if that is wanted.
//!
//! While both are there both answer, each with right endpoints, so nothing is lost: ours are
//! installed first, found to be what the plan says, and only then the others go. They go in two
//! steps, so that packets under way are not torn: first no packet enters them any more, and a moment
//! later, when those inside have left, everything is removed.

mod iptables;
mod ipvs;
mod probe;
mod tables;

use std::fmt;
use std::time::Duration;

use backend_iptables::Variant;
use backend_nftables::netlink::Socket;
use backend_nftables::rule::Family as TableFamily;
use svc_core::IpFamily;
use svc_core::config::ProxyMode;

pub(super) use ipvs::replace_kube_proxys_servers;
pub(super) use probe::agrees;

use crate::backend::NFTABLES_TABLE;
use crate::cli::one_line;
use crate::host::KUBE_LINK;

/// Rules of somebody who serves Services too.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Other {
    /// kube-proxy's nf_tables table.
    KubeProxyNftables(IpFamily),
    /// kube-proxy's chains, of iptables or IPVS mode.
    KubeProxyIptables(&'static str, IpFamily),
    /// kube-proxy's virtual servers and dummy link.
    KubeProxyIpvs,
    /// kube-proxy's sets of IPVS mode, which its chains use.
    KubeProxySets,
    /// The table of our nftables backend.
    OwnNftables(IpFamily),
    /// The chains of our iptables backend.
    OwnIptables(&'static str, IpFamily),
    /// The virtual servers of our IPVS backend.
    OwnIpvs(IpFamily),
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KubeProxyNftables(family) => write!(f, "kube-proxy's nf_tables table, {family}"),
            Self::KubeProxyIptables(variant, family) => {
                write!(f, "kube-proxy's chains in iptables-{variant}, {family}")
            }
            Self::KubeProxyIpvs => f.write_str("kube-proxy's virtual servers (kube-ipvs0)"),
            Self::KubeProxySets => f.write_str("kube-proxy's ipsets"),
            Self::OwnNftables(family) => write!(f, "rules of nftables-proxy, {family}"),
            Self::OwnIptables(variant, family) => {
                write!(f, "rules of iptables-proxy in iptables-{variant}, {family}")
            }
            Self::OwnIpvs(family) => write!(f, "virtual servers of ipvs-proxy, {family}"),
        }
    }
}

/// What others have in the network namespace of the calling thread; a subsystem that cannot be
/// asked, as its tools or modules are not there, has nothing.
pub fn find(own: ProxyMode) -> Vec<Other> {
    let mut found = Vec::new();
    find_tables(own, &mut found);
    for (variant, _) in VARIANTS {
        for family in IpFamily::ALL {
            let Some(saved) = iptables::save(variant, family) else {
                continue;
            };
            if saved.has_chains_of(iptables::Owner::KubeProxy) {
                found.push(Other::KubeProxyIptables(variant, family));
            }
            if own != ProxyMode::Iptables && saved.has_chains_of(iptables::Owner::Ourselves) {
                found.push(Other::OwnIptables(variant, family));
            }
        }
    }
    if nix::net::if_::if_nametoindex(KUBE_LINK).is_ok() {
        found.push(Other::KubeProxyIpvs);
    }
    // Behind the chains that use them.
    if !ipvs::kube_proxy_sets().is_empty() {
        found.push(Other::KubeProxySets);
    }
    found
}

/// Programs that are not there, without which rules of others are neither found nor removed.
pub fn missing_programs() -> Vec<String> {
    let of_iptables = VARIANTS.iter().flat_map(|(variant, _)| {
        IpFamily::ALL.map(|family| iptables::program(variant, family, "save"))
    });
    let all = of_iptables.chain(["ipset".to_owned()]);
    all.filter(|program| iptables::is_missing(program))
        .collect()
}

/// Why tables of iptables-legacy, whose rules go before those of nf_tables, cannot be looked into.
pub fn unreadable() -> Vec<String> {
    let families = IpFamily::ALL.into_iter();
    families.filter_map(iptables::unreadable).collect()
}

fn find_tables(own: ProxyMode, found: &mut Vec<Other>) {
    let Ok(mut socket) = Socket::open() else {
        return;
    };
    let ipvs = backend_ipvs::Settings::default();
    for (family, of_table) in [
        (IpFamily::V4, TableFamily::Ip),
        (IpFamily::V6, TableFamily::Ip6),
    ] {
        for name in socket.table_names(of_table).unwrap_or_default() {
            match name.as_str() {
                KUBE_TABLE => found.push(Other::KubeProxyNftables(family)),
                NFTABLES_TABLE if own != ProxyMode::Nftables => {
                    found.push(Other::OwnNftables(family));
                }
                _ if name == ipvs.table && own != ProxyMode::Ipvs => {
                    found.push(Other::OwnIpvs(family));
                }
                _ => {}
            }
        }
    }
}

/// Removes what somebody else has.
///
/// # Errors
/// In one line, why something is left.
pub fn remove(other: &Other) -> Result<(), String> {
    match other {
        Other::KubeProxyNftables(family) => tables::remove(KUBE_TABLE, *family),
        Other::OwnNftables(family) => tables::remove(NFTABLES_TABLE, *family),
        Other::KubeProxyIptables(variant, family) => iptables::remove_kube_proxy(variant, *family),
        Other::OwnIptables(variant, family) => remove_own_iptables(variant, *family),
        Other::OwnIpvs(family) => ipvs::remove_own(*family),
        Other::KubeProxyIpvs => ipvs::remove_kube_proxy(),
        Other::KubeProxySets => ipvs::remove_kube_proxy_sets(),
    }
}

fn remove_own_iptables(variant: &str, family: IpFamily) -> Result<(), String> {
    iptables::unhook(variant, family, iptables::Owner::Ourselves)?;
    let named = VARIANTS.iter().find(|(name, _)| *name == variant);
    let options = backend_iptables::Options {
        variant: named.map(|(_, variant)| *variant),
        ..backend_iptables::Options::new(family)
    };
    let kernel = backend_iptables::Kernel::open(options);
    let mut kernel = kernel.map_err(|error| one_line(&error))?;
    kernel.cleanup().map_err(|error| one_line(&error))
}

/// kube-proxy's table, in the families ip and ip6.
const KUBE_TABLE: &str = "kube-proxy";
const VARIANTS: [(&str, Variant); 2] = [("legacy", Variant::Legacy), ("nft", Variant::Nft)];
/// Longer than a packet is on its way from one hook to the next.
const UNDER_WAY: Duration = Duration::from_millis(50);
