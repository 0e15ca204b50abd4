//! iptables backend.

mod balance;
pub mod capabilities;
mod config;
mod evaluate;
mod key;
pub mod name;
mod program;
mod render;
pub mod rule;
mod skeleton;
mod tree;

pub use config::{
    AffinityBy, Config, Features, HairpinBy, InvalidPackets, MOST_RECENT, Marks, SameBit,
};
pub use evaluate::Outcome;
pub use key::{Entry, Hook, Jump, Key, Table, Tree, Value};
pub use program::{Host, Program};
pub use render::Renderer;
