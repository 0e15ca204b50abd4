//! Keys and data of elements, byte by byte.

use std::net::IpAddr;

use svc_core::{IpNet, Protocol};

use crate::rule::Bytes;

/// An address, network order.
pub(crate) fn address(ip: IpAddr) -> Bytes {
    match ip {
        IpAddr::V4(v4) => Bytes::from(v4.octets()),
        IpAddr::V6(v6) => Bytes::from(v6.octets()),
    }
}

/// A 32-bit number, host order.
pub(crate) fn host(number: u32) -> Bytes {
    Bytes::host_u32(number)
}

/// A 16-bit number, network order, padded to a register.
pub(crate) fn port(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// A protocol number, padded to a register.
pub(crate) fn protocol(protocol: Protocol) -> [u8; 4] {
    [protocol.number(), 0, 0, 0]
}

/// Registers in a row.
pub(crate) fn words(words: &[[u8; 4]]) -> Bytes {
    Bytes::new(words.as_flattened()).unwrap_or_default()
}

/// Fields in a row, each padded to registers.
pub(crate) fn joined(fields: &[&[u8]]) -> Bytes {
    // The longest key of the table has 56 bytes, a value may have 64.
    Bytes::concat(fields).unwrap_or_default()
}

/// The first and the last address of a prefix.
pub(crate) fn interval(net: &IpNet) -> (Bytes, Bytes) {
    (address(net.network()), address(net.broadcast()))
}
