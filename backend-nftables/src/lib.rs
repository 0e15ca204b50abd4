//! nf_tables backend.
