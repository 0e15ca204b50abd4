//! The generators as proptest strategies.

use alloc::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::{ProptestConfig, Strategy, any};
use proptest::strategy::ValueTree;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

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

/// What a strategy makes when every random choice is read from `bytes`, and is the first one when
/// they run out: turns any property into a fuzz target. `None` where the strategy refuses these
/// choices.
pub fn sample<S: Strategy>(strategy: &S, bytes: &[u8]) -> Option<S::Value> {
    let mut bytes = bytes.to_vec();
    // Past the end the generator would say 0 for ever, which is no number to draw others from:
    // whoever wants them even throws it away and asks again.
    bytes.resize(bytes.len() + REST, 1);
    let rng = TestRng::from_seed(RngAlgorithm::PassThrough, &bytes);
    let mut runner = TestRunner::new_with_rng(ProptestConfig::default(), rng);
    let tree = strategy.new_tree(&mut runner).ok()?;
    Some(tree.current())
}

/// More first choices than any history has.
const REST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_that_run_out_are_the_first_ones() {
        let strategy = vec(0..7u32, 3..50);
        assert_eq!(sample(&strategy, &[]), Some([0; 3].into()));
        let some = sample(&strategy, &[9; 40]).unwrap_or_default();
        assert!(some.len() > 3, "{some:?}");
    }
}
