//! How many elements the sets hold, as far as our own transactions tell.
//!
//! A look-up finds what is missing, not what is too much. The kernel tells how many elements a set
//! has, since Linux 6.16, and that at no cost.

use std::collections::BTreeMap;

use svc_core::{EditGroup, Ruleset, Transaction};

use crate::key::{Key, SetId, Value};
use crate::read::is_small;

/// The number of elements of each set that has one for each Service or endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// `None` if that is not known: nothing was read since a transaction failed.
    elements: Option<BTreeMap<SetId, i64>>,
}

impl Counts {
    /// What was read.
    pub(crate) fn read(&mut self, held: &Ruleset<Key, Value>) {
        let fixed = SetId::FIXED.into_iter().chain([SetId::ClusterIps]);
        let mut counts: BTreeMap<SetId, i64> = fixed.filter(is_counted).map(|id| (id, 0)).collect();
        // Elements of one set come in a row.
        let mut run: Option<(&SetId, i64)> = None;
        for key in held.keys() {
            let Key::Element(id, _) = key else { continue };
            match &mut run {
                Some((held, count)) if *held == id => *count += 1,
                Some(_) | None => add(&mut counts, run.replace((id, 1))),
            }
        }
        add(&mut counts, run);
        self.elements = Some(counts);
    }

    /// A transaction was applied.
    pub(crate) fn commit(&mut self, transaction: &Transaction<Key, Value>) {
        self.edit(&transaction.groups, 1);
    }

    /// The kernel was found to differ so from what it should hold: edits from the one to the other.
    pub(crate) fn differ(&mut self, groups: &[EditGroup<Key, Value>]) {
        self.edit(groups, -1);
    }

    /// It is not known what the kernel holds.
    pub(crate) fn forget(&mut self) {
        self.elements = None;
    }

    /// The numbers, as far as they are known.
    pub(crate) fn expected(&self) -> impl Iterator<Item = (&SetId, u64)> {
        let counts = self.elements.iter().flatten();
        counts.filter_map(|(id, count)| Some((id, u64::try_from(*count).ok()?)))
    }

    fn edit(&mut self, groups: &[EditGroup<Key, Value>], sign: i64) {
        let Some(counts) = &mut self.elements else {
            return;
        };
        for edit in groups.iter().flat_map(|group| &group.edits) {
            let more = i64::from(edit.after.is_some()) - i64::from(edit.before.is_some());
            match &edit.key {
                Key::Element(id, _) if more != 0 => add(counts, Some((id, sign * more))),
                Key::Set(id) if edit.after.is_none() => {
                    counts.remove(id);
                }
                Key::Element(..)
                | Key::Table
                | Key::Set(_)
                | Key::Chain(_)
                | Key::SourceRule(_)
                | Key::BaseChain(_) => {}
            }
        }
    }
}

fn add(counts: &mut BTreeMap<SetId, i64>, more: Option<(&SetId, i64)>) {
    let Some((id, more)) = more else { return };
    match counts.get_mut(id) {
        Some(count) => *count += more,
        None if is_counted(id) => drop(counts.insert(id.clone(), more)),
        None => {}
    }
}

/// Whether every element of a set is an object, and told by one element of the kernel.
fn is_counted(id: &SetId) -> bool {
    let others = matches!(id, SetId::Slots | SetId::Affinity | SetId::Foreign(_));
    !is_small(id) && !others
}
