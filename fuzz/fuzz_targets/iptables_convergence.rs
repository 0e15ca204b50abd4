//! Whatever fails, good rounds make the chains those of the plan.
#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../backend-iptables/tests/histories.rs"]
mod law;

use libfuzzer_sys::fuzz_target;
use svc_core::IpFamily;
use svc_core::testing::{Source, history};

fuzz_target!(|bytes: &[u8]| {
    let (faults, objects) = bytes.split_at(bytes.len().min(64));
    let history = history(&mut Source::new(objects));
    for family in IpFamily::ALL {
        if let Err(broken) = law::converge(&history, &mut Source::new(faults), family) {
            panic!("{broken}");
        }
    }
});
