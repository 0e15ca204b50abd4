//! Pods, Services and slices of one namespace, indexed by label.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use hashbrown::HashMap;

use super::endpoint::selects;
use super::has_slices;
use super::held::HeldSlices;
use super::port::ServicePorts;
use super::trigger::TriggerTimes;
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{Labels, Pod, Service};

/// A label or selector term.
type Term = (Name, Name);

/// What a controller keeps of one namespace.
///
/// Pods have numbers and the two hash tables are for look-ups only: with ordered maps, comparing
/// 100,000 Pod names that differ in their last letters was most of the cost.
#[derive(Clone, Debug, Default)]
pub(super) struct Namespace {
    pub(super) services: BTreeMap<Name, Box<Entry>>,
    /// Who has which slice name.
    pub(super) slice_owners: BTreeMap<Name, SliceOwner>,
    pods: Vec<Option<Pod>>,
    free: Vec<PodNumber>,
    pod_numbers: HashMap<Name, PodNumber>,
    terms: HashMap<Term, TermUsers>,
}

/// Position in [`Namespace::pods`].
type PodNumber = u32;

/// So few free positions are not worth the work of giving them back.
const MIN_FREE: usize = 256;

/// Who has a label or selects it.
#[derive(Clone, Debug, Default)]
struct TermUsers {
    pods: BTreeSet<PodNumber>,
    /// Each Service is under one term of its selector.
    services: BTreeSet<Name>,
}

/// A Service, and the slices that are its.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// `None` while only slices of it are known.
    pub(super) service: Option<Service>,
    pub(super) ports: ServicePorts,
    pub(super) v4: HeldSlices,
    pub(super) v6: HeldSlices,
    pub(super) triggers: TriggerTimes,
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
            triggers: TriggerTimes::default(),
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
    /// Whether there is nothing to remember.
    pub(super) fn is_empty(&self) -> bool {
        self.services.is_empty() && self.slice_owners.is_empty() && self.pod_numbers.is_empty()
    }

    pub(super) fn entry(&mut self, service: &Name) -> &mut Entry {
        self.services
            .entry(service.clone())
            .or_insert_with(|| Box::new(Entry::new()))
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
        entry.triggers = TriggerTimes::default();
        let indexed = entry.indexed.take();
        self.unindex_service(name, indexed);
        known
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().flatten()
    }

    pub(super) fn pod(&self, name: &Name) -> Option<&Pod> {
        self.numbered(*self.pod_numbers.get(name)?)
    }

    /// Keeps a Pod, and returns the Services that select it now or did before.
    pub(super) fn apply_pod(&mut self, pod: Pod) -> Vec<Name> {
        let name = pod.name.name.clone();
        let mut affected = Vec::new();
        match self.pod(&name) {
            Some(old) if *old == pod => {}
            Some(old) if old.labels == pod.labels => {
                self.selecting(&pod, &mut affected);
                let number = self.pod_numbers.get(&name);
                if let Some(slot) = number.and_then(|n| self.pods.get_mut(*n as usize)) {
                    *slot = Some(pod);
                }
            }
            Some(_) => {
                affected = self.delete_pod(&name);
                self.insert_pod(pod, &mut affected);
            }
            None => self.insert_pod(pod, &mut affected),
        }
        affected
    }

    /// Forgets a Pod, and returns the Services that selected it.
    pub(super) fn delete_pod(&mut self, name: &Name) -> Vec<Name> {
        let mut affected = Vec::new();
        let Some(number) = self.pod_numbers.remove(name) else {
            return affected;
        };
        let slot = self.pods.get_mut(number as usize);
        let Some(pod) = slot.and_then(Option::take) else {
            return affected;
        };
        self.free.push(number);
        self.selecting(&pod, &mut affected);
        for term in terms(&pod.labels) {
            self.leave(&term, |users| users.pods.remove(&number));
        }
        self.compact();
        affected
    }

    /// Names of the Services that select a Pod are added to `found`.
    pub(super) fn selecting(&self, pod: &Pod, found: &mut Vec<Name>) {
        for term in terms(&pod.labels) {
            for name in self.terms.get(&term).into_iter().flat_map(|t| &t.services) {
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
            .map(|term| self.terms.get(&term).map_or(&none, |users| &users.pods))
            .min_by_key(|pods| pods.len());
        candidates
            .into_iter()
            .flatten()
            .filter_map(|number| self.numbered(*number))
            .filter(|pod| selects(service, pod))
            .map(|pod| pod.name.name.clone())
            .collect()
    }

    /// Gives back the room of Pods that are gone, once these are most.
    ///
    /// All others get new numbers then, which costs each deletion a few of them.
    fn compact(&mut self) {
        if self.free.len() < MIN_FREE || self.free.len() < 3 * self.pod_numbers.len() {
            return;
        }
        self.free = Vec::new();
        self.pod_numbers = HashMap::new();
        for users in self.terms.values_mut() {
            users.pods = BTreeSet::new();
        }
        for pod in core::mem::take(&mut self.pods).into_iter().flatten() {
            self.number_pod(pod);
        }
        self.terms.shrink_to_fit();
    }

    fn numbered(&self, number: PodNumber) -> Option<&Pod> {
        self.pods.get(number as usize)?.as_ref()
    }

    fn insert_pod(&mut self, pod: Pod, affected: &mut Vec<Name>) {
        self.selecting(&pod, affected);
        self.number_pod(pod);
    }

    fn number_pod(&mut self, pod: Pod) {
        let number = self.free.pop().unwrap_or_else(|| {
            self.pods.push(None);
            // 2^32 Pods do not fit into memory.
            (self.pods.len() - 1) as PodNumber
        });
        for term in terms(&pod.labels) {
            self.terms.entry(term).or_default().pods.insert(number);
        }
        self.pod_numbers.insert(pod.name.name.clone(), number);
        if let Some(slot) = self.pods.get_mut(number as usize) {
            *slot = Some(pod);
        }
    }

    /// Under the term that the fewest Services are found by, so that a Pod looks at few.
    fn index_service(&mut self, service: &Service) -> Option<Term> {
        if !has_slices(service) {
            return None;
        }
        let count = |term: &Term| self.terms.get(term).map_or(0, |users| users.services.len());
        let term = terms(&service.selector).min_by_key(count)?;
        let users = self.terms.entry(term.clone()).or_default();
        users.services.insert(service.name.name.clone());
        Some(term)
    }

    fn unindex_service(&mut self, name: &Name, term: Option<Term>) {
        if let Some(term) = term {
            self.leave(&term, |users| users.services.remove(name));
        }
    }

    /// Takes a user off a term, and the term away with its last one.
    fn leave(&mut self, term: &Term, remove: impl FnOnce(&mut TermUsers) -> bool) {
        if let Some(users) = self.terms.get_mut(term) {
            remove(users);
            if users.pods.is_empty() && users.services.is_empty() {
                self.terms.remove(term);
            }
        }
    }
}

fn terms(labels: &Labels) -> impl Iterator<Item = Term> {
    labels
        .iter()
        .map(|(key, value)| (key.clone(), value.clone()))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{pod, service};
    use super::*;

    #[test]
    fn room_of_pods_that_are_gone_is_given_back() {
        let mut namespace = Namespace::default();
        namespace.apply_service(service("web"));
        for i in 0..4000 {
            namespace.apply_pod(pod("web", i));
        }
        for i in (0..4000).filter(|i| i % 100 != 7) {
            namespace.delete_pod(&pod("web", i).name.name);
        }
        let capacity = [namespace.pods.capacity(), namespace.free.capacity()];
        assert!(capacity.iter().all(|room| *room <= 512), "{capacity:?}");
        assert_eq!(namespace.pods().count(), 40);
        assert_eq!(namespace.selected(&service("web")).len(), 40);
        for i in 0..4000 {
            let pod = pod("web", i);
            let kept = (i % 100 == 7).then_some(&pod);
            assert_eq!(namespace.pod(&pod.name.name), kept);
        }
        assert_eq!(namespace.delete_pod(&pod("web", 7).name.name).len(), 1);
        assert_eq!(namespace.selected(&service("web")).len(), 39);
    }
}
