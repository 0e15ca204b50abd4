//! Keeps the slices of all Services as Services, Pods and Nodes change.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use super::endpoint::{LeftOut, endpoint_of, selects};
use super::held::{Frame, Wanted};
use super::namespace::{Entry, Namespace, SliceOwner};
use super::scratch::node_missing;
use super::topology::NodeChange;
use super::{
    CLUSTER_CONTROLLER, DEFAULT_MAX_ENDPOINTS, Topology, copied_labels, families, has_slices,
    is_headless, topology_mode_is_auto,
};
use crate::diagnostic::Diagnostic;
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{EndpointSlice, Node, Pod, Service};

/// Settings of a [`SliceController`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceConfig {
    /// Value of the label `endpointslice.kubernetes.io/managed-by`: slices with another are never
    /// touched (B-422).
    pub managed_by: Name,
    /// Endpoints per slice, 1 to 1000; 0 counts as 1 (B-415).
    pub max_endpoints: u16,
}

impl Default for SliceConfig {
    fn default() -> Self {
        Self {
            managed_by: CLUSTER_CONTROLLER.into(),
            max_endpoints: DEFAULT_MAX_ENDPOINTS,
        }
    }
}

/// A write that brings the slices up to date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SliceChange {
    /// The slice is to be as it is here, whether it exists or not.
    Apply(EndpointSlice),
    /// The slice is to go.
    Delete(NamespacedName),
}

/// Turns Services, Pods and Nodes into slices, step by step.
///
/// Objects go in by `apply_…` and `delete_…`, in any order; [`SliceController::reconcile`] says what
/// to write. The controller takes its own writes as done: a slice that was written differently, or
/// deleted by somebody, goes in by [`SliceController::apply_slice`] or
/// [`SliceController::delete_slice`] and is put right. So do all slices that exist at the start,
/// before the first reconciliation.
///
/// ```
/// use svc_core::endpoints::{SliceChange, SliceConfig, SliceController, Topology};
/// use svc_core::{NamespacedName, object::Service};
///
/// let mut web = Service::named(NamespacedName::new("default", "web"));
/// web.selector.insert("app".into(), "web".into());
/// web.cluster_ips.push([10, 96, 0, 7].into());
///
/// let mut controller = SliceController::new(SliceConfig::default(), Topology::unknown());
/// controller.apply_service(web);
/// let (changes, diagnostics) = controller.reconcile();
/// assert!(matches!(&changes[..], [SliceChange::Apply(slice)] if slice.endpoints.is_empty()));
/// assert!(diagnostics.is_empty());
/// assert!(controller.reconcile().0.is_empty(), "nothing changed since");
/// ```
#[derive(Clone, Debug)]
pub struct SliceController {
    config: SliceConfig,
    topology: Topology,
    namespaces: BTreeMap<Name, Namespace>,
    dirty: BTreeMap<NamespacedName, Dirty>,
    changed_nodes: BTreeSet<Name>,
    capacity_changed: bool,
}

/// What of a Service has to be looked at.
#[derive(Clone, Debug)]
enum Dirty {
    /// Everything.
    Whole,
    /// These Pods.
    Pods(BTreeSet<Name>),
}

impl SliceController {
    /// A controller that knows nothing but Nodes.
    pub fn new(config: SliceConfig, topology: Topology) -> Self {
        Self {
            config,
            topology,
            namespaces: BTreeMap::new(),
            dirty: BTreeMap::new(),
            changed_nodes: BTreeSet::new(),
            capacity_changed: false,
        }
    }

    /// Adds or replaces a Service.
    pub fn apply_service(&mut self, service: Service) {
        let name = service.name.clone();
        if self.namespace(&name.namespace).apply_service(service) {
            self.dirty.insert(name, Dirty::Whole);
        }
    }

    /// Removes a Service; its slices go with it.
    pub fn delete_service(&mut self, name: &NamespacedName) {
        let namespace = self.namespaces.get_mut(&name.namespace);
        if namespace.is_some_and(|namespace| namespace.delete_service(&name.name)) {
            self.dirty.insert(name.clone(), Dirty::Whole);
        }
    }

    /// Adds or replaces a Pod.
    pub fn apply_pod(&mut self, pod: Pod) {
        let name = pod.name.clone();
        let services = self.namespace(&name.namespace).apply_pod(pod);
        self.pod_changed(&name, services);
    }

    /// Removes a Pod.
    pub fn delete_pod(&mut self, name: &NamespacedName) {
        let Some(namespace) = self.namespaces.get_mut(&name.namespace) else {
            return;
        };
        let services = namespace.delete_pod(&name.name);
        self.pod_changed(name, services);
        self.forget_empty(&name.namespace);
    }

    /// Adds or replaces a Node; from the first one on, Pods on unknown Nodes are left out.
    pub fn apply_node(&mut self, node: &Node) {
        let change = self.topology.apply(node);
        self.node_changed(&node.name, change);
    }

    /// Removes a Node.
    pub fn delete_node(&mut self, name: &Name) {
        let change = self.topology.delete(name);
        self.node_changed(name, change);
    }

    /// Takes note of a slice that exists.
    ///
    /// A slice of another manager only reserves its name (B-422).
    pub fn apply_slice(&mut self, slice: EndpointSlice) {
        let ours = slice.managed_by.as_ref() == Some(&self.config.managed_by);
        let owner = if ours {
            SliceOwner::Service(slice.service.clone(), slice.family)
        } else {
            SliceOwner::Other
        };
        let max_endpoints = usize::from(self.config.max_endpoints.max(1));
        let name = slice.name.clone();
        let namespace = self.namespace(&name.namespace);
        let same_owner = namespace.slice_owners.get(&name.name) == Some(&owner);
        if same_owner
            && (!ours
                || namespace
                    .entry(&slice.service)
                    .slices_mut(slice.family)
                    .holds(&slice))
        {
            return;
        }
        self.delete_slice(&name);
        let namespace = self.namespace(&name.namespace);
        namespace.slice_owners.insert(name.name, owner);
        if ours {
            let service = slice.service_name();
            let entry = namespace.entry(&slice.service);
            entry.slices_mut(slice.family).adopt(slice, max_endpoints);
            self.dirty.insert(service, Dirty::Whole);
        }
    }

    /// Takes note that a slice is gone.
    pub fn delete_slice(&mut self, name: &NamespacedName) {
        let Some(namespace) = self.namespaces.get_mut(&name.namespace) else {
            return;
        };
        match namespace.slice_owners.remove(&name.name) {
            Some(SliceOwner::Service(service, family)) => {
                if let Some(entry) = namespace.services.get_mut(&service) {
                    entry.slices_mut(family).forget(&name.name);
                }
                let service = NamespacedName {
                    namespace: name.namespace.clone(),
                    name: service,
                };
                self.dirty.insert(service, Dirty::Whole);
            }
            Some(SliceOwner::Other) => self.forget_empty(&name.namespace),
            None => {}
        }
    }

    /// The writes that bring the slices up to date, and what stood in the way.
    ///
    /// Slices of a Service that lost its selector stay as they are: they may be somebody's own by
    /// now (B-398).
    pub fn reconcile(&mut self) -> (Vec<SliceChange>, Vec<Diagnostic>) {
        self.spread_node_changes();
        let mut changes = Vec::new();
        let mut diagnostics = Vec::new();
        for (name, dirty) in core::mem::take(&mut self.dirty) {
            let Some(namespace) = self.namespaces.get_mut(&name.namespace) else {
                continue;
            };
            let Some(mut entry) = namespace.services.remove(&name.name) else {
                self.forget_empty(&name.namespace);
                continue;
            };
            let from = changes.len();
            let mut step = Step {
                config: &self.config,
                topology: &self.topology,
                namespace,
                changes: &mut changes,
                diagnostics: &mut diagnostics,
            };
            step.service(&name, &mut entry, dirty);
            record(namespace, &name.name, &changes[from..]);
            if entry.service.is_some() || !entry.v4.is_empty() || !entry.v6.is_empty() {
                namespace.services.insert(name.name, entry);
            } else {
                self.forget_empty(&name.namespace);
            }
        }
        diagnostics.sort_unstable();
        diagnostics.dedup();
        (changes, diagnostics)
    }

    fn namespace(&mut self, name: &Name) -> &mut Namespace {
        self.namespaces.entry(name.clone()).or_default()
    }

    /// Namespaces come and go, and the names of those that went are not used again.
    fn forget_empty(&mut self, name: &Name) {
        if self.namespaces.get(name).is_some_and(Namespace::is_empty) {
            self.namespaces.remove(name);
        }
    }

    /// Whether nothing is kept of any Service, Pod or slice.
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn is_empty(&self) -> bool {
        self.namespaces.is_empty() && self.dirty.is_empty()
    }

    fn pod_changed(&mut self, pod: &NamespacedName, services: Vec<Name>) {
        for service in services {
            let service = NamespacedName {
                namespace: pod.namespace.clone(),
                name: service,
            };
            let dirty = self.dirty.entry(service);
            match dirty.or_insert_with(|| Dirty::Pods(BTreeSet::new())) {
                Dirty::Whole => {}
                Dirty::Pods(pods) => {
                    pods.insert(pod.name.clone());
                }
            }
        }
    }

    fn node_changed(&mut self, name: &Name, change: NodeChange) {
        match change {
            NodeChange::None => {}
            NodeChange::Capacity => self.capacity_changed = true,
            NodeChange::Zone => {
                self.capacity_changed = true;
                self.changed_nodes.insert(name.clone());
            }
            NodeChange::First => {
                for namespace in self.namespaces.values() {
                    let entries = namespace.services.values();
                    for service in entries.filter_map(|entry| entry.service.as_ref()) {
                        self.dirty.insert(service.name.clone(), Dirty::Whole);
                    }
                }
            }
        }
    }

    /// Nodes change rarely, so all Pods are looked at once instead of kept by Node.
    fn spread_node_changes(&mut self) {
        let nodes = core::mem::take(&mut self.changed_nodes);
        let mut affected = Vec::new();
        for namespace in self.namespaces.values() {
            if nodes.is_empty() {
                break;
            }
            for pod in namespace.pods() {
                if pod.node.as_ref().is_some_and(|node| nodes.contains(node)) {
                    let mut services = Vec::new();
                    namespace.selecting(pod, &mut services);
                    affected.push((pod.name.clone(), services));
                }
            }
        }
        for (pod, services) in affected {
            self.pod_changed(&pod, services);
        }
        if core::mem::take(&mut self.capacity_changed) {
            for namespace in self.namespaces.values() {
                for service in namespace
                    .services
                    .values()
                    .filter_map(|e| e.service.as_ref())
                {
                    if topology_mode_is_auto(service) {
                        self.dirty.insert(service.name.clone(), Dirty::Whole);
                    }
                }
            }
        }
    }
}

/// One round over one Service, which is out of `namespace` meanwhile.
struct Step<'a> {
    config: &'a SliceConfig,
    topology: &'a Topology,
    namespace: &'a Namespace,
    changes: &'a mut Vec<SliceChange>,
    diagnostics: &'a mut Vec<Diagnostic>,
}

impl Step<'_> {
    fn service(&mut self, name: &NamespacedName, entry: &mut Entry, dirty: Dirty) {
        let Some(service) = entry.service.take() else {
            for family in IpFamily::ALL {
                entry
                    .slices_mut(family)
                    .clear(&name.namespace, self.changes);
            }
            return;
        };
        if has_slices(&service) {
            let families = families(&service);
            let whole = matches!(dirty, Dirty::Whole);
            let pods = self.pods(&service, entry, dirty);
            let trigger_time = self.trigger_time(&service, entry, &pods);
            let frame = Frame {
                service: &service,
                labels: copied_labels(&service),
                headless: is_headless(&service),
                managed_by: &self.config.managed_by,
                trigger_time,
                max_endpoints: usize::from(self.config.max_endpoints.max(1)),
                taken: &|name| self.namespace.slice_owners.contains_key(name),
            };
            for family in IpFamily::ALL {
                if families.contains(&family) {
                    if whole {
                        entry.slices_mut(family).reframe(&frame);
                    }
                    self.family(&frame, entry, family, &pods);
                } else {
                    entry
                        .slices_mut(family)
                        .clear(&name.namespace, self.changes);
                }
            }
        }
        entry.service = Some(service);
    }

    /// The Pods to look at, in whatever family.
    fn pods(&self, service: &Service, entry: &Entry, dirty: Dirty) -> BTreeSet<Name> {
        match dirty {
            Dirty::Whole => {
                let held = entry.v4.pods().chain(entry.v6.pods());
                let selected = self.namespace.selected(service);
                held.cloned().chain(selected).collect()
            }
            Dirty::Pods(pods) => pods,
        }
    }

    /// The earliest change of the round (B-424).
    fn trigger_time(
        &self,
        service: &Service,
        entry: &mut Entry,
        pods: &BTreeSet<Name>,
    ) -> Option<i64> {
        let mut round = entry.triggers.round(service);
        for name in pods {
            let pod = self.namespace.pod(name);
            round.pod(name, pod.filter(|pod| selects(service, pod)));
        }
        round.trigger_time()
    }

    fn family(
        &mut self,
        frame: &Frame<'_>,
        entry: &mut Entry,
        family: IpFamily,
        pods: &BTreeSet<Name>,
    ) {
        let service = frame.service;
        let wanted: Vec<Wanted> = pods
            .iter()
            .map(|pod| self.wanted(service, entry, family, pod.clone()))
            .collect();
        let slices = entry.slices_mut(family);
        slices.pack(frame, wanted.into_iter());
        if topology_mode_is_auto(service)
            && let Some(disabled) = slices.assign_hints(self.topology.zone_cpu())
        {
            self.diagnostics.push(disabled.diagnostic(service, family));
        }
        slices.writes(frame, self.changes);
    }

    fn wanted(&mut self, service: &Service, entry: &Entry, family: IpFamily, name: Name) -> Wanted {
        let Some(pod) = self
            .namespace
            .pod(&name)
            .filter(|pod| selects(service, pod))
        else {
            return (name, None);
        };
        match endpoint_of(service, pod, family, self.topology) {
            Ok(endpoint) => (name, Some((entry.ports.on(service, pod), endpoint))),
            Err(LeftOut::Rightly) => (name, None),
            Err(LeftOut::NodeMissing) => {
                self.diagnostics.push(node_missing(service, pod));
                (name, None)
            }
        }
    }
}

/// Notes whose the slice names are after some writes.
fn record(namespace: &mut Namespace, service: &Name, changes: &[SliceChange]) {
    for change in changes {
        match change {
            SliceChange::Apply(slice) => {
                let owner = SliceOwner::Service(service.clone(), slice.family);
                namespace
                    .slice_owners
                    .insert(slice.name.name.clone(), owner);
            }
            SliceChange::Delete(name) => {
                namespace.slice_owners.remove(&name.name);
            }
        }
    }
}
