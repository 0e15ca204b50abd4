//! The backends by name: rulesets that are made and asked without a kernel.

use backend_iptables as iptables;
use backend_nftables as nftables;
use svc_core::config::ProxyMode;
use svc_core::{Flow, Plan, Verdict, render};

/// Name of our nf_tables table where nothing else is said.
pub const NFTABLES_TABLE: &str = "svc-proxy";

/// Whose ruleset is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Backend {
    /// The plan itself
    #[default]
    Core,
    /// The ruleset for nf_tables
    Nftables,
    /// The ruleset for iptables, of either variant
    Iptables,
}

impl Backend {
    /// The mode whose plan the backend renders; `None`: whatever the configuration says.
    pub fn mode(self) -> Option<ProxyMode> {
        match self {
            Self::Core => None,
            Self::Nftables => Some(ProxyMode::Nftables),
            Self::Iptables => Some(ProxyMode::Iptables),
        }
    }

    /// What the backend's ruleset for a plan does with a flow.
    ///
    /// # Errors
    /// When the ruleset cannot be interpreted, which is a fault of the backend.
    pub fn verdict(self, plan: &Plan, flow: &Flow) -> Result<Verdict, nftables::Fault> {
        match self {
            Self::Core => Ok(plan.route(flow)),
            Self::Nftables => {
                let mut renderer = nftables::Renderer::new(NFTABLES_TABLE, plan.family);
                let ruleset = render(&mut renderer, plan);
                nftables::evaluate(&ruleset, &plan.node, plan.family, flow)
            }
            Self::Iptables => {
                let config = iptables::Config::new(plan.family);
                let ruleset = render(&mut iptables::Renderer::new(config.clone()), plan);
                let program = iptables::Program::of(&config, &ruleset);
                Ok(program.evaluate(&iptables::Host::of(plan), flow))
            }
        }
    }
}
