//! A kernel in memory that fails on request.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use crate::name::ServicePortName;
use crate::reconciler::Failure;
use crate::ruleset::{Edit, Render, Ruleset, Transaction};

/// Holds objects, applies transactions, and refuses those that do not fit what it holds.
#[derive(Clone, Debug)]
pub struct FakeKernel<R: Render> {
    /// What it holds.
    pub held: Ruleset<R::Key, R::Value>,
}

/// What goes wrong with a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// Somebody else holds the lock.
    Busy,
    /// The connection breaks after this many groups were applied; more than there are is all.
    BrokenAfter(usize),
    /// The objects of this service port are refused, all others applied.
    Refused(ServicePortName),
    /// The objects of this service port are refused, and nothing is applied.
    RefusedWhole(ServicePortName),
}

impl<R: Render> Default for FakeKernel<R> {
    fn default() -> Self {
        Self {
            held: Ruleset::new(),
        }
    }
}

impl<R: Render> FakeKernel<R> {
    /// Applies a transaction, group by group.
    ///
    /// # Errors
    ///
    /// The failure that the fault asks for; [`Failure::Unknown`] with nothing applied if an edit
    /// does not start from what is held.
    pub fn commit(
        &mut self,
        transaction: &Transaction<R::Key, R::Value>,
        fault: &Fault,
    ) -> Result<(), Failure> {
        if *fault == Fault::Busy {
            return Err(Failure::Busy);
        }
        let mut held = self.held.clone();
        for (applied, group) in transaction.groups.iter().enumerate() {
            match fault {
                Fault::BrokenAfter(groups) if *groups <= applied => break,
                Fault::Refused(name) if group.name.as_ref() == Some(name) => continue,
                Fault::RefusedWhole(name) if group.name.as_ref() == Some(name) => continue,
                Fault::None
                | Fault::Busy
                | Fault::BrokenAfter(_)
                | Fault::Refused(_)
                | Fault::RefusedWhole(_) => {}
            }
            for edit in &group.edits {
                apply(&mut held, edit).map_err(|_| Failure::Unknown)?;
            }
        }
        match fault {
            Fault::RefusedWhole(_) => {}
            Fault::None | Fault::Busy | Fault::BrokenAfter(_) | Fault::Refused(_) => {
                self.held = held;
            }
        }
        match fault {
            Fault::None => Ok(()),
            Fault::Busy => Err(Failure::Busy),
            Fault::BrokenAfter(_) => Err(Failure::Unknown),
            Fault::Refused(name) | Fault::RefusedWhole(name) => {
                let reason = String::from("refused by the fake kernel");
                Err(Failure::Refused(Vec::from([(name.clone(), reason)])))
            }
        }
    }

    /// Why a transaction does not fit what is held, if it does not.
    pub fn misfit(&self, transaction: &Transaction<R::Key, R::Value>) -> Option<String> {
        let mut held = self.held.clone();
        let mut edits = transaction.edits();
        edits.find_map(|edit| apply(&mut held, edit).err())
    }
}

fn apply<K: Ord + Clone + core::fmt::Debug, V: Eq + Clone + core::fmt::Debug>(
    held: &mut Ruleset<K, V>,
    edit: &Edit<K, V>,
) -> Result<(), String> {
    if held.get(&edit.key) != edit.before.as_ref() {
        let found = held.get(&edit.key);
        return Err(format!("{edit:?} does not start from {found:?}"));
    }
    if edit.before == edit.after {
        return Err(format!("{edit:?} changes nothing"));
    }
    match &edit.after {
        Some(value) => held.insert(edit.key.clone(), value.clone()),
        None => held.remove(&edit.key),
    };
    Ok(())
}
