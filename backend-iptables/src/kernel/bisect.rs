//! Which service port the kernel refuses, when the tools do not say.
//!
//! iptables-legacy hands a table over whole, and the kernel answers with one error for all of it.
//! With iptables-nft a rule that the kernel refuses may take all those after it along.

use std::collections::BTreeSet;

use svc_core::{Base, Edit, EditGroup, ServicePortName, Transaction};

use crate::error::Error;
use crate::key::{Key, Value};

/// Most attempts; each refused service port takes as many as the number of all has bits.
const ATTEMPTS: usize = 200;

/// Applies a refused transaction in parts and names the parts that are refused alone. The tools
/// suspect some service ports, or none.
///
/// Answers with `error` if it is not a service port that is refused.
pub(super) fn refused(
    transaction: &Transaction<Key, Value>,
    error: Error,
    suspects: &BTreeSet<ServicePortName>,
    apply: &mut Apply<'_>,
) -> Error {
    let mut search = Search {
        apply,
        attempts: ATTEMPTS,
        refused: Vec::new(),
    };
    let all = transaction.groups.iter();
    let named: Vec<_> = all.filter(|group| group.name.is_some()).collect();
    if named.is_empty() {
        return error;
    }
    // What all need goes first. What is left over stays for the next transaction, as it may
    // still be in use.
    if search.attempt(&[&shared(transaction)]).is_err() {
        return error;
    }
    let suspected = |group: &&EditGroup<Key, Value>| {
        let name = group.name.as_ref();
        name.is_some_and(|name| suspects.contains(name))
    };
    let (suspected, others): (Vec<_>, Vec<_>) = named.into_iter().partition(suspected);
    let result = search
        .halve(&others)
        .and_then(|()| search.halve(&suspected));
    match result {
        Ok(()) if search.refused.is_empty() => error,
        Ok(()) => Error::Refused(search.refused),
        Err(other) => other,
    }
}

/// The edits that are for no service port and take nothing away.
fn shared(transaction: &Transaction<Key, Value>) -> EditGroup<Key, Value> {
    let all = transaction
        .groups
        .iter()
        .filter(|group| group.name.is_none());
    let stays =
        |edit: &&Edit<Key, Value>| edit.after.is_some() || matches!(edit.key, Key::Stray(..));
    EditGroup {
        name: None,
        edits: all
            .flat_map(|group| &group.edits)
            .filter(stays)
            .cloned()
            .collect(),
    }
}

/// Applies a part.
type Apply<'a> = dyn FnMut(&Transaction<Key, Value>) -> Result<(), Error> + 'a;

struct Search<'a, 'b> {
    apply: &'a mut Apply<'b>,
    attempts: usize,
    refused: Vec<(ServicePortName, String)>,
}

impl Search<'_, '_> {
    fn attempt(&mut self, groups: &[&EditGroup<Key, Value>]) -> Result<(), Error> {
        self.attempts = self.attempts.saturating_sub(1);
        let groups = groups
            .iter()
            .copied()
            .filter(|group| !group.edits.is_empty());
        (self.apply)(&Transaction {
            groups: groups.cloned().collect(),
            base: Base::InUse,
        })
    }

    fn halve(&mut self, groups: &[&EditGroup<Key, Value>]) -> Result<(), Error> {
        if groups.is_empty() {
            return Ok(());
        }
        let error = match self.attempt(groups) {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let Error::Failed { message, .. } = &error else {
            return Err(error);
        };
        if let [group] = groups {
            let name = group.name.iter().cloned();
            self.refused
                .extend(name.map(|name| (name, message.clone())));
            return Ok(());
        }
        if self.attempts == 0 {
            return Err(error);
        }
        let (first, second) = groups.split_at(groups.len() / 2);
        self.halve(first)?;
        self.halve(second)
    }
}
