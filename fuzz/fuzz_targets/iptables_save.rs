//! What iptables-save prints, or anything else, is read without a panic, and what was read is
//! printed as something that reads the same.
#![no_main]

use backend_iptables::Program;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let program = Program::parse(text);
    let again = Program::parse(&program.to_string());
    assert_eq!(again.to_string(), program.to_string());
});
