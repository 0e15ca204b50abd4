//! Objects and configuration from the common flags.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use svc_core::config::{ModeChoice, ProxyConfig, ProxyMode, read};
use svc_core::load_balancer::PoolRange;
use svc_core::{Diagnostic, IpNet, Name, NodeConfig, Planner, Severity};

use crate::cluster::{Cluster, feed};
use crate::cluster_watch::{Access, Interest, Subject, kubeconfig};
use crate::manifest::{self, Manifests, Source, read_value};

/// The common input flags.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct InputArgs {
    /// File, directory or - (standard input) with Kubernetes objects; repeatable
    #[arg(long, value_name = "PATH", required_unless_present = "kubeconfig")]
    pub manifests: Vec<PathBuf>,
    /// What stands in for load balancers.
    #[command(flatten)]
    pub pools: PoolArgs,
    /// Kubeconfig of a cluster to read from instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "manifests", value_parser = kubeconfig)]
    pub kubeconfig: Option<PathBuf>,
    /// KubeProxyConfiguration (v1alpha1), as in a cluster's kube-proxy ConfigMap
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where external and load-balancer addresses of Services have to be; repeatable
    #[arg(long, value_name = "CIDR")]
    pub external_addresses: Vec<IpNet>,
    /// Node to plan for
    #[arg(
        long,
        value_name = "NAME",
        alias = "hostname-override",
        default_value = ""
    )]
    pub node: String,
}

/// What stands in for the load balancers of a cloud.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct PoolArgs {
    /// Addresses for Services of type LoadBalancer: 192.0.2.0/24 or 192.0.2.1-192.0.2.9; repeatable
    #[arg(long, value_name = "RANGE")]
    pub load_balancer_pool: Vec<PoolRange>,
}

impl PoolArgs {
    /// Manifests together with these pools.
    pub fn with(&self, manifests: Manifests) -> Manifests {
        Manifests {
            load_balancer_pools: self.load_balancer_pool.clone(),
            ..manifests
        }
    }
}

/// Everything that was read, and a planner that knows it.
#[derive(Debug)]
pub struct Input {
    /// The manifests.
    pub manifests: Manifests,
    /// The objects as a proxy sees them.
    pub cluster: Cluster,
    /// A planner that was fed with them and whose plans are up to date.
    pub planner: Planner,
    /// What was wrong with the configuration.
    pub remarks: Vec<String>,
}

impl InputArgs {
    /// The sources of manifests.
    pub fn sources(&self) -> Vec<Source> {
        Source::of_arguments(
            &self.manifests,
            self.kubeconfig.as_ref(),
            Subject::everything(),
        )
    }

    /// Reads the manifests.
    pub fn manifests(&self) -> Manifests {
        self.pools.with(manifest::read(&self.sources()))
    }

    /// Reads configuration and manifests, and plans.
    ///
    /// `mode` is what a backend needs, `None` what the file says; nftables without a file.
    pub fn load(&self, mode: Option<ProxyMode>) -> Input {
        self.load_from(self.manifests(), mode)
    }

    /// The same with no more objects of a cluster than a proxy watches: more it may not read.
    ///
    /// Without manifests the cluster is that of the flag, of `access`, of the environment, or the one around.
    pub fn load_for_proxy(&self, node: &Name, mode: ProxyMode, access: Access) -> Input {
        let node = node.clone();
        let subjects = Interest::Proxy { node }.subjects();
        let sources = match self.manifests.is_empty() {
            true => vec![Source::Cluster(access, subjects)],
            false => Source::of_arguments(&self.manifests, None, subjects),
        };
        let manifests = self.pools.with(manifest::read(&sources));
        self.load_from(manifests, Some(mode))
    }

    /// The same with manifests that were read before.
    pub fn load_from(&self, manifests: Manifests, mode: Option<ProxyMode>) -> Input {
        let mut remarks = Vec::new();
        let config = self.node_config(mode, &mut remarks);
        let cluster = Cluster::of(&manifests);
        let mut planner = Planner::new(config);
        feed(&mut planner, &manifests, &cluster);
        planner.delta();
        Input {
            manifests,
            cluster,
            planner,
            remarks,
        }
    }

    /// Where addresses from outside have to be; anywhere when no flag says it.
    pub fn allowed_addresses(&self) -> Option<Vec<IpNet>> {
        let some = !self.external_addresses.is_empty();
        some.then(|| self.external_addresses.clone())
    }

    /// The configuration of the node.
    pub fn node_config(&self, mode: Option<ProxyMode>, remarks: &mut Vec<String>) -> NodeConfig {
        let fallback = mode.unwrap_or(ProxyMode::Nftables);
        let proxy = match &self.config {
            None => ProxyConfig::default_for(fallback),
            Some(path) => read_config(path, mode, remarks),
        };
        let name = match &proxy.hostname_override {
            Some(name) if self.node.is_empty() => name.clone(),
            Some(_) | None => self.node.trim().to_lowercase().into(),
        };
        let mut config = NodeConfig::new(name, proxy);
        config.external_addresses = self.allowed_addresses();
        config
    }
}

fn read_config(path: &Path, mode: Option<ProxyMode>, remarks: &mut Vec<String>) -> ProxyConfig {
    let choice = mode.map_or(ModeChoice::FromFile, ModeChoice::Fixed);
    let value = match read_value(path) {
        Ok(value) => value,
        Err(problem) => {
            remarks.push(problem.to_string());
            return ProxyConfig::default_for(mode.unwrap_or(ProxyMode::Nftables));
        }
    };
    let (config, diagnostics) = read(&value, choice);
    for diagnostic in diagnostics {
        let line = format!("{}: {diagnostic}", path.display());
        match diagnostic.severity {
            Severity::Error => remarks.push(line),
            Severity::Warning => eprintln!("warning: {line}"),
        }
    }
    config
}

impl Input {
    /// Whether nothing was wrong that the exit code has to tell; the planner has to have planned.
    fn is_complete(&self) -> bool {
        let of_objects = self.manifests.diagnostics.iter();
        let of_objects = of_objects.map(|(_, diagnostic)| diagnostic);
        let mut all = of_objects
            .chain(self.planner.diagnostics())
            .chain(&self.cluster.diagnostics);
        self.manifests.problems.is_empty()
            && self.remarks.is_empty()
            && all.all(|diagnostic| diagnostic.severity != Severity::Error)
    }

    /// Prints one line for each thing that was wrong, and says how the command ends.
    pub fn report(&self) -> ExitCode {
        for remark in &self.remarks {
            eprintln!("error: {remark}");
        }
        for problem in &self.manifests.problems {
            eprintln!("error: {problem}");
        }
        for skipped in &self.manifests.skipped {
            eprintln!("note: {skipped}");
        }
        for (file, diagnostic) in &self.manifests.diagnostics {
            eprintln!("{}: {file}: {diagnostic}", level(diagnostic));
        }
        for diagnostic in self
            .cluster
            .diagnostics
            .iter()
            .chain(self.planner.diagnostics())
        {
            eprintln!("{}: {diagnostic}", level(diagnostic));
        }
        match self.is_complete() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        }
    }
}

pub(super) fn level(diagnostic: &Diagnostic) -> &'static str {
    match diagnostic.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    }
}
