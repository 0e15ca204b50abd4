//! What the kernel refuses, in words that name the object.

use std::collections::BTreeMap;

use backend_nftables::error::CommitError;
use svc_core::{CommitFailure, Failure, ServicePortName, Transaction};

use crate::error::{Errno, Error};
use crate::key::{Key, ServerId, Value};
use crate::system::Request;

/// Groups with objects that the kernel refused, and the first reason of each.
#[derive(Debug, Default)]
pub(crate) struct Refusals(BTreeMap<usize, String>);

impl Refusals {
    pub(crate) fn add(&mut self, group: usize, reason: String) {
        self.0.entry(group).or_insert(reason);
    }

    pub(crate) fn contains(&self, group: usize) -> bool {
        self.0.contains_key(&group)
    }

    pub(crate) fn result(
        self,
        transaction: &Transaction<Key, Value>,
    ) -> Result<(), CommitFailure<Error>> {
        if self.0.is_empty() {
            return Ok(());
        }
        let error = Error::Objects(self.0.len());
        let mut names: Vec<(ServicePortName, String)> = Vec::new();
        for (group, reason) in self.0 {
            let name = transaction.groups.get(group).and_then(|g| g.name.clone());
            let Some(name) = name else {
                return Err(CommitFailure {
                    failure: Failure::Unknown,
                    error,
                });
            };
            if names.iter().all(|(other, _)| *other != name) {
                names.push((name, reason));
            }
        }
        Err(CommitFailure {
            failure: Failure::Refused(names),
            error,
        })
    }
}

/// What an error means for the next step: refused objects of the companion table are named.
pub(crate) fn failure(error: &Error, transaction: &Transaction<Key, Value>) -> Failure {
    let Error::ChangeTable {
        source: CommitError::Refused(refused),
        ..
    } = error
    else {
        return Failure::Unknown;
    };
    let mut refusals = Refusals::default();
    for refusal in refused {
        // Somebody else changed the table: reading it again will tell.
        if matches!(refusal.errno, Errno::ENOENT | Errno::EEXIST | Errno::EBUSY) {
            return Failure::Unknown;
        }
        let Some(tag) = refusal.tag else {
            return Failure::Unknown;
        };
        refusals.add(tag as usize, refusal.errno.to_string());
    }
    match refusals.result(transaction) {
        Ok(()) => Failure::Unknown,
        Err(failed) => failed.failure,
    }
}

pub(crate) fn taken(id: ServerId) -> String {
    format!("virtual server {} exists and is not ours", words(id))
}

pub(crate) fn words(id: ServerId) -> String {
    match id {
        ServerId::Marked(protocol, mark) => format!("with mark {mark:#x} ({protocol})"),
        ServerId::At(protocol, at) => format!("{at}/{}", protocol.lower()),
    }
}

pub(crate) fn error(operation: &str, id: ServerId, errno: Errno) -> Error {
    Error::refused(format!("{operation} {}", words(id)), errno)
}

pub(crate) fn refused(request: &Request, errno: Errno) -> Error {
    match request {
        Request::NewServer(id, _) => error("make virtual server", *id, errno),
        Request::SetServer(id, _) => error("change virtual server", *id, errno),
        Request::DeleteServer(id) => error("delete virtual server", *id, errno),
        Request::NewDestination(id, at, _) => error(
            &format!("add destination {at} to virtual server"),
            *id,
            errno,
        ),
        Request::SetDestination(id, at, _) => error(
            &format!("change destination {at} of virtual server"),
            *id,
            errno,
        ),
        Request::DeleteDestination(id, at) => error(
            &format!("delete destination {at} of virtual server"),
            *id,
            errno,
        ),
    }
}
