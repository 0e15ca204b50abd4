//! After any history the incremental plan is the computed one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::testing::{Source, history, laws};

fuzz_target!(|bytes: &[u8]| {
    let history = history(&mut Source::new(bytes));
    let laws = [
        laws::incremental,
        laws::order_free,
        laws::delta_empty_on_noop,
    ];
    for law in laws {
        if let Err(broken) = law(&history) {
            panic!("{broken}");
        }
    }
});
