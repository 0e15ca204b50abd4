//! Values by their types.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::rule::{Bytes, DataType, Set, SetData, SetFlags, Type, Verdict};

/// The fields of a value.
pub(super) fn concatenation(kind: &Type, value: &Bytes) -> String {
    let fields = kind.layout().map(|(field, at, len)| {
        let bytes = value.get(at..at + len).unwrap_or_default();
        one(field, bytes)
    });
    fields.collect::<Vec<_>>().join(" . ")
}

/// The fields of a range: those that are one value, then those that are several.
pub(super) fn range(kind: &Type, first: &Bytes, last: &Bytes) -> String {
    let fields = kind.layout().map(|(field, at, len)| {
        let first = first.get(at..at + len).unwrap_or_default();
        let last = last.get(at..at + len).unwrap_or_default();
        if first == last {
            return one(field, first);
        }
        match prefix(first, last) {
            Some(length) if is_address(field) => format!("{}/{length}", one(field, first)),
            Some(_) | None => format!("{}-{}", one(field, first), one(field, last)),
        }
    });
    fields.collect::<Vec<_>>().join(" . ")
}

/// One field.
pub(super) fn one(kind: DataType, bytes: &[u8]) -> String {
    match (kind, bytes) {
        (DataType::Ipv4Addr, _) if bytes.len() == 4 => {
            let octets: [u8; 4] = bytes.try_into().unwrap_or_default();
            IpAddr::V4(Ipv4Addr::from(octets)).to_string()
        }
        (DataType::Ipv6Addr, _) if bytes.len() == 16 => {
            let octets: [u8; 16] = bytes.try_into().unwrap_or_default();
            IpAddr::V6(Ipv6Addr::from(octets)).to_string()
        }
        (DataType::InetProto, [number]) => protocol(*number),
        (DataType::InetService, [high, low]) => u16::from_be_bytes([*high, *low]).to_string(),
        (DataType::Mark, [a, b, c, d]) => u32::from_ne_bytes([*a, *b, *c, *d]).to_string(),
        (DataType::Ifname, _) => {
            let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
            quoted(&String::from_utf8_lossy(name))
        }
        (
            DataType::Ipv4Addr
            | DataType::Ipv6Addr
            | DataType::InetProto
            | DataType::InetService
            | DataType::Mark
            | DataType::NfProto
            | DataType::Other { .. },
            _,
        ) => hex(bytes),
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    format!("0x{}", digits.collect::<String>())
}

pub(super) fn verdict(verdict: &Verdict) -> String {
    match verdict.chain() {
        Some(chain) => format!("{} {chain}", verdict.name()),
        None => verdict.name().to_owned(),
    }
}

/// The line that says what keys and data are.
pub(super) fn types(set: &Set) -> String {
    let key = type_name(&set.key);
    match &set.data {
        None => format!("type {key}"),
        Some(SetData::Verdict) => format!("type {key} : verdict"),
        Some(SetData::Value(data)) => format!("type {key} : {}", type_name(data)),
    }
}

/// Size, flags and times.
pub(super) fn properties(set: &Set) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(size) = set.size {
        lines.push(format!("size {size}"));
    }
    let flags = [
        (SetFlags::CONSTANT, "constant"),
        (SetFlags::INTERVAL, "interval"),
        (SetFlags::DYNAMIC, "dynamic"),
        (SetFlags::TIMEOUT, "timeout"),
    ];
    let own = flags.iter().filter(|(flag, _)| set.flags.contains(*flag));
    let own: Vec<&str> = own.map(|(_, word)| *word).collect();
    if !own.is_empty() {
        lines.push(format!("flags {}", own.join(",")));
    }
    if let Some(timeout) = set.timeout {
        lines.push(format!("timeout {}", duration(timeout)));
    }
    if let Some(pause) = set.gc_interval {
        lines.push(format!("gc-interval {}", duration(pause.into())));
    }
    lines
}

/// Milliseconds as nft writes them.
pub(super) fn duration(milliseconds: u64) -> String {
    let units = [
        ("d", 86_400_000),
        ("h", 3_600_000),
        ("m", 60_000),
        ("s", 1000),
        ("ms", 1),
    ];
    let mut rest = milliseconds;
    let mut text = String::new();
    for (unit, length) in units {
        if rest >= length {
            text += &format!("{}{unit}", rest / length);
            rest %= length;
        }
    }
    match text.is_empty() {
        true => String::from("0s"),
        false => text,
    }
}

/// A string between quotes. nft knows no escapes: what cannot stand there is written as Rust does.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            _ if character.is_control() => quoted.extend(character.escape_default()),
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

/// The same for the rest of a line.
pub(super) fn one_line(text: &str) -> String {
    let quoted = quoted(text);
    let inner = quoted.get(1..quoted.len() - 1);
    inner.unwrap_or_default().to_owned()
}

fn type_name(kind: &Type) -> String {
    let name = |field: &DataType| match field.name() {
        Some(name) => name.to_owned(),
        None => format!("type{}", field.id()),
    };
    kind.fields()
        .iter()
        .map(name)
        .collect::<Vec<_>>()
        .join(" . ")
}

fn protocol(number: u8) -> String {
    let known = svc_core::Protocol::ALL.into_iter();
    let mut known = known.filter(|protocol| protocol.number() == number);
    known
        .next()
        .map_or_else(|| number.to_string(), |known| known.lower().to_owned())
}

fn is_address(kind: DataType) -> bool {
    matches!(kind, DataType::Ipv4Addr | DataType::Ipv6Addr)
}

/// The length of the prefix whose first and last addresses these are.
fn prefix(first: &[u8], last: &[u8]) -> Option<u32> {
    let differing = first.iter().zip(last).map(|(a, b)| a ^ b);
    let ones: u32 = differing.clone().map(u8::count_ones).sum();
    let trailing = |bytes: &[u8]| {
        let zeros = bytes.iter().rev().take_while(|byte| **byte == 0).count();
        let next = bytes
            .iter()
            .rev()
            .nth(zeros)
            .map_or(0, |byte| byte.trailing_zeros());
        8 * u32::try_from(zeros).unwrap_or_default() + next
    };
    let inverted: Vec<u8> = last.iter().map(|byte| !byte).collect();
    let aligned = trailing(first) >= ones && trailing(&inverted) >= ones;
    let differing: Vec<u8> = differing.map(|byte| !byte).collect();
    let low = trailing(&differing) == ones;
    let bits = 8 * u32::try_from(first.len()).ok()?;
    (aligned && low).then(|| bits - ones)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_prefixes_where_they_can_be() {
        let kind = Type::from(DataType::Ipv4Addr);
        let shown = |first: [u8; 4], last: [u8; 4]| range(&kind, &first.into(), &last.into());
        assert_eq!(shown([10, 96, 0, 0], [10, 96, 255, 255]), "10.96.0.0/16");
        assert_eq!(shown([0; 4], [255; 4]), "0.0.0.0/0");
        assert_eq!(shown([10, 0, 0, 1], [10, 0, 0, 2]), "10.0.0.1-10.0.0.2");
        assert_eq!(shown([10, 0, 0, 7], [10, 0, 0, 7]), "10.0.0.7");
        assert_eq!(shown([10, 0, 0, 2], [10, 0, 0, 5]), "10.0.0.2-10.0.0.5");
    }

    #[test]
    fn times_and_strings_read_as_nft_writes_them() {
        assert_eq!(duration(10_800_000), "3h");
        assert_eq!(duration(90_500), "1m30s500ms");
        assert_eq!(quoted("a\"b\\\n"), r#""a\"b\\\n""#);
    }
}
