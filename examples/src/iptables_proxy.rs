//! `iptables-proxy`: a node's Services in iptables.

use std::error::Error;
use std::fs;
use std::process::ExitCode;

use backend_iptables::name::PREFIX;
use backend_iptables::{Kernel, Key, Marks, Options, Renderer, Value, Variant};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, NodeConfig, Plan, Reconciler};

use crate::agent::{self, Backend, Families, Notices, ProxyArgs};
use crate::backend;
use crate::proxy::Family;

/// Serves the Services of a node through iptables
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Variant of iptables; without it, that which the host uses
    #[arg(long, value_enum)]
    variant: Option<VariantArg>,
}

/// A variant of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum VariantArg {
    /// iptables-legacy
    Legacy,
    /// iptables-nft
    Nft,
}

impl From<VariantArg> for Variant {
    fn from(variant: VariantArg) -> Self {
        match variant {
            VariantArg::Legacy => Self::Legacy,
            VariantArg::Nft => Self::Nft,
        }
    }
}

/// iptables as a backend of a proxy.
#[derive(Debug)]
pub struct Iptables {
    variant: Option<Variant>,
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    agent::run(&args.proxy, Iptables::new(args.variant))
}

impl Iptables {
    /// The backend with a variant, or with that which the host uses.
    pub fn new(variant: Option<VariantArg>) -> Self {
        Self {
            variant: variant.map(Into::into),
        }
    }
}

impl Backend for Iptables {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Iptables;
    const PURE: backend::Backend = backend::Backend::Iptables;

    /// Of either variant: packets meet the rules of both.
    fn manages(&self) -> String {
        format!("chains {PREFIX}*")
    }

    /// In a container without privileges the parameters of the kernel can only be read.
    fn adapt(&self, config: &mut NodeConfig) -> Vec<String> {
        let set = fs::read_to_string(ROUTE_LOCALNET).is_ok_and(|text| text.trim() == "1");
        let can_set = || {
            fs::OpenOptions::new()
                .write(true)
                .open(ROUTE_LOCALNET)
                .is_ok()
        };
        if !config.proxy.localhost_node_ports || set || can_set() {
            return Vec::new();
        }
        config.proxy.localhost_node_ports = false;
        let why = "net.ipv4.conf.all.route_localnet cannot be set";
        vec![format!("node ports do not answer on 127.0.0.1: {why}")]
    }

    fn open(
        &self,
        config: &NodeConfig,
        family: IpFamily,
    ) -> Result<Family<Renderer, Kernel>, Box<dyn Error>> {
        let kernel = Kernel::open(Options {
            variant: self.variant,
            marks: Marks::with_masquerade_bit(config.proxy.masquerade_bit)?,
            ..Options::new(family)
        })?;
        let renderer = Renderer::new(*kernel.config());
        let reconciler = Reconciler::new(renderer, family);
        Ok(Family { reconciler, kernel })
    }

    fn lacks_family(&self, error: &(dyn Error + 'static)) -> bool {
        match error.downcast_ref() {
            Some(
                backend_iptables::Error::Missing { .. }
                | backend_iptables::Error::TooOld { .. }
                | backend_iptables::Error::Lacking { .. },
            ) => true,
            Some(_) | None => false,
        }
    }

    fn print(&self, _: IpFamily, key: &Key, value: &Value) -> String {
        format!("{key}: {value}").trim_end().to_owned()
    }

    fn clean_up(&self, family: &mut Family<Renderer, Kernel>) -> Result<(), Box<dyn Error>> {
        Ok(family.kernel.cleanup()?)
    }

    /// iptables tells nobody; canary chains are looked for after each period (B-259).
    fn follow(
        &mut self,
        _: &mut Families<Self>,
        config: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>> {
        Ok(Notices::Asked(config.proxy.sync_period))
    }

    fn disturbed(&mut self, kernel: &mut Kernel) -> Result<bool, Box<dyn Error>> {
        Ok(kernel.flushed()?)
    }

    /// B-207.
    fn applied(&mut self, kernel: &mut Kernel, plan: &Plan) -> Result<(), Box<dyn Error>> {
        let ports = plan.health_checks.values().map(|check| check.port);
        Ok(kernel.admit_health_checks(ports.collect())?)
    }

    fn remarks(&self, family: &Family<Renderer, Kernel>) -> Vec<String> {
        let warning = family.kernel.detected().warning.iter().cloned();
        let lacking = family.kernel.config().features.remarks();
        warning.chain(lacking.into_iter().map(Into::into)).collect()
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        let (variant, family) = (family.kernel.detected(), family.kernel.config().family);
        format!("{} {family}", variant.variant)
    }
}

/// What node ports on 127.0.0.1 need (B-126).
const ROUTE_LOCALNET: &str = "/proc/sys/net/ipv4/conf/all/route_localnet";
