//! `ipvs-proxy`: a node's Services in IPVS.

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use backend_ipvs::setting::{Setting, lacking, wanted};
use backend_ipvs::{Kernel, Key, Line, Renderer, Settings, StrictArp, UnknownScheduler, Value};
use nix::sys::utsname::uname;
use svc_core::config::{IpvsConfig, ProxyMode};
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
    /// Set the sysctls that kube-proxy sets, without which Services do not work in full; --cleanup puts
    /// them back
    #[arg(long)]
    set_sysctls: bool,
}

/// What becomes of the sysctls of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sysctls {
    /// They stay as they are.
    Keep,
    /// Those that IPVS needs are set.
    Set,
}

/// IPVS as a backend of a proxy.
#[derive(Debug)]
pub struct Ipvs {
    sysctls: Sysctls,
}

/// Runs the command.
///
/// # Errors
/// What went wrong, for one line on standard error.
pub fn run(args: &Args) -> Result<ExitCode, Box<dyn Error>> {
    let sysctls = match args.set_sysctls {
        true => Sysctls::Set,
        false => Sysctls::Keep,
    };
    agent::run(&args.proxy, Ipvs::new(sysctls))
}

/// The names and choices that a configuration asks for.
///
/// # Errors
/// When the kernel has no scheduler of that name.
pub fn settings(config: &IpvsConfig) -> Result<Settings, UnknownScheduler> {
    let scheduler = match &config.scheduler {
        Some(name) => name.parse()?,
        None => backend_ipvs::Scheduler::default(),
    };
    Ok(Settings {
        scheduler,
        ..Settings::default()
    })
}

impl Ipvs {
    /// The backend.
    pub fn new(sysctls: Sysctls) -> Self {
        Self { sysctls }
    }
}

impl Backend for Ipvs {
    type Render = Renderer;
    type Kernel = Kernel;

    const MODE: ProxyMode = ProxyMode::Ipvs;
    const PURE: backend::Backend = backend::Backend::Ipvs;

    /// What is its own whatever the scheduler.
    fn manages(&self) -> String {
        format!("the virtual servers of table {}", Settings::default().table)
    }

    fn open(
        &self,
        config: &NodeConfig,
        family: IpFamily,
    ) -> Result<Family<Renderer, Kernel>, Box<dyn Error>> {
        let settings = settings(&config.proxy.ipvs)?;
        Ok(Family {
            kernel: Kernel::open(&settings, family)?,
            reconciler: Reconciler::new(Renderer::new(settings, family), family),
        })
    }

    fn print(&self, family: IpFamily, key: &Key, value: &Value) -> String {
        Line(family, key, value).to_string()
    }

    fn clean_up(&self, family: &mut Family<Renderer, Kernel>) -> Result<(), Box<dyn Error>> {
        Ok(family.kernel.cleanup()?)
    }

    fn prepare(
        &mut self,
        families: &mut Families<Self>,
        config: &NodeConfig,
    ) -> Result<(), Box<dyn Error>> {
        // Settings and timeouts belong to the network namespace: one family is enough.
        let Some(first) = families.first_mut() else {
            return Ok(());
        };
        let ipvs = &config.proxy.ipvs;
        if self.sysctls == Sysctls::Set {
            let arp = match ipvs.strict_arp {
                true => StrictArp::On,
                false => StrictArp::Off,
            };
            let system = uname()?;
            let wanted = wanted(arp, &system.release().to_string_lossy());
            first.kernel.set(&wanted)?;
        }
        let timeouts = [ipvs.tcp_timeout, ipvs.tcp_fin_timeout, ipvs.udp_timeout];
        let [tcp, tcp_fin, udp] = timeouts.map(seconds);
        // B-292: zero leaves the kernel's value alone.
        match [tcp, tcp_fin, udp] {
            [0, 0, 0] => Ok(()),
            _ => Ok(first.kernel.system().set_timeouts(tcp, tcp_fin, udp)?),
        }
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

    /// Sysctls that are not set and are not to be set here. They belong to the network namespace, so
    /// one family tells of them.
    fn remarks(&self, family: &Family<Renderer, Kernel>) -> Vec<String> {
        match (self.sysctls, family.reconciler.family()) {
            (Sysctls::Keep, IpFamily::V4) => sysctl_remarks(|setting| {
                let text = fs::read_to_string(format!("/proc/sys/{}", setting.path()));
                text.ok()?.trim().parse().ok()
            }),
            (Sysctls::Keep | Sysctls::Set, _) => Vec::new(),
        }
    }

    fn title(&self, family: &Family<Renderer, Kernel>) -> String {
        format!("IPVS {}", family.reconciler.family())
    }
}

fn sysctl_remarks(value: impl FnMut(Setting) -> Option<u32>) -> Vec<String> {
    let lacking = lacking(value).into_iter();
    let remark = |(setting, follows)| format!("{setting} is 0: {follows}; --set-sysctls sets it");
    lacking.map(remark).collect()
}

/// Whole seconds; less than one is one, as zero means something else.
fn seconds(time: Duration) -> u32 {
    let whole = time.as_secs() + u64::from(time.subsec_nanos() > 0);
    u32::try_from(whole).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_this_backend_are_known_as_such() {
        let link = Settings::default().link;
        for family in IpFamily::ALL {
            let name = match family {
                IpFamily::V4 => format!("{link}4"),
                IpFamily::V6 => format!("{link}6"),
            };
            assert!(crate::host::PROXY_LINKS.contains(&name.as_str()), "{name}");
        }
    }

    #[test]
    fn each_sysctl_that_is_not_set_is_named_with_the_flag() {
        let remarks = sysctl_remarks(|_| Some(0));
        let names = [
            "net.ipv4.vs.conntrack",
            "net.ipv4.vs.expire_nodest_conn",
            "net.ipv4.ip_forward",
        ];
        assert_eq!(remarks.len(), names.len());
        for (remark, name) in remarks.iter().zip(names) {
            assert!(remark.starts_with(&format!("{name} is 0: ")), "{remark}");
            assert!(remark.ends_with("; --set-sysctls sets it"), "{remark}");
        }
    }
}
