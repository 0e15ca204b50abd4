//! Any datagram of generic netlink or route netlink is decoded without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    backend_ipvs::decode_anything(bytes);
});
