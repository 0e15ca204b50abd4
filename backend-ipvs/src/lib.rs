//! IPVS backend.

pub mod capabilities;
pub mod companion;
mod drain;
pub mod error;
mod evaluate;
#[cfg(feature = "testing")]
pub mod fake;
mod kernel;
mod key;
mod line;
mod live;
mod marks;
mod netlink;
mod refusal;
mod render;
mod scheduler;
pub mod setting;
mod system;
mod text;
mod work;

pub use drain::DrainPolicy;
pub use evaluate::{Evaluator, Fault, evaluate};
pub use kernel::Kernel;
pub use key::{Destination, Key, Method, Persistence, Server, ServerId, Value};
pub use line::Line;
pub use live::Live;
pub use marks::Marks;
#[cfg(feature = "testing")]
pub use netlink::decode_anything;
pub use render::{Renderer, Settings};
pub use scheduler::{Scheduler, UnknownScheduler};
pub use setting::{Setting, StrictArp};
pub use system::{Counted, Held, HeldId, LinkState, Presence, Request, System, TableEdit};
pub use text::ipvsadm;
