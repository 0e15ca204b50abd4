//! IPVS with a real kernel and real packets; runs itself in a virtual machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a trial fails by panicking"
)]
#![allow(dead_code, reason = "scenarios of other backends")]

#[path = "../packets/flows.rs"]
mod flows;
#[path = "../packets/frontends.rs"]
mod frontends;
#[path = "../packets/lab.rs"]
mod lab;

use std::process::ExitCode;

use backend_ipvs::{Kernel, Renderer, Settings, setting};
use examples::packets::{BackendError, Reconciled};
use examples::sandbox::{Trial, run_trials};
use examples::vm;
use lab::UnderTest;
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Reconciler};

fn main() -> ExitCode {
    let trial = |name, run| Trial { name, run };
    vm::run_inside(&["ip_vs", "dummy"], || {
        run_trials(&[
            trial("ipvs_flow_cases", || flows::every_case(&IPVS)),
            trial("ipvs_families_transports_front_ends", || {
                frontends::matrix(&IPVS);
            }),
            trial("ipvs_hairpin", || frontends::hairpin(&IPVS)),
            trial("ipvs_reject_without_endpoints", || {
                frontends::no_endpoints(&IPVS);
            }),
            trial("ipvs_source_ranges", || frontends::source_ranges(&IPVS)),
            trial("ipvs_local_policy_and_short_circuit", || {
                frontends::local_policy(&IPVS);
            }),
        ])
    })
}

const IPVS: UnderTest = UnderTest {
    mode: ProxyMode::Ipvs,
    open: || Ok(Box::new(ipvs()?)),
    shorter: 5,
};

type Ipvs = Reconciled<Renderer, Kernel>;

/// The IPVS backend in the network namespace of the calling thread, with the settings it needs.
fn ipvs() -> Result<Ipvs, BackendError> {
    let open = |family: IpFamily| {
        let mut kernel = Kernel::open(&Settings::default(), family)?;
        if family == IpFamily::V4 {
            kernel.set(&setting::wanted(setting::StrictArp::Off, "6.1"))?;
        }
        Ok::<_, backend_ipvs::error::Error>(kernel)
    };
    let fresh = |family| Reconciler::new(Renderer::new(Settings::default(), family), family);
    let families = Reconciled::open(open, fresh, |kernel: &mut Kernel| Ok(kernel.cleanup()?))?;
    Ok(families)
}
