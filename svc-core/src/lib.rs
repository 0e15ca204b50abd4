//! Pure model of Kubernetes Services.
#![no_std]
extern crate alloc;
