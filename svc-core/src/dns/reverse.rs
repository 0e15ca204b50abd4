//! Addresses as names: dashed labels and the trees below `in-addr.arpa` and `ip6.arpa`.

use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str;

use super::name::{DnsName, Label, MAX_LABEL, NameRef};
use crate::net::IpFamily;

const IN_ADDR: &[&str] = &["in-addr", "arpa"];
const IP6: &[&str] = &["ip6", "arpa"];

/// The label that stands for an address: `10-244-1-10`, `fd00-244-3--1`, `fd00-244-4--0`.
///
/// The canonical text (RFC 5952) with dashes; a `0` is added where it would end in a dash, as a
/// host name may not.
pub fn dashed_address(ip: IpAddr) -> String {
    let mut text = ip.to_canonical().to_string().replace(['.', ':'], "-");
    if text.ends_with('-') {
        text.push('0');
    }
    text
}

/// The address that a dashed label stands for, in any spelling of IPv6.
///
/// Three dashes and no two in a row are IPv4, everything else is IPv6.
pub fn dashed_to_address(label: &[u8]) -> Option<IpAddr> {
    let mut buffer = [0; MAX_LABEL];
    let text = buffer.get_mut(..label.len())?;
    let dashes = label.iter().filter(|octet| **octet == b'-').count();
    let doubled = label.windows(2).any(|pair| pair == b"--");
    let v4 = dashes == 3 && !doubled;
    let separator = if v4 { b'.' } else { b':' };
    for (to, from) in text.iter_mut().zip(label) {
        *to = match *from {
            b'-' => separator,
            // Only dashes separate: `10.0.0.1` in one label is no address.
            b'.' | b':' => return None,
            other => other,
        };
    }
    let text = str::from_utf8(text).ok()?;
    match v4 {
        true => text.parse().ok().map(IpAddr::V4),
        false => text.parse().ok().map(IpAddr::V6),
    }
}

/// The name below `in-addr.arpa` or `ip6.arpa` that stands for an address.
pub fn reverse_name(ip: IpAddr) -> DnsName {
    reverse_prefix_name(ip, full_length(IpFamily::of(ip)))
}

/// The address that a complete reverse name stands for.
pub fn reverse_to_address(name: NameRef<'_>) -> Option<IpAddr> {
    let reversed = Reversed::decode(name)?;
    (reversed.extra == 0 && reversed.is_complete()).then(|| reversed.address())
}

/// The name of the smallest reverse tree that holds a prefix; whole octets or nibbles are used.
pub(super) fn reverse_prefix_name(ip: IpAddr, length: u8) -> DnsName {
    let mut labels: Vec<String> = Vec::with_capacity(32);
    let suffix = match ip {
        IpAddr::V4(v4) => {
            let octets = v4.octets();
            let used = octets.iter().take(usize::from(length / 8));
            labels.extend(used.map(ToString::to_string));
            IN_ADDR
        }
        IpAddr::V6(v6) => {
            for nibble in 0..u32::from(length / 4).min(32) {
                let digit = v6.to_bits() >> (124 - 4 * nibble) & 0xf;
                labels.push(alloc::format!("{digit:x}"));
            }
            IP6
        }
    };
    labels.reverse();
    labels.extend(suffix.iter().map(ToString::to_string));
    // 34 short labels at most, far below the limits of a name.
    DnsName::join(&labels, NameRef::ROOT).unwrap_or_else(|_| NameRef::ROOT.to_name())
}

pub(super) fn full_length(family: IpFamily) -> u8 {
    match family {
        IpFamily::V4 => 32,
        IpFamily::V6 => 128,
    }
}

/// A name in a reverse tree, read from the right as far as it makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reversed {
    pub(super) family: IpFamily,
    /// The bits of the prefix, in the place they have in an address; others are zero.
    pub(super) bits: u128,
    /// Length of the prefix in bits.
    pub(super) length: u8,
    /// Labels further left that are not part of an address.
    pub(super) extra: usize,
}

impl Reversed {
    /// Reads a name of any case; none outside `in-addr.arpa` and `ip6.arpa`.
    pub(super) fn decode(name: NameRef<'_>) -> Option<Self> {
        // Cheaper than counting labels, and true of nearly no query; the octets may also be the
        // end of a longer label.
        if !ends_with_label(name.octets(), b"\x04arpa\0") {
            return None;
        }
        let total = name.labels().count();
        let skipped = total.saturating_sub(34);
        let mut labels = [&[][..]; 34];
        let mut count = 0;
        for label in name.labels().skip(skipped).map(Label::octets) {
            *labels.get_mut(count)? = label;
            count += 1;
        }
        let [labels @ .., root, arpa] = labels.get(..count)? else {
            return None;
        };
        if !arpa.eq_ignore_ascii_case(b"arpa") {
            return None;
        }
        let family = if root.eq_ignore_ascii_case(b"in-addr") {
            IpFamily::V4
        } else if root.eq_ignore_ascii_case(b"ip6") {
            IpFamily::V6
        } else {
            return None;
        };
        let mut reversed = Self {
            family,
            bits: 0,
            length: 0,
            extra: 0,
        };
        reversed.take(labels);
        reversed.extra += skipped;
        Some(reversed)
    }

    fn take(&mut self, labels: &[&[u8]]) {
        let full = full_length(self.family);
        for (index, label) in labels.iter().rev().enumerate() {
            let (value, width) = match self.family {
                IpFamily::V4 => (octet(label), 8),
                IpFamily::V6 => (nibble(label), 4),
            };
            match value {
                Some(value) if self.length < full => {
                    self.length += width;
                    self.bits |= u128::from(value) << (full - self.length);
                }
                Some(_) | None => {
                    self.extra = labels.len() - index;
                    return;
                }
            }
        }
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length == full_length(self.family)
    }

    /// The first address of the prefix.
    pub(super) fn address(&self) -> IpAddr {
        address_of(self.family, self.bits)
    }
}

/// Bits of an address as [`Reversed`] counts them.
pub(super) fn bits_of(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

pub(super) fn address_of(family: IpFamily, bits: u128) -> IpAddr {
    match family {
        // Bits of IPv4 never pass 32.
        IpFamily::V4 => IpAddr::V4(Ipv4Addr::from_bits(u32::try_from(bits).unwrap_or(u32::MAX))),
        IpFamily::V6 => IpAddr::V6(Ipv6Addr::from_bits(bits)),
    }
}

/// As many ones as said, in the lowest places.
pub(super) fn low_bits(count: u8) -> u128 {
    match count {
        128.. => u128::MAX,
        _ => (1 << count) - 1,
    }
}

fn ends_with_label(octets: &[u8], suffix: &[u8]) -> bool {
    octets.len() >= suffix.len()
        && octets[octets.len() - suffix.len()..].eq_ignore_ascii_case(suffix)
}

fn octet(label: &[u8]) -> Option<u8> {
    let canonical = matches!(label, [b'0'] | [b'1'..=b'9', ..]) && label.len() <= 3;
    let digits = label.iter().all(u8::is_ascii_digit);
    if !canonical || !digits {
        return None;
    }
    str::from_utf8(label).ok()?.parse().ok()
}

fn nibble(label: &[u8]) -> Option<u8> {
    match label {
        [digit] => {
            let value = char::from(*digit).to_digit(16)?;
            u8::try_from(value).ok()
        }
        [] | [_, ..] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn octets_at_the_end_of_a_longer_label_are_no_reverse_tree() {
        let name = |text: &str| text.parse::<DnsName>().ok();
        let whole = name("1.0.96.10.in-addr.arpa");
        let ip = whole.as_ref().and_then(|n| reverse_to_address(n.as_ref()));
        assert_eq!(ip, Some([10, 96, 0, 1].into()));
        let longer = name("1.0.96.10.in-addr.ar\\004arpa");
        assert!(longer.is_some_and(|n| reverse_to_address(n.as_ref()).is_none()));
    }
}
