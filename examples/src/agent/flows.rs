//! Removes stale entries of the connection-tracking table (B-178 to B-190).

use std::collections::BTreeSet;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use backend_nftables::netlink::{Conntrack, Deletion};
use svc_core::IpFamily;
use svc_core::conntrack::StaleFlows;
use tracing::{debug, info, warn};

use super::status::Shared;
use crate::cli::one_line;

/// A packet that was under way while the rules changed makes its entry a moment later, so the table
/// is looked through a second time.
const STRAGGLERS: Duration = Duration::from_millis(300);
/// Wait after a failure.
const RETRY: Duration = Duration::from_secs(2);

/// The thread that looks through the table: a large one takes longer than a sync may wait.
#[derive(Debug)]
pub(super) struct FlowKeeper(Sender<IpFamily>);

impl FlowKeeper {
    /// Starts the thread in the network namespace of the calling thread.
    pub(super) fn start(shared: Shared) -> io::Result<Self> {
        let table = Conntrack::open()?;
        let (sender, asked) = channel();
        thread::Builder::new()
            .name("conntrack".into())
            .spawn(move || keep(table, &asked, &shared))?;
        Ok(Self(sender))
    }

    /// Looks through the table soon, with the plan that is applied then.
    pub(super) fn look(&self, family: IpFamily) {
        // The thread ends only with this very sender.
        let _ = self.0.send(family);
    }
}

fn keep(mut table: Conntrack, asked: &Receiver<IpFamily>, shared: &Shared) {
    // Families to look at again, and when.
    let mut again: Option<(Instant, BTreeSet<IpFamily>)> = None;
    loop {
        let wait = again
            .as_ref()
            .map(|(at, _)| at.saturating_duration_since(Instant::now()));
        let first = match wait {
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(wait) => asked.recv_timeout(wait),
        };
        let (mut families, second) = match first {
            Ok(family) => (BTreeSet::from([family]), false),
            Err(RecvTimeoutError::Timeout) => (
                again
                    .take()
                    .map(|(_, families)| families)
                    .unwrap_or_default(),
                true,
            ),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        families.extend(asked.try_iter());
        let mut next = BTreeSet::new();
        let mut wait = STRAGGLERS;
        for family in families {
            match pass(&mut table, shared, family) {
                Ok(()) if second => {}
                Ok(()) => {
                    next.insert(family);
                }
                Err(error) => {
                    warn!(%family, error, "cannot clean up connection tracking, trying again");
                    next.insert(family);
                    wait = RETRY;
                }
            }
        }
        if let Some((_, waiting)) = again.take() {
            next.extend(waiting);
        }
        again = (!next.is_empty()).then(|| (Instant::now() + wait, next));
    }
}

/// One dump, one deletion for each stale entry.
fn pass(table: &mut Conntrack, shared: &Shared, family: IpFamily) -> Result<(), String> {
    let start = Instant::now();
    let (mut stale, retired) = {
        let mut status = shared.lock();
        let Some(status) = status.families.get_mut(&family) else {
            return Ok(());
        };
        let retired = std::mem::take(&mut status.retired);
        (StaleFlows::of(&status.plan), retired)
    };
    stale.retire(retired.iter().copied());
    let result = remove(table, &stale, family);
    let mut status = shared.lock();
    let Some(status) = status.families.get_mut(&family) else {
        return Ok(());
    };
    status.conntrack.add(start.elapsed());
    match result {
        Ok(deleted) => {
            status.conntrack_deleted += deleted;
            Ok(())
        }
        Err(error) => {
            // So that the next pass knows them too.
            status.retired.extend(retired);
            Err(error)
        }
    }
}

fn remove(table: &mut Conntrack, stale: &StaleFlows, family: IpFamily) -> Result<u64, String> {
    let tracked = table.udp(family).map_err(|error| one_line(&error))?;
    let mut deleted = 0;
    for one in &tracked {
        let Some(reason) = stale.judge(&one.entry) else {
            continue;
        };
        match table.delete(one).map_err(|error| one_line(&error))? {
            Deletion::Deleted => {
                deleted += 1;
                let (original, reply) = (one.entry.original, one.entry.reply);
                let (client, to, endpoint) = (original.source, original.destination, reply.source);
                debug!(%client, %to, %endpoint, ?reason, "connection-tracking entry deleted");
            }
            Deletion::Gone => {}
        }
    }
    if deleted > 0 {
        info!(%family, deleted, seen = tracked.len(), "stale UDP flows forgotten");
    }
    Ok(deleted)
}
