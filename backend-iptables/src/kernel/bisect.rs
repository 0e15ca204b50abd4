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
    let named = without_removals(transaction);
    let named: Vec<_> = named.iter().collect();
    if named.is_empty() {
        return error;
    }
    // What all need goes first. What is left over stays for the next transaction, after a reading, as
    // it may still be in use.
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

/// The edits of service ports, but none that takes a chain or a set away: the edit by which it is no
/// longer used may be another service port's, that of one that a front end passed to, so a part could
/// be refused for what is missing from it.
fn without_removals(transaction: &Transaction<Key, Value>) -> Vec<EditGroup<Key, Value>> {
    let stays = |edit: &&Edit<Key, Value>| match edit.key {
        Key::Chain(..) | Key::Set(_) => edit.after.is_some(),
        Key::Entry(_) | Key::Stray(..) | Key::Jump(_) | Key::RouteLocalnet => true,
    };
    let named = transaction
        .groups
        .iter()
        .filter(|group| group.name.is_some());
    let stripped = named.map(|group| EditGroup {
        name: group.name.clone(),
        edits: group.edits.iter().filter(stays).cloned().collect(),
    });
    stripped.collect()
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use svc_core::{NamespacedName, Protocol};

    use super::*;
    use crate::key::{Entry, Goal, Table, Tree};
    use crate::name::ChainName;

    fn name(service: &str) -> ServicePortName {
        ServicePortName {
            service: NamespacedName::new("ns", service),
            port: "".into(),
            protocol: Protocol::Tcp,
        }
    }

    fn chain(name: &str) -> (Key, ChainName) {
        let chain = ChainName::new(name).unwrap();
        (Key::Chain(Table::Nat, chain), chain)
    }

    fn group(service: &str, key: Key, before: Option<Value>, after: Option<Value>) -> Group {
        EditGroup {
            name: Some(name(service)),
            edits: vec![Edit { key, before, after }],
        }
    }

    type Group = EditGroup<Key, Value>;

    /// A front end passes from a to b, and c is refused. As iptables-legacy does, the kernel takes
    /// nothing of a transaction that removes a chain to which a front end still leads.
    #[test]
    fn who_hands_a_front_end_over_is_not_blamed() {
        let (old, old_name) = chain("SVC-0a600001-t00080c");
        let (new, new_name) = chain("SVC-0a600002-t00080c");
        let (bad, _) = chain("SVC-0a600003-t00080c");
        let entry = Key::Entry(Entry {
            tree: Tree::External,
            ip: [192, 0, 2, 1].into(),
            protocol: Protocol::Tcp,
            port: 80,
        });
        let rules = Value::Rules(Arc::from([]));
        let to = |chain| Some(Value::To(Goal::Chain(chain)));
        let mut heir = group("b", new, None, Some(rules.clone()));
        heir.edits.push(Edit {
            key: entry.clone(),
            before: to(old_name),
            after: to(new_name),
        });
        let transaction = Transaction {
            groups: vec![
                group("a", old.clone(), Some(rules.clone()), None),
                heir,
                group("c", bad.clone(), None, Some(rules)),
            ],
            base: Base::InUse,
        };
        let failed = || Error::Failed {
            program: "iptables-restore".into(),
            status: 1,
            message: "no".into(),
            lines: Vec::new(),
        };
        let mut passed = false;
        let mut apply = |part: &Transaction<Key, Value>| {
            let has = |key: &Key| part.edits().any(|edit| edit.key == *key);
            let passes = passed || has(&entry);
            if has(&bad) || has(&old) && !passes {
                return Err(failed());
            }
            passed = passes;
            Ok(())
        };
        let error = refused(&transaction, failed(), &BTreeSet::new(), &mut apply);
        let Error::Refused(ports) = error else {
            panic!("{error}");
        };
        assert_eq!(ports, [(name("c"), "no".into())]);
    }
}
