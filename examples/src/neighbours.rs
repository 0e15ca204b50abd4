//! Others who change nf_tables meanwhile: how long the kernel lets them wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use backend_nftables::netlink::{Batch, Existing, Socket, TableId};
use backend_nftables::rule::{DataType, Element, Family, Set, SetName, Type};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

/// What each of them waited, in microseconds.
type Waits = Result<Vec<f64>, String>;

/// Two threads that commit small transactions to a table of their own.
pub(crate) struct Neighbours {
    stop: Arc<AtomicBool>,
    threads: Vec<(&'static str, JoinHandle<Waits>)>,
}

impl Neighbours {
    /// Starts them, one in the network namespace of the calling thread.
    pub(crate) fn new() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |namespace: Option<CloneFlags>| {
            let stop = stop.clone();
            thread::spawn(move || {
                namespace
                    .map_or(Ok(()), unshare)
                    .map_err(|e| e.to_string())?;
                commit_until(&stop).map_err(|e| e.to_string())
            })
        };
        let threads = vec![
            ("same_namespace", start(None)),
            ("other_namespace", start(Some(CloneFlags::CLONE_NEWNET))),
        ];
        Self { stop, threads }
    }

    /// Ends them and says how long they waited, microseconds.
    pub(crate) fn waits(self) -> Value {
        self.stop.store(true, Ordering::Relaxed);
        let waits = |thread: JoinHandle<Waits>| match thread.join() {
            Ok(Ok(mut waits)) => {
                waits.sort_by(f64::total_cmp);
                let at = |share: f64| waits.get((waits.len() as f64 * share) as usize).copied();
                json!({ "count": waits.len(), "p50": at(0.5), "p99": at(0.99), "max": waits.last() })
            }
            Ok(Err(error)) => json!({ "error": error }),
            Err(_) => json!({ "error": "panic" }),
        };
        self.threads
            .into_iter()
            .map(|(name, thread)| (name, waits(thread)))
            .collect()
    }
}

fn commit_until(stop: &AtomicBool) -> Result<Vec<f64>, Box<dyn std::error::Error>> {
    let mut socket = Socket::open()?;
    let (set, element) = (SetName::from("s"), Element::new([1; 4]));
    let mut batch = Batch::new(TableId::new(Family::Ip, "neighbour"));
    batch.add_table(0, None, Existing::Keep);
    let marks = Set::new(set.clone(), Type::from(DataType::Mark));
    batch.add_set(0, &marks, Existing::Keep);
    socket.commit(&batch)?;
    let mut waits = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        batch.clear();
        batch.add_element(0, &set, &element, Existing::Refuse);
        batch.delete_element(0, &set, &element);
        let start = Instant::now();
        socket.commit(&batch)?;
        waits.push((start.elapsed().as_secs_f64() * 1e7).round() / 10.0);
        // Often enough to meet every batch, seldom enough to leave it the processor.
        thread::sleep(Duration::from_micros(500));
    }
    Ok(waits)
}
