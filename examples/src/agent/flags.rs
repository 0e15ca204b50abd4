//! The command line and the configuration file of kube-proxy.
//!
//! A flag is the same as a field of the file, and wins over it. What this agent knows and does not
//! act upon is named, so that nobody relies on it.

mod idle;

use std::net::SocketAddr;
use std::time::Duration;

use svc_core::config::{ModeChoice, ProxyConfig, ProxyMode, read};
use svc_core::wire::Value;
use svc_core::{Name, NodeConfig, Severity};

use self::idle::{IdleFlags, idle_fields, idle_gates};
use super::server::Addresses;
use crate::cli::input::InputArgs;
use crate::manifest::read_value;

/// Flags of kube-proxy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Ranges of pod addresses, one per family, with a comma
    #[arg(long, value_name = "CIDR,…")]
    cluster_cidr: Option<String>,
    /// ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// Bridge of pods, for BridgeInterface
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,
    /// Start of the names of pods' interfaces, for InterfaceNamePrefix
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
    /// Must be the mode of this program
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    /// Masquerade all connections to ClusterIPs
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    masquerade_all: Option<bool>,
    /// Ranges of node addresses that serve node ports, with commas, or primary
    #[arg(long, value_name = "CIDR,…", alias = "node-port-addresses")]
    nodeport_addresses: Option<String>,
    /// Address whose family is the primary one
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
    /// Address of /healthz and /livez; empty for none [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP:PORT")]
    healthz_bind_address: Option<String>,
    /// Address of /metrics, /plan and /explain; empty for none [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP:PORT")]
    metrics_bind_address: Option<String>,
    /// Gates to switch: AllowServiceExternalIPs=false
    #[arg(long, value_name = "NAME=BOOL,…")]
    feature_gates: Option<String>,
    /// Do what takes more privileges than serving, which is nothing, and end
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    init_only: Option<bool>,
    #[command(flatten)]
    periods: PeriodFlags,
    #[command(flatten)]
    idle: IdleFlags,
}

/// The flags that each mode has of its own; those of another mode have no effect.
#[derive(Clone, Debug, Default, clap::Args)]
struct PeriodFlags {
    /// Longest time between syncs, such as 30s
    #[arg(long, value_name = "DURATION")]
    iptables_sync_period: Option<String>,
    /// Shortest time between syncs, such as 1s
    #[arg(long, value_name = "DURATION")]
    iptables_min_sync_period: Option<String>,
    /// Bit of the mark for packets to be masqueraded
    #[arg(long, value_name = "BIT")]
    iptables_masquerade_bit: Option<i64>,
    /// Whether node ports answer on 127.0.0.1
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    iptables_localhost_nodeports: Option<bool>,
    /// Longest time between syncs
    #[arg(long, value_name = "DURATION")]
    nftables_sync_period: Option<String>,
    /// Shortest time between syncs
    #[arg(long, value_name = "DURATION")]
    nftables_min_sync_period: Option<String>,
    /// Longest time between syncs
    #[arg(long, value_name = "DURATION")]
    ipvs_sync_period: Option<String>,
    /// Shortest time between syncs
    #[arg(long, value_name = "DURATION")]
    ipvs_min_sync_period: Option<String>,
    /// How virtual servers choose
    #[arg(long, value_name = "NAME")]
    ipvs_scheduler: Option<String>,
    /// Ranges whose virtual servers are left alone, with commas
    #[arg(long, value_name = "CIDR,…")]
    ipvs_exclude_cidrs: Option<String>,
    /// Whether ARP is answered for own addresses only
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    ipvs_strict_arp: Option<bool>,
    /// How long idle TCP connections are remembered; 0s: as the kernel has it
    #[arg(long, value_name = "DURATION")]
    ipvs_tcp_timeout: Option<String>,
    /// The same after a FIN
    #[arg(long, value_name = "DURATION")]
    ipvs_tcpfin_timeout: Option<String>,
    /// The same for UDP
    #[arg(long, value_name = "DURATION")]
    ipvs_udp_timeout: Option<String>,
}

/// What a command line and a file say together.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Configuration of the node.
    pub(super) node: NodeConfig,
    /// Where to listen.
    pub(super) addresses: Addresses,
    /// What has no effect, or not the one that was meant.
    pub(super) warnings: Vec<String>,
    /// What is wrong; a default stands in for it.
    pub(super) errors: Vec<String>,
}

impl Settings {
    /// Reads the file and lets flags win over it.
    pub(super) fn of(input: &InputArgs, flags: &Flags, mode: ProxyMode) -> Self {
        let mut errors = Vec::new();
        let mut file = match &input.config {
            None => empty(),
            Some(path) => read_value(path).unwrap_or_else(|problem| {
                errors.push(problem.to_string());
                empty()
            }),
        };
        let mut warnings = idle_fields(&file);
        if let Some(named) = file.member("mode").and_then(Value::text)
            && !named.is_empty()
            && named != mode.name()
        {
            warnings.push(format!(
                "mode: is {named}, this program does {}",
                mode.name()
            ));
        }
        flags.overlay(&mut file, mode, &mut warnings);
        warnings.extend(idle_gates(&file));
        let (mut proxy, diagnostics) = read(&file, ModeChoice::Fixed(mode));
        if flags.periods.min_is_zero(mode) {
            proxy.min_sync_period = Duration::ZERO;
        }
        for diagnostic in diagnostics {
            match diagnostic.severity {
                Severity::Error => errors.push(diagnostic.to_string()),
                Severity::Warning => warnings.push(diagnostic.to_string()),
            }
        }
        let name = node_name(&proxy, &input.node);
        let address = |flag: &Option<String>, of_file: SocketAddr| match flag.as_deref() {
            // B-210.
            Some("") => None,
            Some(_) | None => Some(of_file),
        };
        let addresses = Addresses {
            health: address(&flags.healthz_bind_address, proxy.healthz_bind_address),
            metrics: address(&flags.metrics_bind_address, proxy.metrics_bind_address),
        };
        let mut node = NodeConfig::new(name, proxy);
        node.external_addresses = input.allowed_addresses();
        Self {
            node,
            addresses,
            warnings,
            errors,
        }
    }
}

/// The node of the command line, else that of the file, else the host (B-332).
fn node_name(proxy: &ProxyConfig, given: &str) -> Name {
    let name = match (&proxy.hostname_override, given.trim()) {
        (Some(name), "") => name.clone(),
        (Some(_) | None, given) => given.to_lowercase().into(),
    };
    match &*name {
        "" => host_name().into(),
        _ => name,
    }
}

/// kube-proxy plans for the host it runs on unless told otherwise.
fn host_name() -> String {
    let name = nix::unistd::gethostname().unwrap_or_default();
    name.to_string_lossy().trim().to_lowercase()
}

fn empty() -> Value {
    let text = |text: &str| Value::Text(text.into());
    Value::Map(vec![
        (
            "apiVersion".into(),
            text("kubeproxy.config.k8s.io/v1alpha1"),
        ),
        ("kind".into(), text("KubeProxyConfiguration")),
    ])
}

impl Flags {
    fn overlay(&self, file: &mut Value, mode: ProxyMode, warnings: &mut Vec<String>) {
        if let Some(named) = &self.proxy_mode
            && named != mode.name()
        {
            warnings.push(format!(
                "--proxy-mode: is {named}, this program does {}",
                mode.name()
            ));
        }
        let masquerade_all = match mode {
            ProxyMode::Nftables => "nftables.masqueradeAll",
            // B-331.
            ProxyMode::Iptables | ProxyMode::Ipvs => "iptables.masqueradeAll",
        };
        put_given(file, [(masquerade_all, bool(self.masquerade_all))]);
        put_given(file, self.fields());
        put_given(file, self.periods.fields());
        for (name, on) in self.gates() {
            put(file, &format!("featureGates.{name}"), on);
        }
        self.idle.name(warnings);
    }

    /// Whether there is nothing to do but what kube-proxy does with more privileges than it serves with.
    pub(super) fn is_init_only(&self) -> bool {
        self.init_only == Some(true)
    }

    /// Gates and what they are set to; what is no boolean value is left for the reader of the file to name.
    fn gates(&self) -> impl Iterator<Item = (&str, Value)> {
        let words = self.feature_gates.iter().flat_map(|all| all.split(','));
        words
            .map(str::trim)
            .filter(|word| !word.is_empty())
            .map(|word| {
                let (name, on) = word.split_once('=').unwrap_or((word, ""));
                let on = match on.trim() {
                    "1" | "t" | "T" | "true" | "TRUE" | "True" => Value::Bool(true),
                    "0" | "f" | "F" | "false" | "FALSE" | "False" => Value::Bool(false),
                    other => Value::Text(other.into()),
                };
                (name.trim(), on)
            })
    }

    /// The field of the file that each flag stands for, whatever the mode.
    fn fields(&self) -> [(&'static str, Option<Value>); 8] {
        [
            ("clusterCIDR", text(&self.cluster_cidr)),
            ("detectLocalMode", text(&self.detect_local_mode)),
            (
                "detectLocal.bridgeInterface",
                text(&self.pod_bridge_interface),
            ),
            (
                "detectLocal.interfaceNamePrefix",
                text(&self.pod_interface_name_prefix),
            ),
            ("nodePortAddresses", list(&self.nodeport_addresses)),
            ("bindAddress", text(&self.bind_address)),
            ("healthzBindAddress", text(&self.healthz_bind_address)),
            ("metricsBindAddress", text(&self.metrics_bind_address)),
        ]
    }
}

/// Writes the values of flags that were given.
fn put_given<'a>(file: &mut Value, fields: impl IntoIterator<Item = (&'a str, Option<Value>)>) {
    for (path, value) in fields {
        if let Some(value) = value {
            put(file, path, value);
        }
    }
}

fn text(flag: &Option<String>) -> Option<Value> {
    flag.clone().filter(|t| !t.is_empty()).map(Value::Text)
}

fn bool(flag: Option<bool>) -> Option<Value> {
    flag.map(Value::Bool)
}

/// Words between commas.
fn list(flag: &Option<String>) -> Option<Value> {
    let words = flag.as_ref()?.split(',').map(str::trim);
    let words = words.filter(|word| !word.is_empty());
    let words = words.map(|word| Value::Text(word.into()));
    Some(Value::List(words.collect()))
}

impl PeriodFlags {
    fn fields(&self) -> [(&'static str, Option<Value>); 14] {
        [
            ("iptables.syncPeriod", text(&self.iptables_sync_period)),
            (
                "iptables.minSyncPeriod",
                text(&self.iptables_min_sync_period),
            ),
            (
                "iptables.masqueradeBit",
                self.iptables_masquerade_bit.map(Value::Integer),
            ),
            (
                "iptables.localhostNodePorts",
                bool(self.iptables_localhost_nodeports),
            ),
            ("nftables.syncPeriod", text(&self.nftables_sync_period)),
            (
                "nftables.minSyncPeriod",
                text(&self.nftables_min_sync_period),
            ),
            ("ipvs.syncPeriod", text(&self.ipvs_sync_period)),
            ("ipvs.minSyncPeriod", text(&self.ipvs_min_sync_period)),
            ("ipvs.scheduler", text(&self.ipvs_scheduler)),
            ("ipvs.excludeCIDRs", list(&self.ipvs_exclude_cidrs)),
            ("ipvs.strictARP", bool(self.ipvs_strict_arp)),
            ("ipvs.tcpTimeout", text(&self.ipvs_tcp_timeout)),
            ("ipvs.tcpFinTimeout", text(&self.ipvs_tcpfin_timeout)),
            ("ipvs.udpTimeout", text(&self.ipvs_udp_timeout)),
        ]
    }

    /// In a file zero means the default, as a flag it means zero.
    fn min_is_zero(&self, mode: ProxyMode) -> bool {
        let flag = match mode {
            ProxyMode::Iptables => &self.iptables_min_sync_period,
            ProxyMode::Ipvs => &self.ipvs_min_sync_period,
            ProxyMode::Nftables => &self.nftables_min_sync_period,
        };
        let number = |text: &String| {
            let unit = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
            unit.parse().is_ok_and(|number: f64| number == 0.0)
        };
        flag.as_ref().is_some_and(number)
    }
}

/// Sets a field, given by its path; what stood in the way is replaced.
fn put(file: &mut Value, path: &str, value: Value) {
    let (key, rest) = match path.split_once('.') {
        Some((key, rest)) => (key, Some(rest)),
        None => (path, None),
    };
    if !matches!(file, Value::Map(_)) {
        *file = Value::Map(Vec::new());
    }
    let Value::Map(entries) = file else { return };
    let at = entries.iter().position(|(k, _)| k == key);
    let at = at.unwrap_or_else(|| {
        entries.push((key.into(), Value::Null));
        entries.len() - 1
    });
    let Some((_, held)) = entries.get_mut(at) else {
        return;
    };
    match rest {
        None => *held = value,
        Some(rest) => put(held, rest, value),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        input: InputArgs,
        #[command(flatten)]
        flags: Flags,
    }

    fn settings(line: &str, mode: ProxyMode) -> Settings {
        let words = ["x", "--manifests", "-"]
            .into_iter()
            .chain(line.split_whitespace());
        let line = Line::parse_from(words);
        Settings::of(&line.input, &line.flags, mode)
    }

    #[test]
    fn flags_are_fields() {
        let line = "--node N1 --cluster-cidr 10.64.0.0/11,fd00::/48 --masquerade-all=true \
                    --nodeport-addresses 10.0.0.0/8,primary --nftables-min-sync-period 0s \
                    --metrics-bind-address= --healthz-bind-address 127.0.0.1:1";
        let settings = settings(line, ProxyMode::Nftables);
        let proxy = &settings.node.proxy;
        assert_eq!(&*settings.node.name, "n1");
        assert!(proxy.masquerade_all);
        assert_eq!(proxy.min_sync_period, Duration::ZERO);
        assert_eq!(settings.addresses.metrics, None);
        assert_eq!(settings.addresses.health, Some(([127, 0, 0, 1], 1).into()));
        // "primary" may only stand alone (B-328).
        assert_eq!(settings.errors.len(), 1, "{:?}", settings.errors);
        assert_eq!(settings.warnings, [""; 0]);
    }

    #[test]
    fn gates_are_fields_and_those_that_do_not_exist_are_named_b_019() {
        let line = "--feature-gates=AllowServiceExternalIPs=false,Other=true,Odd=maybe";
        let settings = settings(line, ProxyMode::Nftables);
        let gates = &settings.node.proxy.feature_gates;
        assert_eq!(gates.get("AllowServiceExternalIPs"), Some(&false));
        assert_eq!(
            settings.warnings,
            [
                "featureGates.Other: has no effect: there is no such gate",
                "featureGates.Odd: has no effect: there is no such gate",
            ]
        );
        assert_eq!(settings.errors.len(), 1, "{:?}", settings.errors);
    }

    #[test]
    fn timeouts_of_ipvs_are_fields() {
        let line = "--ipvs-tcp-timeout 900s --ipvs-tcpfin-timeout=2m --ipvs-udp-timeout 0s";
        let settings = settings(line, ProxyMode::Ipvs);
        let ipvs = &settings.node.proxy.ipvs;
        assert_eq!(ipvs.tcp_timeout, Duration::from_secs(900));
        assert_eq!(ipvs.tcp_fin_timeout, Duration::from_secs(120));
        assert_eq!(ipvs.udp_timeout, Duration::ZERO);
        assert_eq!(settings.warnings, [""; 0]);
        assert_eq!(settings.errors, [""; 0]);
    }

    /// What installers give to kube-proxy ends no agent.
    #[test]
    fn every_flag_of_kube_proxy_is_taken() {
        let idle = [
            "--config-sync-period=15m",
            "--oom-score-adj=-999",
            "--conntrack-max-per-core=32768",
            "--conntrack-min=131072",
            "--conntrack-tcp-timeout-established=24h",
            "--conntrack-tcp-timeout-close-wait=1h",
            "--conntrack-udp-timeout=30s",
            "--conntrack-udp-timeout-stream=180s",
            "--conntrack-tcp-be-liberal",
            "--bind-address-hard-fail=true",
            "--kube-api-qps=5",
            "--kube-api-burst=-1",
            "--kube-api-content-type=application/vnd.kubernetes.protobuf",
            "--show-hidden-metrics-for-version=1.35",
            "--profiling",
        ];
        let expected: Vec<String> = idle
            .iter()
            .map(|flag| format!("{}: has no effect", flag.split('=').next().unwrap()))
            .collect();
        let found = settings(&idle.join(" "), ProxyMode::Nftables);
        assert_eq!(found.warnings, expected);
        assert_eq!(found.errors, [""; 0]);
        let found = settings("--master=https://127.0.0.1:6443", ProxyMode::Nftables);
        let why = "the kubeconfig names the server";
        assert_eq!(found.warnings, [format!("--master: has no effect: {why}")]);
        let off = "--conntrack-tcp-be-liberal=false --bind-address-hard-fail=false --master=";
        assert_eq!(settings(off, ProxyMode::Nftables).warnings, [""; 0]);
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let line = "--proxy-mode ipvs --oom-score-adj -998 --conntrack-min 5";
        let settings = settings(line, ProxyMode::Iptables);
        assert_eq!(
            settings.warnings,
            [
                "--proxy-mode: is ipvs, this program does iptables",
                "--oom-score-adj: has no effect",
                "--conntrack-min: has no effect",
            ]
        );
    }
}
