//! Whatever fails, one good round makes a kernel hold the fragments of the plan and nothing else.
#![no_main]

use libfuzzer_sys::fuzz_target;
use svc_core::testing::{Source, history, laws};
use svc_core::{IpFamily, Render};

fuzz_target!(|bytes: &[u8]| {
    let (faults, objects) = bytes.split_at(bytes.len().min(64));
    let history = history(&mut Source::new(objects));
    for family in IpFamily::ALL {
        let (Some(first), rest) = (faults.first(), faults.get(1..).unwrap_or_default()) else {
            return;
        };
        match first % 3 {
            0 => check(
                || backend_nftables::Renderer::new("fuzz", family),
                family,
                &history,
                rest,
            ),
            1 => {
                let config = backend_iptables::Config::new(family);
                check(
                    || backend_iptables::Renderer::new(config),
                    family,
                    &history,
                    rest,
                );
            }
            _ => {
                let settings = backend_ipvs::Settings::default();
                let render = || backend_ipvs::Renderer::new(settings.clone(), family);
                check(render, family, &history, rest);
            }
        }
    }
});

fn check<R: Render + Clone>(
    render: impl Fn() -> R,
    family: IpFamily,
    history: &svc_core::testing::History,
    faults: &[u8],
) {
    if let Err(broken) = laws::convergence(render, family, history, faults) {
        panic!("{broken}");
    }
}
