//! ClusterIPs and node ports: what the API server gives to a Service.
//!
//! ```text
//! ServiceCIDRs ──► ClusterIps ─┐
//!                              ├─► Allocators: create, update, delete, assign, repair
//! port range   ──► NodePorts ──┘
//! ```
//!
//! Both kinds have a band that automatic allocation leaves for explicit requests until everything
//! else is taken (KEP-3070, KEP-3668). Nothing here is random: a caller gives a seed, and equal
//! seeds over equal histories give equal addresses. Rules are cited as B-372 to B-397.

mod address_range;
mod assign;
mod cluster_ip;
mod error;
mod family;
#[cfg(any(test, feature = "testing"))]
mod fixture;
#[cfg(feature = "testing")]
pub(crate) mod laws;
mod node_port;
mod repair;
mod service;
#[cfg(test)]
mod tests;
mod update;

pub use address_range::AddressRange;
pub use cluster_ip::ClusterIps;
pub use error::{AllocationError, RangeError};
pub use node_port::{NodePortRange, NodePorts};
pub use repair::Repair;
pub use service::{Allocators, Run};

/// Spreads a seed over all bits, so that seeds that differ by one start far apart (splitmix64).
fn spread(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Folds text into a seed (FNV-1a).
fn fold(seed: u64, text: &str) -> u64 {
    text.bytes()
        .fold(seed ^ 0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

/// The first free number from a start on, wrapping around once.
fn first_free(
    first: u128,
    last: u128,
    start: u64,
    mut taken: impl FnMut(u128) -> bool,
) -> Option<u128> {
    let size = last.checked_sub(first)?.checked_add(1)?;
    let start = u128::from(start) % size;
    (0..size)
        .map(|step| first + (start + step) % size)
        .find(|number| !taken(*number))
}
