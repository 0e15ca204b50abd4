//! What goes wrong between this program and the real kernel: locks that are held, tools that are
//! killed, a full disk, rules that are refused.
//!
//! Needs root, as every use of iptables does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/host.rs"]
mod host;

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use backend_iptables::name::ChainName;
use backend_iptables::rule::{Match, Rule, SourcePorts, Target};
use backend_iptables::{Error, Goal, Key, Program, Table, Value, Variant};
use host::{Host, assert_holds, each, reconciler, some_plan, start};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, gettid};
use svc_core::{
    Base, Edit, EditGroup, Failure, IpFamily, NamespacedName, Protocol, ServicePortName,
    Transaction,
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The wait for the lock is bounded, its holder is named, and nothing that changes meanwhile is
/// lost.
#[test]
fn a_lock_that_is_never_released_is_waited_for_and_its_holder_named() {
    each(|host| {
        // iptables-nft takes no lock.
        if host.variant == Variant::Nft {
            return;
        }
        let mut kernel = host.kernel();
        let plan = some_plan(host.family, 0);
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        let file = File::create(&host.lock).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let held = held.unwrap();
        let command = fs::read_to_string("/proc/self/comm").unwrap();
        let holder = format!(
            "process {} ({}) holds it",
            std::process::id(),
            command.trim_end()
        );
        let ours = || Program::parse(&host.save(&[])).ours().to_string();
        let before = ours();
        let other = some_plan(host.family, 2);
        for round in 0..2 {
            let begin = Instant::now();
            let failed = reconciler.settle(&mut kernel, 4).unwrap_err().to_string();
            assert!(failed.contains(&holder), "{failed}");
            let took = begin.elapsed();
            assert!(took >= host.options().lock_wait, "{took:?}");
            assert!(took < PATIENCE, "{took:?}");
            if round == 0 {
                reconciler.change(&plan.diff(&other));
            }
        }
        assert_eq!(ours(), before);
        drop(held);
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_holds(host, &mut kernel, &other);
    });
}

/// The tools take the lock for each table by itself: whoever waits for it in vain may have written the
/// first of two.
#[test]
fn a_lock_that_is_held_leaves_one_table_as_it_was_and_of_two_nobody_knows() {
    each(|host| {
        if host.variant == Variant::Nft {
            return;
        }
        let mut kernel = host.kernel();
        let plan = some_plan(host.family, 0);
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        let file = File::create(&host.lock).unwrap();
        let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
        let held = held.unwrap();
        let chain = ChainName::new("SVC-0a600000-t00080c").unwrap();
        let transaction = |tables: &[Table]| Transaction {
            groups: vec![EditGroup {
                name: Some(port_name("s")),
                edits: tables
                    .iter()
                    .map(|table| edit(Key::Chain(*table, chain), Value::Rules([].into())))
                    .collect(),
            }],
            base: Base::InUse,
        };
        let one = kernel.commit(&transaction(&[Table::Nat])).unwrap_err();
        assert_eq!(one.failure(), Failure::Busy, "{one}");
        let two = kernel.commit(&transaction(&Table::ALL)).unwrap_err();
        assert_eq!(two.failure(), Failure::Unknown, "{two}");
        drop(held);
        kernel.commit(&transaction(&Table::ALL)).unwrap();
        reconciler.verify();
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_holds(host, &mut kernel, &plan);
    });
}

/// A file system without a free inode holds the lock file, in a mount namespace of the test's own.
#[test]
fn a_full_disk_below_the_lock_is_named_and_got_over() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut reconciler = reconciler(&host.kernel(), host.family);
        start(&mut reconciler, &plan);
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        let folder = host.lock.with_extension("full");
        fs::create_dir(&folder).unwrap();
        let flags = MsFlags::empty();
        mount(
            Some("full"),
            &folder,
            Some("tmpfs"),
            flags,
            Some("size=4k,nr_inodes=2"),
        )
        .unwrap();
        let filler = folder.join("filler");
        File::create(&filler).unwrap();
        let full = Host {
            lock: folder.join("lock"),
            ..*host
        };
        let opened = backend_iptables::Kernel::open(full.options());
        match host.variant {
            // It takes no lock.
            Variant::Nft => drop(opened.unwrap()),
            Variant::Legacy => {
                let error = opened.unwrap_err();
                assert!(matches!(error, Error::LockFile { .. }), "{error:?}");
                assert_eq!(error.failure(), Failure::Busy);
                let said = error.to_string();
                assert!(said.contains(full.lock.to_str().unwrap()), "{said}");
                assert!(said.contains("No space left on device"), "{said}");
            }
        }
        // Somebody makes room while the program goes on.
        fs::remove_file(&filler).unwrap();
        let mut recovered = full.kernel();
        reconciler.settle(&mut recovered, 4).unwrap();
        assert_holds(&full, &mut recovered, &plan);
        recovered.cleanup().unwrap();
        umount2(&folder, MntFlags::MNT_DETACH).unwrap();
        fs::remove_dir(&folder).unwrap();
    });
}

/// Kills the tool of a change when it has read half of its input, and answers whether it did.
fn killing<T>(input: u64, work: impl FnOnce() -> T) -> (T, bool) {
    let children = format!("/proc/self/task/{}/children", gettid());
    let (done, over) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let killer = scope.spawn(move || {
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if over.try_recv() != Err(mpsc::TryRecvError::Empty) {
                    return false;
                }
                let pids = fs::read_to_string(&children).unwrap_or_default();
                let half_way = |pid: &&str| restores(pid) && has_read(pid) > input / 2;
                if let Some(pid) = pids.split_whitespace().find(half_way) {
                    kill(Pid::from_raw(pid.parse().unwrap()), Signal::SIGKILL).unwrap();
                    return true;
                }
                thread::yield_now();
            }
            false
        });
        let result = work();
        drop(done);
        (result, killer.join().unwrap())
    })
}

fn restores(pid: &str) -> bool {
    let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let program = line.split('\0').next().unwrap_or_default();
    program.ends_with("-restore")
}

/// Bytes that a process has read; libraries count too, some kilobytes.
fn has_read(pid: &str) -> u64 {
    let io = fs::read_to_string(Path::new("/proc").join(pid).join("io")).unwrap_or_default();
    let count = io.lines().find_map(|line| line.strip_prefix("rchar: "));
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// What a first load would write of a plan and thousands of chains beside it.
fn many_chains(number: u16) -> Transaction<Key, Value> {
    let groups = (0..number).map(|number| {
        let chain = format!("SVC-0a70{number:04x}-t00080c");
        let chain = backend_iptables::name::ChainName::new(&chain).unwrap();
        let rules = vec![Rule::always(Target::Return); 3];
        EditGroup {
            name: Some(port_name(&format!("many-{number}"))),
            edits: vec![edit(
                Key::Chain(Table::Nat, chain),
                Value::Rules(rules.into()),
            )],
        }
    });
    Transaction {
        groups: groups.collect(),
        base: Base::InUse,
    }
}

fn edit(key: Key, after: Value) -> Edit<Key, Value> {
    Edit {
        key,
        before: None,
        after: Some(after),
    }
}

/// Nothing of a table is written then; what was is found by reading, and the rest is repaired.
#[test]
fn a_tool_killed_half_way_leaves_nothing_that_is_not_repaired() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        let before = Program::parse(&host.save(&[])).ours().to_string();
        let many = many_chains(6_000);
        // Declaration and three rules.
        let input = 6_000 * (30 + 3 * 36);
        let (result, killed) = killing(input, || kernel.commit(&many));
        assert!(killed, "it was over too soon: {result:?}");
        let error = result.unwrap_err();
        let by_signal = matches!(error, Error::Killed { signal: 9, .. });
        assert!(by_signal, "{error:?}");
        assert_eq!(error.failure(), Failure::Unknown);
        assert!(
            error
                .to_string()
                .contains("-restore was killed by signal 9")
        );
        let after = Program::parse(&host.save(&[])).ours().to_string();
        assert_eq!(after, before, "a table is written as a whole");
        // The lock is free, and what was asked for meanwhile comes with the repair.
        let other = some_plan(host.family, 2);
        reconciler.change(&plan.diff(&other));
        reconciler.verify();
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_holds(host, &mut kernel, &other);
        kernel.commit(&many).unwrap();
        reconciler.verify();
        let settled = reconciler.settle(&mut kernel, 4).unwrap();
        assert!(!settled.drift.unwrap().is_empty());
        assert_holds(host, &mut kernel, &other);
    });
}

fn port_name(name: &str) -> ServicePortName {
    ServicePortName {
        service: NamespacedName::new("ns", name),
        port: "".into(),
        protocol: Protocol::Tcp,
    }
}

/// Rules that the tools, and rules that only the kernel refuses.
#[test]
fn a_refused_rule_is_traced_to_its_service() {
    each(|host| {
        let bad = [
            Rule::new([Match::Opaque("-m nonsense".into())], Target::Return),
            // Not from a chain that OUTPUT reaches.
            Rule::always(Target::Masquerade(SourcePorts::Kept)),
        ];
        for rule in bad {
            let edits = |number: u8| {
                let chain = format!("SVC-0a60ff{number:02x}-t00080c");
                let chain = backend_iptables::name::ChainName::new(&chain).unwrap();
                let rules = match number {
                    7 | 13 => vec![rule.clone()],
                    _ => vec![Rule::always(Target::Return)],
                };
                vec![
                    edit(Key::Chain(Table::Nat, chain), Value::Rules(rules.into())),
                    front_end(host, number, Goal::Chain(chain)),
                ]
            };
            assert_traced(host, &edits, &rule.to_string());
        }
    });
}

/// Rules of several Services are in one chain, and one of them is refused.
#[test]
fn a_refused_endpoint_in_a_tree_is_traced_to_its_service() {
    each(|host| {
        let other = match host.family {
            IpFamily::V4 => IpFamily::V6,
            IpFamily::V6 => IpFamily::V4,
        };
        let edits = |number: u8| {
            let family = match number {
                7 | 13 => other,
                _ => host.family,
            };
            let endpoint = |n| SocketAddr::new(common::ip(family, common::PODS_HERE, n), 8080);
            let goal = Goal::Endpoints((1..4).map(endpoint).collect());
            vec![front_end(host, number, goal)]
        };
        assert_traced(host, &edits, "an endpoint of the other family");
    });
}

fn front_end(host: &Host, number: u8, goal: Goal) -> Edit<Key, Value> {
    let entry = backend_iptables::Entry {
        tree: backend_iptables::Tree::Cluster,
        ip: common::ip(host.family, common::CLUSTER, 100 + number),
        protocol: Protocol::Tcp,
        port: 80,
    };
    edit(Key::Entry(entry), Value::To(goal))
}

/// Of twenty Services beside those of a plan, two are refused: these are named, and all others can
/// be applied.
fn assert_traced(host: &Host, edits: &dyn Fn(u8) -> Vec<Edit<Key, Value>>, what: &str) {
    let mut kernel = host.kernel();
    let plan = some_plan(host.family, 0);
    let mut reconciler = reconciler(&kernel, host.family);
    start(&mut reconciler, &plan);
    reconciler.settle(&mut kernel, 4).unwrap();
    let groups = (0..20).map(|number| EditGroup {
        name: Some(port_name(&format!("s{number}"))),
        edits: edits(number),
    });
    let mut left = Transaction {
        groups: groups.collect(),
        base: Base::InUse,
    };
    let mut named = Vec::new();
    // Some tools name one line at a time.
    while let Err(error) = kernel.commit(&left) {
        let Error::Refused(ports) = error else {
            panic!("{what}: {error}");
        };
        let refused: Vec<_> = ports.into_iter().map(|(name, _)| name).collect();
        assert!(!refused.is_empty());
        let is_refused = |name: &Option<_>| name.as_ref().is_some_and(|n| refused.contains(n));
        left.groups.retain(|group| !is_refused(&group.name));
        named.extend(refused);
        kernel.read().unwrap();
    }
    named.sort();
    assert_eq!(named, [port_name("s13"), port_name("s7")], "{what}");
    let held = kernel.read().unwrap();
    let wanted = left
        .edits()
        .all(|edit| held.get(&edit.key) == edit.after.as_ref());
    assert!(wanted, "{what}: the others are not there");
    reconciler.verify();
    reconciler.settle(&mut kernel, 4).unwrap();
    assert_holds(host, &mut kernel, &plan);
}

/// A rule of somebody else holds a set that ours no longer need: no Service is to blame.
#[test]
fn a_set_that_others_use_is_left_and_blamed_on_nobody() {
    each(|host| {
        let plan = some_plan(host.family, 0);
        let mut kernel = host.kernel();
        let mut reconciler = reconciler(&kernel, host.family);
        start(&mut reconciler, &plan);
        reconciler.settle(&mut kernel, 4).unwrap();
        let letter = match host.family {
            IpFamily::V4 => 'z',
            IpFamily::V6 => 'y',
        };
        let set = ChainName::new(&format!("SVC-0a60ffff-{letter}0000000000080c")).unwrap();
        assert!(set.is_ours());
        let made = edit(Key::Set(set), Value::Present);
        let gone = Edit {
            before: made.after.clone(),
            after: None,
            ..made.clone()
        };
        let transaction = |edits: &[Edit<Key, Value>]| Transaction {
            groups: (0..2)
                .zip(edits)
                .map(|(number, edit)| EditGroup {
                    name: Some(port_name(&format!("s{number}"))),
                    edits: vec![edit.clone()],
                })
                .collect(),
            base: Base::InUse,
        };
        kernel.commit(&transaction(&[made])).unwrap();
        let used = format!("OUTPUT -m set --match-set {set} src -j RETURN");
        host.iptables(&format!("-t nat -A {used}"));
        let endpoint = SocketAddr::new(common::ip(host.family, common::PODS_HERE, 1), 8080);
        let other = front_end(host, 7, Goal::Endpoints([endpoint].into()));
        kernel.commit(&transaction(&[gone, other])).unwrap();
        let left = kernel.read().unwrap();
        assert!(left.contains_key(&Key::Set(set)), "it is in use: {left:?}");
        host.iptables(&format!("-t nat -D {used}"));
        reconciler.verify();
        reconciler.settle(&mut kernel, 4).unwrap();
        assert_holds(host, &mut kernel, &plan);
        kernel.cleanup().unwrap();
    });
}
