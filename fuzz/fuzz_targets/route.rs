//! Every flow has one answer that makes sense, and plans keep their invariants.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::testing::{Aims, Source, history, laws};
use svc_core::{IpFamily, Plan};

fuzz_target!(|bytes: &[u8]| {
    let (aims, objects) = bytes.split_at(bytes.len().min(16));
    let history = history(&mut Source::new(objects));
    let state = history.state();
    for family in IpFamily::ALL {
        let plan = Plan::compute(&state, &history.last_config(), family);
        laws::lint(&plan).expect("a plan is clean");
        let flow = Aims::of(&plan).flow(&mut Source::new(aims));
        laws::route_total(&plan, &state, &flow).expect("a flow has one answer");
    }
});
