//! Watches against an API server that does what servers do, and what they should not.
// Helpers outside of test functions may fail a test too.
#![allow(clippy::unwrap_used, clippy::panic)]
// A test looks for one notice among all.
#![allow(clippy::wildcard_enum_match_arm)]

mod embed;
mod faults;
mod lists;
mod once;
mod programs;
mod rig;
mod watches;
