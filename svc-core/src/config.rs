//! Configuration of a proxy: what a `KubeProxyConfiguration` says, as plain values.
//!
//! [`ProxyConfig::default_for`] has kube-proxy's defaults. With the feature `serde`, `config::read` makes
//! a [`ProxyConfig`] of the file inside a cluster's kube-proxy ConfigMap.

#[cfg(feature = "serde")]
mod duration;
#[cfg(feature = "serde")]
mod read;
#[cfg(feature = "serde")]
mod section;
#[cfg(feature = "serde")]
#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use core::time::Duration;

use ipnet::IpNet;

use crate::name::Name;
#[cfg(feature = "serde")]
pub use read::{ModeChoice, read};

/// Port that the health server listens on by default.
pub const HEALTHZ_PORT: u16 = 10256;
/// Port that the metrics server listens on by default.
pub const METRICS_PORT: u16 = 10249;

/// Configuration of a proxy on one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyConfig {
    /// `mode`.
    pub mode: ProxyMode,
    /// `detectLocalMode`, with what belongs to it: which traffic counts as from a pod of the node.
    pub detect_local: LocalDetection,
    /// `nodePortAddresses`.
    pub node_port_addresses: NodePortAddresses,
    /// `masqueradeAll` of the section of the active mode (B-331); IPVS reads that of iptables.
    pub masquerade_all: bool,
    /// `masqueradeBit` of the section of the active mode, 0 to 31 (B-322).
    pub masquerade_bit: u8,
    /// `iptables.localhostNodePorts`: whether node ports answer on 127.0.0.1, in iptables mode.
    pub localhost_node_ports: bool,
    /// `syncPeriod` of the section of the active mode: full syncs are at most this far apart.
    pub sync_period: Duration,
    /// `minSyncPeriod` of the section of the active mode: syncs are at least this far apart.
    pub min_sync_period: Duration,
    /// `configSyncPeriod`: how often watched objects are listed again.
    pub config_sync_period: Duration,
    /// `bindAddress`: its family is the primary one unless it is unspecified (B-058).
    pub bind_address: IpAddr,
    /// `healthzBindAddress`.
    pub healthz_bind_address: SocketAddr,
    /// `metricsBindAddress`.
    pub metrics_bind_address: SocketAddr,
    /// `bindAddressHardFail`: whether a server that cannot listen ends the proxy.
    pub bind_address_hard_fail: bool,
    /// `enableProfiling`.
    pub enable_profiling: bool,
    /// `hostnameOverride`, trimmed and in lower case (B-332).
    pub hostname_override: Option<Name>,
    /// `clientConnection.kubeconfig`.
    pub kubeconfig: Option<Name>,
    /// `featureGates`.
    pub feature_gates: BTreeMap<Name, bool>,
    /// `oomScoreAdj`, -1000 to 1000 (B-322).
    pub oom_score_adj: i16,
    /// `ipvs`, but for its periods.
    pub ipvs: IpvsConfig,
    /// `conntrack`.
    pub conntrack: ConntrackConfig,
}

/// `mode`: which kernel subsystem does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[allow(missing_docs)]
pub enum ProxyMode {
    Iptables,
    Ipvs,
    Nftables,
}

/// How traffic from pods of this node is told from other traffic (B-325).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalDetection {
    /// A source in one of these ranges, at most one per family.
    ClusterCidr(Vec<IpNet>),
    /// A source in `spec.podCIDRs` of the Node.
    NodeCidr,
    /// Traffic that came in over this bridge.
    BridgeInterface(Name),
    /// Traffic that came in over an interface whose name starts so.
    InterfaceNamePrefix(Name),
    /// Nothing is known to be local: mode ClusterCIDR without a range.
    None,
}

/// Node addresses on which node ports answer (B-328).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// Unset: every local address in iptables and IPVS mode, the primary ones in nftables mode.
    Default,
    /// The first address of each family of the Node.
    Primary,
    /// The local addresses inside these ranges.
    Cidrs(Vec<IpNet>),
}

/// `ipvs`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IpvsConfig {
    /// `scheduler`; unset means round robin.
    pub scheduler: Option<Name>,
    /// `strictARP`.
    pub strict_arp: bool,
    /// `excludeCIDRs`: virtual servers in these ranges are never removed.
    pub exclude_cidrs: Vec<IpNet>,
    /// `tcpTimeout`; zero leaves the kernel's value alone.
    pub tcp_timeout: Duration,
    /// `tcpFinTimeout`; zero leaves the kernel's value alone.
    pub tcp_fin_timeout: Duration,
    /// `udpTimeout`; zero leaves the kernel's value alone.
    pub udp_timeout: Duration,
}

/// `conntrack` (B-318 to B-320).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConntrackConfig {
    /// `maxPerCore`; zero leaves the kernel's limit alone (B-319).
    pub max_per_core: u32,
    /// `min`: the limit is not set below this.
    pub min: u32,
    /// `tcpEstablishedTimeout`; zero leaves the kernel's value alone.
    pub tcp_established_timeout: Duration,
    /// `tcpCloseWaitTimeout`; zero leaves the kernel's value alone.
    pub tcp_close_wait_timeout: Duration,
    /// `tcpBeLiberal`; false leaves the kernel's value alone.
    pub tcp_be_liberal: bool,
    /// `udpTimeout`; zero leaves the kernel's value alone.
    pub udp_timeout: Duration,
    /// `udpStreamTimeout`; zero leaves the kernel's value alone.
    pub udp_stream_timeout: Duration,
}

impl ProxyConfig {
    /// kube-proxy's defaults for a mode (B-317, B-318).
    pub fn default_for(mode: ProxyMode) -> Self {
        Self {
            mode,
            detect_local: LocalDetection::None,
            node_port_addresses: NodePortAddresses::Default,
            masquerade_all: false,
            masquerade_bit: 14,
            localhost_node_ports: true,
            sync_period: Duration::from_secs(30),
            min_sync_period: match mode {
                ProxyMode::Iptables | ProxyMode::Nftables => Duration::from_secs(1),
                ProxyMode::Ipvs => Duration::ZERO,
            },
            config_sync_period: Duration::from_secs(15 * 60),
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            healthz_bind_address: SocketAddr::from((Ipv4Addr::UNSPECIFIED, HEALTHZ_PORT)),
            metrics_bind_address: SocketAddr::from((Ipv4Addr::LOCALHOST, METRICS_PORT)),
            bind_address_hard_fail: false,
            enable_profiling: false,
            hostname_override: None,
            kubeconfig: None,
            feature_gates: BTreeMap::new(),
            oom_score_adj: -999,
            ipvs: IpvsConfig::default(),
            conntrack: ConntrackConfig::default(),
        }
    }
}

impl Default for ConntrackConfig {
    fn default() -> Self {
        Self {
            max_per_core: 32 * 1024,
            min: 128 * 1024,
            tcp_established_timeout: Duration::from_secs(24 * 60 * 60),
            tcp_close_wait_timeout: Duration::from_secs(60 * 60),
            tcp_be_liberal: false,
            udp_timeout: Duration::ZERO,
            udp_stream_timeout: Duration::ZERO,
        }
    }
}

impl ProxyMode {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::Iptables, Self::Ipvs, Self::Nftables];

    /// The name that `mode` has in a configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Ipvs => "ipvs",
            Self::Nftables => "nftables",
        }
    }
}
