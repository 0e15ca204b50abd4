//! A zone that was refreshed over any history equals one that is built from the last state.
#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../svc-core/tests/dns_law.rs"]
mod law;

use libfuzzer_sys::fuzz_target;
use svc_core::testing::Source;

fuzz_target!(|bytes: &[u8]| {
    if let Err(broken) = law::refreshing(law::history(&mut Source::new(bytes))) {
        panic!("{broken}");
    }
});
