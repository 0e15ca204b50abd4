//! One model from manifests to a plan: what the API server and the controllers would have done
//! to the objects is done here.

use std::collections::BTreeSet;

use svc_core::endpoints::{self, Topology};
use svc_core::object::{EndpointSlice, Service};
use svc_core::{Diagnostic, Event, NamespacedName, Planner, WatchEvent};

use crate::manifest::Manifests;

/// Objects as a proxy would see them: with addresses and slices.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Services.
    pub services: Vec<Service>,
    /// EndpointSlices, those given and those made of Pods.
    pub endpoint_slices: Vec<EndpointSlice>,
    /// What was odd about making slices.
    pub diagnostics: Vec<Diagnostic>,
}

impl Cluster {
    /// Does to the objects of some manifests what a cluster does to them.
    ///
    /// A Service for which the manifests hold slices keeps just these; slices of the others are
    /// made of their Pods, or of Endpoints of the same name.
    pub fn of(manifests: &Manifests) -> Self {
        let mut cluster = Self {
            services: manifests.services.clone(),
            endpoint_slices: manifests.endpoint_slices.clone(),
            diagnostics: Vec::new(),
        };
        let given: BTreeSet<NamespacedName> = manifests
            .endpoint_slices
            .iter()
            .map(EndpointSlice::service_name)
            .collect();
        let topology = Topology::of(&manifests.nodes);
        for service in cluster.services.iter().filter(|s| !given.contains(&s.name)) {
            let (slices, diagnostics) = endpoints::slices(service, &manifests.pods, &topology);
            cluster.endpoint_slices.extend(slices);
            cluster.diagnostics.extend(diagnostics);
        }
        cluster
    }
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
