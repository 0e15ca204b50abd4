//! Command-line flags that say what a zone serves.

use std::net::IpAddr;
use std::path::PathBuf;

use svc_core::dns::{ClusterDomain, PodNames, ZoneOptions};
use svc_core::{IpNet, Name, parse_cidr};

use crate::cluster_watch::{Access, Interest, Pods, Subject, kubeconfig};
use crate::manifest::Source;

/// What is served, for `dns-server` and `svcctl dns`.
#[derive(Clone, Debug, clap::Args)]
pub struct ZoneArgs {
    /// File, directory or - (standard input) with Kubernetes objects; repeatable
    #[arg(long, value_name = "PATH")]
    pub manifests: Vec<PathBuf>,
    /// Kubeconfig of a cluster to read from instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "manifests", value_parser = kubeconfig)]
    pub kubeconfig: Option<PathBuf>,
    /// Domain of the cluster
    #[arg(long, value_name = "NAME", default_value = "cluster.local")]
    pub zone: ClusterDomain,
    /// Prefix of addresses whose reverse names are served; repeatable
    #[arg(long = "reverse-zone", value_name = "CIDR", value_parser = cidr)]
    pub reverse_zones: Vec<IpNet>,
    /// Time to live of records, 0 to 3600 seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    pub ttl: u32,
    /// Which names below pod exist
    #[arg(long, value_enum, default_value_t = PodMode::Disabled)]
    pub pods: PodMode,
    /// Serve PORT.SERVICE.NAMESPACE.svc too
    #[arg(long)]
    pub port_alias: bool,
    /// Serve POD-IP.POD.NAMESPACE.pod too
    #[arg(long)]
    pub pod_alias: bool,
    /// Name endpoints without a hostname by their Pods
    #[arg(long)]
    pub endpoint_pod_names: bool,
    /// Hide Services with ClusterIPs that have no ready endpoint
    #[arg(long)]
    pub ignore_empty_service: bool,
    /// Namespace to serve; repeatable, all when unset
    #[arg(long = "namespace", value_name = "NS")]
    pub namespaces: Vec<String>,
    /// Address that the server is known by; repeatable
    #[arg(long = "server-ip", value_name = "IP")]
    pub server_ips: Vec<IpAddr>,
}

/// Which names below `pod` exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum PodMode {
    /// None
    Disabled,
    /// Those of live Pods
    Verified,
    /// Those of all addresses
    Insecure,
}

fn cidr(text: &str) -> Result<IpNet, &'static str> {
    parse_cidr(text).ok_or("not a prefix of addresses, such as 10.96.0.0/12")
}

impl ZoneArgs {
    /// The sources of manifests.
    pub fn sources(&self) -> Vec<Source> {
        Source::of_arguments(
            &self.manifests,
            self.kubeconfig.as_ref(),
            Subject::everything(),
        )
    }

    /// The cluster to watch; none when there are manifests.
    pub fn access(&self) -> Option<Access> {
        let kubeconfig = self.kubeconfig.clone();
        self.manifests.is_empty().then_some(Access { kubeconfig })
    }

    /// What of the cluster the zone is made of.
    pub fn interest(&self) -> Interest {
        let pods = match self.pods {
            PodMode::Verified => Pods::Watched,
            PodMode::Disabled | PodMode::Insecure => Pods::Ignored,
        };
        Interest::Dns { pods }
    }

    /// The options of the zone.
    pub fn options(&self) -> ZoneOptions {
        let namespaces = self.namespaces.iter().map(|name| Name::from(name.as_str()));
        ZoneOptions {
            reverse: self.reverse_zones.clone(),
            ttl: self.ttl,
            pods: match self.pods {
                PodMode::Disabled => PodNames::Disabled,
                PodMode::Verified => PodNames::Verified,
                PodMode::Insecure => PodNames::Insecure,
            },
            endpoint_pod_names: self.endpoint_pod_names,
            ignore_empty_services: self.ignore_empty_service,
            port_alias: self.port_alias,
            pod_alias: self.pod_alias,
            namespaces: (!self.namespaces.is_empty()).then(|| namespaces.collect()),
            server_ips: self.server_ips.clone(),
            ..ZoneOptions::new(self.zone.clone())
        }
    }
}
