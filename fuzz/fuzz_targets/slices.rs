//! The slice controller is right after any history of Services and Pods, crashes included.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::testing::laws;

fuzz_target!(|bytes: &[u8]| laws::slices(bytes));
