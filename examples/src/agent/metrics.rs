//! `/metrics`: upstream's names where they mean the same (B-306 to B-316), ours beside them.

use std::fmt::{self, Write};
use std::time::Duration;

use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Plan, Route, Scope, ServicePortPlan};

use super::histogram::{Histogram, label};
use super::input::SourceLink;
use super::pace::Cause;
use super::presence::Rival;
use super::status::{Compared, FamilyStatus, Status};

/// The text format of Prometheus.
pub(super) fn text(status: &Status, now: Duration, digests: &[(IpFamily, u64)]) -> String {
    let mut to = String::new();
    // Writing to a string cannot fail.
    let _ = upstream(&mut to, status).and_then(|()| own(&mut to, status, now, digests));
    to
}

fn upstream(to: &mut String, status: &Status) -> fmt::Result {
    type Of = fn(&FamilyStatus) -> &Histogram;
    let durations: [(&str, Of); 3] = [
        ("sync_proxy_rules_duration_seconds", |f| &f.sync),
        ("sync_full_proxy_rules_duration_seconds", |f| &f.full),
        ("sync_partial_proxy_rules_duration_seconds", |f| &f.partial),
    ];
    for (name, of) in durations {
        histograms(to, status, &format!("kubeproxy_{name}"), of)?;
    }
    histograms(
        to,
        status,
        "kubeproxy_network_programming_duration_seconds",
        |f| &f.programming,
    )?;
    type Time = fn(&FamilyStatus) -> Option<Duration>;
    let times: [(&str, Time); 2] = [
        ("last_timestamp_seconds", |f| f.last_success),
        ("last_queued_timestamp_seconds", |f| f.last_queued),
    ];
    for (name, of) in times {
        gauge(
            to,
            &format!("kubeproxy_sync_proxy_rules_{name}"),
            |to, name| {
                for (family, one) in &status.families {
                    let at = of(one).unwrap_or_default().as_secs_f64();
                    writeln!(to, "{name}{{ip_family=\"{family}\"}} {at}")?;
                }
                Ok(())
            },
        )?;
    }
    for (name, count) in [("service", status.services), ("endpoint", status.endpoints)] {
        let name = format!("kubeproxy_sync_proxy_rules_{name}_changes");
        writeln!(
            to,
            "# TYPE {name}_total counter\n{name}_total {}",
            count.total
        )?;
        writeln!(
            to,
            "# TYPE {name}_pending gauge\n{name}_pending {}",
            count.pending
        )?;
    }
    failures(to, status)?;
    no_local_endpoints(to, status)?;
    answers(to, status)?;
    histograms(
        to,
        status,
        "kubeproxy_conntrack_reconciler_sync_duration_seconds",
        |f| &f.conntrack,
    )?;
    counter(
        to,
        status,
        "kubeproxy_conntrack_reconciler_deleted_entries_total",
        |f| f.conntrack_deleted,
    )
}

/// B-313.
fn answers(to: &mut String, status: &Status) -> fmt::Result {
    for path in ["healthz", "livez"] {
        let name = format!("kubeproxy_proxy_{path}_total");
        writeln!(to, "# TYPE {name} counter")?;
        let answers = status
            .health_answers
            .iter()
            .filter(|((p, _), _)| *p == path);
        for ((_, code), count) in answers {
            writeln!(to, "{name}{{code=\"{code}\"}} {count}")?;
        }
    }
    Ok(())
}

fn failures(to: &mut String, status: &Status) -> fmt::Result {
    let all = |f: &FamilyStatus| f.failures.values().sum();
    let partial = |f: &FamilyStatus| f.failures.get(&Compared::Changes).copied().unwrap_or(0);
    let name = |name: &str| format!("kubeproxy_sync_proxy_rules_{name}_failures_total");
    match status.mode {
        ProxyMode::Nftables => counter(to, status, &name("nftables_sync"), all),
        ProxyMode::Iptables => {
            counter(to, status, &name("iptables_restore"), all)?;
            counter(to, status, &name("iptables_partial_restore"), partial)
        }
        ProxyMode::Ipvs => Ok(()),
    }
}

/// B-312: service ports whose policy is Local and that have endpoints elsewhere only.
fn no_local_endpoints(to: &mut String, status: &Status) -> fmt::Result {
    let name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
    gauge(to, name, |to, name| {
        for (family, one) in &status.families {
            for (policy, external) in [("internal", Side::Internal), ("external", Side::External)] {
                let count = one
                    .plan
                    .service_ports
                    .values()
                    .filter(|port| lacks_local(port, external))
                    .count();
                writeln!(
                    to,
                    "{name}{{ip_family=\"{family}\",traffic_policy=\"{policy}\"}} {count}"
                )?;
            }
        }
        Ok(())
    })
}

#[derive(Clone, Copy)]
enum Side {
    Internal,
    External,
}

fn lacks_local(port: &ServicePortPlan, side: Side) -> bool {
    use svc_core::FrontendKind::{ClusterIp, ExternalIp, LoadBalancerIp, NodePort};
    if !port.local.is_empty() {
        return false;
    }
    port.frontends.iter().any(|frontend| {
        let (own, route) = match (frontend.kind, side) {
            (ClusterIp, Side::Internal) => (true, frontend.routes.external),
            (ClusterIp, Side::External) => (false, frontend.routes.external),
            (ExternalIp | LoadBalancerIp | NodePort, Side::External) => {
                (true, frontend.routes.external)
            }
            (ExternalIp | LoadBalancerIp | NodePort, Side::Internal) => {
                (false, frontend.routes.external)
            }
        };
        own && match route {
            // With nowhere at all to go it would be refused.
            Route::Drop => true,
            Route::Forward { to, .. } => to == Scope::Local,
            Route::Reject => false,
        }
    })
}

fn own(
    to: &mut String,
    status: &Status,
    now: Duration,
    digests: &[(IpFamily, u64)],
) -> fmt::Result {
    gauge(
        to,
        "svc_proxy_oldest_unapplied_change_seconds",
        |to, name| {
            for (family, one) in &status.families {
                let age = one.oldest.map(|at| now.saturating_sub(at));
                let age = age.unwrap_or_default().as_secs_f64();
                writeln!(to, "{name}{{ip_family=\"{family}\"}} {age}")?;
            }
            Ok(())
        },
    )?;
    quarantined(to, status)?;
    by_cause(
        to,
        status,
        "svc_proxy_repaired_objects_total",
        |f, cause| f.repairs.get(&cause).copied().unwrap_or(0),
    )?;
    by_cause(to, status, "svc_proxy_runs_total", |f, cause| {
        f.runs.get(&cause).copied().unwrap_or(0)
    })?;
    counter(to, status, "svc_proxy_objects_written_total", |f| {
        f.objects_written
    })?;
    histograms(to, status, "svc_proxy_change_to_kernel_seconds", |f| {
        &f.wait
    })?;
    gauge(to, "svc_proxy_plan_info", |to, name| {
        for (family, digest) in digests {
            writeln!(
                to,
                "{name}{{ip_family=\"{family}\",digest=\"{digest:016x}\"}} 1"
            )?;
        }
        Ok(())
    })?;
    gauge(to, "svc_proxy_service_ports", |to, name| {
        for (family, one) in &status.families {
            let count = one.plan.service_ports.len();
            writeln!(to, "{name}{{ip_family=\"{family}\"}} {count}")?;
        }
        Ok(())
    })?;
    remarks(to, status)?;
    other_agent(to, status)?;
    links(to, status)
}

/// There while another process manages the same.
fn other_agent(to: &mut String, status: &Status) -> fmt::Result {
    gauge(to, "svc_proxy_other_agent", |to, name| {
        let Some(Rival { pid, process }) = &status.rival else {
            return Ok(());
        };
        let process = label(process.as_deref().unwrap_or_default());
        let pid = pid.map(|pid| pid.to_string()).unwrap_or_default();
        writeln!(to, "{name}{{process=\"{process}\",pid=\"{pid}\"}} 1")
    })
}

fn quarantined(to: &mut String, status: &Status) -> fmt::Result {
    gauge(to, "svc_proxy_quarantined_service_port", |to, name| {
        for (family, one) in &status.families {
            for port in one.quarantine.keys() {
                let (service, protocol) = (&port.service, port.protocol);
                writeln!(
                    to,
                    "{name}{{ip_family=\"{family}\",namespace=\"{}\",name=\"{}\",port=\"{}\",protocol=\"{protocol}\"}} 1",
                    label(&service.namespace),
                    label(&service.name),
                    label(&port.port),
                )?;
            }
        }
        Ok(())
    })
}

fn remarks(to: &mut String, status: &Status) -> fmt::Result {
    gauge(to, "svc_proxy_remarks", |to, name| {
        let all = status.remarks.values().flatten().chain(&status.conflicts);
        let mut counts = std::collections::BTreeMap::new();
        for remark in all {
            let key = (
                format!("{:?}", remark.severity),
                format!("{:?}", remark.reason),
            );
            *counts.entry(key).or_insert(0u64) += 1;
        }
        for ((severity, reason), count) in counts {
            writeln!(
                to,
                "{name}{{severity=\"{severity}\",reason=\"{reason}\"}} {count}"
            )?;
        }
        Ok(())
    })?;
    gauge(to, "svc_proxy_closed_listener", |to, name| {
        for address in status.deaf.keys() {
            writeln!(to, "{name}{{listener=\"{}\"}} 1", label(address))?;
        }
        Ok(())
    })
}

fn links(to: &mut String, status: &Status) -> fmt::Result {
    gauge(to, "svc_proxy_source_up", |to, name| {
        for (kind, link) in &status.links {
            let up = match link {
                SourceLink::Up => 1,
                SourceLink::Down(_) => 0,
                SourceLink::Absent(_) => continue,
            };
            writeln!(to, "{name}{{kind=\"{kind:?}\"}} {up}")?;
        }
        Ok(())
    })?;
    let name = "svc_proxy_source_failures_total";
    writeln!(to, "# TYPE {name} counter\n{name} {}", status.link_failures)
}

fn gauge(
    to: &mut String,
    name: &str,
    lines: impl FnOnce(&mut String, &str) -> fmt::Result,
) -> fmt::Result {
    writeln!(to, "# TYPE {name} gauge")?;
    lines(to, name)
}

fn counter(
    to: &mut String,
    status: &Status,
    name: &str,
    of: impl Fn(&FamilyStatus) -> u64,
) -> fmt::Result {
    writeln!(to, "# TYPE {name} counter")?;
    for (family, one) in &status.families {
        writeln!(to, "{name}{{ip_family=\"{family}\"}} {}", of(one))?;
    }
    Ok(())
}

fn by_cause(
    to: &mut String,
    status: &Status,
    name: &str,
    of: impl Fn(&FamilyStatus, Cause) -> u64,
) -> fmt::Result {
    writeln!(to, "# TYPE {name} counter")?;
    for (family, one) in &status.families {
        for cause in Cause::ALL {
            let (count, cause) = (of(one, cause), cause.name());
            writeln!(
                to,
                "{name}{{ip_family=\"{family}\",cause=\"{cause}\"}} {count}"
            )?;
        }
    }
    Ok(())
}

fn histograms(
    to: &mut String,
    status: &Status,
    name: &str,
    of: impl Fn(&FamilyStatus) -> &Histogram,
) -> fmt::Result {
    writeln!(to, "# TYPE {name} histogram")?;
    for (family, one) in &status.families {
        of(one).write(to, name, &format!("ip_family=\"{family}\","))?;
    }
    Ok(())
}

/// A number that two plans share only if they are equal, as far as 64 bits can tell; the same in
/// every process and on every node.
pub(super) fn digest(plan: &Plan) -> u64 {
    let mut digest = Fnv(0xcbf2_9ce4_8422_2325);
    match serde_json::to_writer(&mut digest, plan) {
        Ok(()) => digest.0,
        // Neither the writer nor the plan can fail.
        Err(_) => 0,
    }
}

/// The hash function FNV-1a.
struct Fnv(u64);

impl std::io::Write for Fnv {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
