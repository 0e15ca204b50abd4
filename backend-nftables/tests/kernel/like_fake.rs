//! The fake holds and refuses what the kernel does.

use std::collections::BTreeSet;

use backend_nftables::error::CommitError;
use backend_nftables::fake::FakeKernel;
use backend_nftables::netlink::{Batch, Existing};
use backend_nftables::rule::{DataType, Set, Type};
use backend_nftables::{Kernel, Renderer};
use svc_core::testing::Source;
use svc_core::{Action, IpFamily, Reconciler};

use super::{Proxy, assert_same, from_nothing, in_namespace};
use crate::common::TABLE;
use crate::common::edits::edit;
use crate::common::scenarios::{EVERYTHING, scenario};

#[test]
fn the_fake_holds_and_refuses_what_the_kernel_does() {
    in_namespace(|| {
        for family in IpFamily::ALL {
            let mut refused = 0;
            for seed in 0..8u64 {
                refused += compare_with_fake(family, seed);
            }
            assert!(refused > 2, "{refused}");
        }
    });
}

/// Applies the same edits of somebody else to both kernels; the number of refused ones.
fn compare_with_fake(family: IpFamily, seed: u64) -> usize {
    let plan = scenario(EVERYTHING).plan(family);
    let mut proxy = Proxy::new(&plan);
    proxy.kernel.cleanup().unwrap();
    proxy.settle();
    let mut fake = FakeKernel::new(TABLE, family);
    let mut same = Reconciler::new(Renderer::new(TABLE, family), family);
    same.change(&from_nothing(&plan));
    while let Action::Read | Action::Commit(_) = step(&mut same, &mut fake) {}
    let bytes = noise(seed);
    let mut source = Source::new(&bytes);
    let mut refused = 0;
    for _ in 0..6 {
        let held = fake.ruleset();
        let mut batch = Batch::new(fake.table().clone());
        for _ in 0..2 {
            edit(&held, &mut source, &mut batch);
        }
        let errors = [
            errors(proxy.kernel.socket().commit(&batch).map(drop)),
            errors(fake.apply(&batch)),
        ];
        assert_eq!(
            errors[0],
            errors[1],
            "seed {seed}: {:?}",
            backend_nftables::netlink::requests(&batch)
        );
        refused += usize::from(!errors[0].is_empty());
    }
    assert_same(&proxy.kernel.read().unwrap(), &fake.ruleset());
    refused
}

fn step(reconciler: &mut Reconciler<Renderer>, fake: &mut FakeKernel) -> Action<Renderer> {
    let action = reconciler.poll();
    match &action {
        Action::Idle => {}
        Action::Read => drop(reconciler.on_read(fake.read().unwrap())),
        Action::Commit(transaction) => {
            fake.commit(transaction).unwrap();
            reconciler.on_committed();
        }
    }
    action
}

fn errors(result: Result<(), CommitError>) -> BTreeSet<String> {
    match result {
        Ok(()) => BTreeSet::new(),
        Err(CommitError::Refused(refusals)) => {
            let shown = refusals.iter().map(|r| format!("{} {}", r.index, r.errno));
            shown.collect()
        }
        Err(other) => panic!("{other}"),
    }
}

/// Bytes that look random.
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..200).map(|_| next()).collect()
}

#[test]
fn a_set_of_another_definition_is_refused() {
    in_namespace(|| {
        let mut kernel = Kernel::open(TABLE, IpFamily::V4).unwrap();
        let mut batch = Batch::new(kernel.table().clone());
        batch.add_table(0, None, Existing::Keep);
        batch.add_set(
            1,
            &Set::new("a", Type::from(DataType::Mark)),
            Existing::Keep,
        );
        batch.add_set(
            2,
            &Set::new("a", Type::from(DataType::Ipv4Addr)),
            Existing::Keep,
        );
        let mut fake = FakeKernel::new(TABLE, IpFamily::V4);
        let expected = errors(fake.apply(&batch));
        assert_eq!(errors(kernel.socket().commit(&batch).map(drop)), expected);
        assert!(!expected.is_empty());
    });
}
