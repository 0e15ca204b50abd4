//! What changes, one change after the other: the same ones in each soak.

use std::time::Duration;

use svc_core::Event;

use super::cast::{self, PODS, SILENT_ENDPOINTS, Served, applied, changed};

/// The changes of a soak, and what is changed at the moment.
#[derive(Debug)]
pub(super) struct Churn {
    silent: Vec<Silent>,
    made: u64,
    served: [Changes; 2],
}

/// How a Service that nobody connects to differs from the first load.
#[derive(Clone, Copy, Debug, Default)]
struct Silent {
    round: u32,
    more: u32,
    is_gone: bool,
}

/// How a Service with servers does.
#[derive(Debug)]
struct Changes {
    of: Served,
    /// The pod whose endpoint came and went last, its server never stops.
    flaps: Option<usize>,
    turn: usize,
    leaver: Leaver,
}

/// A server that ends as one should: first its endpoint goes, then it drains, then it stops.
#[derive(Debug)]
struct Leaver {
    pod: usize,
    stage: Stage,
    since: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Serves,
    /// Its endpoint was removed; it may still be in the kernel.
    Removed,
    /// It is out of the kernel, and finishes what it began.
    Drains,
    Stopped,
}

/// What has to be done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Start(Served, usize),
    Stop(Served, usize),
}

impl Churn {
    pub(super) fn new(silent: u32) -> Self {
        let changes = |of| Changes {
            of,
            flaps: None,
            turn: 0,
            leaver: Leaver {
                pod: FLAPPING,
                stage: Stage::Serves,
                since: Duration::ZERO,
            },
        };
        Self {
            silent: vec![Silent::default(); silent as usize],
            made: 0,
            served: Served::ALL.map(changes),
        }
    }

    /// Changes made so far.
    pub(super) fn made(&self) -> u64 {
        self.made
    }

    /// All objects as they are at first.
    pub(super) fn first(&self) -> Vec<Event> {
        let served = Served::ALL.map(|one| [applied(one.service()), changed(one.slice(&[]))]);
        let silent = self.numbers().map(|number| {
            let slice = cast::silent_slice(number, 0, SILENT_ENDPOINTS);
            [applied(cast::silent_service(number)), changed(slice)]
        });
        served.into_iter().chain(silent).flatten().collect()
    }

    fn numbers(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.silent.len()).unwrap_or(u32::MAX)
    }

    /// The next change. Of ten, two concern Services with servers, six replace an endpoint, one
    /// adds or removes one, and one adds or removes a Service.
    pub(super) fn next(&mut self) -> Vec<Event> {
        let made = self.made;
        self.made += 1;
        if made % 10 < 2 {
            let at = usize::try_from(made % 2).unwrap_or_default();
            return self
                .served
                .get_mut(at)
                .map(|one| vec![one.flap()])
                .unwrap_or_default();
        }
        let Some(of) = u64::try_from(self.silent.len()).ok().filter(|of| *of > 0) else {
            return Vec::new();
        };
        // Twice the same one after the other, so that what is added is removed again.
        let at = match made % 10 {
            8 | 9 => made / 20 * 7 % of,
            _ => made % of,
        };
        let number = u32::try_from(at).unwrap_or_default();
        let Some(silent) = self.silent.get_mut(number as usize) else {
            return Vec::new();
        };
        match made % 10 {
            8 => silent.more = 1 - silent.more,
            9 => silent.is_gone = !silent.is_gone,
            _ => silent.round += 1,
        }
        let endpoints = SILENT_ENDPOINTS + silent.more;
        let slice = cast::silent_slice(number, silent.round, endpoints);
        match silent.is_gone {
            true => cast::gone(number).into(),
            false if made % 10 == 9 => vec![applied(cast::silent_service(number)), changed(slice)],
            false => vec![changed(slice)],
        }
    }

    /// What the servers that come and go want now; `unapplied` is when the oldest change came that is
    /// not in the kernel.
    pub(super) fn leave(
        &mut self,
        now: Duration,
        unapplied: Option<Duration>,
    ) -> (Vec<Event>, Vec<Order>) {
        let (mut events, mut orders) = (Vec::new(), Vec::new());
        for one in &mut self.served {
            let passed = now.saturating_sub(one.leaver.since);
            let pod = one.leaver.pod;
            let next = match one.leaver.stage {
                Stage::Serves if passed >= SERVES => {
                    self.made += 1;
                    Stage::Removed
                }
                Stage::Removed if unapplied.is_none_or(|since| since > one.leaver.since) => {
                    Stage::Drains
                }
                Stage::Drains if passed >= DRAINS => {
                    orders.push(Order::Stop(one.of, pod));
                    Stage::Stopped
                }
                Stage::Stopped if passed >= IS_STOPPED => {
                    orders.push(Order::Start(one.of, pod));
                    self.made += 1;
                    Stage::Serves
                }
                Stage::Serves | Stage::Removed | Stage::Drains | Stage::Stopped => continue,
            };
            one.leaver.stage = next;
            one.leaver.since = now;
            match next {
                Stage::Removed => events.push(one.now()),
                Stage::Serves => {
                    events.push(one.now());
                    one.leaver.pod = FLAPPING + (pod + 1 - FLAPPING) % (PODS.len() - FLAPPING);
                }
                Stage::Drains | Stage::Stopped => {}
            }
        }
        (events, orders)
    }
}

impl Changes {
    /// An endpoint goes, or the one that is gone comes back.
    fn flap(&mut self) -> Event {
        self.flaps = match self.flaps {
            Some(_) => None,
            None => {
                self.turn = (self.turn + 1) % FLAPPING;
                Some(self.turn)
            }
        };
        self.now()
    }

    fn now(&self) -> Event {
        let left = (self.leaver.stage != Stage::Serves).then_some(self.leaver.pod);
        let without: Vec<usize> = self.flaps.into_iter().chain(left).collect();
        changed(self.of.slice(&without))
    }
}

/// Pods whose endpoints come and go all the time; the servers of the others stop and start.
const FLAPPING: usize = 3;
const SERVES: Duration = Duration::from_millis(1000);
/// More than a client takes to be answered, on a machine that is busy.
const DRAINS: Duration = Duration::from_millis(1500);
const IS_STOPPED: Duration = Duration::from_millis(500);
