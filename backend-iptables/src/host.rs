//! The host: its tools, which variant of iptables it uses, and what that has.

mod detect;
mod exec;
mod ipset;
mod lock;
mod probe;

pub use detect::{Detected, Variant, detect};
pub(crate) use exec::{Tools, run};
pub(crate) use ipset::destroy;
pub(crate) use probe::features;
