//! Masquerade policies: sets of origins, as small numbers.

use svc_core::{Masquerade, PerOrigin, Route};

/// Bit of packets from pods.
pub const POD: u8 = 1;
/// Bit of packets from the node itself.
pub const NODE: u8 = 2;
/// Bit of all other packets.
pub const EXTERNAL: u8 = 4;
/// Number of policies.
pub const COUNT: u8 = 8;

/// The origins whose packets a front end masquerades.
pub fn of(routes: &PerOrigin<Route>) -> u8 {
    let bit = |route: &Route, bit| match route {
        Route::Forward {
            masquerade: Masquerade::Always,
            ..
        } => bit,
        Route::Forward {
            masquerade: Masquerade::Never,
            ..
        }
        | Route::Reject
        | Route::Drop => 0,
    };
    bit(&routes.pod, POD) | bit(&routes.node, NODE) | bit(&routes.external, EXTERNAL)
}
