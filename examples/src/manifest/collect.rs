//! Objects of all files, by kind and name.

use std::collections::BTreeMap;
use std::sync::Arc;

use svc_core::wire::{self, Conversion, Converted, Document, Object};
use svc_core::{Diagnostic, DiagnosticReason, Name, NamespacedName, ObjectKind};

use super::{Manifests, Origin, Problem, Skipped};
use svc_core::object::{
    EndpointSlice, Endpoints, Node, Pod, Service, ServiceCidr, Workload, WorkloadKind,
};

/// Whether objects are kept as they stood as well.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Originals {
    #[default]
    Kept,
    Dropped,
}

#[derive(Default)]
pub(super) struct Collector {
    originals: Originals,
    conversion: Conversion,
    /// The file that each object comes from, to name it when another one takes its place.
    origins: BTreeMap<(ObjectKind, NamespacedName), Arc<str>>,
    services: BTreeMap<NamespacedName, Service>,
    endpoint_slices: BTreeMap<NamespacedName, EndpointSlice>,
    nodes: BTreeMap<Name, Node>,
    pods: BTreeMap<NamespacedName, Pod>,
    endpoints: BTreeMap<NamespacedName, Endpoints>,
    workloads: BTreeMap<(WorkloadKind, NamespacedName), Workload>,
    service_cidrs: BTreeMap<Name, ServiceCidr>,
    /// What needs no more than a place in the answer.
    result: Manifests,
}

impl Collector {
    /// One that keeps no object as it stood.
    pub(super) fn compact() -> Self {
        Self {
            originals: Originals::Dropped,
            ..Self::default()
        }
    }

    pub(super) fn set_origin(&mut self, origin: Origin) {
        self.result.origin = origin;
    }

    pub(super) fn problem(&mut self, problem: Problem) {
        self.result.problems.push(problem);
    }

    /// Takes over the objects of a document that starts on a line of a file.
    pub(super) fn document(&mut self, file: &Arc<str>, line: Option<u64>, document: Document) {
        for object in document.objects {
            match object {
                Ok(object) => self.object(file, object),
                Err(error) => self.problem(Problem {
                    file: file.clone(),
                    line,
                    column: None,
                    message: error.to_string(),
                }),
            }
        }
    }

    fn object(&mut self, file: &Arc<str>, object: Object) {
        match object {
            Object::Service(wire) => self.service(file, *wire),
            Object::EndpointSlice(wire) => {
                let converted = self.conversion.endpoint_slice(&wire);
                let slice = self.keep(file, ObjectKind::EndpointSlice, converted);
                let named = slice.map(|slice| (slice.name.clone(), slice));
                self.endpoint_slices.extend(named);
            }
            Object::Node(wire) => {
                let converted = self.conversion.node(&wire);
                let node = self.keep(file, ObjectKind::Node, converted);
                self.nodes
                    .extend(node.map(|node| (node.name.clone(), node)));
            }
            Object::Pod(wire) => {
                let converted = self.conversion.pod(&wire);
                let pod = self.keep(file, ObjectKind::Pod, converted);
                self.pods.extend(pod.map(|pod| (pod.name.clone(), pod)));
            }
            Object::Namespace(wire) => {
                let converted = self.conversion.namespace(&wire);
                let name = self.keep(file, ObjectKind::Namespace, converted);
                self.result.namespaces.extend(name);
            }
            Object::Endpoints(wire) => {
                let converted = self.conversion.endpoints(&wire);
                let endpoints = self.keep(file, ObjectKind::Endpoints, converted);
                let named = endpoints.map(|endpoints| (endpoints.name.clone(), endpoints));
                self.endpoints.extend(named);
            }
            Object::Workload(kind, wire) => self.workload(file, kind, *wire),
            Object::ServiceCidr(wire) => {
                let converted = self.conversion.service_cidr(&wire);
                let cidr = self.keep(file, ObjectKind::ServiceCIDR, converted);
                let named = cidr.map(|cidr| (cidr.name.clone(), cidr));
                self.service_cidrs.extend(named);
            }
            Object::Unknown {
                api_version,
                kind,
                name,
            } => self.result.skipped.push(Skipped {
                file: file.clone(),
                api_version,
                kind,
                name,
            }),
        }
    }

    fn service(&mut self, file: &Arc<str>, wire: wire::Service) {
        let converted = self.conversion.service(&wire);
        if let Some(service) = self.keep(file, ObjectKind::Service, converted) {
            let name = service.name.clone();
            if self.originals == Originals::Kept {
                self.result.wire_services.insert(name.clone(), wire);
            }
            self.services.insert(name, service);
        }
    }

    fn workload(&mut self, file: &Arc<str>, kind: WorkloadKind, wire: wire::Workload) {
        let converted = self.conversion.workload(kind, &wire);
        if let Some(workload) = self.keep(file, object_kind(kind), converted) {
            let key = (kind, workload.name.clone());
            if self.originals == Originals::Kept {
                self.result.wire_workloads.insert(key.clone(), wire);
            }
            self.workloads.insert(key, workload);
        }
    }

    /// Files the diagnostics of an object, and reports one that it takes the place of.
    fn keep<T: Named>(
        &mut self,
        file: &Arc<str>,
        kind: ObjectKind,
        (object, diagnostics): Converted<T>,
    ) -> Option<T> {
        let diagnostics = diagnostics.into_iter().map(|d| (file.clone(), d));
        self.result.diagnostics.extend(diagnostics);
        let object = object?;
        let name = object.name();
        let earlier = self.origins.insert((kind, name.clone()), file.clone());
        if let Some(earlier) = earlier {
            let message = format!("stands twice; the earlier one, in {earlier}, is not used");
            let reason = DiagnosticReason::Duplicate;
            let diagnostic = Diagnostic::error(kind, &name, "metadata.name", reason, message);
            let diagnostic = diagnostic.warning();
            self.result.diagnostics.push((file.clone(), diagnostic));
        }
        Some(object)
    }

    pub(super) fn finish(self) -> Manifests {
        let mut result = self.result;
        result.services = self.services.into_values().collect();
        result.endpoint_slices = self.endpoint_slices.into_values().collect();
        result.nodes = self.nodes.into_values().collect();
        result.pods = self.pods.into_values().collect();
        result.endpoints = self.endpoints.into_values().collect();
        result.workloads = self.workloads.into_values().collect();
        result.service_cidrs = self.service_cidrs.into_values().collect();
        result.namespaces.sort_unstable();
        result.namespaces.dedup();
        result
    }
}

fn object_kind(kind: WorkloadKind) -> ObjectKind {
    match kind {
        WorkloadKind::Deployment => ObjectKind::Deployment,
        WorkloadKind::DaemonSet => ObjectKind::DaemonSet,
        WorkloadKind::ReplicaSet => ObjectKind::ReplicaSet,
        WorkloadKind::StatefulSet => ObjectKind::StatefulSet,
    }
}

/// An object with a name; those without a namespace are in the default one.
trait Named {
    fn name(&self) -> NamespacedName;
}

macro_rules! named {
    ($($namespaced:ty),*; $($cluster_scoped:ty),*) => {
        $(impl Named for $namespaced {
            fn name(&self) -> NamespacedName {
                self.name.clone()
            }
        })*
        $(impl Named for $cluster_scoped {
            fn name(&self) -> NamespacedName {
                NamespacedName::new("", self.name.clone())
            }
        })*
    };
}

named!(Service, EndpointSlice, Pod, Endpoints, Workload; Node, ServiceCidr);

impl Named for Name {
    fn name(&self) -> NamespacedName {
        NamespacedName::new("", self.clone())
    }
}
