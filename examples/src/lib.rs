//! Library of the example binaries.
