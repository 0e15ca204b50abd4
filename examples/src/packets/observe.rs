//! What becomes of packets, in the words of a plan.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::thread;
use std::time::Duration;

use svc_core::{Flow, Masquerade, Target, Verdict};

use super::world::{Choice, Sender, World, WorldError, is_masqueraded, serve};
use crate::sandbox::{self, Namespace, Outcome, Refusal, Server, Transport, probe};

/// What became of the packets of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// What a plan can say too.
    Verdict(Verdict),
    /// Something that no plan says, in words.
    Odd(String),
}

impl Observed {
    /// Whether it is what was expected.
    pub fn is(&self, verdict: &Verdict) -> bool {
        match self {
            Self::Verdict(seen) => seen == verdict,
            Self::Odd(_) => false,
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verdict(verdict) => verdict.fmt(f),
            Self::Odd(words) => f.write_str(words),
        }
    }
}

/// How many connections show that exactly these endpoints are reached: so many that one of them
/// is never chosen, or that one more is never chosen though it is in the set, once in a thousand
/// million times.
pub fn attempts(endpoints: usize) -> u32 {
    let n = f64::from(u16::try_from(endpoints.max(1)).unwrap_or(u16::MAX));
    let (mut one_missed, mut other_missed) = (n, 1.0);
    let mut attempts = 0;
    while one_missed > CHANCE || other_missed > CHANCE {
        one_missed *= 1.0 - 1.0 / n;
        other_missed *= n / (n + 1.0);
        attempts += 1;
    }
    attempts
}

impl World {
    /// Makes the connections of a flow and says what became of them.
    ///
    /// What is expected decides how many there are and how long silence may last, not what is
    /// seen.
    ///
    /// # Errors
    /// When packets could not be sent.
    pub fn observe(&mut self, flow: &Flow, expected: &Verdict) -> Result<Observed, WorldError> {
        let mut seen = self.observe_each(std::slice::from_ref(flow), expected)?;
        Ok(seen.pop().unwrap_or(Observed::Verdict(Verdict::Pass)))
    }

    /// The same for flows of one protocol and destination; silence is waited for once.
    ///
    /// # Errors
    /// When packets could not be sent.
    pub fn observe_each(
        &mut self,
        flows: &[Flow],
        expected: &Verdict,
    ) -> Result<Vec<Observed>, WorldError> {
        let Some(first) = flows.first() else {
            return Ok(Vec::new());
        };
        let transport = Transport::of(first.protocol).ok_or(WorldError::NoSctp)?;
        let mut senders = Vec::new();
        for flow in flows {
            senders.push(self.sender(flow.source)?);
        }
        let owner = self.sandbox.namespace_of(first.destination.ip());
        let witness = self.witness(owner, first.destination, transport)?;
        let send = |(flow, sender): (&Flow, &Sender)| {
            let outcomes = self.send(flow, *sender, transport, expected)?;
            let each = outcomes.iter().map(|outcome| one(flow, owner, outcome));
            Ok(together(&each.collect::<Vec<_>>()))
        };
        let all = flows.iter().zip(&senders);
        let seen = match expected {
            Verdict::Drop => at_once(all.map(|of| move || send(of))),
            Verdict::Forward(_) | Verdict::Reject | Verdict::Pass => all.map(send).collect(),
        };
        drop(witness);
        for sender in senders {
            self.dismiss(sender)?;
        }
        seen
    }

    /// How many connections show that exactly so many endpoints are reached.
    fn attempts(&self, endpoints: usize) -> u32 {
        match self.choice {
            Choice::Chance => attempts(endpoints),
            // Twice round, and one more than there should be.
            Choice::Turns => u32::try_from(2 * (endpoints + 1)).unwrap_or(u32::MAX),
        }
    }

    fn send(
        &self,
        flow: &Flow,
        sender: Sender,
        transport: Transport,
        expected: &Verdict,
    ) -> Result<Vec<Outcome>, sandbox::Error> {
        let ask = |limit| {
            let from = self.namespace(sender);
            probe(from, Some(flow.source), flow.destination, transport, limit)
        };
        let few = 0..FAILURES;
        match expected {
            Verdict::Forward(targets) => one_by_one(self.attempts(targets.len()), || ask(PATIENCE)),
            Verdict::Reject | Verdict::Pass => at_once(few.map(|_| || ask(PATIENCE))),
            Verdict::Drop => at_once(few.map(|_| || ask(SILENCE))),
        }
    }

    /// Answers at the destination itself, if it is somebody's: a packet that was left alone shows.
    fn witness(
        &self,
        owner: Option<&Namespace>,
        at: SocketAddr,
        transport: Transport,
    ) -> Result<Option<Server>, sandbox::Error> {
        let pod = self.pods.get(&at.ip());
        let answers = pod.is_some_and(|pod| pod.servers.contains_key(&(transport, at.port())));
        match owner {
            Some(owner) if !answers => serve(owner, at, transport).map(Some),
            Some(_) | None => Ok(None),
        }
    }
}

/// Connects again and again; fewer times when there is no answer.
fn one_by_one(
    attempts: u32,
    ask: impl Fn() -> Result<Outcome, sandbox::Error>,
) -> Result<Vec<Outcome>, sandbox::Error> {
    let mut outcomes = Vec::new();
    let mut failed = 0;
    for _ in 0..attempts {
        let outcome = ask()?;
        failed += u32::from(outcome.pod().is_none());
        outcomes.push(outcome);
        if failed == FAILURES {
            break;
        }
    }
    Ok(outcomes)
}

/// Does several things at once, for each may last.
fn at_once<T: Send, E: Send, Job: FnOnce() -> Result<T, E> + Send>(
    jobs: impl Iterator<Item = Job>,
) -> Result<Vec<T>, E> {
    thread::scope(|scope| {
        let working: Vec<_> = jobs.map(|job| scope.spawn(job)).collect();
        let results = working.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        results.collect()
    })
}

/// What one connection says.
fn one(flow: &Flow, owner: Option<&Namespace>, outcome: &Outcome) -> Observed {
    match outcome {
        Outcome::Answered {
            pod, seen_source, ..
        } => answered(flow, pod, seen_source.ip()),
        Outcome::Refused(Refusal::PortUnreachable) => Observed::Verdict(Verdict::Reject),
        Outcome::TimedOut | Outcome::Blocked => Observed::Verdict(Verdict::Drop),
        // Nobody has the address, and no rule took the packet.
        Outcome::Unreachable(_) if owner.is_none() => Observed::Verdict(Verdict::Pass),
        Outcome::Refused(Refusal::Reset) | Outcome::Silent | Outcome::Unreachable(_) => {
            Observed::Odd(outcome.to_string())
        }
    }
}

fn answered(flow: &Flow, server: &str, seen: IpAddr) -> Observed {
    let Ok(endpoint) = server.parse() else {
        return Observed::Odd(format!("answered by {server}"));
    };
    let masquerade = match seen == flow.source {
        true => Masquerade::Never,
        false if is_masqueraded(seen) => Masquerade::Always,
        false => return Observed::Odd(format!("{server} saw {seen}")),
    };
    let target = Target {
        endpoint,
        masquerade,
    };
    Observed::Verdict(match (endpoint == flow.destination, masquerade) {
        (true, Masquerade::Never) => Verdict::Pass,
        (true, Masquerade::Always) | (false, _) => Verdict::Forward(vec![target]),
    })
}

/// What all connections say: one verdict, or odd.
fn together(each: &[Observed]) -> Observed {
    let mut targets = Vec::new();
    let mut others: Vec<&Observed> = Vec::new();
    for observed in each {
        match observed {
            Observed::Verdict(Verdict::Forward(some)) => targets.extend(some.iter().copied()),
            Observed::Verdict(Verdict::Reject | Verdict::Drop | Verdict::Pass)
            | Observed::Odd(_) => others.push(observed),
        }
    }
    targets.sort_unstable();
    targets.dedup();
    others.dedup();
    match (targets.is_empty(), others.as_slice()) {
        (false, []) => Observed::Verdict(Verdict::Forward(targets)),
        (true, [same]) => (*same).clone(),
        (_, others) => {
            let mut words: Vec<String> = others.iter().map(ToString::to_string).collect();
            if !targets.is_empty() {
                words.push(Verdict::Forward(targets).to_string());
            }
            Observed::Odd(words.join(", or "))
        }
    }
}

/// Of a failure by chance alone.
const CHANCE: f64 = 1e-9;
/// How long an answer may take. On an idle machine it takes less than a millisecond; on a busy one SCTP waits for three
/// seconds before it sends again what was lost.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long silence has to last to be one.
const SILENCE: Duration = Duration::from_millis(300);
/// Connections to something that does not depend on chance.
const FAILURES: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_endpoints_take_more_attempts() {
        assert_eq!([1, 2, 3, 4].map(attempts), [30, 52, 73, 93]);
        assert_eq!(attempts(0), attempts(1));
    }

    #[test]
    fn connections_with_different_ends_are_odd() {
        let flow: Flow = Flow::new(
            "10.64.1.200".parse().unwrap(),
            "10.96.0.1:80".parse().unwrap(),
            svc_core::Protocol::Tcp,
        );
        let forward = |server: &str, seen: &str| answered(&flow, server, seen.parse().unwrap());
        let plain = forward("10.64.1.1:80", "10.64.1.200");
        let masqueraded = forward("10.64.1.2:80", "198.18.0.3");
        assert_eq!(
            together(&[plain.clone(), masqueraded, plain.clone()]).to_string(),
            "forward 10.64.1.1:80 10.64.1.2:80+masquerade"
        );
        let refused = one(&flow, None, &Outcome::Refused(Refusal::Reset));
        assert_eq!(
            together(&[plain, refused]).to_string(),
            "refused by a reset, or forward 10.64.1.1:80"
        );
        let stranger = forward("10.64.1.1:80", "198.18.0.10");
        assert_eq!(stranger.to_string(), "10.64.1.1:80 saw 198.18.0.10");
    }
}
