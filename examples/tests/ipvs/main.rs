//! IPVS with a real kernel and real packets; runs itself in a virtual machine.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a trial fails by panicking"
)]
#![allow(dead_code, reason = "scenarios of other backends")]

mod connections;
#[path = "../packets/flows.rs"]
mod flows;
#[path = "../packets/frontends.rs"]
mod frontends;
#[path = "../packets/lab.rs"]
mod lab;
mod objects;
mod programs;
#[path = "../agent/rig.rs"]
mod rig;
#[path = "../packets/sctp.rs"]
mod sctp;
mod stage;
#[path = "../packets/stream.rs"]
mod stream;
mod takeover;

use std::process::ExitCode;

use backend_ipvs::{Kernel, Renderer, Settings, setting};
use examples::packets::{BackendError, Reconciled};
use examples::sandbox::{Trial, run_trials};
use examples::vm;
use lab::{IPTABLES_LEGACY, IPTABLES_NFT, NFTABLES, UnderTest};
use svc_core::config::ProxyMode;
use svc_core::{IpFamily, Protocol, Reconciler};

fn main() -> ExitCode {
    let trial = |name, run| Trial { name, run };
    // All trials take some minutes where the processor is emulated.
    vm::run_inside(&[("VM_TIMEOUT", "3600")], || {
        run_trials(&[
            trial(
                "ipvs_missing_modules_are_named",
                objects::missing_modules_are_named,
            ),
            trial("ipvs_saved_by_ipvsadm", objects::saved_by_ipvsadm),
            trial("ipvs_every_scheduler", objects::every_scheduler),
            trial(
                "ipvs_a_restart_touches_nothing",
                objects::a_restart_touches_nothing,
            ),
            trial(
                "ipvs_others_changes_are_repaired",
                objects::others_changes_are_repaired,
            ),
            trial("ipvs_only_ours_is_touched", objects::only_ours_is_touched),
            trial(
                "ipvs_a_taken_front_end_is_named",
                objects::a_taken_front_end_is_named,
            ),
            trial("ipvs_proxy_once", programs::once),
            trial("ipvs_proxy_serves", programs::serves),
            trial("ipvs_sync_bench", programs::bench),
            trial("ipvs_to_nftables_and_back", takeover::own_backends),
            trial(
                "ipvs_of_kube_proxy_to_nftables",
                takeover::b273_what_kube_proxy_leaves_goes,
            ),
            trial(
                "ipvs_of_kube_proxy_to_ipvs",
                takeover::kube_proxys_servers_make_way,
            ),
            trial("ipvs_persistence", connections::persistence),
            trial("ipvs_draining", connections::draining),
            trial("ipvs_draining_the_last", connections::draining_the_last),
            trial("sctp_nftables", || sctp(&NFTABLES)),
            trial("sctp_iptables_legacy", || sctp(&IPTABLES_LEGACY)),
            trial("sctp_iptables_nft", || sctp(&IPTABLES_NFT)),
            trial("sctp_ipvs", || sctp(&IPVS)),
            trial("ipvs_figures", objects::figures),
            trial("ipvs_hairpin", || frontends::hairpin(&IPVS)),
            trial("ipvs_host_network", || frontends::host_network(&IPVS)),
            trial("ipvs_reject_without_endpoints", || {
                frontends::no_endpoints(&IPVS);
            }),
            trial("ipvs_local_policy_and_short_circuit", || {
                frontends::local_policy(&IPVS);
            }),
            trial("ipvs_source_ranges", || frontends::source_ranges(&IPVS)),
            trial("ipvs_families_transports_front_ends", || {
                frontends::matrix(&IPVS);
            }),
            trial("ipvs_removed_endpoint_gets_nothing_new", || {
                stream::removed_gets_nothing(&FORGETFUL);
            }),
            trial("ipvs_no_connection_is_lost_to_changes", || {
                stream::nothing_is_lost(&FORGETFUL);
            }),
            trial("ipvs_flow_cases", || flows::every_case(&IPVS)),
        ])
    })
}

/// Associations, and the recorded cases that need them: this kernel has SCTP.
fn sctp(under_test: &UnderTest) {
    sctp::associations(under_test);
    let tally = flows::run(under_test, |case| case.flow.protocol == Protocol::Sctp);
    assert!(tally.passed > 0 && tally.not_sent.is_empty(), "{tally}");
}

const IPVS: UnderTest = UnderTest {
    mode: ProxyMode::Ipvs,
    open: || Ok(Box::new(ipvs()?)),
};

/// The same, but a UDP client that takes the same port again soon is another connection.
const FORGETFUL: UnderTest = UnderTest {
    mode: ProxyMode::Ipvs,
    open: || {
        let mut ipvs = ipvs()?;
        for family in &mut ipvs.families {
            family.kernel.system().set_timeouts(0, 0, 1)?;
        }
        Ok(Box::new(ipvs))
    },
};

type Ipvs = Reconciled<Renderer, Kernel>;

/// The IPVS backend in the network namespace of the calling thread, with the settings it needs.
fn ipvs() -> Result<Ipvs, BackendError> {
    objects::load_modules();
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
