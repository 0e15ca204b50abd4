//! The slices of one family of one Service, and how changes are packed into them with few writes.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::SliceChange;
use super::auto_hints::{Disabled, Part, ZoneCpu, assign};
use super::port::{Ports, same_ports};
use super::scratch::slice_name;
use crate::name::{Name, NamespacedName};
use crate::net::IpFamily;
use crate::object::{EndpointSlice, Labels, Service, SliceEndpoint};

/// Slices of one address family, and which Pod is in which.
#[derive(Clone, Debug)]
pub(super) struct HeldSlices {
    family: IpFamily,
    slices: BTreeMap<Name, HeldSlice>,
    slice_of_pod: BTreeMap<Name, Name>,
    /// Slices that are to be written.
    touched: BTreeSet<Name>,
    next_number: u32,
}

#[derive(Clone, Debug)]
struct HeldSlice {
    ports: Ports,
    endpoints: Vec<SliceEndpoint>,
    labels: Option<Arc<Labels>>,
    headless: bool,
}

/// What all slices of a Service have in common.
pub(super) struct Frame<'a> {
    pub(super) service: &'a Service,
    pub(super) labels: Option<Arc<Labels>>,
    pub(super) headless: bool,
    pub(super) managed_by: &'a Name,
    /// What slices that are written get as their trigger time (B-424).
    pub(super) trigger_time: Option<i64>,
    pub(super) max_endpoints: usize,
    /// Whether a slice name of the namespace is in use.
    pub(super) taken: &'a dyn Fn(&Name) -> bool,
}

/// A Pod and the endpoint that it is to be, if any.
pub(super) type Wanted = (Name, Option<(Ports, SliceEndpoint)>);

/// Endpoints without a slice, by their ports.
type Homeless = Vec<(Ports, Vec<SliceEndpoint>)>;

impl HeldSlices {
    pub(super) fn new(family: IpFamily) -> Self {
        Self {
            family,
            slices: BTreeMap::new(),
            slice_of_pod: BTreeMap::new(),
            touched: BTreeSet::new(),
            next_number: 0,
        }
    }

    pub(super) fn pods(&self) -> impl Iterator<Item = &Name> {
        self.slice_of_pod.keys()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// Whether exactly this slice is held and needs no write.
    pub(super) fn holds(&self, slice: &EndpointSlice) -> bool {
        self.slices.get(&slice.name.name).is_some_and(|held| {
            *held.endpoints == *slice.endpoints
                && *held.ports == *slice.ports
                && held.labels == slice.labels
                && held.headless == slice.headless
                && !self.touched.contains(&slice.name.name)
        })
    }

    /// Takes over a slice that exists; endpoints that may not stay are dropped at once.
    ///
    /// These are endpoints of no Pod, of a Pod that is in a slice already, of another family, or
    /// beyond the limit.
    pub(super) fn adopt(&mut self, slice: EndpointSlice, max_endpoints: usize) {
        let name = slice.name.name;
        let before = slice.endpoints.len();
        let mut endpoints = Vec::with_capacity(before);
        for endpoint in slice.endpoints {
            let Some(pod) = endpoint.pod().cloned() else {
                continue;
            };
            if endpoints.len() < max_endpoints
                && IpFamily::of(endpoint.address) == self.family
                && !self.slice_of_pod.contains_key(&pod)
            {
                self.slice_of_pod.insert(pod, name.clone());
                endpoints.push(endpoint);
            }
        }
        if endpoints.len() != before {
            self.touched.insert(name.clone());
        }
        let held = HeldSlice {
            ports: slice.ports.into_vec().into(),
            endpoints,
            labels: slice.labels,
            headless: slice.headless,
        };
        self.slices.insert(name, held);
    }

    /// Forgets a slice that is gone.
    pub(super) fn forget(&mut self, name: &Name) {
        self.touched.remove(name);
        for endpoint in self
            .slices
            .remove(name)
            .iter()
            .flat_map(|held| &held.endpoints)
        {
            if let Some(pod) = endpoint.pod() {
                self.slice_of_pod.remove(pod);
            }
        }
    }

    /// Deletes all slices.
    pub(super) fn clear(&mut self, namespace: &Name, changes: &mut Vec<SliceChange>) {
        changes.extend(self.slices.keys().map(|name| {
            SliceChange::Delete(NamespacedName {
                namespace: namespace.clone(),
                name: name.clone(),
            })
        }));
        *self = Self {
            next_number: self.next_number,
            ..Self::new(self.family)
        };
    }

    /// Gives all slices the labels of the Service (B-420).
    pub(super) fn reframe(&mut self, frame: &Frame<'_>) {
        for (name, held) in &mut self.slices {
            if held.labels != frame.labels || held.headless != frame.headless {
                held.labels = frame.labels.clone();
                held.headless = frame.headless;
                self.touched.insert(name.clone());
            }
        }
    }

    /// Moves the slices to what is wanted of some Pods, touching few (B-416).
    pub(super) fn pack(&mut self, frame: &Frame<'_>, wanted: impl Iterator<Item = Wanted>) {
        let mut homeless = self.place(wanted, frame);
        for (ports, endpoints) in &mut homeless {
            self.fill_touched(ports, endpoints, frame.max_endpoints);
            self.fill_best(ports, endpoints, frame.max_endpoints);
            self.fill_new(ports, endpoints, frame);
        }
        self.drop_empty(frame);
    }

    /// Gives or takes hints of topology mode Auto, over all slices (B-426).
    pub(super) fn assign_hints(&mut self, zones: Result<ZoneCpu, Disabled>) -> Option<Disabled> {
        let touched = &self.touched;
        let mut parts: Vec<Part<'_>> = self
            .slices
            .iter_mut()
            .map(|(name, held)| Part {
                written_anyway: touched.contains(name),
                endpoints: &mut held.endpoints,
            })
            .collect();
        let (changed, disabled) = assign(&mut parts, zones);
        let names = self.slices.keys().enumerate();
        self.touched.extend(
            names
                .filter(|(position, _)| changed.contains(position))
                .map(|(_, name)| name.clone()),
        );
        disabled
    }

    /// The slices to write since the last call.
    pub(super) fn writes(&mut self, frame: &Frame<'_>, changes: &mut Vec<SliceChange>) {
        for name in core::mem::take(&mut self.touched) {
            changes.push(match self.slices.get(&name) {
                Some(held) => SliceChange::Apply(held.slice(name, self.family, frame)),
                None => SliceChange::Delete(NamespacedName {
                    namespace: frame.service.name.namespace.clone(),
                    name,
                }),
            });
        }
    }

    /// Refreshes and removes endpoints where they are, and returns those that need a place.
    fn place(&mut self, wanted: impl Iterator<Item = Wanted>, frame: &Frame<'_>) -> Homeless {
        let keep_hints = super::topology_mode_is_auto(frame.service);
        let mut homeless = Homeless::new();
        for (pod, wanted) in wanted {
            let Some((ports, mut endpoint)) = wanted else {
                self.remove(&pod);
                continue;
            };
            if let Some((slice, held)) = self.find(&pod) {
                let current = held.endpoints.iter_mut().find(|e| e.pod() == Some(&pod));
                match current.filter(|_| same_ports(&held.ports, &ports)) {
                    Some(current) => {
                        if keep_hints {
                            copy_hints(current, &mut endpoint);
                        }
                        if *current != endpoint {
                            *current = endpoint;
                            self.touched.insert(slice);
                        }
                        continue;
                    }
                    None => self.remove(&pod),
                }
            }
            match homeless.iter_mut().find(|(p, _)| same_ports(p, &ports)) {
                Some((_, endpoints)) => endpoints.push(endpoint),
                None => homeless.push((ports, [endpoint].into())),
            }
        }
        homeless
    }

    fn find(&mut self, pod: &Name) -> Option<(Name, &mut HeldSlice)> {
        let name = self.slice_of_pod.get(pod)?;
        Some((name.clone(), self.slices.get_mut(name)?))
    }

    fn remove(&mut self, pod: &Name) {
        let Some((name, held)) = self.find(pod) else {
            return;
        };
        if let Some(position) = held.endpoints.iter().position(|e| e.pod() == Some(pod)) {
            held.endpoints.remove(position);
        }
        self.touched.insert(name);
        self.slice_of_pod.remove(pod);
    }

    /// Slices that are written anyway take new endpoints first, the fullest first.
    fn fill_touched(&mut self, ports: &Ports, endpoints: &mut Vec<SliceEndpoint>, max: usize) {
        if endpoints.is_empty() {
            return;
        }
        let mut candidates: Vec<(usize, Name)> = self
            .touched
            .iter()
            .filter_map(|name| Some((self.slices.get(name)?, name)))
            .filter(|(held, _)| !held.endpoints.is_empty() && same_ports(&held.ports, ports))
            .map(|(held, name)| (held.endpoints.len(), name.clone()))
            .collect();
        candidates.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        for (length, name) in candidates {
            let room = max.saturating_sub(length).min(endpoints.len());
            self.put(&name, endpoints.drain(..room));
        }
    }

    /// The rest goes into the one slice that is fullest afterwards, if it fits into one.
    fn fill_best(&mut self, ports: &Ports, endpoints: &mut Vec<SliceEndpoint>, max: usize) {
        if endpoints.is_empty() || endpoints.len() >= max {
            return;
        }
        let room = |held: &HeldSlice| max.saturating_sub(held.endpoints.len());
        let best = self
            .slices
            .iter()
            .filter(|(name, held)| {
                room(held) >= endpoints.len()
                    && !held.endpoints.is_empty()
                    && !self.touched.contains(*name)
                    && same_ports(&held.ports, ports)
            })
            .min_by_key(|(_, held)| room(held))
            .map(|(name, _)| name.clone());
        if let Some(name) = best {
            self.put(&name, endpoints.drain(..));
        }
    }

    /// What is left gets slices of its own: emptied ones under their old names (B-417), then new ones.
    fn fill_new(&mut self, ports: &Ports, endpoints: &mut Vec<SliceEndpoint>, frame: &Frame<'_>) {
        while !endpoints.is_empty() {
            let emptied = self
                .slices
                .iter()
                .find(|(_, held)| held.endpoints.is_empty());
            let name = match emptied {
                Some((name, _)) => name.clone(),
                // No new ones for a Service that is being deleted (B-423).
                None if frame.service.terminating => return,
                None => self.new_name(frame),
            };
            let held = HeldSlice {
                ports: ports.clone(),
                ..HeldSlice::empty(frame)
            };
            self.slices.insert(name.clone(), held);
            let count = endpoints.len().min(frame.max_endpoints.max(1));
            self.put(&name, endpoints.drain(..count));
        }
    }

    /// Empty slices go, but for a last one that says that there is nothing (B-399).
    fn drop_empty(&mut self, frame: &Frame<'_>) {
        let mut empty: Vec<Name> = self
            .slices
            .iter()
            .filter(|(_, held)| held.endpoints.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if empty.len() == self.slices.len() {
            if empty.is_empty() {
                if frame.service.terminating {
                    return;
                }
                let name = self.new_name(frame);
                self.slices.insert(name.clone(), HeldSlice::empty(frame));
                self.touched.insert(name);
                return;
            }
            let placeholder = empty.remove(0);
            if let Some(held) = self.slices.get_mut(&placeholder)
                && !held.ports.is_empty()
            {
                held.ports = Ports::from([]);
                self.touched.insert(placeholder);
            }
        }
        for name in empty {
            self.slices.remove(&name);
            self.touched.insert(name);
        }
    }

    fn put(&mut self, name: &Name, endpoints: impl Iterator<Item = SliceEndpoint>) {
        let Some(held) = self.slices.get_mut(name) else {
            return;
        };
        let before = held.endpoints.len();
        held.endpoints.extend(endpoints);
        for endpoint in &held.endpoints[before..] {
            if let Some(pod) = endpoint.pod() {
                self.slice_of_pod.insert(pod.clone(), name.clone());
            }
        }
        if held.endpoints.len() > before {
            self.touched.insert(name.clone());
        }
    }

    /// A name that nothing in the namespace has.
    fn new_name(&mut self, frame: &Frame<'_>) -> Name {
        loop {
            let name = slice_name(&frame.service.name, self.family, self.next_number).name;
            self.next_number = self.next_number.wrapping_add(1);
            if !self.slices.contains_key(&name) && !(frame.taken)(&name) {
                return name;
            }
        }
    }
}

impl HeldSlice {
    fn empty(frame: &Frame<'_>) -> Self {
        Self {
            ports: Ports::from([]),
            endpoints: Vec::new(),
            labels: frame.labels.clone(),
            headless: frame.headless,
        }
    }

    fn slice(&self, name: Name, family: IpFamily, frame: &Frame<'_>) -> EndpointSlice {
        EndpointSlice {
            name: NamespacedName {
                namespace: frame.service.name.namespace.clone(),
                name,
            },
            service: frame.service.name.name.clone(),
            family,
            ports: self.ports.iter().cloned().collect(),
            endpoints: self.endpoints.iter().cloned().collect(),
            headless: self.headless,
            managed_by: Some(frame.managed_by.clone()),
            labels: self.labels.clone(),
            trigger_time: frame.trigger_time,
        }
    }
}

fn copy_hints(from: &SliceEndpoint, to: &mut SliceEndpoint) {
    if let (Some(from), Some(to)) = (&from.extra, &mut to.extra)
        && from.hints != to.hints
    {
        Arc::make_mut(to).hints = from.hints.clone();
    }
}
