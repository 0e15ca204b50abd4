//! Addresses and ranges in fields of Services (B-348, B-365).

use core::fmt::Display;
use core::net::{IpAddr, Ipv6Addr};

use ipnet::IpNet;

use super::check::Check;
use crate::net::{parse_cidr, parse_ip};

/// An address in strict form; those of `stored` were accepted before and stay (B-365).
///
/// Returns whether the form is fine.
pub(super) fn check_ip(check: &mut Check, path: impl Display, text: &str, stored: &[&str]) -> bool {
    if stored.contains(&text) {
        return true;
    }
    let wrong = match (parse_ip(text), strict_ip(text)) {
        (None, _) => "must be an IP address, such as 10.9.8.7 or 2001:db8::ffff",
        (Some(_), None) => "must not have leading zeros, nor be an IPv4-mapped IPv6 address",
        (Some(_), Some(_)) => return true,
    };
    check.invalid(path, text, wrong);
    false
}

/// A range in strict form; those of `stored` were accepted before and stay (B-350, B-365).
pub(super) fn check_cidr(check: &mut Check, path: impl Display, text: &str, stored: &[&str]) {
    if stored.contains(&text) {
        return;
    }
    let Some(net) = parse_cidr(text) else {
        let wrong = "must be a range, such as 10.9.8.0/24 or 2001:db8::/64";
        return check.invalid(path, text, wrong);
    };
    match strict_cidr(text) {
        None => {
            let wrong = "must not have leading zeros, nor be an IPv4-mapped IPv6 range";
            check.invalid(path, text, wrong);
        }
        Some(strict) if strict != net => {
            check.invalid(
                path,
                text,
                "must not have bits set beyond the prefix length",
            );
        }
        Some(_) => {}
    }
}

/// An address that endpoints and external addresses may not be (B-348).
pub(super) fn check_not_special(check: &mut Check, path: impl Display, text: &str) {
    let Some(ip) = parse_ip(text) else {
        return;
    };
    if let Some(wrong) = special(ip) {
        check.invalid(path, text, wrong);
    }
}

fn special(ip: IpAddr) -> Option<&'static str> {
    let (link_local, link_local_multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), is_link_local_multicast(v6)),
    };
    if ip.is_unspecified() {
        Some("must not be the unspecified address")
    } else if ip.is_loopback() {
        Some("must not be a loopback address (127.0.0.0/8, ::1)")
    } else if link_local {
        Some("must not be a link-local address (169.254.0.0/16, fe80::/10)")
    } else if link_local_multicast {
        Some("must not be a link-local multicast address (224.0.0.0/24, ff02::/16)")
    } else {
        None
    }
}

/// Scope 2, whatever the flags.
fn is_link_local_multicast(ip: Ipv6Addr) -> bool {
    let [first, second, ..] = ip.octets();
    first == 0xff && second & 0x0f == 0x02
}

/// An address without leading zeros that is not mapped.
pub(super) fn strict_ip(text: &str) -> Option<IpAddr> {
    match text.parse().ok()? {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => None,
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => Some(ip),
    }
}

/// A range without leading zeros that is not mapped, with its host bits.
pub(super) fn strict_cidr(text: &str) -> Option<IpNet> {
    let (address, length) = text.split_once('/')?;
    let canonical = length == "0" || !length.starts_with(['0', '+']);
    let length: u8 = length.parse().ok().filter(|_| canonical)?;
    IpNet::new(strict_ip(address)?, length).ok()
}

/// The address as it should be written, when it is written otherwise (B-370).
pub(super) fn canonical_ip(text: &str) -> Option<IpAddr> {
    use alloc::string::ToString;
    parse_ip(text).filter(|ip| ip.to_string() != text)
}

/// Whether an address is IPv4, also when it is written in an old form.
pub(super) fn is_ipv4(text: &str) -> bool {
    parse_ip(text).is_some_and(|ip| ip.is_ipv4())
}

/// Whether a text is an address at all.
pub(super) fn is_ip(text: &str) -> bool {
    parse_ip(text).is_some()
}

#[cfg(test)]
mod tests {
    use alloc::string::String;

    use super::*;

    fn ip(text: &str, stored: &[&str]) -> String {
        let mut check = Check::default();
        if check_ip(&mut check, "ip", text, stored) {
            check_not_special(&mut check, "ip", text);
        }
        check
            .errors
            .first()
            .map_or(String::new(), |e| e.detail.clone())
    }

    fn cidr(text: &str) -> String {
        let mut check = Check::default();
        check_cidr(&mut check, "cidr", text, &[]);
        check
            .errors
            .first()
            .map_or(String::new(), |e| e.detail.clone())
    }

    #[test]
    fn b348_special_addresses() {
        for text in [
            "192.0.2.1",
            "224.0.1.1",
            "2001:db8::1",
            "ff05::1",
            "fec0::1",
        ] {
            assert_eq!(ip(text, &[]), "", "{text}");
        }
        for text in [
            "0.0.0.0",
            "::",
            "127.1.2.3",
            "::1",
            "169.254.1.1",
            "fe80::1",
            "224.0.0.9",
            "ff02::1",
            "ff12::1",
        ] {
            assert!(ip(text, &[]).starts_with("must not be"), "{text}");
            // Also when it was stored.
            assert!(ip(text, &[text]).starts_with("must not be"), "{text}");
        }
    }

    #[test]
    fn b365_strict_addresses() {
        for text in ["010.0.0.1", "::ffff:192.0.2.1"] {
            assert!(ip(text, &[]).contains("leading zeros"), "{text}");
            assert_eq!(ip(text, &[text]), "", "{text} was stored");
        }
        for text in ["", "10.0.0", "10.0.0.1/24", "fe80::1%eth0", " 10.0.0.1"] {
            assert!(ip(text, &[]).starts_with("must be an IP"), "{text}");
        }
        // It need not be canonical.
        assert_eq!(ip("2001:DB8:0:0::1", &[]), "");
    }

    #[test]
    fn b365_strict_ranges() {
        for text in ["10.0.0.0/8", "0.0.0.0/0", "2001:db8::/32", "10.1.2.3/32"] {
            assert_eq!(cidr(text), "", "{text}");
        }
        assert!(cidr("10.1.0.0/8").contains("bits"));
        for text in ["010.0.0.0/8", "10.0.0.0/08", "::ffff:10.0.0.0/104"] {
            assert!(cidr(text).contains("leading zeros"), "{text}");
        }
        for text in ["10.0.0.0", "10.0.0.0/33", "10.0.0.0/", "a/8"] {
            assert!(cidr(text).starts_with("must be a range"), "{text}");
        }
    }
}
