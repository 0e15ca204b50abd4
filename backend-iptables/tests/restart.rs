//! Processes that are killed at any moment of a sync, and what the next one finds: real ones, in
//! network namespaces of the test's own, with both variants.
//!
//! `KILLS=200 cargo test -p backend-iptables --test restart` kills more often. Has no usual harness,
//! as the processes that are killed are this very program. Needs root, as every use of iptables
//! does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // helpers of tests

mod common;
#[path = "common/host.rs"]
mod host;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use backend_iptables::{Config, Kernel, Program, Renderer, Variant};
use common::ruleset;
use host::{Host, assert_holds, lock_file, reconciler, start};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::wait;
use nix::unistd::Pid;
use svc_core::testing::{Scenario, Source};
use svc_core::{IpFamily, Plan, Reconciler};

/// What this program syncs instead of testing, when a test starts it: the variant.
const ROLE: &str = "RESTART_TEST_VARIANT";
/// The lock file that it uses then.
const LOCK: &str = "RESTART_TEST_LOCK";

const TRIAL: &str = "a_killed_sync_leaves_each_table_old_or_new";

const SERVICES: u32 = 120;

fn main() -> ExitCode {
    if let Ok(name) = std::env::var(ROLE) {
        let variant = Variant::ALL.into_iter().find(|v| v.name() == name);
        sync_for_ever(&host_of(
            variant.unwrap(),
            std::env::var(LOCK).unwrap().into(),
        ));
    }
    // Tools whose starter is killed become children of this process, which can wait for them.
    set_child_subreaper(true).unwrap();
    println!("\nrunning {} tests", Variant::ALL.len());
    for variant in Variant::ALL {
        // A panic ends the program, which is a failure.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace, which takes root");
            killed_syncs(&host_of(variant, lock_file()));
        })
        .join()
        .unwrap();
        println!("test {TRIAL} {variant} ... ok");
    }
    println!(
        "\ntest result: ok. {} passed; 0 failed; 0 ignored",
        Variant::ALL.len()
    );
    ExitCode::SUCCESS
}

fn host_of(variant: Variant, lock: std::path::PathBuf) -> Host {
    Host {
        variant,
        family: IpFamily::V4,
        lock,
    }
}

/// Plans that differ in every Service: front ends in the tree and behind chains, and in the number
/// of their endpoints.
fn plans() -> [Plan; 2] {
    let cluster = |odd: u32| {
        let mut text =
            String::from("config mode=iptables cluster-cidr=10.64.0.0/10\nnode n1 198.18.0.10\n");
        for service in 0..SERVICES {
            // One in ten is there in one of the plans only.
            if service % 10 == odd {
                continue;
            }
            let node_port = match service % 3 {
                0 => format!("type=NodePort port=http:80@{}", 30_000 + service),
                _ => "port=http:80".to_owned(),
            };
            text += &format!(
                "service s{service} ip=10.128.1.{service} {node_port}\nslice s{service}-a s{service} port=http:8080"
            );
            for endpoint in 0..2 + service % 3 + odd {
                text += &format!(
                    " 10.64.{service}.{}@n{}",
                    2 * endpoint + odd,
                    endpoint % 2 + 1
                );
            }
            text += "\n";
        }
        let scenario: Scenario = text.parse().unwrap();
        scenario.plan(IpFamily::V4)
    };
    [cluster(0), cluster(1)]
}

/// Writes one plan after the other, and tells at each that it begins.
fn sync_for_ever(host: &Host) -> ! {
    let plans = plans();
    let mut kernel = host.kernel();
    let mut reconciler = reconciler(&kernel, host.family);
    start(&mut reconciler, &plans[0]);
    let mut out = std::io::stdout();
    let mut turn = 0;
    loop {
        settle(&mut reconciler, &mut kernel);
        // Whoever waits may be gone.
        drop(out.write_all(b"."));
        drop(out.flush());
        reconciler.change(&plans[turn % 2].diff(&plans[(turn + 1) % 2]));
        turn += 1;
    }
}

fn settle(reconciler: &mut Reconciler<Renderer>, kernel: &mut Kernel) {
    reconciler.settle(kernel, 4).unwrap();
}

fn killed_syncs(host: &Host) {
    let kills: u32 = std::env::var("KILLS").map_or(40, |kills| kills.parse().unwrap());
    let plans = plans();
    let config = *host.kernel().config();
    let whole = plans.each_ref().map(|plan| tables(&wanted(&config, plan)));
    assert_ne!(whole[0]["*nat"], whole[1]["*nat"]);
    assert_eq!(whole[0]["*filter"], whole[1]["*filter"]);
    let (mut found, started) = (BTreeMap::new(), Instant::now());
    let first = first_load(host);
    for number in 0..kills {
        if number.is_multiple_of(4) {
            // From nothing: the first load is killed too.
            host.kernel().cleanup().unwrap();
        }
        let mut child = start_sync(host);
        wait_for_moment(&mut child, number, first);
        end(&mut child, number);
        assert!(is_free(host), "kill {number} left the lock taken");
        let state =
            what_is_left(host, &whole).unwrap_or_else(|left| panic!("kill {number} left\n{left}"));
        *found.entry(state).or_insert(0) += 1;
        // The next start repairs.
        let plan = &plans[usize::from(number % 8 < 4)];
        let mut kernel = host.kernel();
        let mut next = reconciler(&kernel, host.family);
        start(&mut next, plan);
        settle(&mut next, &mut kernel);
        assert_holds(host, &mut kernel, plan);
    }
    println!(
        "{kills} kills in {:.1?} with {}: {found:?}",
        started.elapsed(),
        host.variant
    );
    let met = |state| found.contains_key(state);
    let all = met("one") && met("the other") && met("nothing");
    assert!(kills < 40 || all, "{found:?}");
}

/// Which of the two plans the tables show; what they hold, if neither.
fn what_is_left(
    host: &Host,
    whole: &[BTreeMap<String, String>; 2],
) -> Result<&'static str, String> {
    let left = Program::parse(&host.save(&[])).ours().to_string();
    // A start looks what the kernel has, with chains that no hook reaches.
    let probes = |line: &&str| line.contains("SVC-PROBE");
    let left: Vec<_> = left.lines().filter(|line| !probes(line)).collect();
    let left = left.join("\n");
    let held = tables(&left);
    let right_filter = held.get("*filter") == whole[0].get("*filter");
    match held.get("*nat") {
        None if held.is_empty() => Ok("nothing"),
        None if right_filter => Ok("filter alone"),
        Some(nat) if right_filter && *nat == whole[0]["*nat"] => Ok("one"),
        Some(nat) if right_filter && *nat == whole[1]["*nat"] => Ok("the other"),
        None | Some(_) => Err(left),
    }
}

fn wanted(config: &Config, plan: &Plan) -> String {
    let program = Program::of(config, &ruleset(config, plan));
    program.ours().to_string()
}

/// The text of each table that has a chain.
fn tables(program: &str) -> BTreeMap<String, String> {
    let mut tables: BTreeMap<String, String> = BTreeMap::new();
    let mut table = "";
    for line in program.lines() {
        if line.starts_with('*') {
            table = line;
        } else if line != "COMMIT" {
            let text = tables.entry(table.to_owned()).or_default();
            text.push_str(line);
            text.push('\n');
        }
    }
    tables
}

/// This program in its other role, in the network namespace of this thread and a process group of
/// its own.
fn start_sync(host: &Host) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .env(ROLE, host.variant.name())
        .env(LOCK, &host.lock)
        .stdout(Stdio::piped())
        .process_group(0)
        .spawn()
        .unwrap()
}

/// How long it takes from the start of the process to the end of its first sync.
fn first_load(host: &Host) -> Duration {
    let begin = Instant::now();
    let mut child = start_sync(host);
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let took = begin.elapsed();
    end(&mut child, 1);
    took
}

/// Waits for a moment between the start of the process and its sixth sync; where there was nothing
/// before, for one of the first.
fn wait_for_moment(child: &mut Child, number: u32, first: Duration) {
    let noise = number.wrapping_mul(2_654_435_761).to_le_bytes();
    let mut random = Source::new(&noise);
    let syncs = if number.is_multiple_of(4) {
        0
    } else {
        random.below(6)
    };
    let mut out = child.stdout.take().unwrap();
    // As long as the sync before took, so that all moments of one are met.
    let (mut latest, mut sync) = (Instant::now(), first);
    for _ in 0..syncs {
        out.read_exact(&mut [0]).unwrap();
        sync = latest.elapsed();
        latest = Instant::now();
    }
    let until = latest + sync.mul_f64(f64::from(random.byte()) / 200.0);
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

/// Kills the process, every second time with its tools as the end of a container does; else the
/// tool that runs reads its input to the end of what was written, and ends.
fn end(child: &mut Child, number: u32) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    match number % 2 {
        0 => kill(pid, Signal::SIGKILL).unwrap(),
        _ => killpg(pid, Signal::SIGKILL).unwrap(),
    }
    child.wait().unwrap();
    loop {
        match wait() {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// Nobody holds the lock of the tools, if there is one.
fn is_free(host: &Host) -> bool {
    File::open(&host.lock).map_or(true, |file| {
        Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok()
    })
}
