//! iptables backend.

mod key;
pub mod name;
pub mod rule;
mod tree;

pub use key::{Entry, Hook, Jump, Key, Table, Tree, Value};
