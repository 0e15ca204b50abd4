//! The nf_tables ruleset of any plan does with every flow what the plan says.
#![no_main]

#[allow(dead_code, unused_imports)]
#[path = "../../backend-nftables/tests/agreement.rs"]
mod law;

use libfuzzer_sys::fuzz_target;
use svc_core::testing::{Aims, Source, history};
use svc_core::{IpFamily, Plan};

fuzz_target!(|bytes: &[u8]| {
    let (aims, objects) = bytes.split_at(bytes.len().min(64));
    let history = history(&mut Source::new(objects));
    let state = history.state();
    for family in IpFamily::ALL {
        let plan = Plan::compute(&state, &history.last_config(), family);
        let mut source = Source::new(aims);
        let aims = Aims::of(&plan);
        let flows = (0..12).map(|_| aims.flow(&mut source));
        if let Err(broken) = law::agree(&plan, flows) {
            panic!("{broken}");
        }
    }
});
