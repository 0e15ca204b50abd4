//! Typed model of what nf_tables holds: tables, chains, rules, sets and their elements.
//!
//! Rendering builds these values, the netlink codec carries them, the evaluator interprets them
//! and the in-memory kernel stores them. Every type is ordered and holds no kernel handle, so two
//! equal values mean the same kernel object wherever they come from.

mod bytes;
mod chain;
mod element;
mod expr;
mod flags;
mod key;
mod name;
mod set;

pub use bytes::{Bytes, TooLong};
pub use chain::{
    BaseChain, Chain, ChainType, Family, Hook, Policy, Rule, Table, TableState, priority,
};
pub use element::{Data, Element, ElementKind};
pub use expr::{
    ByteorderOp, CmpOp, DynsetOp, Expr, FibResult, Found, Immediate, Lookup, NatKind, NumgenKind,
    PayloadBase, Register, Reject, Verdict,
};
pub use flags::{FibFlags, NatFlags, SetFlags};
pub use key::{CtKey, Direction, MetaKey};
pub use name::{ChainName, Comment, SetName, TableName};
pub use set::{ByteOrder, DataType, Set, SetData, Type};
