mod config;
mod feed;

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::entry::ServiceEntry;
use super::pointers::PointerTable;
use super::table::{Shards, Sorted};
use crate::diagnostic::Diagnostic;
use crate::name::{Name, NamespacedName};
use crate::state::{Changes, ClusterState, ServiceId};
pub(super) use config::{Authority, Config};
pub use config::{MAX_TTL, PodNames, ZoneError, ZoneOptions};
pub(super) use feed::AddressOctets;
use feed::{List, NamespaceEntry, PodAddress, PodEntry};

/// All names of a cluster, kept up to date event by event.
///
/// A change costs what the Service it concerns costs. A clone shares everything with the original
/// until one of them changes, so a server can publish a clone after each change and readers never
/// wait. The law: after any history, the zone equals one made by [`Zone::rebuild`].
///
/// Until the first complete lists have been seen a name that is not known is answered with
/// [`super::Rcode::ServFail`], as it may exist.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub(super) config: Arc<Config>,
    pub(super) serial: u32,
    pub(super) services: Shards<ServiceEntry>,
    /// The Service that each index of the state stood for when it was last looked at.
    filed: Sorted<NamespacedName>,
    pub(super) namespaces: Shards<NamespaceEntry>,
    pub(super) pods: Shards<PodEntry>,
    pub(super) pod_addresses: Shards<PodAddress>,
    /// Of addresses in the reverse zones alone; nobody may ask for others.
    pub(super) pointers: PointerTable,
    services_complete: bool,
    pod_list: List<NamespacedName>,
    namespace_list: List<Name>,
}

impl Zone {
    /// An empty zone.
    ///
    /// # Errors
    /// [`ZoneError`] when the options make no zone.
    pub fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        Ok(Self {
            config: Arc::new(Config::new(options)?),
            serial: 0,
            services: Shards::default(),
            filed: Sorted::default(),
            namespaces: Shards::default(),
            pods: Shards::default(),
            pod_addresses: Shards::default(),
            pointers: PointerTable::default(),
            services_complete: false,
            pod_list: List::default(),
            namespace_list: List::default(),
        })
    }

    /// What the zone serves.
    pub fn options(&self) -> &ZoneOptions {
        &self.config.options
    }

    /// Sets the serial of the SOA records, by convention the time of the last change in seconds.
    pub fn set_serial(&mut self, serial: u32) {
        self.serial = serial;
    }

    /// Whether all lists that were begun have been complete once.
    pub fn is_complete(&self) -> bool {
        self.services_complete && !self.pod_list.waiting() && !self.namespace_list.waiting()
    }

    /// Number of Services that the zone sees, with records or without.
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// Services that cannot have all records that they should have, and why; sorted.
    pub fn diagnostics(&self) -> Vec<&Diagnostic> {
        let all = self.services.unordered();
        let mut diagnostics: Vec<_> = all.flat_map(ServiceEntry::diagnostics).collect();
        diagnostics.sort_unstable();
        diagnostics
    }

    /// What a Service cannot have, and why.
    pub fn diagnostics_of(&self, service: &NamespacedName) -> &[Diagnostic] {
        let key = (service.namespace.as_bytes(), service.name.as_bytes());
        let entry = self.services.find(key);
        entry.map_or(&[], ServiceEntry::diagnostics)
    }

    /// Takes in what [`ClusterState::apply`] touched; says whether a record changed.
    pub fn refresh(&mut self, state: &ClusterState, changes: &Changes) -> bool {
        let complete = self.services_complete || state.is_complete();
        let mut changed = complete != self.services_complete;
        self.services_complete = complete;
        for id in &changes.services {
            changed |= self.refresh_id(state, *id);
        }
        changed
    }

    /// Takes in all Services of a state, whatever the zone held before; Pods and namespaces stay.
    pub fn rebuild(&mut self, state: &ClusterState) {
        let known: Vec<_> = self
            .services
            .unordered()
            .map(ServiceEntry::service)
            .collect();
        for name in known {
            self.put_service(state, &name);
        }
        self.filed = Sorted::default();
        self.services_complete = state.is_complete();
        for id in state.ids() {
            self.refresh_id(state, id);
        }
    }

    fn refresh_id(&mut self, state: &ClusterState, id: ServiceId) -> bool {
        let key = u128::from(id.0);
        let current = state.name_at(id).cloned();
        let former = self.filed.find(key).cloned();
        let mut changed = false;
        // An index is used again: the Service it stood for may be gone, or live under another.
        for name in former.iter().chain(&current) {
            changed |= self.put_service(state, name);
        }
        let alive = current.filter(|_| state.service_at(id).is_some());
        if former != alive {
            self.filed.update(key, |_| alive);
        }
        changed
    }

    fn put_service(&mut self, state: &ClusterState, name: &NamespacedName) -> bool {
        let options = &self.config.options;
        let service = state
            .service(name)
            .filter(|_| options.sees(&name.namespace));
        let new = service.map(|service| ServiceEntry::build(service, state.slices(name), options));
        let key = (name.namespace.as_bytes(), name.name.as_bytes());
        let old = self.services.find(key);
        if old == new.as_ref() {
            return false;
        }
        let before = old.map(|entry| entry.pointers()).unwrap_or_default();
        let after = new.as_ref().map(|e| e.pointers()).unwrap_or_default();
        let old = match new {
            Some(entry) => {
                let old = self.services.insert(entry);
                if old.is_none() {
                    self.join_namespace(&name.namespace);
                }
                old
            }
            None => {
                self.leave_namespace(&name.namespace);
                self.services.remove(key)
            }
        };
        drop(old);
        for (key @ (ip, kind), target) in &before {
            if after.get(key) != Some(target) && self.config.reverses(*ip) {
                self.pointers.remove(*ip, *kind, target);
            }
        }
        for (key @ (ip, kind), target) in &after {
            if before.get(key) != Some(target) && self.config.reverses(*ip) {
                self.pointers.insert(*ip, *kind, target);
            }
        }
        true
    }
}
