//! Allocators hand out nothing twice, whatever Services come and go, and nothing is lost.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::testing::laws;

fuzz_target!(|bytes: &[u8]| {
    let (seed, steps) = bytes.split_at(bytes.len().min(1));
    laws::allocations(steps, seed.first().copied().unwrap_or_default().into());
});
