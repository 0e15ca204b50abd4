//! Whatever fails, one good round makes the kernel show the plan.
#![no_main]

use backend_nftables::Renderer;
use libfuzzer_sys::fuzz_target;
use svc_core::IpFamily;
use svc_core::testing::{Source, history, laws};

fuzz_target!(|bytes: &[u8]| {
    let (faults, objects) = bytes.split_at(bytes.len().min(24));
    let history = history(&mut Source::new(objects));
    for family in IpFamily::ALL {
        let renderer = || Renderer::new("fuzz", family);
        if let Err(broken) = laws::convergence(renderer, family, &history, faults) {
            panic!("{broken}");
        }
    }
});
