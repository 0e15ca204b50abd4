//! One model from manifests to a plan: what the API server and the controllers would have done
//! to the objects is done here.

use std::collections::{BTreeMap, BTreeSet};

use svc_core::allocate::{Allocators, NodePortRange};
use svc_core::endpoints;
use svc_core::load_balancer::{AddressPools, Pool, provide};
use svc_core::object::{EndpointSlice, Service, ServiceCidr};
use svc_core::{Diagnostic, Event, IpNet, NamespacedName, Planner, WatchEvent};

use crate::manifest::{Manifests, Origin};
use held::keep;

mod held;
#[cfg(test)]
mod tests;

/// Objects as a proxy would see them: with addresses and slices.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Services, with ClusterIPs and node ports.
    pub services: Vec<Service>,
    /// EndpointSlices, those given and those made of Pods.
    pub endpoint_slices: Vec<EndpointSlice>,
    /// What was odd about addresses and slices.
    pub diagnostics: Vec<Diagnostic>,
}

/// Starts the choice of addresses; the same manifests get the same ones each time.
const SEED: u64 = 0;
/// Where ClusterIPs come from when the manifests have no ServiceCIDR: kubeadm's default, and a
/// range of unique local addresses.
const DEFAULT_SERVICE_CIDRS: [&str; 2] = ["10.96.0.0/12", "fd00:10:96::/112"];

impl Cluster {
    /// Does to the objects of some manifests what a cluster does to them.
    ///
    /// Services without ClusterIP or node port get one, those of type LoadBalancer an address if
    /// there are pools. Services that an API server stored are complete and get nothing but that:
    /// one of policy PreferDualStack with a single address has never been upgraded (B-396). A
    /// Service for which the manifests hold slices keeps just these; slices of the others are made
    /// of their Pods, or of Endpoints of the same name.
    pub fn of(manifests: &Manifests) -> Self {
        Self::default().next(manifests)
    }

    /// The same after a change of the manifests: Services keep the addresses that they were given.
    #[must_use]
    pub fn next(&self, manifests: &Manifests) -> Self {
        let services = manifests.services.clone();
        let slices = manifests.endpoint_slices.clone();
        self.complete(services, slices, manifests)
    }

    /// The same, with the Services and EndpointSlices taken out of the manifests, not copied.
    #[must_use]
    pub fn next_taking(&self, manifests: &mut Manifests) -> Self {
        let services = std::mem::take(&mut manifests.services);
        let slices = std::mem::take(&mut manifests.endpoint_slices);
        self.complete(services, slices, manifests)
    }

    fn complete(
        &self,
        mut services: Vec<Service>,
        mut endpoint_slices: Vec<EndpointSlice>,
        manifests: &Manifests,
    ) -> Self {
        let mut diagnostics = match manifests.origin {
            Origin::Files => self.allocate(&mut services, manifests),
            Origin::ApiServer => Vec::new(),
        };
        if !manifests.load_balancer_pools.is_empty() {
            let pool = Pool::new("default", manifests.load_balancer_pools.clone());
            let mut provider = AddressPools::new(vec![pool]);
            diagnostics.extend(provide(&mut provider, &mut services));
        }
        let given: BTreeSet<NamespacedName> = endpoint_slices
            .iter()
            .map(EndpointSlice::service_name)
            .collect();
        let topology = manifests.topology();
        for service in services.iter().filter(|s| !given.contains(&s.name)) {
            let (slices, found) = endpoints::slices(service, &manifests.pods, &topology);
            endpoint_slices.extend(slices);
            diagnostics.extend(found);
        }
        let by_hand = manifests.endpoints.iter();
        for endpoints in by_hand.filter(|e| !given.contains(&e.name)) {
            let service = services.iter().find(|s| s.name == endpoints.name);
            let (slices, found) = endpoints::mirror(endpoints, service);
            endpoint_slices.extend(slices);
            diagnostics.extend(found);
        }
        Self {
            services,
            endpoint_slices,
            diagnostics,
        }
    }

    fn allocate(&self, services: &mut [Service], manifests: &Manifests) -> Vec<Diagnostic> {
        self.keep_addresses(services);
        let (mut allocators, mut diagnostics) =
            Allocators::new(&ranges(manifests), NodePortRange::default());
        diagnostics.extend(allocators.assign(services, SEED));
        diagnostics
    }

    fn keep_addresses(&self, services: &mut [Service]) {
        let held: BTreeMap<_, _> = self.services.iter().map(|s| (&s.name, s)).collect();
        for service in services {
            if let Some(before) = held.get(&service.name) {
                keep(before, service);
            }
        }
    }
}

fn ranges(manifests: &Manifests) -> Vec<ServiceCidr> {
    if !manifests.service_cidrs.is_empty() {
        return manifests.service_cidrs.clone();
    }
    let cidrs: Vec<IpNet> = DEFAULT_SERVICE_CIDRS
        .iter()
        .filter_map(|cidr| cidr.parse().ok())
        .collect();
    vec![ServiceCidr {
        name: "default".into(),
        cidrs,
        ready: true,
        terminating: false,
    }]
}

/// Hands a complete set of objects to a planner, as a list would: what is not in it is gone.
pub fn feed(planner: &mut Planner, manifests: &Manifests, cluster: &Cluster) {
    for event in list(&manifests.nodes) {
        planner.handle(Event::Node(event));
    }
    for event in list(&manifests.service_cidrs) {
        planner.handle(Event::ServiceCidr(event));
    }
    for event in list(&cluster.services) {
        planner.handle(Event::Service(event));
    }
    for event in list(&cluster.endpoint_slices) {
        planner.handle(Event::EndpointSlice(event));
    }
}

/// The events of a complete list.
pub fn list<T: Clone, K>(objects: &[T]) -> impl Iterator<Item = WatchEvent<T, K>> {
    let objects = objects.iter().cloned().map(WatchEvent::InitApply);
    [WatchEvent::Init]
        .into_iter()
        .chain(objects)
        .chain([WatchEvent::InitDone])
}
