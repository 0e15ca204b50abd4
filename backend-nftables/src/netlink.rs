//! nf_tables over netlink: our own small codec, batches and a held-open socket.
//!
//! ```text
//!  rule::*  --Batch-->  bytes  --Socket::commit-->  kernel
//!     ^                                               |
//!     +------------- decode <-- Socket::rules, … -----+
//! ```
//!
//! A batch is one transaction: the kernel applies all of it or nothing. Only objects of tables that
//! the caller names are ever read or written.

mod attr;
mod batch;
mod conntrack;
mod decode;
mod encode;
#[cfg(any(test, feature = "testing"))]
mod request;
mod socket;
#[cfg(test)]
mod tests;
mod wire;

pub use batch::{Batch, Existing, Place, TableId};
pub use conntrack::{Conntrack, Deletion, Tracked};
pub use decode::{Event, EventKind, Held};
pub(crate) use socket::Part;
pub use socket::{Committed, Events, Socket};

#[cfg(any(test, feature = "testing"))]
pub use decode::decode_anything;
#[cfg(any(test, feature = "testing"))]
pub use request::{Request, What, requests};
