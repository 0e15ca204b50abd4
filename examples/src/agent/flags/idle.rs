//! Flags and fields of kube-proxy that are taken and not acted upon: named, so that nobody relies on them.

use svc_core::wire::Value;

/// Flags that are taken and named as having no effect.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct IdleFlags {
    /// No effect
    #[arg(long, value_name = "DURATION", hide = true)]
    config_sync_period: Option<String>,
    /// No effect
    #[arg(long, value_name = "SCORE", hide = true, allow_hyphen_values = true)]
    oom_score_adj: Option<String>,
    /// No effect
    #[arg(long, value_name = "COUNT", hide = true)]
    conntrack_max_per_core: Option<String>,
    /// No effect
    #[arg(long, value_name = "COUNT", hide = true)]
    conntrack_min: Option<String>,
    /// No effect
    #[arg(long, value_name = "DURATION", hide = true)]
    conntrack_tcp_timeout_established: Option<String>,
    /// No effect
    #[arg(long, value_name = "DURATION", hide = true)]
    conntrack_tcp_timeout_close_wait: Option<String>,
    /// No effect
    #[arg(long, value_name = "DURATION", hide = true)]
    conntrack_udp_timeout: Option<String>,
    /// No effect
    #[arg(long, value_name = "DURATION", hide = true)]
    conntrack_udp_timeout_stream: Option<String>,
    /// No effect
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    conntrack_tcp_be_liberal: Option<bool>,
    /// No effect
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    bind_address_hard_fail: Option<bool>,
    /// No effect
    #[arg(long, value_name = "RATE", hide = true, allow_hyphen_values = true)]
    kube_api_qps: Option<String>,
    /// No effect
    #[arg(long, value_name = "COUNT", hide = true, allow_hyphen_values = true)]
    kube_api_burst: Option<String>,
    /// No effect
    #[arg(long, value_name = "TYPE", hide = true)]
    kube_api_content_type: Option<String>,
    /// No effect
    #[arg(long, value_name = "URL", hide = true)]
    master: Option<String>,
    /// No effect
    #[arg(long, value_name = "VERSION", hide = true)]
    show_hidden_metrics_for_version: Option<String>,
    /// No effect
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    profiling: Option<bool>,
}

impl IdleFlags {
    /// One warning for each flag that was given.
    pub(super) fn name(&self, warnings: &mut Vec<String>) {
        let given = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let on = |flag: Option<bool>| flag == Some(true);
        for (flag, given) in [
            ("config-sync-period", given(&self.config_sync_period)),
            ("oom-score-adj", given(&self.oom_score_adj)),
            (
                "conntrack-max-per-core",
                given(&self.conntrack_max_per_core),
            ),
            ("conntrack-min", given(&self.conntrack_min)),
            (
                "conntrack-tcp-timeout-established",
                given(&self.conntrack_tcp_timeout_established),
            ),
            (
                "conntrack-tcp-timeout-close-wait",
                given(&self.conntrack_tcp_timeout_close_wait),
            ),
            ("conntrack-udp-timeout", given(&self.conntrack_udp_timeout)),
            (
                "conntrack-udp-timeout-stream",
                given(&self.conntrack_udp_timeout_stream),
            ),
            (
                "conntrack-tcp-be-liberal",
                on(self.conntrack_tcp_be_liberal),
            ),
            ("bind-address-hard-fail", on(self.bind_address_hard_fail)),
            ("kube-api-qps", given(&self.kube_api_qps)),
            ("kube-api-burst", given(&self.kube_api_burst)),
            ("kube-api-content-type", given(&self.kube_api_content_type)),
            ("master", given(&self.master)),
            (
                "show-hidden-metrics-for-version",
                given(&self.show_hidden_metrics_for_version),
            ),
            ("profiling", on(self.profiling)),
        ] {
            if given {
                let why = match flag {
                    "master" => ": the kubeconfig names the server",
                    _ => "",
                };
                warnings.push(format!("--{flag}: has no effect{why}"));
            }
        }
    }
}

/// Fields of the file without effect that are set to something.
pub(super) fn idle_fields(file: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for (path, why) in IDLE {
        let mut value = Some(file);
        for key in path.split('.') {
            value = value.and_then(|value| value.member(key));
        }
        if value.is_some_and(|value| !is_blank(value)) {
            found.push(format!("{path}: has no effect: {why}"));
        }
    }
    found
}

/// Gates, of the file and of the flag, that switch nothing here.
pub(super) fn idle_gates(file: &Value) -> Vec<String> {
    let Some(Value::Map(gates)) = file.member("featureGates") else {
        return Vec::new();
    };
    let idle = gates.iter().filter(|(name, _)| name != GATE);
    idle.map(|(name, _)| format!("featureGates.{name}: has no effect: there is no such gate"))
        .collect()
}

/// Installers write these with empty values, which deserves no remark.
fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Integer(value) => *value == 0,
        Value::Float(value) => *value == 0.0,
        Value::Text(text) => text.is_empty() || text == "0s",
        Value::List(members) => members.iter().all(is_blank),
        Value::Map(entries) => entries.iter().all(|(_, value)| is_blank(value)),
    }
}

/// The one gate that there is (B-019).
const GATE: &str = "AllowServiceExternalIPs";

const LIMITS: &str = "limits of connection tracking are the administrator's";
/// Fields that are read and checked, and that this agent does not act upon.
const IDLE: &[(&str, &str)] = &[
    (
        "bindAddressHardFail",
        "an address that cannot be had is tried again",
    ),
    ("clientConnection.acceptContentTypes", "the client decides"),
    ("clientConnection.burst", "the client asks little"),
    ("clientConnection.contentType", "the client decides"),
    ("clientConnection.qps", "the client asks little"),
    (
        "configSyncPeriod",
        "objects are not listed again without need",
    ),
    ("conntrack", LIMITS),
    ("enableProfiling", "there are no profiling pages"),
    (
        "ipvs.excludeCIDRs",
        "virtual servers of others are never touched",
    ),
    ("logging", "use -v and --log-format"),
    ("oomScoreAdj", "the container runtime sets it"),
    ("showHiddenMetricsForVersion", "no metric is hidden"),
];

#[cfg(test)]
mod tests {
    use super::super::{empty, put};
    use super::*;

    #[test]
    fn fields_without_effect_are_named_unless_they_are_blank() {
        let mut file = empty();
        put(&mut file, "conntrack.min", Value::Integer(7));
        put(&mut file, "conntrack.maxPerCore", Value::Null);
        put(&mut file, "logging.verbosity", Value::Integer(0));
        put(
            &mut file,
            "featureGates.AllowServiceExternalIPs",
            Value::Bool(false),
        );
        assert_eq!(
            idle_fields(&file),
            [format!("conntrack: has no effect: {LIMITS}")]
        );
        assert_eq!(idle_gates(&file), [""; 0]);
    }
}
