//! Makes a host match a plan: one reconciler and one kernel per address family.

use std::error::Error;
use std::time::{Duration, Instant};

use svc_core::{Kernel, Planner, Reconciler, Render, Settled};

/// Rounds in which a kernel has to settle; each refused object takes two.
const ROUNDS: u32 = 20;

/// One family of a proxy.
#[derive(Debug)]
pub struct Family<R: Render, K> {
    /// Knows what is wanted.
    pub reconciler: Reconciler<R>,
    /// Makes it so.
    pub kernel: K,
}

/// What a round did.
#[derive(Clone, Debug)]
pub struct Report<Key> {
    /// What was applied.
    pub settled: Settled<Key>,
    /// From the start of the round to the kernel's last acknowledgement.
    pub took: Duration,
}

impl<R: Render, K: Kernel<R>> Family<R, K>
where
    K::Error: 'static,
{
    /// Makes the kernel show what is wanted.
    ///
    /// # Errors
    /// When the kernel cannot be read or changed; the next call tries again.
    pub fn settle(&mut self) -> Result<Report<R::Key>, Box<dyn Error>> {
        let start = Instant::now();
        let settled = self.reconciler.settle(&mut self.kernel, ROUNDS)?;
        Ok(Report {
            settled,
            took: start.elapsed(),
        })
    }
}

/// Hands what changed in the plans to the families and makes their kernels show it.
///
/// # Errors
/// The first family whose kernel could not be changed; the other family is settled all the same.
pub fn update<R: Render, K: Kernel<R>>(
    planner: &mut Planner,
    families: &mut [Family<R, K>],
) -> Result<Vec<Report<R::Key>>, Box<dyn Error>>
where
    K::Error: 'static,
{
    for delta in planner.delta() {
        for family in &mut *families {
            family.reconciler.change(&delta);
        }
    }
    // Each family is tried, whatever happens to the other.
    let results: Vec<_> = families.iter_mut().map(Family::settle).collect();
    results.into_iter().collect()
}
