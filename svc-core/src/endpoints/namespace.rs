//! Pods, Services and slices of one namespace, indexed by label.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::endpoint::selects;
use super::has_slices;
use super::held::HeldSlices;
use super::port::ServicePorts;
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{Labels, Pod, Service};

/// A label or selector term.
type Term = (Name, Name);

/// What a controller keeps of one namespace.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    pub(super) pods: BTreeMap<Name, Pod>,
    pub(super) services: BTreeMap<Name, Entry>,
    /// Who has which slice name.
    pub(super) slice_owners: BTreeMap<Name, SliceOwner>,
    pods_by_label: BTreeMap<Term, BTreeSet<Name>>,
    /// Each Service under one term of its selector.
    services_by_term: BTreeMap<Term, BTreeSet<Name>>,
}

/// A Service, and the slices that are its.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `None` while only slices of it are known.
    pub(super) service: Option<Service>,
    pub(super) ports: ServicePorts,
    pub(super) v4: HeldSlices,
    pub(super) v6: HeldSlices,
    indexed: Option<Term>,
}

/// Who writes a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SliceOwner {
    /// This controller, for a Service.
    Service(Name, IpFamily),
    /// Somebody else (B-422).
    Other,
}

impl Entry {
    fn new() -> Self {
        Self {
            service: None,
            ports: ServicePorts::PerPod,
            v4: HeldSlices::new(IpFamily::V4),
            v6: HeldSlices::new(IpFamily::V6),
            indexed: None,
        }
    }

    pub(super) fn slices_mut(&mut self, family: IpFamily) -> &mut HeldSlices {
        match family {
            IpFamily::V4 => &mut self.v4,
            IpFamily::V6 => &mut self.v6,
        }
    }
}

impl Namespace {
    pub(super) fn entry(&mut self, service: &Name) -> &mut Entry {
        self.services
            .entry(service.clone())
            .or_insert_with(Entry::new)
    }

    /// Keeps a Service; false when it is the same as before.
    pub(super) fn apply_service(&mut self, service: Service) -> bool {
        let name = service.name.name.clone();
        let entry = self.entry(&name);
        if entry.service.as_ref() == Some(&service) {
            return false;
        }
        let indexed = entry.indexed.take();
        let keep_term = indexed
            .as_ref()
            .is_some_and(|(key, value)| service.selector.get(key) == Some(value))
            && has_slices(&service);
        let term = if keep_term {
            indexed
        } else {
            self.unindex_service(&name, indexed);
            self.index_service(&service)
        };
        let entry = self.entry(&name);
        entry.ports = ServicePorts::of(&service);
        entry.indexed = term;
        entry.service = Some(service);
        true
    }

    /// Forgets a Service but not its slices; false when it was not known.
    pub(super) fn delete_service(&mut self, name: &Name) -> bool {
        let Some(entry) = self.services.get_mut(name) else {
            return false;
        };
        let known = entry.service.take().is_some();
        let indexed = entry.indexed.take();
        self.unindex_service(name, indexed);
        known
    }

    /// Keeps a Pod, and returns the Services that select it now or did before.
    pub(super) fn apply_pod(&mut self, pod: Pod) -> Vec<Name> {
        let name = pod.name.name.clone();
        let mut affected = Vec::new();
        match self.pods.get(&name) {
            Some(old) if *old == pod => return affected,
            Some(old) if old.labels == pod.labels => self.selecting(old, &mut affected),
            Some(_) => {
                affected = self.delete_pod(&name);
                self.index_pod(&pod, &mut affected);
            }
            None => self.index_pod(&pod, &mut affected),
        }
        self.pods.insert(name, pod);
        affected
    }

    /// Forgets a Pod, and returns the Services that selected it.
    pub(super) fn delete_pod(&mut self, name: &Name) -> Vec<Name> {
        let mut affected = Vec::new();
        let Some(pod) = self.pods.remove(name) else {
            return affected;
        };
        self.selecting(&pod, &mut affected);
        for term in terms(&pod.labels) {
            remove(&mut self.pods_by_label, &term, name);
        }
        affected
    }

    /// Names of the Services that select a Pod are added to `found`.
    pub(super) fn selecting(&self, pod: &Pod, found: &mut Vec<Name>) {
        for term in terms(&pod.labels) {
            for name in self.services_by_term.get(&term).into_iter().flatten() {
                let service = self.services.get(name).and_then(|e| e.service.as_ref());
                if service.is_some_and(|service| selects(service, pod)) {
                    found.push(name.clone());
                }
            }
        }
    }

    /// Names of the Pods that a Service selects.
    pub(super) fn selected(&self, service: &Service) -> Vec<Name> {
        let none = BTreeSet::new();
        let candidates = terms(&service.selector)
            .map(|term| self.pods_by_label.get(&term).unwrap_or(&none))
            .min_by_key(|pods| pods.len());
        candidates
            .into_iter()
            .flatten()
            .filter(|name| {
                self.pods
                    .get(*name)
                    .is_some_and(|pod| selects(service, pod))
            })
            .cloned()
            .collect()
    }

    fn index_pod(&mut self, pod: &Pod, affected: &mut Vec<Name>) {
        self.selecting(pod, affected);
        for term in terms(&pod.labels) {
            let pods = self.pods_by_label.entry(term).or_default();
            pods.insert(pod.name.name.clone());
        }
    }

    /// Under the term that the fewest Services are found by, so that a Pod looks at few.
    fn index_service(&mut self, service: &Service) -> Option<Term> {
        if !has_slices(service) {
            return None;
        }
        let count = |term: &Term| self.services_by_term.get(term).map_or(0, BTreeSet::len);
        let term = terms(&service.selector).min_by_key(count)?;
        let services = self.services_by_term.entry(term.clone()).or_default();
        services.insert(service.name.name.clone());
        Some(term)
    }

    fn unindex_service(&mut self, name: &Name, term: Option<Term>) {
        if let Some(term) = term {
            remove(&mut self.services_by_term, &term, name);
        }
    }
}

fn terms(labels: &Labels) -> impl Iterator<Item = Term> {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
}

fn remove(index: &mut BTreeMap<Term, BTreeSet<Name>>, term: &Term, name: &Name) {
    if let Some(names) = index.get_mut(term) {
        names.remove(name);
        if names.is_empty() {
            index.remove(term);
        }
    }
}
