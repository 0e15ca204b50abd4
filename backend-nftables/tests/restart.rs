//! Processes that end at any moment, and what the next one finds: real ones, in a network namespace.
//!
//! `KILLS=1000 cargo test -p backend-nftables --test restart` kills more often. Has no usual harness, as
//! the processes that are killed are this very program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a trial fails by panicking"
)]

mod common;

use std::io::{Read, Write};

use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use backend_nftables::rule::{Data, Element, SetName};
use backend_nftables::{Kernel, Key, Others, Renderer, SetId, Value};
use common::scenarios::{EVERYTHING, scenario};
use common::{TABLE, render};
use nix::sched::{CloneFlags, unshare};
use svc_core::testing::Source;
use svc_core::{IpFamily, Plan, Reconciler, Ruleset};

/// What this program does instead of testing, when a test starts it.
const ROLE: &str = "RESTART_TEST_ROLE";

fn main() -> ExitCode {
    match std::env::var(ROLE).as_deref() {
        Ok("sync-for-ever") => sync_for_ever(),
        Ok("sync-once") => sync_once(),
        Ok(other) => panic!("no role {other}"),
        Err(_) => {}
    }
    let trials: [(&str, fn()); 4] = [
        ("a_killed_sync_leaves_the_old_or_the_new", killed_syncs),
        ("pins_survive_a_restart", pins_survive),
        ("pins_go_with_their_service", pins_go),
        ("a_second_process_is_named", second_process),
    ];
    println!("\nrunning {} tests", trials.len());
    for (name, trial) in trials {
        // A panic ends the program, which is a failure.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            trial();
        })
        .join()
        .unwrap();
        println!("test {name} ... ok");
    }
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored",
        trials.len()
    );
    ExitCode::SUCCESS
}

/// Plans that differ in every Service.
fn plans() -> [Plan; 2] {
    let cluster = |odd: bool| {
        let mut text = String::from(
            "config mode=nftables cluster-cidr=10.64.0.0/10\nnode n1 198.18.0.10\ncidr 10.128.0.0/9\n",
        );
        for service in 0..SERVICES {
            // One in ten is there in one of the plans only.
            if service % 10 == u32::from(odd) {
                continue;
            }
            text += &format!(
                "service s{service} ip=10.128.1.{service} port=http:80\nslice s{service}-a s{service} port=http:8080"
            );
            for endpoint in 0..3 + u32::from(odd) {
                text += &format!(
                    " 10.64.{service}.{}@n{}",
                    2 * endpoint + u32::from(odd),
                    endpoint % 2 + 1
                );
            }
            text += "\n";
        }
        scenario(&text).plan(IpFamily::V4)
    };
    [cluster(false), cluster(true)]
}

const SERVICES: u32 = 120;

/// Writes one plan after the other, and tells at each that it begins.
fn sync_for_ever() {
    let plans = plans();
    let mut proxy = Proxy::new(&plans[0]);
    // Several transactions of a first load, too.
    proxy.settle();
    let mut out = std::io::stdout();
    for turn in 1.. {
        // Whoever waits may be gone.
        drop(out.write_all(b"."));
        drop(out.flush());
        proxy.change(&plans[(turn + 1) % 2], &plans[turn % 2]);
        proxy.settle();
    }
}

fn sync_once() {
    let plan = scenario(&std::env::var("SCENARIO").unwrap()).plan(IpFamily::V4);
    Proxy::new(&plan).settle();
    std::process::exit(0);
}

fn killed_syncs() {
    let kills: u32 = std::env::var("KILLS").map_or(40, |kills| kills.parse().unwrap());
    let plans = plans();
    let (mut found, started) = ([0; 4], Instant::now());
    for kill in 0..kills {
        if kill % 4 == 0 {
            // From nothing: the first load is killed too.
            Kernel::open(TABLE, IpFamily::V4)
                .unwrap()
                .cleanup()
                .unwrap();
        }
        let mut child = start("sync-for-ever", "");
        wait_and_kill(&mut child, kill);
        let mut kernel = Kernel::open(TABLE, IpFamily::V4).unwrap();
        let held = kernel.read().unwrap();
        let state = match held.keys().any(|key| matches!(key, Key::BaseChain(_))) {
            false => 0,
            true if is_settled(&plans[0], &held) => 1,
            true if is_settled(&plans[1], &held) => 2,
            true => panic!("kill {kill} left neither ruleset"),
        };
        found[state] += 1;
        // The next start repairs.
        let plan = &plans[usize::from(kill % 2 == 0)];
        let mut next = Proxy::new(plan);
        next.settle();
        assert!(
            is_settled(plan, &next.kernel.read().unwrap()),
            "kill {kill}"
        );
    }
    let [unused, old, new, _] = found;
    println!(
        "{kills} kills in {:.1?}: {unused} left no ruleset in use, {old} the one, {new} the other",
        started.elapsed()
    );
    assert!(
        kills < 40 || (unused > 0 && old > 0 && new > 0),
        "{found:?}"
    );
}

/// Kills at a moment between the start of the process and its tenth sync.
fn wait_and_kill(child: &mut Child, kill: u32) {
    let noise = kill.wrapping_mul(2_654_435_761).to_le_bytes();
    let mut random = Source::new(&noise);
    let syncs = random.below(8);
    let mut out = child.stdout.take().unwrap();
    // As long as the syncs before took, so that all moments of one are met.
    let (mut latest, mut sync) = (Instant::now(), Duration::from_millis(60));
    for _ in 0..syncs {
        out.read_exact(&mut [0]).unwrap();
        sync = latest.elapsed();
        latest = Instant::now();
    }
    let until = latest + sync.mul_f64(f64::from(random.byte()) / 200.0);
    while Instant::now() < until {
        std::thread::yield_now();
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Whether a process that starts would write nothing.
fn is_settled(plan: &Plan, held: &Ruleset<Key, Value>) -> bool {
    reconciler(plan).on_read(held.clone()).is_empty()
}

/// Addresses of clients, and a way for what they send.
fn clients() {
    sh("ip link set lo up");
    sh("ip route add default dev lo");
    for client in 0..20 {
        sh(&format!("ip address add 198.18.1.{client}/32 dev lo"));
    }
}

fn pins_go() {
    clients();
    let sticky = EVERYTHING.to_owned()
        + "service other ip=10.96.0.7 port=80 affinity=600
           slice other-4 other port=80 10.64.1.7@n1 10.64.2.7@n2
           service brief ip=10.96.0.8 port=80 affinity=2
           slice brief-4 brief port=80 10.64.1.8@n1";
    let plan = |text: &str| scenario(text).plan(IpFamily::V4);
    let mut proxy = Proxy::new(&plan(&sticky));
    proxy.settle();
    let connect_all = || {
        for client in 0..20 {
            for service in [5, 7, 8] {
                connect(
                    &format!("198.18.1.{client}"),
                    &format!("10.96.0.{service}:80"),
                );
            }
        }
    };
    let of = |kernel: &mut Kernel, last: u8| {
        let of = |pin: &Element| match &pin.data {
            Some(Data::Value(row)) => row[7] == last,
            Some(Data::Verdict(_)) | None => false,
        };
        pins(kernel).into_iter().filter(of).count()
    };
    connect_all();
    assert_eq!(of(&mut proxy.kernel, 6), 20);
    // Deleted, no longer sticky, and one that ends meanwhile.
    let gone = [
        sticky.replace("service sticky", "# "),
        sticky.replace(
            "external=2001:db8:f::3 affinity=600",
            "external=2001:db8:f::3",
        ),
    ];
    for after in gone {
        let after = after.replace("service brief", "# ");
        proxy.change(&plan(&sticky), &plan(&after));
        proxy.settle();
        assert_eq!(of(&mut proxy.kernel, 6), 0);
        assert_eq!(of(&mut proxy.kernel, 7), 20, "pins of another Service");
        assert!(is_settled(&plan(&after), &proxy.kernel.read().unwrap()));
        proxy.change(&plan(&after), &plan(&sticky));
        proxy.settle();
        connect_all();
        assert_eq!(of(&mut proxy.kernel, 6), 20);
    }
    // A process that was not there when the Service went.
    run_once(&sticky.replace("service sticky", "# "));
    assert_eq!(of(&mut proxy.kernel, 6), 0);
    assert_eq!(of(&mut proxy.kernel, 7), 20, "pins of another Service");
}

fn pins_survive() {
    clients();
    let before = EVERYTHING.to_owned();
    run_once(&before);
    let address = "10.96.0.5:80";
    // The Service of EVERYTHING with affinity serves TCP: a first packet is enough for a pin.
    for client in 0..20 {
        connect(&format!("198.18.1.{client}"), address);
    }
    let mut kernel = Kernel::open(TABLE, IpFamily::V4).unwrap();
    let first = pins(&mut kernel);
    assert_eq!(first.len(), 20);
    // Another Service comes while nobody looks.
    let after = before.replace(
        "service dns",
        "service a-new-one ip=10.96.9.9 port=1\n    service dns",
    );
    run_once(&after);
    assert_eq!(pins(&mut kernel), first);
    for client in 0..20 {
        connect(&format!("198.18.1.{client}"), address);
    }
    assert_eq!(pins(&mut kernel), first, "a pinned client was pinned anew");
    let wanted = render(&scenario(&after).plan(IpFamily::V4));
    let new = Key::Element(
        SetId::ClusterIps,
        backend_nftables::rule::Bytes::from([10, 96, 9, 9]),
    );
    assert!(wanted.contains_key(&new) && kernel.read().unwrap().contains_key(&new));
}

/// Clients with their endpoints.
fn pins(kernel: &mut Kernel) -> Vec<Element> {
    let table = kernel.table().clone();
    let pins = kernel
        .socket()
        .elements(&table, &SetName::from("affinity"))
        .unwrap();
    let without_age = |pin: Element| pin.with_expiration(None).with_timeout(None);
    pins.into_iter().map(without_age).collect()
}

/// Sends the first packet of a connection; nobody answers.
fn connect(from: &str, to: &str) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};
    use std::os::fd::AsRawFd;
    let socket = socket(
        AddressFamily::Inet,
        SockType::Stream,
        SockFlag::SOCK_NONBLOCK,
        None,
    )
    .unwrap();
    let at = |text: &str| -> SockaddrIn { text.parse().unwrap() };
    bind(socket.as_raw_fd(), &at(&format!("{from}:0"))).unwrap();
    assert!(connect(socket.as_raw_fd(), &at(to)).is_err());
}

fn second_process() {
    let mut ours = Kernel::open(TABLE, IpFamily::V4).unwrap();
    let mut others = Others::new([&mut ours]).unwrap();
    let plan = scenario(EVERYTHING).plan(IpFamily::V4);
    let mut proxy = Proxy {
        reconciler: reconciler(&plan),
        kernel: ours,
    };
    proxy.settle();
    assert_eq!(others.next_change().unwrap(), None, "own changes");
    // Another process with another idea of the same table.
    let child = run_once("config mode=nftables\nnode n1 198.18.0.10\n");
    let change = others.next_change().unwrap().unwrap();
    assert_eq!(change.process, Some((child, name_of_this_program())));
    assert_eq!(change.tables, [proxy.kernel.table().clone()]);
    assert_eq!(
        change.to_string(),
        format!(
            "process {child} ({}) changed table ip {TABLE}",
            name_of_this_program()
        )
    );
    proxy.reconciler.verify();
    proxy.settle();
    assert!(is_settled(&plan, &proxy.kernel.read().unwrap()));
}

/// As the kernel shows it: cut to 15 bytes.
fn name_of_this_program() -> String {
    let path = std::env::current_exe().unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    name.chars().take(15).collect()
}

fn run_once(scenario: &str) -> u32 {
    let mut child = start("sync-once", scenario);
    assert!(child.wait().unwrap().success());
    child.id()
}

/// This program in another role, in the network namespace of this thread.
fn start(role: &str, scenario: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, role)
        .env("SCENARIO", scenario)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn sh(command: &str) {
    let mut words = command.split(' ');
    let status = Command::new(words.next().unwrap()).args(words).status();
    assert!(status.unwrap().success(), "{command}");
}

struct Proxy {
    reconciler: Reconciler<Renderer>,
    kernel: Kernel,
}

impl Proxy {
    fn new(plan: &Plan) -> Self {
        Self {
            reconciler: reconciler(plan),
            kernel: Kernel::open(TABLE, plan.family).unwrap(),
        }
    }

    fn change(&mut self, from: &Plan, to: &Plan) {
        self.reconciler.change(&from.diff(to));
    }

    fn settle(&mut self) {
        self.reconciler.settle(&mut self.kernel, 10).unwrap();
    }
}

fn reconciler(plan: &Plan) -> Reconciler<Renderer> {
    let renderer = Renderer::new(TABLE, plan.family).with_ports_at_once(20);
    let mut reconciler = Reconciler::new(renderer, plan.family);
    let mut delta = Plan::empty(plan.family, plan.node.clone()).diff(plan);
    delta.node = Some(plan.node.clone());
    reconciler.change(&delta);
    reconciler
}
