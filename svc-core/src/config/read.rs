//! From the file inside a kube-proxy ConfigMap to a [`ProxyConfig`].

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use core::time::Duration;

use ipnet::IpNet;

use super::section::{Remarks, Section, cidrs};
use super::{
    ConntrackConfig, HEALTHZ_PORT, IpvsConfig, LocalDetection, METRICS_PORT, NodePortAddresses,
    ProxyConfig, ProxyMode,
};
use crate::diagnostic::{Diagnostic, DiagnosticReason};
use crate::name::Name;
use crate::net::{IpFamily, parse_ip};
use crate::wire::Value;
use crate::wire::quoted::quoted;

const API_VERSION: &str = "kubeproxy.config.k8s.io/v1alpha1";
const KIND: &str = "KubeProxyConfiguration";
const IPTABLES: &[&str] = &[
    "localhostNodePorts",
    "masqueradeAll",
    "masqueradeBit",
    "minSyncPeriod",
    "syncPeriod",
];
const NFTABLES: &[&str] = &[
    "masqueradeAll",
    "masqueradeBit",
    "minSyncPeriod",
    "syncPeriod",
];
const IPVS: &[&str] = &[
    "excludeCIDRs",
    "minSyncPeriod",
    "scheduler",
    "strictARP",
    "syncPeriod",
    "tcpFinTimeout",
    "tcpTimeout",
    "udpTimeout",
];
const CONNTRACK: &[&str] = &[
    "maxPerCore",
    "min",
    "tcpBeLiberal",
    "tcpCloseWaitTimeout",
    "tcpEstablishedTimeout",
    "udpStreamTimeout",
    "udpTimeout",
];
const CLIENT: &[&str] = &[
    "acceptContentTypes",
    "burst",
    "contentType",
    "kubeconfig",
    "qps",
];
/// Fields that this proxy knows and does not act upon.
const WITHOUT_EFFECT: &[&str] = &[
    "portRange",
    "resourceContainer",
    "udpIdleTimeout",
    "windowsRunAsService",
    "winkernel",
];
const TOP: &[&str] = &[
    "apiVersion",
    "bindAddress",
    "bindAddressHardFail",
    "clientConnection",
    "clusterCIDR",
    "clusterCIDRs",
    "configSyncPeriod",
    "conntrack",
    "detectLocal",
    "detectLocalMode",
    "enableProfiling",
    "featureGates",
    "healthzBindAddress",
    "hostnameOverride",
    "iptables",
    "ipvs",
    "kind",
    "logging",
    "metricsBindAddress",
    "mode",
    "nftables",
    "nodePortAddresses",
    "oomScoreAdj",
    "portRange",
    "resourceContainer",
    "showHiddenMetricsForVersion",
    "udpIdleTimeout",
    "windowsRunAsService",
    "winkernel",
];

/// Which mode counts when a file is read, as some fields stand in the section of the mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeChoice {
    /// The one of the file; iptables when it has none, as in kube-proxy.
    FromFile,
    /// This one, whatever the file says: a backend can do only one.
    Fixed(ProxyMode),
}

/// Reads a `KubeProxyConfiguration` of version `v1alpha1`.
///
/// Every field that is unknown, or whose value is not valid (B-321 to B-329), is named in a
/// diagnostic, and the default stands in for it. kube-proxy does not start with a value that is not
/// valid; a caller that wants the same checks for [`crate::Severity::Error`].
pub fn read(file: &Value, mode: ModeChoice) -> (ProxyConfig, Vec<Diagnostic>) {
    let mut remarks = Remarks::new();
    let top = Section::open(&mut remarks, "", Some(file), TOP);
    check_kind(&mut remarks, &top);
    // Installers write these with empty values, which deserves no remark.
    let set = |key: &&&str| top.field(key).is_some_and(|value| !is_blank(value));
    for key in WITHOUT_EFFECT.iter().filter(set) {
        let message = "has no effect on Linux any more";
        remarks.note(top.path(key), DiagnosticReason::NotSupported, message);
    }
    let named = named_mode(&mut remarks, &top);
    let mut config = ProxyConfig::default_for(match mode {
        ModeChoice::Fixed(mode) => mode,
        ModeChoice::FromFile => named.unwrap_or(ProxyMode::Iptables),
    });
    read_sections(&mut remarks, &top, &mut config);
    config.detect_local = local_detection(&mut remarks, &top);
    config.node_port_addresses = node_port_addresses(&mut remarks, &top);
    read_addresses(&mut remarks, &top, &mut config);
    read_process(&mut remarks, &top, &mut config);
    config.conntrack = conntrack(&mut remarks, &top);
    (config, remarks.list)
}

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

fn check_kind(remarks: &mut Remarks, top: &Section<'_>) {
    for (key, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match top.text(remarks, key) {
            Some(text) if text != wanted => {
                remarks.invalid(top.path(key), wanted, &quoted(text).to_string());
            }
            Some(_) => {}
            None => {
                let message = format!("must be {wanted}");
                remarks.error(top.path(key), DiagnosticReason::Required, message);
            }
        }
    }
}

fn named_mode(remarks: &mut Remarks, top: &Section<'_>) -> Option<ProxyMode> {
    let text = top.text(remarks, "mode")?;
    let mode = ProxyMode::ALL.into_iter().find(|mode| mode.name() == text);
    if mode.is_none() {
        let found = quoted(text).to_string();
        remarks.invalid(top.path("mode"), "iptables, ipvs or nftables", &found);
    }
    mode
}

/// Reads all three sections, so that all of them are checked, and uses that of the mode.
fn read_sections(remarks: &mut Remarks, top: &Section<'_>, config: &mut ProxyConfig) {
    let iptables = Section::open(remarks, "iptables.", top.field("iptables"), IPTABLES);
    let nftables = Section::open(remarks, "nftables.", top.field("nftables"), NFTABLES);
    let ipvs = Section::open(remarks, "ipvs.", top.field("ipvs"), IPVS);
    for (mode, section) in [
        (ProxyMode::Iptables, &iptables),
        (ProxyMode::Nftables, &nftables),
        (ProxyMode::Ipvs, &ipvs),
    ] {
        let default = ProxyConfig::default_for(mode);
        let periods = periods(remarks, section, &default);
        if mode == config.mode {
            (config.sync_period, config.min_sync_period) = periods;
        }
    }
    // IPVS masquerades as the iptables section says (B-331).
    for (mode, section) in [
        (ProxyMode::Iptables, &iptables),
        (ProxyMode::Nftables, &nftables),
    ] {
        let all = section.bool(remarks, "masqueradeAll");
        let bit = section.integer(remarks, "masqueradeBit", 0..=31);
        let of_iptables = mode == ProxyMode::Iptables && config.mode == ProxyMode::Ipvs;
        if mode == config.mode || of_iptables {
            config.masquerade_all = all.unwrap_or(config.masquerade_all);
            let bit = bit.and_then(|bit| u8::try_from(bit).ok());
            config.masquerade_bit = bit.unwrap_or(config.masquerade_bit);
        }
    }
    let localhost = iptables.bool(remarks, "localhostNodePorts");
    config.localhost_node_ports = localhost.unwrap_or(config.localhost_node_ports);
    config.ipvs = IpvsConfig {
        scheduler: ipvs.text(remarks, "scheduler").map(Into::into),
        strict_arp: ipvs.bool(remarks, "strictARP").unwrap_or(false),
        exclude_cidrs: {
            let texts = ipvs.texts(remarks, "excludeCIDRs");
            cidrs(remarks, texts)
        },
        tcp_timeout: timeout(remarks, &ipvs, "tcpTimeout"),
        tcp_fin_timeout: timeout(remarks, &ipvs, "tcpFinTimeout"),
        udp_timeout: timeout(remarks, &ipvs, "udpTimeout"),
    };
}

/// `syncPeriod` and `minSyncPeriod` (B-321).
fn periods(
    remarks: &mut Remarks,
    section: &Section<'_>,
    default: &ProxyConfig,
) -> (Duration, Duration) {
    let sync = section.period(remarks, "syncPeriod");
    let sync = sync.unwrap_or(default.sync_period);
    let min = section.period(remarks, "minSyncPeriod");
    let min = min.unwrap_or(default.min_sync_period);
    if min > sync {
        let wanted = format!("at most syncPeriod, {sync:?}");
        remarks.invalid(section.path("minSyncPeriod"), &wanted, &format!("{min:?}"));
        return (sync, default.min_sync_period.min(sync));
    }
    (sync, min)
}

fn timeout(remarks: &mut Remarks, section: &Section<'_>, key: &str) -> Duration {
    section.duration(remarks, key).unwrap_or(Duration::ZERO)
}

fn local_detection(remarks: &mut Remarks, top: &Section<'_>) -> LocalDetection {
    let known = ["bridgeInterface", "interfaceNamePrefix"];
    let detect = Section::open(remarks, "detectLocal.", top.field("detectLocal"), &known);
    let ranges = cluster_cidrs(remarks, top);
    let by_range = || match ranges.is_empty() {
        true => LocalDetection::None,
        false => LocalDetection::ClusterCidr(ranges.clone()),
    };
    let mode = top.text(remarks, "detectLocalMode").unwrap_or_default();
    match mode {
        "" | "ClusterCIDR" => by_range(),
        "NodeCIDR" => LocalDetection::NodeCidr,
        "BridgeInterface" => interface(remarks, &detect, "bridgeInterface")
            .map_or_else(by_range, LocalDetection::BridgeInterface),
        "InterfaceNamePrefix" => interface(remarks, &detect, "interfaceNamePrefix")
            .map_or_else(by_range, LocalDetection::InterfaceNamePrefix),
        other => {
            let known = "ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix";
            let message = format!("must be {known}, is {}", quoted(other));
            let path = top.path("detectLocalMode");
            remarks.error(path, DiagnosticReason::NotSupported, message);
            by_range()
        }
    }
}

/// The interface that a mode needs (B-326).
fn interface(remarks: &mut Remarks, detect: &Section<'_>, key: &str) -> Option<Name> {
    let name = detect.text(remarks, key);
    if name.is_none() {
        let message = "must be set for this detectLocalMode".to_string();
        remarks.error(detect.path(key), DiagnosticReason::Required, message);
    }
    name.map(Into::into)
}

/// `clusterCIDR`, a list with commas, and `clusterCIDRs`: at most one range per family (B-327).
fn cluster_cidrs(remarks: &mut Remarks, top: &Section<'_>) -> Vec<IpNet> {
    let joined = top.text(remarks, "clusterCIDR").unwrap_or_default();
    let mut texts: Vec<(String, &str)> = joined
        .split(',')
        .filter(|text| !text.trim().is_empty())
        .map(|text| (top.path("clusterCIDR"), text))
        .collect();
    texts.extend(top.texts(remarks, "clusterCIDRs"));
    let mut kept: Vec<IpNet> = Vec::new();
    for (path, text) in texts {
        for range in cidrs(remarks, alloc::vec![(path.clone(), text)]) {
            let family = IpFamily::of_net(&range);
            if kept.iter().any(|other| IpFamily::of_net(other) == family) {
                let wanted = format!("one range per family, another one is {family}");
                remarks.invalid(path.clone(), &wanted, &format!("{range}"));
            } else {
                kept.push(range);
            }
        }
    }
    kept
}

/// `nodePortAddresses` (B-328).
fn node_port_addresses(remarks: &mut Remarks, top: &Section<'_>) -> NodePortAddresses {
    let mut texts = top.texts(remarks, "nodePortAddresses");
    if texts.len() == 1 && texts.iter().all(|(_, text)| *text == "primary") {
        return NodePortAddresses::Primary;
    }
    texts.retain(|(path, text)| {
        if *text == "primary" {
            let wanted = "the only entry, or an address range";
            remarks.invalid(path.clone(), wanted, "\"primary\"");
        }
        *text != "primary"
    });
    let ranges = cidrs(remarks, texts);
    match ranges.is_empty() {
        true => NodePortAddresses::Default,
        false => NodePortAddresses::Cidrs(ranges),
    }
}

/// Addresses to listen on; the defaults are of the family of `bindAddress` (B-323).
fn read_addresses(remarks: &mut Remarks, top: &Section<'_>, config: &mut ProxyConfig) {
    let bind = top.ip(remarks, "bindAddress");
    config.bind_address = bind.unwrap_or(config.bind_address);
    let (any, loopback) = match IpFamily::of(config.bind_address) {
        IpFamily::V4 => (
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V4(Ipv4Addr::LOCALHOST),
        ),
        IpFamily::V6 => (
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ),
    };
    let healthz = socket_address(remarks, top, "healthzBindAddress", HEALTHZ_PORT);
    config.healthz_bind_address = healthz.unwrap_or(SocketAddr::new(any, HEALTHZ_PORT));
    let metrics = socket_address(remarks, top, "metricsBindAddress", METRICS_PORT);
    config.metrics_bind_address = metrics.unwrap_or(SocketAddr::new(loopback, METRICS_PORT));
}

/// An address with a port; an address alone gets the usual port.
fn socket_address(
    remarks: &mut Remarks,
    top: &Section<'_>,
    key: &str,
    port: u16,
) -> Option<SocketAddr> {
    let text = top.text(remarks, key)?;
    let alone = || parse_ip(text).map(|ip| SocketAddr::new(ip, port));
    let address = text.parse::<SocketAddr>().ok().or_else(alone);
    let address = address.filter(|address| address.port() != 0);
    if address.is_none() {
        let wanted = "an address with a port such as 0.0.0.0:10256";
        remarks.invalid(top.path(key), wanted, &quoted(text).to_string());
    }
    address
}

/// What concerns the process and its connection to the API server.
fn read_process(remarks: &mut Remarks, top: &Section<'_>, config: &mut ProxyConfig) {
    let period = top.period(remarks, "configSyncPeriod");
    config.config_sync_period = period.unwrap_or(config.config_sync_period);
    config.bind_address_hard_fail = top.bool(remarks, "bindAddressHardFail").unwrap_or(false);
    config.enable_profiling = top.bool(remarks, "enableProfiling").unwrap_or(false);
    let score = top.integer(remarks, "oomScoreAdj", -1000..=1000);
    let score = score.and_then(|score| i16::try_from(score).ok());
    config.oom_score_adj = score.unwrap_or(config.oom_score_adj);
    if let Some(text) = top.text(remarks, "hostnameOverride") {
        let name = text.trim().to_lowercase();
        if name.is_empty() {
            let found = quoted(text).to_string();
            remarks.invalid(top.path("hostnameOverride"), "the name of a node", &found);
        } else {
            config.hostname_override = Some(name.into());
        }
    }
    let client = top.field("clientConnection");
    let client = Section::open(remarks, "clientConnection.", client, CLIENT);
    config.kubeconfig = client.text(remarks, "kubeconfig").map(Into::into);
    let Some(gates) = top.field("featureGates") else {
        return;
    };
    if gates.entries().is_none() {
        let wanted = "a map of names to true or false";
        remarks.invalid(top.path("featureGates"), wanted, &gates.words());
    }
    for (name, on) in gates.entries().unwrap_or_default() {
        match on.boolean() {
            Some(on) => {
                config.feature_gates.insert(name.as_str().into(), on);
            }
            None => {
                let path = format!("featureGates.{name}");
                remarks.invalid(path, "true or false", &on.words());
            }
        }
    }
}

fn conntrack(remarks: &mut Remarks, top: &Section<'_>) -> ConntrackConfig {
    let section = Section::open(remarks, "conntrack.", top.field("conntrack"), CONNTRACK);
    let default = ConntrackConfig::default();
    let mut count = |key: &str, default: u32| {
        let count = section.integer(remarks, key, 0..=i64::from(i32::MAX));
        let count = count.and_then(|count| u32::try_from(count).ok());
        count.unwrap_or(default)
    };
    let max_per_core = count("maxPerCore", default.max_per_core);
    let min = count("min", default.min);
    let mut seconds = |key: &str, default: Duration| {
        let duration = section.duration(remarks, key);
        duration.unwrap_or(default)
    };
    ConntrackConfig {
        max_per_core,
        min,
        tcp_established_timeout: seconds("tcpEstablishedTimeout", default.tcp_established_timeout),
        tcp_close_wait_timeout: seconds("tcpCloseWaitTimeout", default.tcp_close_wait_timeout),
        udp_timeout: seconds("udpTimeout", default.udp_timeout),
        udp_stream_timeout: seconds("udpStreamTimeout", default.udp_stream_timeout),
        tcp_be_liberal: section.bool(remarks, "tcpBeLiberal").unwrap_or(false),
    }
}
