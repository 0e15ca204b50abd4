//! The iptables backend, put to the test.

use std::path::PathBuf;

use backend_iptables::{Config, Error, Kernel, Options, Renderer, Variant};
use svc_core::{IpFamily, Reconciler};

use super::Reconciled;

/// The iptables backend of a variant in the network namespace of the calling thread.
///
/// Each process has a lock of its own, as the host's own iptables is another matter.
///
/// # Errors
/// When the tools of the variant are not there, or the kernel lacks something.
pub fn iptables(variant: Variant) -> Result<Reconciled<Renderer, Kernel>, Error> {
    let lock: PathBuf = format!("svc-packets-{}.lock", std::process::id()).into();
    let lock = std::env::temp_dir().join(lock);
    let open = move |family| {
        let mut options = Options::new(family);
        options.variant = Some(variant);
        options.lock_file = Some(lock.clone());
        Kernel::open(options)
    };
    let configs: [Config; 2] = [*open(IpFamily::V4)?.config(), *open(IpFamily::V6)?.config()];
    let fresh = move |family| {
        let [v4, v6] = configs;
        let config = match family {
            IpFamily::V4 => v4,
            IpFamily::V6 => v6,
        };
        Reconciler::new(Renderer::new(config), family)
    };
    Reconciled::open(open, fresh, |kernel: &mut Kernel| Ok(kernel.cleanup()?))
}
