//! Counters of queries, one block for each thread, summed when somebody asks.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use svc_core::dns::RecordType;

use super::respond::{Kind, Transport};

const TYPES: [&str; 11] = [
    "A", "AAAA", "SRV", "PTR", "CNAME", "TXT", "SOA", "NS", "ANY", "other", "none",
];
const RCODES: [&str; 7] = [
    "NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other",
];
/// Upper bounds of the buckets of durations, in nanoseconds.
const BOUNDS: [u64; 10] = [
    500,
    1_000,
    2_000,
    5_000,
    10_000,
    50_000,
    100_000,
    1_000_000,
    10_000_000,
    100_000_000,
];

/// Counters of one thread.
#[derive(Debug, Default)]
pub(super) struct Counters {
    queries: [[AtomicU64; RCODES.len()]; TYPES.len()],
    silent: AtomicU64,
    buckets: [AtomicU64; BOUNDS.len() + 1],
    nanoseconds: AtomicU64,
}

/// Counters of all threads.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    udp: Vec<Arc<Counters>>,
    tcp: Arc<Counters>,
    pub(super) reloads: AtomicU64,
    pub(super) forwarded: AtomicU64,
    pub(super) forward_failures: AtomicU64,
}

impl Counters {
    pub(super) fn count(&self, kind: Kind, took: Duration) {
        add(
            &self.queries[type_index(kind.record_type)][rcode_index(kind.rcode)],
            1,
        );
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| *bound < nanoseconds);
        add(&self.buckets[bucket], 1);
        add(&self.nanoseconds, nanoseconds);
    }

    pub(super) fn count_silence(&self) {
        add(&self.silent, 1);
    }
}

impl Metrics {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            udp: (0..workers).map(|_| Arc::default()).collect(),
            ..Self::default()
        }
    }

    pub(super) fn udp(&self, worker: usize) -> Arc<Counters> {
        self.udp.get(worker).cloned().unwrap_or_default()
    }

    pub(super) fn counters(&self, transport: Transport) -> &[Arc<Counters>] {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => std::slice::from_ref(&self.tcp),
        }
    }

    pub(super) fn tcp(&self) -> Arc<Counters> {
        self.tcp.clone()
    }

    /// The text format of Prometheus.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, text: &mut String) -> std::fmt::Result {
        writeln!(text, "# TYPE svc_dns_queries_total counter")?;
        for (transport, label) in [(Transport::Udp, "udp"), (Transport::Tcp, "tcp")] {
            let counters = self.counters(transport);
            for (t, kind) in TYPES.iter().enumerate() {
                for (r, rcode) in RCODES.iter().enumerate() {
                    let count = sum(counters, |counters| &counters.queries[t][r]);
                    if count > 0 {
                        writeln!(
                            text,
                            "svc_dns_queries_total{{transport=\"{label}\",type=\"{kind}\",\
                             rcode=\"{rcode}\"}} {count}"
                        )?;
                    }
                }
            }
        }
        let all: Vec<Arc<Counters>> = self.udp.iter().chain([&self.tcp]).cloned().collect();
        writeln!(text, "# TYPE svc_dns_unanswered_packets_total counter")?;
        let silent = sum(&all, |counters| &counters.silent);
        writeln!(text, "svc_dns_unanswered_packets_total {silent}")?;
        writeln!(text, "# TYPE svc_dns_query_duration_seconds histogram")?;
        let mut total = 0;
        for (at, bound) in BOUNDS.iter().enumerate() {
            total += sum(&all, |counters| &counters.buckets[at]);
            let le = *bound as f64 / 1e9;
            writeln!(
                text,
                "svc_dns_query_duration_seconds_bucket{{le=\"{le}\"}} {total}"
            )?;
        }
        total += sum(&all, |counters| &counters.buckets[BOUNDS.len()]);
        let seconds = sum(&all, |counters| &counters.nanoseconds) as f64 / 1e9;
        writeln!(
            text,
            "svc_dns_query_duration_seconds_bucket{{le=\"+Inf\"}} {total}"
        )?;
        writeln!(text, "svc_dns_query_duration_seconds_sum {seconds}")?;
        writeln!(text, "svc_dns_query_duration_seconds_count {total}")?;
        for (name, counter) in [
            ("reloads", &self.reloads),
            ("forwarded", &self.forwarded),
            ("forward_failures", &self.forward_failures),
        ] {
            let count = counter.load(Ordering::Relaxed);
            writeln!(
                text,
                "# TYPE svc_dns_{name}_total counter\nsvc_dns_{name}_total {count}"
            )?;
        }
        Ok(())
    }
}

pub(super) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

fn sum(all: &[Arc<Counters>], counter: impl Fn(&Counters) -> &AtomicU64) -> u64 {
    let load = |counters: &Arc<Counters>| counter(counters).load(Ordering::Relaxed);
    all.iter().map(load).sum()
}

fn type_index(record_type: Option<RecordType>) -> usize {
    match record_type {
        Some(RecordType::A) => 0,
        Some(RecordType::Aaaa) => 1,
        Some(RecordType::Srv) => 2,
        Some(RecordType::Ptr) => 3,
        Some(RecordType::Cname) => 4,
        Some(RecordType::Txt) => 5,
        Some(RecordType::Soa) => 6,
        Some(RecordType::Ns) => 7,
        Some(RecordType::Any) => 8,
        Some(RecordType::Other(_)) => 9,
        None => 10,
    }
}

fn rcode_index(rcode: u16) -> usize {
    usize::from(rcode).min(RCODES.len() - 1)
}
