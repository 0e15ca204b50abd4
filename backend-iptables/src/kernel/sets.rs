//! Sets of clients, for ClientIP affinity.

use std::collections::BTreeSet;
use std::fmt::Write;

use svc_core::IpFamily;

use crate::error::Error;
use crate::host::run;
use crate::name::ChainName;

/// Most clients that a set remembers. The kernel takes memory for those that are there.
const MAX_CLIENTS: u32 = 1 << 20;

/// Our sets of a family; none if the host has no sets.
pub(super) fn list(family: IpFamily) -> Result<Vec<ChainName>, Error> {
    let output = match run("ipset", &["list", "-name"], None, &[]) {
        Ok(output) => output,
        Err(Error::Missing { .. } | Error::Failed { .. }) => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let names = String::from_utf8_lossy(&output.stdout);
    let ours = names.lines().filter_map(ChainName::new);
    let ours = ours.filter(|set| set.is_ours() && set.is_pin(family));
    Ok(ours.collect())
}

/// Creates sets; those that exist stay as they are.
pub(super) fn create(family: IpFamily, sets: &BTreeSet<ChainName>) -> Result<(), Error> {
    let family = match family {
        IpFamily::V4 => "inet",
        IpFamily::V6 => "inet6",
    };
    if sets.is_empty() {
        return Ok(());
    }
    let mut input = String::new();
    for set in sets {
        // Each client gets the time of its rule; that of the set only allows it. Writing to a string
        // cannot fail.
        let _ = writeln!(
            input,
            "create {set} hash:ip family {family} timeout 0 maxelem {MAX_CLIENTS}"
        );
    }
    run("ipset", &["-exist", "restore"], None, input.as_bytes()).map(drop)
}
