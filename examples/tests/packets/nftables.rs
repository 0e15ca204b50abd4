//! What only the nf_tables backend has.

use std::process::Command;

use backend_nftables::rule::ChainType;
use backend_nftables::{Kernel, Key, SetId, Value};
use examples::nftables_proxy::TABLE;
use examples::sandbox::{Outcome, Transport};
use svc_core::{Base, Edit, EditGroup, IpFamily, Transaction};

use crate::connections::{WEB, slices};
use crate::lab::{Lab, NFTABLES, TRANSPORTS, at, ip, port, target_port};

/// The kernel shows only the first packet of a connection to chains of type nat.
pub(crate) fn nat_chains_only() {
    let mut lab = Lab::new(&NFTABLES);
    lab.apply(WEB, &slices(&["1", "2"]));
    for family in IpFamily::ALL {
        in_kernel(&lab, family, |kernel| {
            let held = kernel.read().unwrap();
            let bases = held.iter().filter_map(|(key, value)| match (key, value) {
                (Key::BaseChain(id), Value::Chain(chain)) => Some((id, chain.chain.base?)),
                _ => None,
            });
            let bases: Vec<_> = bases.collect();
            assert_eq!(bases.len(), 5, "{bases:?}");
            for (id, base) in bases {
                assert_eq!(base.kind, ChainType::Nat, "{id:?}");
            }
        });
    }
}

/// A packet that has just read how many endpoints there are may find the last of them gone: it
/// takes the first. Such a moment is too short to be met by chance, so it is made to last.
pub(crate) fn slot_that_has_just_gone() {
    for affinity in ["None", "ClientIP"] {
        let mut lab = Lab::new(&NFTABLES);
        lab.apply(&WEB.replace("None", affinity), &slices(&["1", "2"]));
        let removed = match affinity {
            "None" => SetId::Endpoints,
            _ => SetId::Sticky,
        };
        for family in IpFamily::ALL {
            in_kernel(&lab, family, |kernel| remove_second_slots(kernel, &removed));
        }
        for (from, to, first) in [
            ("10.64.1.200", "10.96.0.10", "10.64.1.1"),
            ("203.0.113.7", "10.96.0.10", "10.64.1.1"),
            ("fd10:64:0:1::200", "fd10:96::10", "fd10:64:0:1::1"),
            ("2600:5200::7", "fd10:96::10", "fd10:64:0:1::1"),
        ] {
            for transport in TRANSPORTS {
                for _ in 0..40 {
                    let reached = lab.reach(ip(from), at(to, port(transport)), transport);
                    assert_eq!(reached, at(first, target_port(transport)));
                }
            }
        }
    }
}

/// An address of the service range that is none of ours is dropped, unless another agent translates it: clients
/// reach that one's endpoint, although our chains were there first (B-004, B-033).
pub(crate) fn address_of_another_agent() {
    let mut lab = Lab::new(&NFTABLES);
    lab.apply(WEB, &slices(&["1", "2"]));
    let clients = ["10.64.1.200", "203.0.113.7"];
    let theirs = at("10.96.0.77", port(Transport::Tcp));
    let dropped = lab.attempt(ip(clients[0]), theirs, Transport::Tcp);
    assert!(matches!(dropped, Outcome::TimedOut), "{dropped}");
    let table = "add table ip other; \
        add chain ip other nat { type nat hook prerouting priority -100; }; \
        add rule ip other nat ip daddr 10.96.0.77 tcp dport 80 dnat to 10.64.1.1:8080";
    let node = lab.world.sandbox().node();
    let made = node.run(|| Command::new("nft").arg(table).status().unwrap());
    assert!(made.unwrap().success());
    for from in clients {
        let reached = lab.reach(ip(from), theirs, Transport::Tcp);
        assert_eq!(reached, at("10.64.1.1", target_port(Transport::Tcp)));
    }
}

fn in_kernel<T: Send>(lab: &Lab, family: IpFamily, job: impl FnOnce(&mut Kernel) -> T + Send) -> T {
    let node = lab.world.sandbox().node();
    node.run(|| job(&mut Kernel::open(TABLE, family).unwrap()))
        .unwrap()
}

/// Removes the slots of pools that are not 0, behind the back of the proxy.
fn remove_second_slots(kernel: &mut Kernel, set: &SetId) {
    let held = kernel.read().unwrap();
    let second = held.into_iter().filter_map(|(key, value)| {
        let slot = match &key {
            Key::Element(id, bytes) if id == set => bytes.as_slice().get(4..6)?.to_vec(),
            Key::Table | Key::BaseChain(_) | Key::Chain(_) | Key::SourceRule(_) => return None,
            Key::Set(_) | Key::Element(..) => return None,
        };
        (slot != [0, 0]).then_some(Edit {
            key,
            before: Some(value),
            after: None,
        })
    });
    let edits: Vec<_> = second.collect();
    assert_eq!(edits.len(), 2, "{edits:?}");
    let groups = vec![EditGroup { name: None, edits }];
    let base = Base::InUse;
    kernel.commit(&Transaction { groups, base }).unwrap();
}
