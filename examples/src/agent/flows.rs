//! Removes stale entries of the connection-tracking table (B-178 to B-190).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use backend_nftables::netlink::{Conntrack, Deletion};
use svc_core::conntrack::StaleFlows;
use svc_core::{FrontendAddress, IpFamily};
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
    let mut keeper = Keeper::new(shared.clone());
    loop {
        let first = match keeper.next() {
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => asked.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        let first = match first {
            Ok(family) => Some(family),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let asked = first.into_iter().chain(asked.try_iter()).collect();
        keeper.turn(&asked, |stale, family| remove(&mut table, stale, family));
    }
}

/// What has to be looked for, and when.
struct Keeper {
    shared: Shared,
    /// Families to look at again.
    again: BTreeMap<IpFamily, Instant>,
    retired: BTreeMap<IpFamily, Retired>,
}

impl Keeper {
    fn new(shared: Shared) -> Self {
        Self {
            shared,
            again: BTreeMap::new(),
            retired: BTreeMap::new(),
        }
    }

    /// When to look again without being asked to.
    fn next(&self) -> Option<Instant> {
        self.again.values().min().copied()
    }

    /// Looks at the families that were asked for, and at those whose time has come.
    fn turn(
        &mut self,
        asked: &BTreeSet<IpFamily>,
        mut remove: impl FnMut(&StaleFlows, IpFamily) -> Result<u64, String>,
    ) {
        let now = Instant::now();
        let again = self.again.iter().filter(|(_, at)| **at <= now);
        let again: Vec<IpFamily> = again.map(|(family, _)| *family).collect();
        let families: BTreeSet<IpFamily> = asked.iter().copied().chain(again).collect();
        for family in families {
            let wait = match self.pass(family, now, &mut remove) {
                // A change came: its stragglers are not here yet, whatever others this pass was for.
                Ok(()) if asked.contains(&family) => Some(STRAGGLERS),
                Ok(()) => None,
                Err(error) => {
                    warn!(%family, error, "cannot clean up connection tracking, trying again");
                    Some(RETRY)
                }
            };
            match wait {
                Some(wait) => self.again.insert(family, Instant::now() + wait),
                None => self.again.remove(&family),
            };
        }
    }

    /// One dump, one deletion for each stale entry.
    fn pass(
        &mut self,
        family: IpFamily,
        now: Instant,
        remove: &mut impl FnMut(&StaleFlows, IpFamily) -> Result<u64, String>,
    ) -> Result<(), String> {
        let start = Instant::now();
        let retired = self.retired.entry(family).or_default();
        let mut stale = {
            let mut status = self.shared.lock();
            let Some(status) = status.families.get_mut(&family) else {
                return Ok(());
            };
            retired.add(std::mem::take(&mut status.retired), now);
            StaleFlows::of(&status.plan)
        };
        stale.retire(retired.since.keys().copied());
        let result = remove(&stale, family);
        let mut status = self.shared.lock();
        let Some(status) = status.families.get_mut(&family) else {
            return Ok(());
        };
        status.conntrack.add(start.elapsed());
        let deleted = result?;
        status.conntrack_deleted += deleted;
        retired.passed(now);
        Ok(())
    }
}

/// Front ends that are gone, each until a pass has looked for its stragglers as well.
#[derive(Debug, Default)]
struct Retired {
    /// When a pass first heard of it.
    since: BTreeMap<FrontendAddress, Instant>,
}

impl Retired {
    fn add(&mut self, gone: BTreeSet<FrontendAddress>, now: Instant) {
        self.since.extend(gone.into_iter().map(|at| (at, now)));
    }

    /// A pass that began at this time has succeeded.
    fn passed(&mut self, began: Instant) {
        self.since.retain(|_, since| began < *since + STRAGGLERS);
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

#[cfg(test)]
mod tests {
    use svc_core::IpFamily::V4;
    use svc_core::Protocol;
    use svc_core::config::ProxyMode;
    use svc_core::conntrack::{ConntrackEntry, Direction, StaleReason};

    use super::*;
    use crate::agent::clock::SystemClock;
    use crate::agent::status::Status;

    fn keeper() -> Keeper {
        let families = svc_core::IpFamily::ALL.into_iter();
        let status = Status::new(ProxyMode::Nftables, Duration::from_secs(30), families);
        Keeper::new(Shared::new(status, SystemClock::start()))
    }

    /// A flow to a front end that is gone.
    fn straggler() -> ConntrackEntry {
        let [client, front_end, endpoint] =
            ["10.64.1.9:40000", "10.96.0.10:53", "10.64.1.1:53"].map(|at| at.parse().unwrap());
        ConntrackEntry {
            protocol: Protocol::Udp,
            original: Direction {
                source: client,
                destination: front_end,
            },
            reply: Direction {
                source: endpoint,
                destination: client,
            },
        }
    }

    fn retire(keeper: &Keeper) {
        let mut status = keeper.shared.lock();
        let gone = FrontendAddress::Ip(straggler().original.destination);
        status.families.get_mut(&V4).unwrap().retired.insert(gone);
    }

    /// What each pass of a turn thinks of the straggler.
    fn turn(keeper: &mut Keeper, asked: &[IpFamily]) -> Vec<Option<StaleReason>> {
        let mut found = Vec::new();
        keeper.turn(&asked.iter().copied().collect(), |stale, _| {
            found.push(stale.judge(&straggler()));
            Ok(0)
        });
        found
    }

    /// As if that time had passed.
    fn pass_time(keeper: &mut Keeper, time: Duration) {
        keeper.again.values_mut().for_each(|at| *at -= time);
        let retired = keeper.retired.values_mut();
        let since = retired.flat_map(|retired| retired.since.values_mut());
        since.for_each(|since| *since -= time);
    }

    #[test]
    fn the_pass_for_stragglers_knows_the_front_ends_that_are_gone() {
        let mut keeper = keeper();
        retire(&keeper);
        let gone = [Some(StaleReason::FrontendGone)];
        assert_eq!(turn(&mut keeper, &[V4]), gone);
        assert!(turn(&mut keeper, &[]).is_empty(), "not yet");
        pass_time(&mut keeper, STRAGGLERS);
        assert_eq!(turn(&mut keeper, &[]), gone);
        assert_eq!(keeper.next(), None);
        // Whose entries these are is not known later.
        assert_eq!(turn(&mut keeper, &[V4]), [None]);
    }

    #[test]
    fn what_is_asked_for_during_the_pass_for_stragglers_has_one_of_its_own() {
        let mut keeper = keeper();
        turn(&mut keeper, &[V4]);
        pass_time(&mut keeper, STRAGGLERS);
        retire(&keeper);
        let gone = [Some(StaleReason::FrontendGone)];
        assert_eq!(turn(&mut keeper, &[V4]), gone);
        pass_time(&mut keeper, STRAGGLERS);
        assert_eq!(turn(&mut keeper, &[]), gone);
        assert_eq!(keeper.next(), None);
    }

    #[test]
    fn b179_a_pass_that_failed_is_made_up_for() {
        let mut keeper = keeper();
        retire(&keeper);
        let asked = BTreeSet::from([V4]);
        keeper.turn(&asked, |_, _| Err("no".into()));
        assert!(keeper.next() > Some(Instant::now() + STRAGGLERS));
        pass_time(&mut keeper, RETRY);
        let gone = [Some(StaleReason::FrontendGone)];
        assert_eq!(turn(&mut keeper, &[]), gone);
        assert_eq!(keeper.next(), None);
        assert!(keeper.retired[&V4].since.is_empty());
    }
}
