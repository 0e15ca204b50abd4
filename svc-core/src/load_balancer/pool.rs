//! Ranges of addresses that a provider may give out.

use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

use ipnet::IpNet;

use crate::name::Name;
use crate::net::{IpFamily, parse_cidr, parse_ip};

/// A named set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Its name, for annotations and messages.
    pub name: Name,
    /// Its addresses.
    pub ranges: Vec<PoolRange>,
    /// Whether Services get an address of it without asking.
    pub auto_assign: AutoAssign,
    /// What of IPv4 addresses that end in .0 or .255.
    pub buggy_addresses: BuggyAddresses,
}

/// Whether a pool gives addresses to Services that do not ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoAssign {
    /// It does.
    #[default]
    Always,
    /// Only to Services that ask for the pool, or an address of it.
    OnRequest,
}

/// IPv4 addresses that end in .0 or .255: some old devices take them for broadcasts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuggyAddresses {
    /// They are addresses like any other.
    #[default]
    Use,
    /// They do not belong to the pool.
    Avoid,
}

/// Addresses from a first to a last one, read from `10.0.0.0/24` or `10.0.0.1-10.0.0.9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolRange {
    first: IpAddr,
    last: IpAddr,
}

/// The text is no range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a prefix, such as 192.0.2.0/24, or two addresses, such as 192.0.2.1-192.0.2.9")]
pub struct ParsePoolRangeError;

impl Pool {
    /// A pool that gives all of its addresses to whoever comes.
    pub fn new(name: impl Into<Name>, ranges: Vec<PoolRange>) -> Self {
        Self {
            name: name.into(),
            ranges,
            auto_assign: AutoAssign::default(),
            buggy_addresses: BuggyAddresses::default(),
        }
    }

    /// Whether the pool may give out an address.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.contains(ip)) && !self.avoids(ip)
    }

    /// Its addresses of a family, lowest first within each range.
    pub fn addresses(&self, family: IpFamily) -> impl Iterator<Item = IpAddr> {
        self.ranges
            .iter()
            .filter(move |range| IpFamily::of(range.first) == family)
            .flat_map(PoolRange::addresses)
            .filter(|ip| !self.avoids(*ip))
    }

    fn avoids(&self, ip: IpAddr) -> bool {
        match (self.buggy_addresses, ip) {
            (BuggyAddresses::Avoid, IpAddr::V4(v4)) => matches!(v4.octets()[3], 0 | 255),
            (BuggyAddresses::Avoid, IpAddr::V6(_)) | (BuggyAddresses::Use, _) => false,
        }
    }
}

impl PoolRange {
    /// Addresses from one to another, both included.
    ///
    /// # Errors
    /// The families differ, or the first is behind the last.
    pub fn new(first: IpAddr, last: IpAddr) -> Result<Self, ParsePoolRangeError> {
        match IpFamily::of(first) == IpFamily::of(last) && first <= last {
            true => Ok(Self { first, last }),
            false => Err(ParsePoolRangeError),
        }
    }

    /// Whether an address lies in the range.
    pub fn contains(&self, ip: IpAddr) -> bool {
        IpFamily::of(ip) == IpFamily::of(self.first) && (self.first..=self.last).contains(&ip)
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        let (first, last, v4) = match (self.first, self.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                (first.to_bits().into(), last.to_bits().into(), true)
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => (first.to_bits(), last.to_bits(), false),
            // `new` refuses mixed families.
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => (1, 0, true),
        };
        (first..=last).map(move |number: u128| match v4 {
            // A number of an IPv4 range has 32 bits.
            true => Ipv4Addr::from_bits(number as u32).into(),
            false => Ipv6Addr::from_bits(number).into(),
        })
    }
}

impl From<IpNet> for PoolRange {
    /// All addresses of a prefix, also the first and the last.
    fn from(net: IpNet) -> Self {
        Self {
            first: net.network(),
            last: net.broadcast(),
        }
    }
}

impl FromStr for PoolRange {
    type Err = ParsePoolRangeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((first, last)) = text.split_once('-') {
            let ip = |text: &str| parse_ip(text.trim()).ok_or(ParsePoolRangeError);
            return Self::new(ip(first)?, ip(last)?);
        }
        parse_cidr(text.trim())
            .map(Self::from)
            .ok_or(ParsePoolRangeError)
    }
}

impl fmt::Display for PoolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn ranges_are_prefixes_or_pairs() {
        for (text, shown) in [
            ("192.0.2.0/30", "192.0.2.0-192.0.2.3"),
            (" 192.0.2.1 - 192.0.2.9 ", "192.0.2.1-192.0.2.9"),
            ("192.0.2.1-192.0.2.1", "192.0.2.1-192.0.2.1"),
            ("2001:db8::/127", "2001:db8::-2001:db8::1"),
        ] {
            let range: PoolRange = text.parse().unwrap();
            assert_eq!(range.to_string(), shown);
        }
        for text in [
            "",
            "a-b",
            "192.0.2.9-192.0.2.1",
            "192.0.2.1-2001:db8::1",
            "192.0.2.1",
        ] {
            assert_eq!(
                text.parse::<PoolRange>(),
                Err(ParsePoolRangeError),
                "{text}"
            );
        }
    }

    #[test]
    fn buggy_addresses_may_be_avoided() {
        let mut pool = Pool::new("a", ["192.0.2.0/24".parse().unwrap()].into());
        assert_eq!(pool.addresses(IpFamily::V4).count(), 256);
        pool.buggy_addresses = BuggyAddresses::Avoid;
        assert_eq!(pool.addresses(IpFamily::V4).count(), 254);
        assert!(!pool.contains([192, 0, 2, 0].into()));
        assert!(!pool.contains([192, 0, 2, 255].into()));
        assert!(pool.contains([192, 0, 2, 1].into()));
    }

    #[test]
    fn the_largest_range_ends() {
        let pool = Pool::new(
            "a",
            ["ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
                .parse()
                .unwrap()]
            .into(),
        );
        assert_eq!(pool.addresses(IpFamily::V6).take(3).count(), 3);
        assert_eq!(pool.addresses(IpFamily::V4).count(), 0);
    }
}
