//! Where the rules may differ from the plan, and why.

use std::net::IpAddr;

use svc_core::{Flow, Masquerade, Plan, Target, Unserved, Verdict};

use crate::config::{Config, HairpinBy};

/// A deviation from [`Plan::route`] that is known and allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// Connections to itself of an endpoint on another node are masqueraded like those of one on
    /// this node: one rule compares both addresses, whatever they are. Without bpf that is so for
    /// addresses that another service port has masqueraded. Such packets come by only where
    /// source addresses are not what they seem (B-153).
    RemoteHairpin,
    /// With node ports at 127.0.0.1, other packets to the loopback range that do not come from
    /// there are dropped (B-126): the plan leaves them alone, and so would the kernel drop them
    /// without the setting that those node ports need.
    LoopbackGuard,
    /// A port that a ClusterIP does not have is left alone, whatever the plan says (B-034): plans
    /// made for iptables say the same.
    UnknownPort,
    /// An address of the service range that no Service has is left alone (B-034), as above.
    UnallocatedAddress,
}

impl Deviation {
    /// All deviations.
    pub const ALL: [Self; 4] = [
        Self::RemoteHairpin,
        Self::LoopbackGuard,
        Self::UnknownPort,
        Self::UnallocatedAddress,
    ];
}

/// What the rules do with a flow: [`Plan::route`] but for the deviations.
pub fn route(config: &Config, plan: &Plan, flow: &Flow) -> Verdict {
    let decision = plan.decide(flow);
    let unserved = |what: Unserved, verdict: Verdict| match what {
        Unserved::Pass => verdict,
        Unserved::Reject | Unserved::Drop => Verdict::Pass,
    };
    match (decision.verdict, decision.reason) {
        (Verdict::Forward(targets), _) => {
            let masquerades = masquerades_hairpin(config, plan, flow);
            let target = |target| masqueraded(target, masquerades, plan, flow);
            Verdict::Forward(targets.into_iter().map(target).collect())
        }
        (verdict, svc_core::Reason::UnknownPort) => unserved(plan.node.unknown_port, verdict),
        (verdict, svc_core::Reason::UnallocatedAddress) => unserved(plan.node.unallocated, verdict),
        (Verdict::Pass, _) if guarded(plan, flow) => Verdict::Drop,
        (verdict, _) => verdict,
    }
}

/// The target with what POSTROUTING does, if the packet gets there.
fn masqueraded(target: Target, hairpin: bool, plan: &Plan, flow: &Flow) -> Target {
    let ip = target.endpoint.ip();
    match hairpin && ip == flow.source && !plan.is_delivered(ip, flow) {
        true => Target {
            masquerade: Masquerade::Always,
            ..target
        },
        false => target,
    }
}

fn guarded(plan: &Plan, flow: &Flow) -> bool {
    let (IpAddr::V4(source), IpAddr::V4(to)) = (flow.source, flow.destination.ip()) else {
        return false;
    };
    plan.node.node_ports.localhost && to.is_loopback() && !source.is_loopback()
}

/// Whether the source is masqueraded on its way to itself, whatever Service it asks.
fn masquerades_hairpin(config: &Config, plan: &Plan, flow: &Flow) -> bool {
    match config.features.hairpin {
        HairpinBy::Bpf => true,
        HairpinBy::Tree => plan.service_ports.values().any(|port| {
            let mut endpoints = port.reachable();
            endpoints.any(|e| e.ip == flow.source && port.masquerades_hairpin(e))
        }),
    }
}
