//! The objects of the cluster, by key, as a watch delivers them.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

// Names are looked up on the hot path: a tree of 100,000 strings costs thirty cache misses, a
// table two. No table here is iterated, so nothing depends on its order.
use hashbrown::{HashMap, HashSet};

use crate::name::{Name, NamespacedName};
use crate::object::{EndpointSlice, Node, Service, ServiceCidr};

/// A change of the objects of one kind, in the order in which watches deliver them.
///
/// `Init`, any number of `InitApply`, `InitDone` replace everything that was known; between
/// `Init` and `InitDone` nothing is forgotten.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEvent<T, K> {
    /// A complete list starts.
    Init,
    /// An object of the list.
    InitApply(T),
    /// The list is complete: what was not in it is gone.
    InitDone,
    /// An object was added or changed.
    Apply(T),
    /// An object is gone.
    Delete(K),
}

/// A change of any object that planning reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Of Services.
    Service(WatchEvent<Service, NamespacedName>),
    /// Of EndpointSlices.
    EndpointSlice(WatchEvent<EndpointSlice, NamespacedName>),
    /// Of Nodes; only the planned one is needed, others do no harm.
    Node(WatchEvent<Node, Name>),
    /// Of ServiceCIDRs.
    ServiceCidr(WatchEvent<ServiceCidr, Name>),
}

/// Index of a Service in [`ClusterState`]; used again after the Service is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub(crate) u32);

/// What an event touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Services that changed, or whose endpoints did, or that are gone.
    pub services: Vec<ServiceId>,
    /// Whether a Node or ServiceCIDR changed.
    pub node: NodeChange,
}

/// Whether node-wide inputs changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeChange {
    /// No.
    #[default]
    Same,
    /// Yes: Nodes or ServiceCIDRs.
    Changed,
}

/// The objects of the cluster, by key.
///
/// ```
/// use svc_core::object::Service;
/// use svc_core::{ClusterState, Event, NamespacedName, WatchEvent};
///
/// let web = Service::named(NamespacedName::new("shop", "web"));
/// let mut state = ClusterState::new();
/// let changes = state.apply(Event::Service(WatchEvent::Apply(web.clone())));
/// assert_eq!(changes.services.len(), 1);
/// // The same object again touches nothing.
/// let changes = state.apply(Event::Service(WatchEvent::Apply(web.clone())));
/// assert!(changes.services.is_empty());
/// // After a complete list, what was not in it is gone.
/// state.apply(Event::Service(WatchEvent::Init));
/// state.apply(Event::Service(WatchEvent::InitDone));
/// assert!(state.service(&web.name).is_none());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ClusterState {
    entries: Vec<Entry>,
    free: Vec<u32>,
    services: HashMap<NamespacedName, ServiceId>,
    /// The Service under which each slice is filed.
    slices: HashMap<NamespacedName, ServiceId>,
    nodes: BTreeMap<Name, Arc<Node>>,
    service_cidrs: BTreeMap<Name, Arc<ServiceCidr>>,
    lists: Lists,
    node_names: HashSet<Name>,
    /// Number of node names at which unused ones are dropped next.
    prune_at: usize,
}

/// A Service and its slices; either may come first (B-007).
#[derive(Clone, Debug)]
struct Entry {
    name: NamespacedName,
    service: Option<Arc<Service>>,
    slices: Vec<Arc<EndpointSlice>>,
}

/// Lists under way, and whether one was ever complete (B-237).
#[derive(Clone, Debug, Default)]
struct Lists {
    services: List<NamespacedName>,
    slices: List<NamespacedName>,
    nodes: List<Name>,
    service_cidrs: List<Name>,
}

#[derive(Clone, Debug)]
struct List<K> {
    seen: Option<BTreeSet<K>>,
    complete: bool,
}

impl<K> Default for List<K> {
    fn default() -> Self {
        Self {
            seen: None,
            complete: false,
        }
    }
}

impl<K: Ord> List<K> {
    fn start(&mut self) {
        self.seen = Some(BTreeSet::new());
    }

    fn see(&mut self, key: &K)
    where
        K: Clone,
    {
        if let Some(seen) = &mut self.seen {
            seen.insert(key.clone());
        }
    }

    /// The keys of a list that is complete; `None` if none was started, so that a stray end of a
    /// list does not make everything disappear.
    fn finish(&mut self) -> Option<BTreeSet<K>> {
        let seen = self.seen.take()?;
        self.complete = true;
        Some(seen)
    }
}

impl ClusterState {
    /// A cluster of which nothing is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a complete list of Services and one of EndpointSlices has been seen: before that
    /// nothing may be written to a kernel (B-237).
    pub fn is_complete(&self) -> bool {
        self.lists.services.complete && self.lists.slices.complete
    }

    /// The index of a Service that has been seen, or whose slices have.
    pub fn id(&self, name: &NamespacedName) -> Option<ServiceId> {
        self.services.get(name).copied()
    }

    /// A Service by name.
    pub fn service(&self, name: &NamespacedName) -> Option<&Arc<Service>> {
        self.id(name).and_then(|id| self.service_at(id))
    }

    /// The EndpointSlices of a Service, sorted by name.
    pub fn slices(&self, name: &NamespacedName) -> &[Arc<EndpointSlice>] {
        self.id(name).map_or(&[], |id| self.slices_at(id))
    }

    /// All Services, sorted by name.
    pub fn services(&self) -> Vec<&Arc<Service>> {
        let mut services: Vec<_> = self
            .entries
            .iter()
            .filter_map(|e| e.service.as_ref())
            .collect();
        services.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        services
    }

    /// A Node by name.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.get(name)
    }

    /// All Nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.values()
    }

    /// All ServiceCIDRs, by name.
    pub fn service_cidrs(&self) -> impl Iterator<Item = &Arc<ServiceCidr>> {
        self.service_cidrs.values()
    }

    /// The Service at an index.
    pub fn service_at(&self, id: ServiceId) -> Option<&Arc<Service>> {
        self.entry(id).and_then(|entry| entry.service.as_ref())
    }

    /// The EndpointSlices of the Service at an index, sorted by name.
    pub fn slices_at(&self, id: ServiceId) -> &[Arc<EndpointSlice>] {
        self.entry(id).map_or(&[], |entry| &entry.slices)
    }

    /// The name of the Service at an index; of a former one if it is gone.
    pub fn name_at(&self, id: ServiceId) -> Option<&NamespacedName> {
        self.entry(id).map(|entry| &entry.name)
    }

    /// Indices of everything that is or was known.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ServiceId> + use<> {
        let count = u32::try_from(self.entries.len()).unwrap_or(u32::MAX);
        (0..count).map(ServiceId)
    }

    /// Takes in one event and says what it touched; an event that changes nothing touches nothing.
    pub fn apply(&mut self, event: Event) -> Changes {
        let mut changes = Changes::default();
        match event {
            Event::Service(event) => self.apply_service(event, &mut changes),
            Event::EndpointSlice(event) => self.apply_slice(event, &mut changes),
            Event::Node(event) => {
                let changed = apply_plain(&mut self.nodes, &mut self.lists.nodes, event, |n| {
                    n.name.clone()
                });
                changes.node = changed;
            }
            Event::ServiceCidr(event) => {
                let lists = &mut self.lists.service_cidrs;
                let changed =
                    apply_plain(&mut self.service_cidrs, lists, event, |c| c.name.clone());
                changes.node = changed;
            }
        }
        changes.services.sort_unstable();
        changes.services.dedup();
        changes
    }

    fn apply_service(&mut self, event: WatchEvent<Service, NamespacedName>, changes: &mut Changes) {
        match event {
            WatchEvent::Init => self.lists.services.start(),
            WatchEvent::InitApply(service) => {
                self.lists.services.see(&service.name);
                self.put_service(service, changes);
            }
            WatchEvent::Apply(service) => self.put_service(service, changes),
            WatchEvent::InitDone => {
                let Some(seen) = self.lists.services.finish() else {
                    return;
                };
                let gone: Vec<_> = self
                    .entries
                    .iter()
                    .filter(|e| e.service.is_some() && !seen.contains(&e.name))
                    .map(|e| e.name.clone())
                    .collect();
                for name in gone {
                    self.remove_service(&name, changes);
                }
            }
            WatchEvent::Delete(name) => self.remove_service(&name, changes),
        }
    }

    fn apply_slice(
        &mut self,
        event: WatchEvent<EndpointSlice, NamespacedName>,
        changes: &mut Changes,
    ) {
        match event {
            WatchEvent::Init => self.lists.slices.start(),
            WatchEvent::InitApply(slice) => {
                self.lists.slices.see(&slice.name);
                self.put_slice(slice, changes);
            }
            WatchEvent::Apply(slice) => self.put_slice(slice, changes),
            WatchEvent::InitDone => {
                let Some(seen) = self.lists.slices.finish() else {
                    return;
                };
                let slices = self.entries.iter().flat_map(|e| &e.slices);
                let gone: Vec<_> = slices
                    .filter(|slice| !seen.contains(&slice.name))
                    .map(|slice| slice.name.clone())
                    .collect();
                for name in gone {
                    self.remove_slice(&name, changes);
                }
            }
            WatchEvent::Delete(name) => self.remove_slice(&name, changes),
        }
    }

    fn put_service(&mut self, service: Service, changes: &mut Changes) {
        let id = self.entry_for(&service.name);
        if let Some(entry) = self.entries.get_mut(id.0 as usize)
            && entry.service.as_deref() != Some(&service)
        {
            entry.service = Some(Arc::new(service));
            changes.services.push(id);
        }
    }

    fn remove_service(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let Some(id) = self.id(name) else { return };
        if let Some(entry) = self.entries.get_mut(id.0 as usize)
            && entry.service.take().is_some()
        {
            changes.services.push(id);
        }
        self.release(id);
    }

    fn put_slice(&mut self, mut slice: EndpointSlice, changes: &mut Changes) {
        self.intern(&mut slice);
        let id = self.file(&mut slice, changes);
        let Some(entry) = self.entries.get_mut(id.0 as usize) else {
            return;
        };
        let known = entry
            .slices
            .iter()
            .take(4)
            .position(|old| old.name == slice.name);
        let search = || {
            entry
                .slices
                .binary_search_by(|old| old.name.cmp(&slice.name))
        };
        match known.map_or_else(search, Ok) {
            Ok(at) if *entry.slices[at] == slice => return,
            Ok(at) => entry.slices[at] = Arc::new(slice),
            Err(at) => entry.slices.insert(at, Arc::new(slice)),
        }
        changes.services.push(id);
    }

    /// The Service to which a slice belongs, under which it is filed from now on.
    fn file(&mut self, slice: &mut EndpointSlice, changes: &mut Changes) -> ServiceId {
        let known = self.slices.get_key_value(&slice.name);
        let known = known.map(|(name, id)| {
            // Names that are one allocation are equal at a glance.
            slice.name.clone_from(name);
            *id
        });
        let same = |entry: &Entry| {
            entry.name.name == slice.service && entry.name.namespace == slice.name.namespace
        };
        // Nearly always: one look-up instead of three.
        if let Some(id) = known.filter(|id| self.entry(*id).is_some_and(same)) {
            return id;
        }
        let id = self.entry_for(&slice.service_name());
        if known.is_some() {
            self.remove_slice(&slice.name, changes);
        }
        self.slices.insert(slice.name.clone(), id);
        id
    }

    fn remove_slice(&mut self, name: &NamespacedName, changes: &mut Changes) {
        let Some(id) = self.slices.remove(name) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(id.0 as usize) {
            // A search, not a scan: a list that is gone may have had thousands.
            if let Ok(at) = entry.slices.binary_search_by(|slice| slice.name.cmp(name)) {
                entry.slices.remove(at);
            }
        }
        changes.services.push(id);
        self.release(id);
    }

    fn entry(&self, id: ServiceId) -> Option<&Entry> {
        self.entries.get(id.0 as usize)
    }

    fn entry_for(&mut self, name: &NamespacedName) -> ServiceId {
        if let Some(id) = self.id(name) {
            return id;
        }
        let entry = Entry {
            name: name.clone(),
            service: None,
            slices: Vec::new(),
        };
        let id = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                ServiceId(index)
            }
            None => {
                self.entries.push(entry);
                ServiceId(u32::try_from(self.entries.len() - 1).unwrap_or(u32::MAX))
            }
        };
        self.services.insert(name.clone(), id);
        id
    }

    fn release(&mut self, id: ServiceId) {
        let Some(entry) = self.entry(id) else { return };
        if entry.service.is_none() && entry.slices.is_empty() {
            let name = entry.name.clone();
            self.services.remove(&name);
            self.free.push(id.0);
        }
    }

    /// Lets equal node names share one allocation: a cluster has few nodes and many endpoints.
    fn intern(&mut self, slice: &mut EndpointSlice) {
        for node in slice.endpoints.iter_mut().filter_map(|e| e.node.as_mut()) {
            *node = self
                .node_names
                .get_or_insert_with(&**node, |_| node.clone())
                .clone();
        }
        if self.node_names.len() > self.prune_at {
            self.node_names.retain(|name| Arc::strong_count(name) > 1);
            self.prune_at = 1_000 + 2 * self.node_names.len();
        }
    }
}

fn apply_plain<T: PartialEq>(
    objects: &mut BTreeMap<Name, Arc<T>>,
    list: &mut List<Name>,
    event: WatchEvent<T, Name>,
    name: fn(&T) -> Name,
) -> NodeChange {
    let mut put = |object: T| {
        let key = name(&object);
        if objects.get(&key).is_some_and(|old| **old == object) {
            return NodeChange::Same;
        }
        objects.insert(key, Arc::new(object));
        NodeChange::Changed
    };
    match event {
        WatchEvent::Init => {
            list.start();
            NodeChange::Same
        }
        WatchEvent::InitApply(object) => {
            list.see(&name(&object));
            put(object)
        }
        WatchEvent::Apply(object) => put(object),
        WatchEvent::InitDone => {
            let Some(seen) = list.finish() else {
                return NodeChange::Same;
            };
            let before = objects.len();
            objects.retain(|name, _| seen.contains(name));
            match objects.len() == before {
                true => NodeChange::Same,
                false => NodeChange::Changed,
            }
        }
        WatchEvent::Delete(name) => match objects.remove(&name) {
            Some(_) => NodeChange::Changed,
            None => NodeChange::Same,
        },
    }
}
