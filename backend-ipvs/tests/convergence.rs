//! A reconciler makes the kernel match the plan, whatever goes wrong on the way.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]

use backend_ipvs::{Renderer, Settings};
use proptest::prelude::*;
use svc_core::IpFamily;
use svc_core::testing::{bytes, histories, laws};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 100,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn fragments_add_up(history in histories(), faults in bytes(10)) {
        for family in IpFamily::ALL {
            let render = || Renderer::new(Settings::default(), family);
            let law = laws::convergence(render, family, &history, &faults);
            law.map_err(TestCaseError::fail)?;
        }
    }
}
