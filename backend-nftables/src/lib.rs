//! nf_tables backend.

pub mod error;
pub mod netlink;
pub mod rule;
