//! iptables backend.

mod balance;
pub mod capabilities;
mod config;
mod error;
mod evaluate;
mod host;
mod kernel;
mod key;
pub mod name;
mod program;
mod read;
mod render;
pub mod rule;
mod skeleton;
mod transaction;
mod tree;

pub use config::{
    AffinityBy, Config, Features, HairpinBy, InvalidPackets, MOST_RECENT, Marks, SameBit,
};
pub use error::Error;
pub use evaluate::Outcome;
pub use host::{Detected, Variant, detect};
pub use kernel::{Kernel, Options};
pub use key::{Entry, Hook, Jump, Key, Table, Tree, Value};
pub use program::{Host, Program};
pub use render::Renderer;
pub use transaction::{Blocks, Input};
