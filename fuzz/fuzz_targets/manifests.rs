//! Any text is read as manifests without a panic, twice alike, and every problem names a line that
//! the text has.
#![no_main]

// Files of the example programs, as these are too heavy to be a dependency.
#[allow(dead_code, unused_imports, unreachable_pub)]
#[path = "../../examples/src"]
mod examples {
    pub mod manifest;
}

use examples::manifest::{Source, read_with_stdin};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let manifests = read_with_stdin(&[Source::Stdin], &mut { bytes });
    let lines = bytes.split(|byte| matches!(byte, b'\n' | b'\r')).count() as u64;
    for problem in &manifests.problems {
        assert!(!problem.to_string().contains('\n'), "{problem}");
        assert!(
            problem.line.is_none_or(|line| line <= lines + 1),
            "{problem} of {lines}"
        );
    }
    for (_, diagnostic) in &manifests.diagnostics {
        assert!(!diagnostic.to_string().is_empty());
    }
    // Numbers that are none are not even themselves.
    let again = read_with_stdin(&[Source::Stdin], &mut { bytes });
    assert_eq!(format!("{manifests:?}"), format!("{again:?}"));
});
