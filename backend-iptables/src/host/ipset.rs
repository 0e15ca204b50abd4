//! Takes sets away.

use std::fmt::Write;
use std::thread;
use std::time::{Duration, Instant};

use super::exec::run;
use crate::error::Error;
use crate::name::ChainName;

/// How long a set may stay in use after the rules that used it are gone.
///
/// nf_tables frees rules some time after it acknowledged that they are gone, on Linux 5.13 to 6.10 in
/// a work item of its own, and a rule of iptables-nft holds its set until then.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Destroys sets that no rule of ours uses any more, and waits a little for those that are still
/// busy. A set that a rule of somebody else uses stays.
///
/// # Errors
/// [`Error::Failed`] if some stay; all others are gone.
pub(crate) fn destroy(sets: impl IntoIterator<Item = ChainName>) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    let pause = || {
        thread::sleep(PAUSE);
        Instant::now() < deadline
    };
    let restore = |input: &str| run("ipset", &["-exist", "restore"], None, input.as_bytes());
    persist(
        sets.into_iter().collect(),
        |input| restore(input).map(drop),
        pause,
    )
}

/// Tries until all are gone or `pause` says that the time is up.
fn persist(
    mut sets: Vec<ChainName>,
    mut restore: impl FnMut(&str) -> Result<(), Error>,
    mut pause: impl FnMut() -> bool,
) -> Result<(), Error> {
    loop {
        let (busy, error) = round(sets, &mut restore)?;
        let Some(error) = error else {
            return Ok(());
        };
        if !pause() {
            return Err(error);
        }
        sets = busy;
    }
}

/// Tries each set once: those that stay, and why.
fn round(
    mut sets: Vec<ChainName>,
    restore: &mut impl FnMut(&str) -> Result<(), Error>,
) -> Result<(Vec<ChainName>, Option<Error>), Error> {
    let mut busy = Vec::new();
    let mut last = None;
    while !sets.is_empty() {
        let mut input = String::new();
        for set in &sets {
            // Writing to a string cannot fail.
            let _ = writeln!(input, "destroy {set}");
        }
        let error = match restore(&input) {
            Ok(()) => break,
            Err(error) => error,
        };
        let Error::Failed { lines, .. } = &error else {
            return Err(error);
        };
        // It ends at the first line that fails.
        let at = lines.first().and_then(|line| line.checked_sub(1));
        match at.filter(|at| *at < sets.len()) {
            Some(at) => {
                let rest = sets.split_off(at + 1);
                busy.extend(sets.pop());
                sets = rest;
            }
            None => busy.append(&mut sets),
        }
        last = Some(error);
    }
    Ok((busy, last))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Sets of a host, each with the number of attempts that find it in use.
    struct Host(BTreeMap<String, u32>);

    impl Host {
        fn restore(&mut self, input: &str) -> Result<(), Error> {
            for (number, line) in (1..).zip(input.lines()) {
                let name = line.strip_prefix("destroy ").unwrap();
                match self.0.get_mut(name) {
                    Some(0) | None => drop(self.0.remove(name)),
                    Some(attempts) => {
                        *attempts -= 1;
                        return Err(Error::Failed {
                            program: "ipset".into(),
                            status: 1,
                            message: "it is in use by a kernel component".into(),
                            lines: vec![number],
                        });
                    }
                }
            }
            Ok(())
        }
    }

    fn destroyed(attempts: &[(&str, u32)], pauses: u32) -> (Result<(), Error>, Vec<String>) {
        let held = attempts.iter().map(|(set, busy)| ((*set).into(), *busy));
        let mut host = Host(held.collect());
        let sets = attempts.iter().map(|(set, _)| ChainName::new(set).unwrap());
        let mut left = pauses;
        let pause = || {
            left = left.saturating_sub(1);
            left > 0
        };
        let result = persist(sets.collect(), |input| host.restore(input), pause);
        (result, host.0.into_keys().collect())
    }

    #[test]
    fn a_set_that_is_busy_for_a_moment_goes() {
        let (result, left) = destroyed(&[("SVC-A", 0), ("SVC-B", 3), ("SVC-C", 0)], 9);
        assert!(result.is_ok(), "{result:?}");
        assert!(left.is_empty(), "{left:?}");
    }

    #[test]
    fn a_set_that_stays_busy_keeps_no_other() {
        let (result, left) = destroyed(&[("SVC-A", 0), ("SVC-B", 99), ("SVC-C", 1)], 9);
        assert!(matches!(result, Err(Error::Failed { .. })), "{result:?}");
        assert_eq!(left, ["SVC-B"]);
    }
}
