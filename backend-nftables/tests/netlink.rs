//! The netlink transport against this machine's kernel, each test in a network namespace of its own.

// The configured exemption covers test functions, not the helpers of a test crate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "netlink/ruleset.rs"]
mod ruleset;

use std::process::Command;
use std::thread;

use backend_nftables::error::{CommitError, Errno, EventError, ReadError};
use backend_nftables::netlink::{Batch, EventKind, Existing, Place, Socket, TableId};
use backend_nftables::rule::{
    Bytes, Chain, ChainName, DataType, Element, Expr, Family, Immediate, Rule, Set, SetFlags,
    SetName, Type, Verdict,
};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{setsockopt, sockopt};
use ruleset::{Ruleset, table_id};

#[test]
fn a_ruleset_reads_back_as_it_was_sent() {
    in_namespace(|socket| {
        for family in [Family::Ip, Family::Ip6] {
            let sent = Ruleset::of(family);
            let before = socket.generation().unwrap();
            let mut batch = sent.batch();
            batch.expect_generation(Some(before));
            let committed = socket.commit(&batch).unwrap();
            assert_eq!(committed.generation, Some(socket.generation().unwrap()));
            sent.assert_held(socket);
        }
    });
}

#[test]
fn nft_lists_the_ruleset_with_its_comments() {
    in_namespace(|socket| {
        for family in [Family::Ip, Family::Ip6] {
            socket.commit(&Ruleset::of(family).batch()).unwrap();
        }
        let text = nft(&["list", "ruleset"]);
        for comment in [
            "table comment",
            "chain comment",
            "set comment",
            "rule comment",
            "ns/web:http",
        ] {
            assert!(
                text.contains(&format!("comment \"{comment}\"")),
                "{comment} in {text}"
            );
        }
        assert!(text.contains("map @frontends != 0x0"), "{text}");
        assert!(
            text.contains("0x00000007 : 0x00000000 . 0x00000010 . 3"),
            "host order key in {text}"
        );
        nft(&["-j", "list", "ruleset"]);
    });
}

#[test]
fn a_refused_batch_names_its_operations_and_leaves_nothing() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let missing = SetName::from("missing");
        let mut batch = Batch::new(id.clone());
        batch.add_table(1, None, Existing::Keep);
        batch.add_element(20, &missing, &Element::new([1; 4]), Existing::Keep);
        batch.add_set(
            3,
            &Set::new("there", Type::from(DataType::Ipv4Addr)),
            Existing::Refuse,
        );
        batch.delete_chain(40, &ChainName::from("nowhere"));
        batch.add_element(
            5,
            &SetName::from("there"),
            &Element::new([1; 4]),
            Existing::Refuse,
        );
        let Err(CommitError::Refused(refusals)) = socket.commit(&batch) else {
            panic!("the batch is bad");
        };
        let named: Vec<_> = refusals
            .iter()
            .map(|refusal| (refusal.tag, refusal.errno))
            .collect();
        assert_eq!(
            named,
            [(Some(20), Errno::ENOENT), (Some(40), Errno::ENOENT)]
        );
        assert_eq!(socket.table(&id).unwrap(), None);
        // The socket is usable and holds no leftover answers.
        let mut good = Batch::new(id.clone());
        good.add_table(1, None, Existing::Refuse);
        socket.commit(&good).unwrap();
        assert!(socket.table(&id).unwrap().is_some());
    });
}

#[test]
fn a_refused_last_operation_is_named_too() {
    in_namespace(|socket| {
        let mut batch = Batch::new(table_id(Family::Ip));
        batch.add_table(1, None, Existing::Keep);
        batch.delete_set(9, &SetName::from("nothing"));
        let Err(CommitError::Refused(refusals)) = socket.commit(&batch) else {
            panic!("the batch is bad");
        };
        assert_eq!(refusals.len(), 1);
        assert_eq!((refusals[0].tag, refusals[0].index), (Some(9), 1));
    });
}

#[test]
fn thousands_of_refusals_fit_the_receive_buffer() {
    in_namespace(|socket| {
        let mut batch = Batch::new(table_id(Family::Ip));
        batch.add_table(0, None, Existing::Keep);
        for tag in 1..=5_000 {
            batch.delete_set(tag, &SetName::from("nothing"));
        }
        let Err(CommitError::Refused(refusals)) = socket.commit(&batch) else {
            panic!("the batch is bad");
        };
        assert_eq!(refusals.len(), 5_000);
        assert_eq!(refusals.last().unwrap().tag, Some(5_000));
    });
}

#[test]
fn a_stale_generation_is_refused() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let mut batch = Batch::new(id.clone());
        batch.add_table(1, None, Existing::Keep);
        let first = socket.generation().unwrap();
        batch.expect_generation(Some(first));
        assert_eq!(socket.commit(&batch).unwrap().generation, Some(first + 1));
        match socket.commit(&batch) {
            Err(CommitError::Generation { expected, actual }) => {
                assert_eq!((expected, actual), (first, Some(first + 1)));
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn an_element_is_replaced_in_one_transaction() {
    in_namespace(|socket| {
        let sent = Ruleset::of(Family::Ip);
        socket.commit(&sent.batch()).unwrap();
        let (id, endpoints) = (table_id(Family::Ip), SetName::from("endpoints"));
        let old = socket.elements(&id, &endpoints).unwrap().remove(0);
        let data = Bytes::concat(&[&[10, 9, 9, 9], &[0, 99]]).unwrap();
        let new = Element::map(old.key.clone(), data);

        let mut clash = Batch::new(id.clone());
        clash.add_element(7, &endpoints, &new, Existing::Keep);
        assert!(matches!(
            socket.commit(&clash),
            Err(CommitError::Refused(_))
        ));

        let mut batch = Batch::new(id.clone());
        batch.delete_element(1, &endpoints, &old);
        batch.add_element(1, &endpoints, &new, Existing::Refuse);
        socket.commit(&batch).unwrap();
        assert!(socket.elements(&id, &endpoints).unwrap().contains(&new));
    });
}

#[test]
fn ranges_are_deleted_by_key_and_key_end() {
    in_namespace(|socket| {
        let sent = Ruleset::of(Family::Ip);
        socket.commit(&sent.batch()).unwrap();
        let id = table_id(Family::Ip);
        for name in ["slots", "pod_cidrs"].map(SetName::from) {
            let held = socket.elements(&id, &name).unwrap();
            assert!(!held.is_empty());
            let mut batch = Batch::new(id.clone());
            for element in &held {
                batch.delete_element(1, &name, element);
            }
            socket.commit(&batch).unwrap();
            let left = socket.elements(&id, &name).unwrap();
            assert!(left.is_empty(), "{name}: {left:?}");
        }
    });
}

#[test]
fn rules_are_placed_replaced_and_deleted_by_handle() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let chain = ChainName::from("c");
        let rule = |comment: &str| Rule {
            chain: chain.clone(),
            exprs: vec![
                Expr::Counter,
                Expr::Immediate(Immediate::Verdict(Verdict::Return)),
            ],
            comment: Some(comment.into()),
        };
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Keep);
        batch.add_chain(
            0,
            &Chain {
                name: chain.clone(),
                base: None,
                comment: None,
            },
            Existing::Keep,
        );
        batch.add_rule(0, &rule("b"), Place::Last);
        batch.add_rule(0, &rule("a"), Place::First);
        socket.commit(&batch).unwrap();
        assert_eq!(comments(socket, &id), ["a", "b"]);

        let first = socket.rules(&id).unwrap()[0].handle;
        let mut batch = Batch::new(id.clone());
        batch.add_rule(0, &rule("a2"), Place::After(first));
        batch.add_rule(0, &rule("a0"), Place::Before(first));
        socket.commit(&batch).unwrap();
        assert_eq!(comments(socket, &id), ["a0", "a", "a2", "b"]);

        let rules = socket.rules(&id).unwrap();
        let mut batch = Batch::new(id.clone());
        batch.add_rule(0, &rule("new a"), Place::Replace(rules[1].handle));
        batch.delete_rule(0, &chain, rules[3].handle);
        socket.commit(&batch).unwrap();
        assert_eq!(comments(socket, &id), ["a0", "new a", "a2"]);

        let mut batch = Batch::new(id.clone());
        batch.flush_chain(0, &chain);
        batch.delete_chain(0, &chain);
        socket.commit(&batch).unwrap();
        assert!(socket.rules(&id).unwrap().is_empty() && socket.chains(&id).unwrap().is_empty());
    });
}

#[test]
fn long_lists_are_split_and_large_batches_enlarge_the_send_buffer() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let name = SetName::from("many");
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Keep);
        batch.add_set(
            0,
            &Set::new(name.clone(), Type::from(DataType::Ipv4Addr)),
            Existing::Keep,
        );
        let wanted: Vec<_> = (0_u32..20_000)
            .map(|n| Element::new(n.to_be_bytes()))
            .collect();
        for element in &wanted {
            batch.add_element(1, &name, element, Existing::Refuse);
        }
        assert!(
            batch.byte_len() > 320_000 && batch.messages() > 7,
            "{}",
            batch.messages()
        );
        socket.commit(&batch).unwrap();
        let mut held = socket.elements(&id, &name).unwrap();
        held.sort();
        assert_eq!(held, wanted);
    });
}

#[test]
fn a_table_is_switched_in_one_transaction() {
    in_namespace(|socket| {
        let (old, new) = (
            TableId::new(Family::Ip, "old"),
            TableId::new(Family::Ip, "new"),
        );
        let mut batch = Batch::new(old.clone());
        batch.add_table(0, None, Existing::Refuse);
        socket.commit(&batch).unwrap();
        let mut batch = Batch::new(new.clone());
        batch.add_table(0, Some("second"), Existing::Refuse);
        batch.set_table(old.clone());
        batch.delete_table(0);
        socket.commit(&batch).unwrap();
        assert_eq!(
            socket.table_names(Family::Ip).unwrap(),
            std::slice::from_ref(&new.name)
        );
        assert_eq!(socket.table(&old).unwrap(), None);
    });
}

#[test]
fn foreign_edits_and_own_ones_are_told_apart() {
    in_namespace(|socket| {
        let mut events = socket.events().unwrap();
        let id = table_id(Family::Ip);
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Refuse);
        let name = SetName::from("s");
        batch.add_set(
            0,
            &Set::new(name.clone(), Type::from(DataType::Mark)),
            Existing::Refuse,
        );
        batch.add_element(
            0,
            &name,
            &Element::new(Bytes::host_u32(3)),
            Existing::Refuse,
        );
        socket.commit(&batch).unwrap();
        let own = drain(&mut events);
        assert!(own.iter().all(|event| event.port == socket.port()));
        let kinds: Vec<_> = own.iter().map(|event| event.kind.clone()).collect();
        assert_eq!(
            kinds[..3],
            [
                EventKind::NewTable,
                EventKind::NewSet,
                EventKind::NewElements
            ]
        );
        assert!(
            matches!(kinds[3], EventKind::Generation { .. }),
            "{kinds:?}"
        );

        nft(&["delete", "element", "ip", "codec", "s", "{ 3 }"]);
        let foreign = drain(&mut events);
        assert_eq!(foreign[0].kind, EventKind::DeleteElements);
        assert_eq!(
            (foreign[0].table.as_ref(), foreign[0].family),
            (Some(&id.name), Some(id.family))
        );
        assert_ne!(foreign[0].port, socket.port());
    });
}

#[test]
fn elements_of_a_missing_set_are_an_error_and_an_empty_batch_is_none() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        assert!(socket.elements(&id, &SetName::from("s")).is_err());
        assert!(socket.rules(&id).unwrap().is_empty());
        assert_eq!(socket.commit(&Batch::new(id)).unwrap().generation, None);
    });
}

#[test]
fn foreign_expressions_are_kept_and_sent_back_alike() {
    in_namespace(|socket| {
        nft(&["add", "table", "ip", "codec"]);
        nft(&["add", "chain", "ip", "codec", "c"]);
        nft(&[
            "add",
            "rule",
            "ip",
            "codec",
            "c",
            "limit rate 5/second burst 7 packets ct mark set 3",
        ]);
        let id = table_id(Family::Ip);
        let held = socket.rules(&id).unwrap().remove(0);
        let unknown = held
            .object
            .exprs
            .iter()
            .filter(|expr| matches!(expr, Expr::Unknown { .. }));
        assert_eq!(unknown.count(), 2, "{held:?}");
        let mut batch = Batch::new(id.clone());
        batch.add_rule(0, &held.object, Place::Last);
        socket.commit(&batch).unwrap();
        let rules = socket.rules(&id).unwrap();
        assert_eq!(rules[0].object, rules[1].object);
    });
}

#[test]
fn a_catch_all_and_timeouts_round_trip() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let name = SetName::from("t");
        let set =
            Set::new(name.clone(), Type::from(DataType::Ipv4Addr)).with_flags(SetFlags::TIMEOUT);
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Keep);
        batch.add_set(0, &set, Existing::Keep);
        let element = Element::new([9; 4]).with_timeout(Some(3_600_000));
        batch.add_element(0, &name, &element, Existing::Keep);
        socket.commit(&batch).unwrap();
        let held = socket.elements(&id, &name).unwrap().remove(0);
        assert_eq!(held.timeout(), Some(3_600_000));
        assert!(
            held.expiration().is_some_and(|left| left > 3_500_000),
            "{held:?}"
        );
    });
}

#[test]
fn refusals_that_do_not_fit_are_still_a_refusal() {
    in_namespace(|socket| {
        setsockopt(socket, sockopt::RcvBuf, &2_304).unwrap();
        let id = table_id(Family::Ip);
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Keep);
        for tag in 1..=1_000 {
            batch.delete_set(tag, &SetName::from("nothing"));
        }
        let Err(CommitError::Refused(refusals)) = socket.commit(&batch) else {
            panic!("the batch is bad");
        };
        assert!(refusals.len() < 1_000);
        assert_eq!(refusals[0].tag, Some(1));
        // Nothing of it is left for the next.
        let mut good = Batch::new(id);
        good.add_table(1, None, Existing::Refuse);
        socket.commit(&good).unwrap();
    });
}

#[test]
fn a_read_never_mixes_two_generations() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let name = SetName::from("s");
        let mut batch = Batch::new(id.clone());
        batch.add_table(0, None, Existing::Keep);
        batch.add_set(
            0,
            &Set::new(name.clone(), Type::from(DataType::Ipv4Addr)),
            Existing::Keep,
        );
        for number in 0_u32..5_001 {
            let element = Element::new(number.to_be_bytes());
            batch.add_element(0, &name, &element, Existing::Keep);
        }
        socket.commit(&batch).unwrap();
        // A thread shares the namespace of the one that started it. One element wanders.
        let writer = thread::spawn({
            let (id, name) = (id.clone(), name.clone());
            move || {
                let mut socket = Socket::open().unwrap();
                let at = |round: u32| Element::new((round * 7_919 % 5_000 + 5_000).to_be_bytes());
                for round in 0_u32..5_000 {
                    let mut batch = Batch::new(id.clone());
                    batch.delete_element(0, &name, &at(round));
                    batch.add_element(0, &name, &at(round + 1), Existing::Refuse);
                    socket.commit(&batch).unwrap();
                }
            }
        });
        let (mut whole, mut interrupted) = (0, 0);
        loop {
            let last = writer.is_finished();
            match socket.elements(&id, &name) {
                Ok(elements) => {
                    assert_eq!(elements.len(), 5_001);
                    whole += 1;
                }
                Err(ReadError::Interrupted { attempts }) => interrupted += attempts,
                Err(error) => panic!("{error}"),
            }
            if last {
                break;
            }
        }
        writer.join().unwrap();
        assert!(whole > 0, "{interrupted} attempts interrupted");
    });
}

/// The kernel grows the hash by itself after many additions, and shows some elements twice meanwhile.
#[test]
fn a_read_right_after_a_load_is_whole() {
    in_namespace(|socket| {
        let id = table_id(Family::Ip);
        let wanted: Vec<_> = (0_u32..20_000)
            .map(|n| Element::new(n.to_be_bytes()))
            .collect();
        for round in 0..20 {
            let name = SetName::from(format!("s{round}"));
            let key = Type::from(DataType::Ipv4Addr);
            let mut batch = Batch::new(id.clone());
            batch.add_table(0, None, Existing::Keep);
            batch.add_set(0, &Set::new(name.clone(), key), Existing::Refuse);
            for element in &wanted {
                batch.add_element(1, &name, element, Existing::Refuse);
            }
            socket.commit(&batch).unwrap();
            let held = socket.elements(&id, &name).unwrap();
            assert!(held == wanted, "round {round}: {} elements", held.len());
        }
    });
}

#[test]
fn lost_events_are_told_and_reading_goes_on() {
    in_namespace(|socket| {
        let mut events = socket.events().unwrap();
        setsockopt(&events, sockopt::RcvBuf, &2_304).unwrap();
        let change = |socket: &mut Socket, name: &str| {
            let mut batch = Batch::new(TableId::new(Family::Ip, name));
            batch.add_table(0, None, Existing::Refuse);
            socket.commit(&batch).unwrap();
        };
        for number in 0..100 {
            change(socket, &format!("t{number}"));
        }
        let mut lost = 0;
        loop {
            match events.next_event() {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(EventError::Lost) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(lost, 1);
        change(socket, "last");
        assert_eq!(drain(&mut events)[0].table, Some("last".into()));
    });
}

/// Runs a test in a thread with a new network namespace and a socket in it.
fn in_namespace(test: impl FnOnce(&mut Socket) + Send + 'static) {
    let thread = thread::spawn(move || {
        // Why no fallback: a user namespace cannot be made by a process with several threads,
        // which every test run is.
        unshare(CloneFlags::CLONE_NEWNET)
            .expect("network namespaces need root: run as root or under `unshare --map-root-user`");
        test(&mut Socket::open().expect("a netfilter socket opens"));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs nft in the namespace of this thread.
fn nft(args: &[&str]) -> String {
    let output = Command::new("nft")
        .args(args)
        .output()
        .expect("nft is installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "nft {args:?}: {:?} {error}{text}",
        output.status
    );
    text
}

fn comments(socket: &mut Socket, id: &TableId) -> Vec<String> {
    let rules = socket.rules(id).unwrap();
    rules
        .iter()
        .map(|held| held.object.comment.as_ref().unwrap().to_string())
        .collect()
}

fn drain(events: &mut backend_nftables::netlink::Events) -> Vec<backend_nftables::netlink::Event> {
    std::iter::from_fn(|| events.next_event().unwrap()).collect()
}
