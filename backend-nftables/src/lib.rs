//! nf_tables backend.

pub mod rule;
