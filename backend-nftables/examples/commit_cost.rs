//! Prints what replacing one element of a map costs, from user space and back.
//!
//! Run as root: `cargo run --release -p backend-nftables --example commit_cost`. Works in a network
//! namespace of its own.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use backend_nftables::netlink::{Batch, Existing, Socket, TableId};
use backend_nftables::rule::{Bytes, DataType, Element, Family, Set, SetName, Type};
use nix::sched::{CloneFlags, unshare};

const ELEMENTS: u32 = 10_000;
const ROUNDS: usize = 10_000;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("commit_cost: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    let mut socket = Socket::open()?;
    let map = SetName::from("endpoints");
    let mut batch = Batch::new(TableId::new(Family::Ip, "cost"));
    let started = Instant::now();
    load(&mut batch, &map);
    let encoded = started.elapsed();
    socket.commit(&batch)?;
    println!(
        "load of {ELEMENTS} elements: encode {:.1} ms, commit {:.1} ms, {} bytes",
        ms(encoded),
        ms(started.elapsed() - encoded),
        batch.byte_len()
    );
    print_rounds("replace", rounds(&mut socket, &mut batch, &map, None)?);
    let generation = socket.generation()?;
    let checked = rounds(&mut socket, &mut batch, &map, Some(generation))?;
    print_rounds("replace, generation expected", checked);
    let events = socket.events()?;
    print_rounds(
        "replace, with a listener",
        rounds(&mut socket, &mut batch, &map, None)?,
    );
    drop(events);
    let started = Instant::now();
    for _ in 0..ROUNDS {
        socket.generation()?;
    }
    println!(
        "generation: {:.2} us",
        us(started.elapsed()) / ROUNDS as f64
    );
    Ok(())
}

fn load(batch: &mut Batch, map: &SetName) {
    let key = Type::new(&[DataType::Mark, DataType::InetService]);
    let data = Type::new(&[DataType::Ipv4Addr, DataType::InetService]);
    batch.add_table(0, None, Existing::Refuse);
    batch.add_set(0, &Set::map(map.clone(), key, data), Existing::Refuse);
    for number in 0..ELEMENTS {
        batch.add_element(0, map, &element(number, 0), Existing::Refuse);
    }
}

/// Microseconds of each round: encode, commit, answer.
fn rounds(
    socket: &mut Socket,
    batch: &mut Batch,
    map: &SetName,
    mut generation: Option<u32>,
) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..ROUNDS {
        // Why this number: neighbours in time are far apart in the map.
        let number = (round as u32).wrapping_mul(7_919) % ELEMENTS;
        let started = Instant::now();
        batch.clear();
        batch.expect_generation(generation);
        let element = element(number, round as u32);
        batch.delete_element(0, map, &element);
        batch.add_element(0, map, &element, Existing::Refuse);
        generation = socket.commit(batch)?.generation;
        times.push(us(started.elapsed()));
    }
    Ok(times)
}

fn element(number: u32, version: u32) -> Element {
    let [p0, p1, p2, p3] = (number / 3).to_ne_bytes();
    let [a0, a1, a2, a3] = (0x0a00_0000 + number).to_be_bytes();
    let [v0, v1] = (version as u16).to_be_bytes();
    let key = Bytes::from([p0, p1, p2, p3, 0, (number % 3) as u8, 0, 0]);
    Element::map(key, Bytes::from([a0, a1, a2, a3, v0, v1, 0, 0]))
}

fn print_rounds(what: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| {
        times
            .get((times.len() as f64 * part) as usize)
            .copied()
            .unwrap_or_default()
    };
    println!(
        "{what}: p50 {:.2} us, p99 {:.2} us over {} rounds",
        at(0.5),
        at(0.99),
        times.len()
    );
}

fn us(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
