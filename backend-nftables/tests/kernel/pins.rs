//! A map of pins that is full, and a Service that goes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use backend_nftables::netlink::{Batch, Existing};
use backend_nftables::rule::{Bytes, Element};
use backend_nftables::{AFFINITY_SIZE, Kernel, Key, PinsLeft, SetId};
use svc_core::IpFamily;

use crate::common::scenarios::scenario;
use crate::{Proxy, in_namespace};

const STICKY: &str = "config mode=nftables\nnode n1 198.18.0.10\ncidr 10.96.0.0/16
    service a ip=10.96.0.1 port=80 affinity=600\nslice a-1 a port=80 10.64.1.1@n1
    service b ip=10.96.0.2 port=80 affinity=600\nslice b-1 b port=80 10.64.1.2@n1";

#[test]
fn a_full_map_of_pins_gets_room_when_a_service_goes() {
    in_namespace(|| {
        let mut proxy = Proxy::new(&scenario(STICKY).plan(IpFamily::V4));
        proxy.settle();
        let left_over = fill(&mut proxy.kernel);
        // As old kernels do, this one may not tell.
        let count = |kernel: &mut Kernel| kernel.pins().unwrap();
        assert!(count(&mut proxy.kernel).is_none_or(|pins| pins == AFFINITY_SIZE));
        proxy.change_to(&scenario(&STICKY.replace("service a", "# ")).plan(IpFamily::V4));
        let begun = Instant::now();
        proxy.settle();
        let (steps, longest) = remove(&mut proxy.kernel, begun.elapsed());
        println!(
            "{AFFINITY_SIZE} pins listed and removed in {:.1?}, {steps} steps of at most {longest:.1?}",
            begun.elapsed()
        );
        assert!(count(&mut proxy.kernel).is_none_or(|pins| pins == 1));
        let table = proxy.kernel.table().clone();
        let affinity = SetId::Affinity.name();
        let left = proxy.kernel.socket().elements(&table, &affinity);
        let left: Vec<Bytes> = left.unwrap().into_iter().map(|pin| pin.key).collect();
        assert_eq!(left, [left_over]);
    });
}

/// Pins as many clients as there is room for, all but one of the first Service; the key of that one.
fn fill(kernel: &mut Kernel) -> Bytes {
    let held = kernel.read().unwrap();
    let pools = held.keys().filter_map(|key| {
        let Key::Element(SetId::Live, row) = key else {
            return None;
        };
        Some(row[..4].to_vec())
    });
    let pools: BTreeSet<Vec<u8>> = pools.collect();
    let [a, b] = [pools.first().unwrap(), pools.last().unwrap()];
    let pin = |client: u32| {
        let pool = if client == 0 { b } else { a };
        let key = [&pool[..], &client.to_be_bytes()].concat();
        let row = [&pool[..], &[10, 64, 1, 1, 0, 80, 0, 0]].concat();
        Element::map(Bytes::new(&key).unwrap(), Bytes::new(&row).unwrap())
    };
    let table = kernel.table().clone();
    let mut batch = Batch::new(table);
    for first in (0..AFFINITY_SIZE).step_by(8_192) {
        batch.clear();
        for client in first..first + 8_192 {
            batch.add_element(0, &SetId::Affinity.name(), &pin(client), Existing::Refuse);
        }
        kernel.socket().commit(&batch).unwrap();
    }
    pin(0).key
}

/// Goes on until all are removed: the number of steps and the longest one, of which `first` was one.
fn remove(kernel: &mut Kernel, first: Duration) -> (usize, Duration) {
    let (mut longest, mut steps) = (first, 0);
    loop {
        let step = Instant::now();
        if kernel.remove_pins().unwrap() == PinsLeft::None {
            return (steps, longest);
        }
        longest = longest.max(step.elapsed());
        steps += 1;
    }
}
