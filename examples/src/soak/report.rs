//! What a soak found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::meter::median;
use crate::sandbox::Counts;

/// What a soak found. Printed it is for people; [`Report::problems`] judges.
#[derive(Clone, Debug)]
pub struct Report {
    /// How long it took, without warming up.
    pub took: Duration,
    /// Changes made.
    pub changes: u64,
    /// Changes asked for.
    pub asked: u64,
    /// The syncs.
    pub syncs: Syncs,
    /// What each client did.
    pub clients: Vec<ClientReport>,
    /// Memory of the whole process in kB, clients and servers included, once a second.
    pub resident_kb: Vec<u64>,
    /// Objects in the kernel at the start and in the end, with the same Services and endpoints.
    pub objects: [usize; 2],
    /// Objects that a comparison in the end found missing, changed or too many.
    pub left_over: usize,
    /// Processor time of what plans and syncs, and of the programs that it starts.
    pub agent_cpu: Duration,
    /// Processor time of all threads, clients and servers included.
    pub all_cpu: Duration,
}

/// What one client did.
#[derive(Clone, Debug)]
pub struct ClientReport {
    /// Through which front end and with which protocol.
    pub name: String,
    /// Number of pods that it has to reach, or the changes would not matter to it.
    pub reaches: usize,
    /// What became of its attempts, from its start to its end.
    pub counts: Counts,
}

/// What became of syncs.
#[derive(Clone, Debug, Default)]
pub struct Syncs {
    /// How many.
    pub made: u64,
    /// The longest of them.
    pub slowest: Duration,
    /// All together.
    pub took: Duration,
    /// Objects that were not what they should have been, though nobody else changes them.
    pub repaired: usize,
    /// Why some failed, and how often.
    pub failed: BTreeMap<String, u64>,
    /// Services whose objects the kernel refused.
    pub set_aside: BTreeMap<String, u64>,
}

impl Syncs {
    pub(super) fn add(
        &mut self,
        took: Duration,
        repaired: usize,
        failed: Option<String>,
        set_aside: impl Iterator<Item = String>,
    ) {
        self.made += 1;
        self.slowest = self.slowest.max(took);
        self.took += took;
        self.repaired += repaired;
        if let Some(why) = failed {
            *self.failed.entry(why).or_default() += 1;
        }
        for name in set_aside {
            *self.set_aside.entry(name).or_default() += 1;
        }
    }
}

impl Report {
    /// Everything that should not be, in words; nothing if all is well.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for ClientReport {
            name,
            reaches,
            counts,
        } in &self.clients
        {
            if counts.failed > 0 {
                problems.push(format!(
                    "{name}: {} failed: {:?}",
                    counts.failed, counts.failures
                ));
            }
            if counts.by_pod.len() < *reaches {
                problems.push(format!("{name}: reached only {:?}", counts.by_pod));
            }
        }
        let Syncs {
            failed,
            set_aside,
            repaired,
            ..
        } = &self.syncs;
        if !failed.is_empty() || !set_aside.is_empty() || *repaired > 0 {
            problems.push(format!(
                "syncs failed: {failed:?}, set aside: {set_aside:?}, repaired: {repaired}"
            ));
        }
        if self.changes < self.asked {
            problems.push(format!("{} changes of {}", self.changes, self.asked));
        }
        let [first, last] = self.objects;
        if first != last || self.left_over > 0 {
            problems.push(format!(
                "{first} objects became {last}, {} differ",
                self.left_over
            ));
        }
        let [first, last] = self.resident();
        if last > first + GROWTH_KB {
            problems.push(format!("{first} kB became {last} kB"));
        }
        problems
    }

    /// Memory in the first and the last fifth of the time, in kB.
    pub fn resident(&self) -> [u64; 2] {
        let samples = self.resident_kb.as_slice();
        let fifth = samples.len().div_ceil(5);
        let last = samples.len() - fifth;
        let (start, _) = samples.split_at(fifth);
        let (_, end) = samples.split_at(last);
        [median(start), median(end)]
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.took.as_secs_f64();
        let rate = self.changes as f64 / seconds;
        writeln!(
            f,
            "{} changes in {seconds:.1} s ({rate:.1} a second)",
            self.changes
        )?;
        let Syncs {
            made,
            slowest,
            took,
            failed,
            ..
        } = &self.syncs;
        let mean = took.as_secs_f64() * 1e3 / (*made).max(1) as f64;
        writeln!(
            f,
            "{made} syncs, {} failed, mean {mean:.2} ms, slowest {slowest:.1?}",
            failed.values().sum::<u64>()
        )?;
        for ClientReport { name, counts, .. } in &self.clients {
            writeln!(
                f,
                "{name}: {} answered, {} failed",
                counts.made, counts.failed
            )?;
        }
        let [first, last] = self.resident();
        let peak = self.resident_kb.iter().max().copied().unwrap_or_default();
        writeln!(
            f,
            "memory: {first} kB in the first fifth, {last} kB in the last, {peak} kB at most"
        )?;
        let [first, last] = self.objects;
        writeln!(
            f,
            "objects in the kernel: {first} at first, {last} in the end, {} differ",
            self.left_over
        )?;
        let (agent, all) = (self.agent_cpu.as_secs_f64(), self.all_cpu.as_secs_f64());
        let (of_agent, of_all) = (agent / seconds * 100.0, all / seconds * 100.0);
        writeln!(
            f,
            "processor: {agent:.1} s to plan and sync ({of_agent:.1} %), {all:.1} s with clients and servers ({of_all:.1} %)"
        )
    }
}

/// What the memory may grow by: the allocator does not give every page back. A leak of a hundred
/// bytes for each change would be 6 MB in ten minutes.
const GROWTH_KB: u64 = 2048;
