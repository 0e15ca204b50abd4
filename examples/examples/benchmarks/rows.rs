//! The tables: which figure of which source, what was aimed at, and what kube-proxy needs.

use crate::measured::Place;

/// A table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) title: &'static str,
    pub(crate) rows: &'static [Row],
}

/// A figure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) what: &'static str,
    pub(crate) source: &'static str,
    pub(crate) place: Place,
    pub(crate) unit: Unit,
    pub(crate) aim: &'static str,
    pub(crate) peer: &'static str,
}

/// The unit that a source prints.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    Bytes,
    Kibibytes,
    /// Ticks of 10 ms in a minute.
    TicksPerMinute,
    /// Nanoseconds of 1,024 of them, as the DNS bench asks.
    NanosecondsOf1024,
    /// Thousands of queries for a second of processor time.
    Queries,
    /// A plain number.
    Number,
    /// A multiple of the same without rules.
    Times,
}

use Place::{After, Json};
use Unit::*;

const fn row(
    what: &'static str,
    source: &'static str,
    place: Place,
    unit: Unit,
    aim: &'static str,
    peer: &'static str,
) -> Row {
    Row {
        what,
        source,
        place,
        unit,
        aim,
        peer,
    }
}

const FULL: Place = Json("/full_sync_cpu_ms");
const ENDPOINT: Place = Json("/endpoint_change_cpu_us");
const LAST: Place = Json("/connect_us/last_service/ratio");
const POD: Place = Json("/connect_us/pod/ratio");
const ALONE: Place = Json("/connect_us/no_services/ratio");
const DNAT: Place = Json("/connect_us/one_dnat/ratio");

// A row a line, as in the tables they become.
#[rustfmt::skip]
pub(crate) const SECTIONS: &[Section] = &[
    Section {
        title: "The core",
        rows: &[
            row("`Plan::compute`, 10,000 Services × 10 endpoints", "plan", Json("/compute:10000x10"), Nanoseconds, "60 ms", ""),
            row("event of one EndpointSlice, 1,000 Services", "plan", Json("/endpoint-event:any-service:1000"), Nanoseconds, "10 us", ""),
            row("the same, 100,000 Services", "plan", Json("/endpoint-event:any-service:100000"), Nanoseconds, "1.5 × 1,000", ""),
            row("heap per endpoint, a million of them", "memory", After("objects "), Bytes, "64 B", ""),
            row("EndpointSlices of 10,000 Services × 10 Pods", "slices", Json("/endpoints:from scratch, 10000 Services x 10 Pods"), Nanoseconds, "0.5 s", ""),
        ],
    },
    Section {
        title: "nftables, 10,000 Services × 3 endpoints",
        rows: &[
            row("one endpoint changed, p50", "nftables-10k", Json("/endpoint_change_us/p50"), Microseconds, "30 us", "5.3 s"),
            row("the same, p99", "nftables-10k", Json("/endpoint_change_us/p99"), Microseconds, "300 us", ""),
            row("the same, CPU", "nftables-10k", ENDPOINT, Microseconds, "", "4.25 s"),
            row("one Service added, p50", "nftables-10k", Json("/service_add_us/p50"), Microseconds, "60 us", "4.17 s CPU"),
            row("one Service removed, p50", "nftables-10k", Json("/service_remove_us/p50"), Microseconds, "60 us", "4.19 s CPU"),
            row("first full sync, plan included", "nftables-10k", Json("/full_sync_ms"), Milliseconds, "150 ms", "14.0 s"),
            row("the same, CPU", "nftables-10k", FULL, Milliseconds, "", "13.6 s"),
            row("restart over a right ruleset", "nftables-10k", Json("/restart_ms"), Milliseconds, "150 ms", "37.7 s CPU"),
            row("objects that a restart writes", "nftables-10k", Json("/restart_writes"), Number, "0", ""),
            row("peak memory", "nftables-10k", Json("/peak_rss_kib"), Kibibytes, "60 MiB", "129 MB, nft 155 MB"),
        ],
    },
    Section {
        title: "nftables, growth",
        rows: &[
            row("one endpoint changed, 1,000 Services, p50", "nftables-1k", Json("/endpoint_change_us/p50"), Microseconds, "", "0.098 s CPU"),
            row("one endpoint changed, 100,000 Services, p50", "nftables-100k", Json("/endpoint_change_us/p50"), Microseconds, "1.5 × 1,000", ""),
            row("one Service added, 1,000 Services, p50", "nftables-1k", Json("/service_add_us/p50"), Microseconds, "", "0.098 s CPU"),
            row("one Service added, 100,000 Services, p50", "nftables-100k", Json("/service_add_us/p50"), Microseconds, "1.5 × 1,000", ""),
            row("load of 100,000 Services × 10 endpoints", "nftables-1M", Json("/full_sync_ms"), Milliseconds, "4 s", ""),
            row("others wait meanwhile, at most", "nftables-1M-neighbours", Json("/neighbours_wait_us/same_namespace/max"), Microseconds, "20 ms", ""),
            row("peak memory with a million endpoints", "nftables-1M", Json("/peak_rss_kib"), Kibibytes, "", ""),
            row("memory that the kernel has for them", "nftables-1M", Json("/kernel_memory_kib"), Kibibytes, "", ""),
            row("restart over a right ruleset, 100,000 × 3", "nftables-100k", Json("/restart_ms"), Milliseconds, "", ""),
            row("the same, 100,000 × 10", "nftables-1M", Json("/restart_ms"), Milliseconds, "", ""),
        ],
    },
    Section {
        title: "iptables, CPU of everything involved",
        rows: &[
            row("kube-proxy's form restored by iptables-legacy, 10,000 × 3: a measure of the machine", "peer-form", Json("/cpu_ms"), Milliseconds, "", "0.88 s"),
            row("legacy: full restore, 10,000 Services × 3", "legacy-10k", FULL, Milliseconds, "0.4 s", "1.5 s"),
            row("legacy: one endpoint changed", "legacy-10k", ENDPOINT, Microseconds, "150 ms", "0.6 s"),
            row("legacy: full restore of 30,000", "legacy-30k", FULL, Milliseconds, "1.2 s", "8.5 s"),
            row("nft: full restore, 10,000 Services × 3", "nft-10k", FULL, Milliseconds, "0.9 s", "184 to 230 s"),
            row("nft: one endpoint changed", "nft-10k", ENDPOINT, Microseconds, "30 ms", "0.8 s"),
            row("nft: full restore of 30,000", "nft-30k", FULL, Milliseconds, "3 s", ""),
        ],
    },
    Section {
        title: "IPVS, 1,000 Services × 3 endpoints, on an emulated processor",
        rows: &[
            row("one endpoint changed, p50", "ipvs-1k", Json("/endpoint_change_us/p50"), Microseconds, "", ""),
            row("one Service added, p50", "ipvs-1k", Json("/service_add_us/p50"), Microseconds, "", ""),
            row("first full sync, CPU", "ipvs-1k", FULL, Milliseconds, "", ""),
            row("objects that a restart writes", "ipvs-1k", Json("/restart_writes"), Number, "0", ""),
        ],
    },
    Section {
        title: "First packet: a TCP connection, as a multiple of the same without any rule",
        rows: &[
            row("nftables: connection tracking alone", "connect-nftables-10k", ALONE, Times, "", ""),
            row("nftables: one rule with one dnat", "connect-nftables-10k", DNAT, Times, "", ""),
            row("nftables: last of 10,000 Services", "connect-nftables-10k", LAST, Times, "1.25", "1.25"),
            row("nftables: straight to a pod", "connect-nftables-10k", POD, Times, "", ""),
            row("nftables: last of 100,000 Services", "connect-nftables-100k", LAST, Times, "", ""),
            row("iptables-legacy: connection tracking alone", "connect-legacy-10k", ALONE, Times, "", ""),
            row("iptables-legacy: one rule with one DNAT", "connect-legacy-10k", DNAT, Times, "", ""),
            row("iptables-legacy: last of 10,000 Services", "connect-legacy-10k", LAST, Times, "1.45", "19"),
            row("iptables-legacy: straight to a pod", "connect-legacy-10k", POD, Times, "1.45", "18"),
            row("iptables-legacy: a Service with 1,000 endpoints", "connect-legacy-wide", LAST, Times, "1.6", ""),
            row("iptables-nft: one rule with one DNAT", "connect-nft-10k", DNAT, Times, "", ""),
            row("iptables-nft: last of 10,000 Services", "connect-nft-10k", LAST, Times, "1.45", ""),
            row("iptables-nft: straight to a pod", "connect-nft-10k", POD, Times, "1.45", ""),
            row("iptables-nft: a Service with 1,000 endpoints", "connect-nft-wide", LAST, Times, "1.6", ""),
        ],
    },
    Section {
        title: "DNS: names at random over the whole zone",
        rows: &[
            row("look-up, A, 10,000 Services", "dns", Json("/dns-lookup-random:a-hit:10000"), NanosecondsOf1024, "1 us", ""),
            row("look-up, SRV, 10,000 Services", "dns", Json("/dns-lookup-random:srv-hit:10000"), NanosecondsOf1024, "1 us", ""),
            row("look-up, PTR, 10,000 Services", "dns", Json("/dns-lookup-random:ptr-hit:10000"), NanosecondsOf1024, "1 us", ""),
            row("look-up, no data, 10,000 Services", "dns", Json("/dns-lookup-random:aaaa-nodata:10000"), NanosecondsOf1024, "1 us", ""),
            row("look-up, NXDOMAIN, 10,000 Services", "dns", Json("/dns-lookup-random:nxdomain:10000"), NanosecondsOf1024, "1 us", ""),
            row("look-up, A, 100,000 Services", "dns", Json("/dns-lookup-random:a-hit:100000"), NanosecondsOf1024, "1 us, flat", ""),
            row("look-up, SRV, 100,000 Services", "dns", Json("/dns-lookup-random:srv-hit:100000"), NanosecondsOf1024, "1 us, flat", ""),
            row("look-up, PTR, 100,000 Services", "dns", Json("/dns-lookup-random:ptr-hit:100000"), NanosecondsOf1024, "1 us, flat", ""),
            row("look-up, no data, 100,000 Services", "dns", Json("/dns-lookup-random:aaaa-nodata:100000"), NanosecondsOf1024, "1 us, flat", ""),
            row("look-up, NXDOMAIN, 100,000 Services", "dns", Json("/dns-lookup-random:nxdomain:100000"), NanosecondsOf1024, "1 us, flat", ""),
        ],
    },
    Section {
        title: "DNS: queries for a second of the server's processor time, 10,000 Services",
        rows: &[
            row("mix of half A, a fifth each no data and NXDOMAIN, a tenth SRV: `dns-server`", "dns-server", After("dns-server mix     "), Queries, "100 k", ""),
            row("mix of half A, a fifth each no data and NXDOMAIN, a tenth SRV: NSD", "dns-server", After("nsd        mix     "), Queries, "", ""),
            row("mix of half A, a fifth each no data and NXDOMAIN, a tenth SRV: Knot", "dns-server", After("knot       mix     "), Queries, "", ""),
            row("A: `dns-server`", "dns-server", After("dns-server hit     "), Queries, "", ""),
            row("A: NSD", "dns-server", After("nsd        hit     "), Queries, "", ""),
            row("A: Knot", "dns-server", After("knot       hit     "), Queries, "", ""),
            row("no data: `dns-server`", "dns-server", After("dns-server nodata  "), Queries, "", ""),
            row("no data: NSD", "dns-server", After("nsd        nodata  "), Queries, "", ""),
            row("no data: Knot", "dns-server", After("knot       nodata  "), Queries, "", ""),
            row("NXDOMAIN: `dns-server`", "dns-server", After("dns-server nxdomain"), Queries, "", ""),
            row("NXDOMAIN: NSD", "dns-server", After("nsd        nxdomain"), Queries, "", ""),
            row("NXDOMAIN: Knot", "dns-server", After("knot       nxdomain"), Queries, "", ""),
        ],
    },
    Section {
        title: "The agent with an API server on the same machine, nftables",
        rows: &[
            row("10,000 × 3: start → everything in the kernel", "agent-10k", After("in the kernel "), Microseconds, "", "15.5 s"),
            row("10,000 × 3: write to the API server → commit, p50", "agent-10k", After("to the commit:\n  p50 "), Microseconds, "5 ms", "4.6 to 5.5 s"),
            row("10,000 × 3: memory", "agent-10k", After("RSS "), Kibibytes, "80 MiB", "342 MB"),
            row("10,000 × 3: idle CPU", "agent-10k", After("idle CPU: "), TicksPerMinute, "0.1 %", ""),
            row("100,000 × 10: write → commit, p50", "agent-1M", After("to the commit:\n  p50 "), Microseconds, "", ""),
            row("100,000 × 10: memory", "agent-1M", After("RSS "), Kibibytes, "400 MiB", ""),
            row("100,000 × 10: idle CPU", "agent-1M", After("idle CPU: "), TicksPerMinute, "", ""),
        ],
    },
];
