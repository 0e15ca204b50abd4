//! Namespaces and Pods, which a cluster state does not hold.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::super::entry::Few;
use super::super::table::Keyed;
use super::{PodNames, Zone};
use crate::name::{Name, NamespacedName};
use crate::object::{Pod, PodPhase};
use crate::state::WatchEvent;

#[derive(Clone, Debug, PartialEq)]
pub(in crate::dns) struct NamespaceEntry {
    name: Name,
    /// Whether there is a Namespace object.
    declared: bool,
    /// Services and Pods that live in it.
    members: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(in crate::dns) struct PodEntry {
    name: NamespacedName,
    pub(in crate::dns) ips: Few<IpAddr>,
}

/// An address that live Pods of a namespace have.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::dns) struct PodAddress {
    namespace: Name,
    octets: AddressOctets,
    pods: usize,
}

/// The octets of an address, in a place that can be borrowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::dns) enum AddressOctets {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// A list under way, and whether one was begun but never complete.
#[derive(Clone, Debug)]
pub(super) struct List<K> {
    seen: Option<BTreeSet<K>>,
    begun: bool,
    complete: bool,
}

impl Zone {
    pub(in crate::dns) fn has_namespace(&self, namespace: &[u8]) -> bool {
        self.namespaces.find((namespace, b"")).is_some()
    }

    /// Takes in a change of the Namespaces; says whether a name came or went.
    ///
    /// A namespace also exists while a Service or Pod is known in it.
    pub fn apply_namespace(&mut self, event: WatchEvent<Name, Name>) -> bool {
        match event {
            WatchEvent::Init => self.namespace_list.start(),
            WatchEvent::InitApply(name) => {
                self.namespace_list.see(&name);
                return self.declare_namespace(&name);
            }
            WatchEvent::Apply(name) => return self.declare_namespace(&name),
            WatchEvent::Delete(name) => return self.withdraw_namespace(&name),
            WatchEvent::InitDone => {
                let was_waiting = self.namespace_list.waiting();
                let seen = self.namespace_list.finish();
                let known = self.namespaces.unordered();
                let gone: Vec<_> = known
                    .filter(|entry| entry.declared && !seen.contains(&entry.name))
                    .map(|entry| entry.name.clone())
                    .collect();
                let withdrawn = gone.iter().filter(|name| self.withdraw_namespace(name));
                return withdrawn.count() > 0 || was_waiting;
            }
        }
        false
    }

    /// Takes in a change of the Pods; says whether a name may have come or gone.
    ///
    /// Only [`PodNames::Verified`] needs Pods; otherwise they are not kept.
    pub fn apply_pod(&mut self, event: WatchEvent<Pod, NamespacedName>) -> bool {
        if self.config.options.pods != PodNames::Verified {
            return false;
        }
        match event {
            WatchEvent::Init => self.pod_list.start(),
            WatchEvent::InitApply(pod) => {
                self.pod_list.see(&pod.name);
                return self.put_pod(&pod);
            }
            WatchEvent::Apply(pod) => return self.put_pod(&pod),
            WatchEvent::Delete(name) => return self.remove_pod(&name),
            WatchEvent::InitDone => {
                let was_waiting = self.pod_list.waiting();
                let seen = self.pod_list.finish();
                let known = self.pods.unordered();
                let gone: Vec<_> = known
                    .filter(|entry| !seen.contains(&entry.name))
                    .map(|entry| entry.name.clone())
                    .collect();
                let removed = gone.iter().filter(|name| self.remove_pod(name));
                return removed.count() > 0 || was_waiting;
            }
        }
        false
    }

    fn put_pod(&mut self, pod: &Pod) -> bool {
        if !self.config.options.sees(&pod.name.namespace) {
            return false;
        }
        if !is_live(pod) {
            return self.remove_pod(&pod.name);
        }
        let ips: BTreeSet<IpAddr> = pod.ips.iter().map(IpAddr::to_canonical).collect();
        let entry = PodEntry {
            name: pod.name.clone(),
            ips: ips.into_iter().collect(),
        };
        if self.pods.find(entry.key()) == Some(&entry) {
            return false;
        }
        self.remove_pod(&pod.name);
        self.join_namespace(&pod.name.namespace);
        for ip in entry.ips.as_slice() {
            self.count_address(&pod.name.namespace, *ip, |count| count + 1);
        }
        self.pods.insert(entry);
        true
    }

    fn remove_pod(&mut self, name: &NamespacedName) -> bool {
        let key = (name.namespace.as_bytes(), name.name.as_bytes());
        let Some(entry) = self.pods.remove(key) else {
            return false;
        };
        for ip in entry.ips.as_slice() {
            self.count_address(&name.namespace, *ip, |count| count.saturating_sub(1));
        }
        self.leave_namespace(&name.namespace);
        true
    }

    fn count_address(&mut self, namespace: &Name, ip: IpAddr, change: fn(usize) -> usize) {
        let mut address = PodAddress {
            namespace: namespace.clone(),
            octets: AddressOctets::of(ip),
            pods: 0,
        };
        let known = self.pod_addresses.find(address.key());
        address.pods = change(known.map_or(0, |known| known.pods));
        match address.pods {
            0 => self.pod_addresses.remove(address.key()),
            _ => self.pod_addresses.insert(address),
        };
    }

    fn declare_namespace(&mut self, name: &Name) -> bool {
        if !self.config.options.sees(name) {
            return false;
        }
        let mut entry = self.namespace(name);
        let changed = !entry.declared;
        entry.declared = true;
        self.put_namespace(entry);
        changed
    }

    fn withdraw_namespace(&mut self, name: &Name) -> bool {
        let mut entry = self.namespace(name);
        let changed = entry.declared;
        entry.declared = false;
        self.put_namespace(entry);
        changed
    }

    pub(super) fn join_namespace(&mut self, name: &Name) {
        let mut entry = self.namespace(name);
        entry.members += 1;
        self.put_namespace(entry);
    }

    pub(super) fn leave_namespace(&mut self, name: &Name) {
        let mut entry = self.namespace(name);
        entry.members = entry.members.saturating_sub(1);
        self.put_namespace(entry);
    }

    fn namespace(&self, name: &Name) -> NamespaceEntry {
        let known = self.namespaces.find((name.as_bytes(), b"")).cloned();
        known.unwrap_or_else(|| NamespaceEntry {
            name: name.clone(),
            declared: false,
            members: 0,
        })
    }

    fn put_namespace(&mut self, entry: NamespaceEntry) {
        match entry.declared || entry.members > 0 {
            true => drop(self.namespaces.insert(entry)),
            false => drop(self.namespaces.remove(entry.key())),
        }
    }
}

/// Whether a Pod has a name: it holds its addresses and is not about to leave.
fn is_live(pod: &Pod) -> bool {
    let running = match pod.phase {
        PodPhase::Pending | PodPhase::Running => true,
        PodPhase::Succeeded | PodPhase::Failed | PodPhase::Unknown => false,
    };
    running && !pod.terminating && !pod.ips.is_empty()
}

impl Keyed for NamespaceEntry {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.name.as_bytes(), b"")
    }
}

impl Keyed for PodEntry {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.name.namespace.as_bytes(), self.name.name.as_bytes())
    }
}

impl Keyed for PodAddress {
    fn key(&self) -> (&[u8], &[u8]) {
        (self.namespace.as_bytes(), self.octets.as_slice())
    }
}

impl AddressOctets {
    pub(in crate::dns) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Self::V4(v4.octets()),
            IpAddr::V6(v6) => Self::V6(v6.octets()),
        }
    }

    pub(in crate::dns) fn as_slice(&self) -> &[u8] {
        match self {
            Self::V4(octets) => octets,
            Self::V6(octets) => octets,
        }
    }
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self {
            seen: None,
            begun: false,
            complete: false,
        }
    }
}

/// Lists decide nothing but completeness once they are done.
impl<K> PartialEq for List<K> {
    fn eq(&self, other: &Self) -> bool {
        self.waiting() == other.waiting()
    }
}

impl<K> List<K> {
    pub(super) fn waiting(&self) -> bool {
        self.begun && !self.complete
    }
}

impl<K: Ord + Clone> List<K> {
    fn start(&mut self) {
        self.begun = true;
        self.seen = Some(BTreeSet::new());
    }

    fn see(&mut self, key: &K) {
        if let Some(seen) = &mut self.seen {
            seen.insert(key.clone());
        }
    }

    fn finish(&mut self) -> BTreeSet<K> {
        self.complete = true;
        self.seen.take().unwrap_or_default()
    }
}
