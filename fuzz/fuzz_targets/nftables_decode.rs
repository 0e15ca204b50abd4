//! Any datagram is decoded without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    backend_nftables::netlink::decode_anything(bytes);
});
