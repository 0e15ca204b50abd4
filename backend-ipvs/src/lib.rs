//! IPVS backend.

pub mod capabilities;
pub mod companion;
mod evaluate;
mod key;
mod marks;
mod render;
mod scheduler;

pub use evaluate::{Evaluator, Fault, evaluate};
pub use key::{Destination, Key, Method, Persistence, Server, ServerId, Value};
pub use marks::Marks;
pub use render::{Renderer, Settings};
pub use scheduler::{Scheduler, UnknownScheduler};
