//! The generators as proptest strategies.

use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use super::generate::{History, history};
use super::source::Source;
use crate::net::IpFamily;
use crate::plan::Plan;

/// Bytes for a [`Source`], long enough for `objects` objects or so.
pub fn bytes(objects: usize) -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..=objects * 40)
}

/// Histories of up to about 60 steps.
pub fn histories() -> impl Strategy<Value = History> {
    bytes(60).prop_map(|bytes| history(&mut Source::new(&bytes)))
}

/// Plans of both families of small clusters.
pub fn plans() -> impl Strategy<Value = [Plan; 2]> {
    histories().prop_map(|history| {
        let state = history.state();
        IpFamily::ALL.map(|family| Plan::compute(&state, &history.last_config(), family))
    })
}
