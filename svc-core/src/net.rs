//! Address families, transport protocols, and the reading of addresses as Kubernetes reads them.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;

/// An address family; each is planned and programmed on its own (B-041).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum IpFamily {
    /// IPv4.
    #[cfg_attr(feature = "serde", serde(rename = "IPv4"))]
    V4,
    /// IPv6.
    #[cfg_attr(feature = "serde", serde(rename = "IPv6"))]
    V6,
}

impl IpFamily {
    /// Both families, IPv4 first.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// The family of a prefix.
    pub fn of_net(net: &IpNet) -> Self {
        match net {
            IpNet::V4(_) => Self::V4,
            IpNet::V6(_) => Self::V6,
        }
    }
}

impl fmt::Display for IpFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A transport protocol of a service port (B-023).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "UPPERCASE"))]
pub enum Protocol {
    /// Transmission Control Protocol, number 6.
    Tcp,
    /// User Datagram Protocol, number 17.
    Udp,
    /// Stream Control Transmission Protocol, number 132.
    Sctp,
}

impl Protocol {
    /// All protocols that a Service may use.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// The IANA protocol number.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The lower-case name, as command lines and rulesets write it.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// The text is no protocol that a Service may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of TCP, UDP, SCTP")]
pub struct UnknownProtocol;

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    /// Reads a protocol in either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.lower().eq_ignore_ascii_case(text))
            .ok_or(UnknownProtocol)
    }
}

/// Reads an address, also in the sloppy forms that old clusters hold.
///
/// Leading zeros of IPv4 octets are decimal (B-053); an IPv4-mapped IPv6 address is IPv4 (B-054).
pub fn parse_ip(text: &str) -> Option<IpAddr> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(canonical(ip));
    }
    sloppy_v4(text).map(IpAddr::V4)
}

/// Reads a prefix with the same leniency as [`parse_ip`]; host bits are cleared.
pub fn parse_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || length.len() > 8 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u32 = length.parse().ok()?;
    let mapped = matches!(address.parse(), Ok(IpAddr::V6(v6)) if v6.to_ipv4_mapped().is_some());
    let length = match mapped {
        true => length.checked_sub(96)?,
        false => length,
    };
    let net = IpNet::new(parse_ip(address)?, u8::try_from(length).ok()?).ok()?;
    Some(net.trunc())
}

fn canonical(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(ip, IpAddr::V4),
    }
}

fn sloppy_v4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = text.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || part.len() > 8 || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        *octet = u8::try_from(part.parse::<u32>().ok()?).ok()?;
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// The unspecified address of a family.
pub fn unspecified(family: IpFamily) -> IpAddr {
    match family {
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b053_leading_zeros_are_decimal() {
        assert_eq!(parse_ip("10.96.0.041"), Some(IpAddr::from([10, 96, 0, 41])));
        assert_eq!(
            parse_cidr("203.0.113.000/025"),
            "203.0.113.0/25".parse().ok()
        );
        assert_eq!(parse_ip("10.96.0.256"), None);
        assert_eq!(parse_ip("10.96.0"), None);
        assert_eq!(parse_ip("10.96.0.1.2"), None);
        assert_eq!(parse_ip(""), None);
    }

    #[test]
    fn b054_mapped_addresses_are_ipv4() {
        assert_eq!(
            parse_ip("::ffff:10.0.0.1"),
            Some(IpAddr::from([10, 0, 0, 1]))
        );
        assert_eq!(parse_cidr("::ffff:10.0.0.0/104"), "10.0.0.0/8".parse().ok());
        assert_eq!(parse_cidr("::ffff:10.0.0.0/64"), None);
    }

    #[test]
    fn prefixes_lose_their_host_bits() {
        assert_eq!(parse_cidr("10.1.2.3/8"), "10.0.0.0/8".parse().ok());
        assert_eq!(parse_cidr("10.1.2.3"), None);
        assert_eq!(parse_cidr("10.1.2.3/33"), None);
        assert_eq!(parse_cidr("fd00::1/-1"), None);
    }
}
