//! `ipvs-proxy`: a node's Services in IPVS.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use backend_ipvs::setting::wanted;
use backend_ipvs::{Kernel, Renderer, Settings, StrictArp};
use nix::sys::utsname::uname;
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, NodeConfig, Reconciler};

use crate::agent::{self, Backend, Families, Notices, ProxyArgs};
use crate::backend;
use crate::proxy::Family;

/// Serves the Services of a node through IPVS
#[derive(Clone, Debug, clap::Parser)]
#[command(version, max_term_width = 100)]
pub struct Args {
    #[command(flatten)]
    proxy: ProxyArgs,
    /// Set the sysctls that kube-proxy sets; --cleanup puts them back
    #[arg(long)]
    set_sysctls: bool,
}

/// IPVS as a backend of a proxy.
#[derive(Debug)]
struct Ipvs {
    set_sysctls: bool,
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let backend = Ipvs {
        set_sysctls: args.set_sysctls,
    };
    agent::run(&args.proxy, backend)
}

impl Backend for Ipvs {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Ipvs;
    const PURE: backend::Backend = backend::Backend::Ipvs;

    fn open(&self, config: &NodeConfig) -> Result<Families<Self>, Box<dyn Error>> {
        let ipvs = &config.proxy.ipvs;
        let mut settings = Settings::default();
        if let Some(scheduler) = &ipvs.scheduler {
            settings.scheduler = scheduler.parse()?;
        }
        let mut families = Vec::new();
        for family in IpFamily::ALL {
            families.push(Family {
                reconciler: Reconciler::new(Renderer::new(settings.clone(), family), family),
                kernel: Kernel::open(&settings, family)?,
            });
        }
        if self.set_sysctls {
            let arp = match ipvs.strict_arp {
                true => StrictArp::On,
                false => StrictArp::Off,
            };
            let system = uname()?;
            let wanted = wanted(arp, &system.release().to_string_lossy());
            if let Some(first) = families.first_mut() {
                first.kernel.set(&wanted)?;
            }
        }
        Ok(families)
    }

    fn clean_up(&self, family: &mut Family<Renderer, Kernel>) -> Result<(), Box<dyn Error>> {
        Ok(family.kernel.cleanup()?)
    }

    /// IPVS tells nobody; it is read again after each period (B-241).
    fn follow(
        &mut self,
        _: &mut Families<Self>,
        config: &NodeConfig,
    ) -> Result<Notices, Box<dyn Error>> {
        Ok(Notices::Compared(config.proxy.sync_period))
    }

    fn tick(
        &mut self,
        kernel: &mut Kernel,
        now: Duration,
    ) -> Result<Option<Duration>, Box<dyn Error>> {
        kernel.advance(now)?;
        Ok(kernel.timeout())
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        format!("IPVS {}", family.reconciler.family())
    }
}
