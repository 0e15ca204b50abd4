//! nf_tables backend.

mod audit;
mod bytes;
mod counts;
pub mod error;
mod evaluate;
#[cfg(any(test, feature = "testing"))]
pub mod fake;
mod kernel;
mod key;
pub mod netlink;
mod others;
mod pins;
pub mod policy;
mod pools;
mod read;
mod registers;
mod render;
pub mod rule;
mod schema;
mod skeleton;
mod slots;
mod text;
mod transaction;

pub use audit::Audit;
pub use evaluate::{Evaluator, Fault, Host, Outcome, Pins, evaluate, shares};
pub use kernel::{Kernel, KernelError, PinsLeft, failure};
pub use key::{ChainBody, ChainId, ElementValue, Key, Rare, SetId, Value};
pub use others::{Change, Others};
pub use render::{MAX_ENDPOINTS, Renderer};
pub use schema::AFFINITY_SIZE;
pub use text::{Line, Listing};
pub use transaction::{BATCH_BYTES, Batches, Blame, Start};
