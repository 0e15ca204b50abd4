//! What a zone serves, and what follows from it once.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::super::domain::ClusterDomain;
use super::super::name::{DnsName, NameError};
use super::super::reverse::{bits_of, full_length, low_bits, reverse_prefix_name};
use crate::name::Name;
use crate::net::IpFamily;

/// Longest time to live that a zone takes, in seconds.
pub const MAX_TTL: u32 = 3600;

/// What a zone serves and how.
#[derive(Clone, Debug, PartialEq)]
pub struct ZoneOptions {
    /// The domain of the cluster.
    pub domain: ClusterDomain,
    /// Prefixes whose reverse trees the zone answers for; none by default.
    pub reverse: Vec<IpNet>,
    /// Time to live of records and negative answers in seconds, up to [`MAX_TTL`]; 5 by default.
    pub ttl: u32,
    /// Whether Pods have names.
    pub pods: PodNames,
    /// Whether an endpoint without a hostname is named by its Pod.
    pub endpoint_pod_names: bool,
    /// Whether a Service with ClusterIPs and no published endpoint does not exist.
    pub ignore_empty_services: bool,
    /// Whether `<port>.<service>.<namespace>.svc` answers.
    pub port_alias: bool,
    /// Whether `<pod-ip>.<pod>.<namespace>.pod` answers.
    pub pod_alias: bool,
    /// The namespaces that are seen; all when unset.
    pub namespaces: Option<BTreeSet<Name>>,
    /// Addresses of the server, which `ns.dns` has.
    pub server_ips: Vec<IpAddr>,
}

/// Which names below `pod` exist.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodNames {
    /// None.
    #[default]
    Disabled,
    /// Those of addresses that a live Pod of the namespace has.
    Verified,
    /// Those of any address, in a namespace that exists. Clients can make names up for any
    /// address; only for clusters that relied on it.
    Insecure,
}

/// Why a zone cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The TTL is above [`MAX_TTL`].
    #[error("a TTL of {0} s is more than {MAX_TTL} s")]
    Ttl(u32),
    /// The domain leaves no room for the names that every zone has.
    #[error("the zone name is too long")]
    Domain(#[source] NameError),
}

impl ZoneOptions {
    /// The defaults for a domain.
    pub fn new(domain: ClusterDomain) -> Self {
        Self {
            domain,
            reverse: Vec::new(),
            ttl: 5,
            pods: PodNames::Disabled,
            endpoint_pod_names: false,
            ignore_empty_services: false,
            port_alias: false,
            pod_alias: false,
            namespaces: None,
            server_ips: Vec::new(),
        }
    }
}

/// What follows from the options once.
#[derive(Debug, PartialEq)]
pub(in crate::dns) struct Config {
    pub(in crate::dns) options: ZoneOptions,
    pub(in crate::dns) primary: Authority,
    /// Reverse zones by family, length and bits of their prefix.
    reverse: BTreeMap<(IpFamily, u8, u128), Authority>,
    /// Lengths that reverse zones have, longest first.
    lengths: Vec<(IpFamily, u8)>,
    pub(in crate::dns) server_v4: Vec<Ipv4Addr>,
    pub(in crate::dns) server_v6: Vec<Ipv6Addr>,
}

/// One zone of authority.
#[derive(Debug, PartialEq)]
pub(in crate::dns) struct Authority {
    pub(in crate::dns) apex: DnsName,
    pub(in crate::dns) mname: DnsName,
    pub(in crate::dns) rname: DnsName,
}

impl ZoneOptions {
    pub(super) fn sees(&self, namespace: &str) -> bool {
        let listed = self.namespaces.as_ref();
        listed.is_none_or(|listed| listed.contains(namespace))
    }
}

impl Config {
    pub(super) fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        if options.ttl > MAX_TTL {
            return Err(ZoneError::Ttl(options.ttl));
        }
        let primary = Authority::new(options.domain.apex().clone()).map_err(ZoneError::Domain)?;
        // The longest of the names that every zone has.
        let version = options.domain.join(&["dns-version"]);
        version.map_err(ZoneError::Domain)?;
        let mut reverse = BTreeMap::new();
        for net in options.reverse.iter().flat_map(reverse_parts) {
            let apex = reverse_prefix_name(net.addr(), net.prefix_len());
            let key = (
                IpFamily::of_net(&net),
                net.prefix_len(),
                bits_of(net.addr()),
            );
            reverse.insert(key, Authority::new(apex).map_err(ZoneError::Domain)?);
        }
        let lengths: BTreeSet<_> = reverse
            .keys()
            .map(|(family, len, _)| (*family, *len))
            .collect();
        let server = options.server_ips.iter().map(IpAddr::to_canonical);
        let (v4, v6): (BTreeSet<IpAddr>, BTreeSet<IpAddr>) = server.partition(IpAddr::is_ipv4);
        Ok(Self {
            primary,
            reverse,
            lengths: lengths.into_iter().rev().collect(),
            server_v4: v4
                .into_iter()
                .filter_map(|ip| match ip {
                    IpAddr::V4(v4) => Some(v4),
                    IpAddr::V6(_) => None,
                })
                .collect(),
            server_v6: v6
                .into_iter()
                .filter_map(|ip| match ip {
                    IpAddr::V4(_) => None,
                    IpAddr::V6(v6) => Some(v6),
                })
                .collect(),
            options,
        })
    }

    /// The smallest reverse zone that a prefix, given as bits and their number, lies in.
    pub(in crate::dns) fn reverse_authority(
        &self,
        family: IpFamily,
        bits: u128,
        length: u8,
    ) -> Option<&Authority> {
        let full = full_length(family);
        let lengths = self.lengths.iter();
        lengths
            .filter(|(of, zone)| *of == family && *zone <= length)
            .find_map(|(_, zone)| {
                let key = (family, *zone, bits & !low_bits(full - zone));
                self.reverse.get(&key)
            })
    }

    /// Whether a reverse zone holds an address.
    pub(super) fn reverses(&self, ip: IpAddr) -> bool {
        let family = IpFamily::of(ip);
        let authority = self.reverse_authority(family, bits_of(ip), full_length(family));
        authority.is_some()
    }
}

impl Authority {
    fn new(apex: DnsName) -> Result<Self, NameError> {
        let below = |labels: &[&str]| DnsName::join(labels, apex.as_ref());
        Ok(Self {
            mname: below(&["ns", "dns"])?,
            rname: below(&["hostmaster"])?,
            apex,
        })
    }
}

/// A prefix as prefixes of whole octets or nibbles, as names can only say those.
fn reverse_parts(net: &IpNet) -> Vec<IpNet> {
    let net = net.trunc();
    let unit = match IpFamily::of_net(&net) {
        IpFamily::V4 => 8,
        IpFamily::V6 => 4,
    };
    let length = net
        .prefix_len()
        .next_multiple_of(unit)
        .min(full_length(IpFamily::of_net(&net)));
    // At most 2^7 parts. The new length is between the old one and the full one, so none is lost.
    net.subnets(length)
        .map(Iterator::collect)
        .unwrap_or_default()
}
