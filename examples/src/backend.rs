//! The backends by name: rulesets that are made and asked without a kernel.

use std::error::Error;

use backend_iptables as iptables;
use backend_ipvs as ipvs;
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
    /// Virtual servers and their companion table
    Ipvs,
}

impl Backend {
    /// The mode whose plan the backend renders; `None`: whatever the configuration says.
    pub fn mode(self) -> Option<ProxyMode> {
        match self {
            Self::Core => None,
            Self::Nftables => Some(ProxyMode::Nftables),
            Self::Iptables => Some(ProxyMode::Iptables),
            Self::Ipvs => Some(ProxyMode::Ipvs),
        }
    }

    /// What the backend's ruleset for a plan does with a flow.
    ///
    /// # Errors
    /// When the ruleset cannot be interpreted, which is a fault of the backend.
    pub fn verdict(self, plan: &Plan, flow: &Flow) -> Result<Verdict, Box<dyn Error>> {
        let family = plan.family;
        Ok(match self {
            Self::Core => plan.route(flow),
            Self::Nftables => {
                let mut renderer = nftables::Renderer::new(NFTABLES_TABLE, family);
                let ruleset = render(&mut renderer, plan);
                nftables::evaluate(&ruleset, &plan.node, family, flow)?
            }
            Self::Iptables => {
                let config = iptables::Config::new(family);
                let ruleset = render(&mut iptables::Renderer::new(config), plan);
                let program = iptables::Program::of(&config, &ruleset);
                program.evaluate(&iptables::Host::of(plan), flow)
            }
            Self::Ipvs => {
                let mut renderer = ipvs::Renderer::new(ipvs::Settings::default(), family);
                let ruleset = render(&mut renderer, plan);
                ipvs::evaluate(&ruleset, &plan.node, family, flow)?
            }
        })
    }
}
