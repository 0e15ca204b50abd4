//! The usable addresses of a service range, in two bands.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::ops::RangeInclusive;

use ipnet::IpNet;

use super::error::RangeError;
use crate::net::IpFamily;

/// A service range, with the band that automatic allocation leaves for explicit requests.
///
/// ```
/// use svc_core::allocate::AddressRange;
///
/// let range = AddressRange::new("10.96.0.0/24".parse()?)?;
/// assert_eq!(range.offset(), 16);
/// assert!(range.contains([10, 96, 0, 1].into()));
/// assert!(!range.contains([10, 96, 0, 255].into()), "the broadcast address");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    net: IpNet,
}

impl AddressRange {
    /// A range of addresses; host bits are cleared.
    ///
    /// # Errors
    /// [`RangeError::TooLarge`] for an IPv6 prefix shorter than 64 (B-380).
    pub fn new(net: IpNet) -> Result<Self, RangeError> {
        match net {
            IpNet::V6(v6) if v6.prefix_len() < 64 => Err(RangeError::TooLarge(net)),
            IpNet::V4(_) | IpNet::V6(_) => Ok(Self { net: net.trunc() }),
        }
    }

    /// The prefix.
    pub fn net(&self) -> IpNet {
        self.net
    }

    /// The family of its addresses.
    pub fn family(&self) -> IpFamily {
        IpFamily::of_net(&self.net)
    }

    /// How many addresses the static band has (B-372): 1/16 of the prefix, 16 to 256, none of up to
    /// 16 addresses.
    pub fn offset(&self) -> u32 {
        let host_bits = self.net.max_prefix_len() - self.net.prefix_len();
        match host_bits {
            0..=4 => 0,
            // B-373: the size is that of the whole prefix.
            5..=12 => (1_u32 << (host_bits - 4)).clamp(16, 256),
            13.. => 256,
        }
    }

    /// Whether an address may be allocated (B-377).
    pub fn contains(&self, ip: IpAddr) -> bool {
        IpFamily::of(ip) == self.family() && self.usable().contains(&number(ip))
    }

    /// How many addresses may be allocated; large IPv6 ranges count as 2⁶³ − 1 (B-373).
    pub fn capacity(&self) -> u64 {
        let usable = self.usable();
        match usable.end().checked_sub(*usable.start()) {
            // One more than the difference, which is at most 2⁶⁴ − 2.
            Some(difference) => (difference + 1).min(i64::MAX as u128) as u64,
            None => 0,
        }
    }

    /// Numbers of the band of explicit requests (B-374).
    pub(super) fn static_band(&self) -> RangeInclusive<u128> {
        let usable = self.usable();
        let first = *usable.start();
        first..=(first + u128::from(self.offset())).saturating_sub(1)
    }

    /// Numbers of the band of automatic allocation (B-374).
    pub(super) fn dynamic_band(&self) -> RangeInclusive<u128> {
        let usable = self.usable();
        usable.start() + u128::from(self.offset())..=*usable.end()
    }

    /// The address of a number.
    pub(super) fn address(&self, number: u128) -> IpAddr {
        match self.net {
            // A number of an IPv4 range has 32 bits.
            IpNet::V4(_) => Ipv4Addr::from_bits(number as u32).into(),
            IpNet::V6(_) => Ipv6Addr::from_bits(number).into(),
        }
    }

    /// All but the network address, and all but the broadcast address of IPv4 (B-377).
    ///
    /// Empty when the first is behind the last, as in a /32 (B-378).
    fn usable(&self) -> RangeInclusive<u128> {
        let last = number(self.net.broadcast());
        let last = match self.net {
            IpNet::V4(_) => last.saturating_sub(1),
            IpNet::V6(_) => last,
        };
        // The largest network address is that of a /128 or /32 of all ones.
        number(self.net.network()).saturating_add(1)..=last
    }
}

pub(super) fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(net: &str) -> AddressRange {
        AddressRange::new(net.parse().unwrap()).unwrap()
    }

    #[track_caller]
    fn check_offsets(expected: &[(&str, u32)]) {
        for (net, offset) in expected {
            assert_eq!(range(net).offset(), *offset, "{net}");
        }
    }

    #[test]
    fn b372_b379_offsets() {
        check_offsets(&[
            ("10.0.0.0/32", 0),
            ("10.0.0.0/30", 0),
            ("10.0.0.0/28", 0),
            ("10.0.0.0/27", 16),
            ("10.0.0.0/24", 16),
            ("10.0.0.0/23", 32),
            ("10.0.0.0/22", 64),
            ("10.0.0.0/21", 128),
            ("10.0.0.0/20", 256),
            ("10.0.0.0/12", 256),
            ("10.0.0.0/8", 256),
            ("fd00::/124", 0),
            ("fd00::/122", 16),
            ("fd00::/118", 64),
            ("fd00::/116", 256),
            ("fd00::/108", 256),
            ("fd00::/64", 256),
        ]);
    }

    #[test]
    fn b373_capacity_counts_usable_addresses() {
        for (net, capacity) in [
            ("10.0.0.0/32", 0),
            ("10.0.0.0/31", 0),
            ("10.0.0.0/30", 2),
            ("10.0.0.0/24", 254),
            ("fd00::/128", 0),
            ("fd00::/127", 1),
            ("fd00::/120", 255),
            ("fd00::/66", (1 << 62) - 1),
            ("fd00::/65", (1 << 63) - 1),
            ("fd00::/64", (1 << 63) - 1),
            ("ffff:ffff:ffff:ffff::/64", (1 << 63) - 1),
        ] {
            assert_eq!(range(net).capacity(), capacity, "{net}");
        }
    }

    #[test]
    fn b374_bands() {
        let range = range("10.96.0.0/24");
        let ips =
            |band: RangeInclusive<u128>| (range.address(*band.start()), range.address(*band.end()));
        let ip = |last| IpAddr::from([10, 96, 0, last]);
        assert_eq!(ips(range.static_band()), (ip(1), ip(16)));
        assert_eq!(ips(range.dynamic_band()), (ip(17), ip(254)));
    }

    #[test]
    fn b377_the_last_address_is_usable_in_ipv6_only() {
        assert!(!range("10.0.0.0/24").contains([10, 0, 0, 0].into()));
        assert!(!range("10.0.0.0/24").contains([10, 0, 0, 255].into()));
        assert!(range("fd00::/120").contains("fd00::ff".parse().unwrap()));
        assert!(!range("fd00::/120").contains("fd00::".parse().unwrap()));
        assert!(!range("fd00::/120").contains([10, 0, 0, 1].into()));
    }

    #[test]
    fn b380_ipv6_ranges_larger_than_64_are_refused() {
        let net: IpNet = "fd00::/63".parse().unwrap();
        assert_eq!(AddressRange::new(net), Err(RangeError::TooLarge(net)));
    }
}
