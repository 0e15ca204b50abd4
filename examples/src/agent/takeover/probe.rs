//! Whether what we installed does what the plan says, before others are removed.

use svc_core::{Flow, FrontendAddress, IpFamily, Plan};

use crate::backend::Backend;

/// Service ports that are tried.
const TRIED: usize = 20;

/// Compares the ruleset of a backend with the plan for a few service ports: the first of the plan,
/// each front end from a client outside. What the kernel holds was read and found equal to the
/// ruleset before.
///
/// # Errors
/// The first flow on which they differ, in one line.
pub(in crate::agent) fn agrees(backend: Backend, plan: &Plan) -> Result<usize, String> {
    let mut small = Plan::empty(plan.family, plan.node.clone());
    let first = plan.service_ports.iter().take(TRIED);
    small.service_ports = first.map(|(n, p)| (n.clone(), p.clone())).collect();
    let source = match plan.family {
        IpFamily::V4 => [192, 0, 2, 1].into(),
        IpFamily::V6 => [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into(),
    };
    let mut tried = 0;
    for (name, port) in &small.service_ports {
        for frontend in &port.frontends {
            let to = match frontend.at {
                FrontendAddress::Ip(to) => to,
                FrontendAddress::NodePort(port) => match plan.node.node_ports.addresses.first() {
                    Some(ip) => (*ip, port).into(),
                    None => continue,
                },
            };
            let flow = Flow::new(source, to, name.protocol);
            let wanted = small.route(&flow);
            let found = backend.verdict(&small, &flow);
            let found = found.map_err(|fault| format!("{name}: {fault}"))?;
            if found != wanted {
                return Err(format!("{name}: {flow}: {found} instead of {wanted}"));
            }
            tried += 1;
        }
    }
    Ok(tried)
}
