//! Which resources are asked for, and with which selectors.

use svc_core::{Name, ObjectKind};

/// What a program wants to know of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interest {
    /// What forwarding on one node needs (B-008, B-009).
    Proxy {
        /// The node; its object is watched alone.
        node: Name,
    },
    /// What names need: headless Services too.
    Dns {
        /// Whether names of Pods are served.
        pods: Pods,
    },
}

/// Whether Pods are watched, of which there are many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Pods {
    Watched,
    Ignored,
}

/// A resource of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Resource {
    Services,
    EndpointSlices,
    Nodes,
    ServiceCidrs,
    Pods,
    Namespaces,
    Deployments,
    DaemonSets,
    ReplicaSets,
    StatefulSets,
}

/// What happens when the server does not have a resource or does not show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// It is needed: a failure.
    Fails,
    /// It can be done without.
    Tolerated,
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The resource.
    pub resource: Resource,
    /// Which of its objects, by label; empty for all.
    pub labels: &'static str,
    /// Which of its objects, by field; empty for all.
    pub fields: String,
    /// Whether it can be done without.
    pub missing: Missing,
}

/// Services of another proxy, and headless ones, are none of a proxy's business.
const PROXIED: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// What has a part in Services, in the order of reports.
const LISTED: [Resource; 10] = [
    Resource::Services,
    Resource::EndpointSlices,
    Resource::Nodes,
    Resource::Pods,
    Resource::Namespaces,
    Resource::ServiceCidrs,
    Resource::Deployments,
    Resource::DaemonSets,
    Resource::ReplicaSets,
    Resource::StatefulSets,
];

impl Interest {
    /// The watches that this takes.
    pub fn subjects(&self) -> Vec<Subject> {
        match self {
            Self::Proxy { node } => vec![
                Subject::new(Resource::Services).labelled(PROXIED),
                Subject::new(Resource::EndpointSlices).labelled(PROXIED),
                Subject {
                    fields: format!("metadata.name={node}"),
                    ..Subject::new(Resource::Nodes)
                },
                Subject {
                    missing: Missing::Tolerated,
                    ..Subject::new(Resource::ServiceCidrs)
                },
            ],
            Self::Dns { pods } => {
                let mut subjects = vec![
                    Subject::new(Resource::Services),
                    Subject::new(Resource::EndpointSlices),
                    Subject::new(Resource::Namespaces),
                ];
                match pods {
                    Pods::Watched => subjects.push(Subject::new(Resource::Pods)),
                    Pods::Ignored => {}
                }
                subjects
            }
        }
    }
}

impl Subject {
    /// All objects that have a part in Services, for a command that looks at a cluster as at
    /// manifests.
    pub fn everything() -> Vec<Self> {
        let subject = |resource| Self {
            // Servers before 1.33 do not have these, and they are needed for new addresses only.
            missing: match resource == Resource::ServiceCidrs {
                true => Missing::Tolerated,
                false => Missing::Fails,
            },
            ..Self::new(resource)
        };
        LISTED.map(subject).into()
    }

    fn new(resource: Resource) -> Self {
        Self {
            resource,
            labels: "",
            fields: String::new(),
            missing: Missing::Fails,
        }
    }

    fn labelled(self, labels: &'static str) -> Self {
        Self { labels, ..self }
    }
}

impl Resource {
    /// Its API group; empty for the core group.
    pub fn group(self) -> &'static str {
        match self {
            Self::Services | Self::Nodes | Self::Pods | Self::Namespaces => "",
            Self::EndpointSlices => "discovery.k8s.io",
            Self::ServiceCidrs => "networking.k8s.io",
            Self::Deployments | Self::DaemonSets | Self::ReplicaSets | Self::StatefulSets => "apps",
        }
    }

    /// Its name in paths and in roles.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Services => "services",
            Self::EndpointSlices => "endpointslices",
            Self::Nodes => "nodes",
            Self::ServiceCidrs => "servicecidrs",
            Self::Pods => "pods",
            Self::Namespaces => "namespaces",
            Self::Deployments => "deployments",
            Self::DaemonSets => "daemonsets",
            Self::ReplicaSets => "replicasets",
            Self::StatefulSets => "statefulsets",
        }
    }

    /// The kind of its objects.
    pub fn kind(self) -> ObjectKind {
        match self {
            Self::Services => ObjectKind::Service,
            Self::EndpointSlices => ObjectKind::EndpointSlice,
            Self::Nodes => ObjectKind::Node,
            Self::ServiceCidrs => ObjectKind::ServiceCIDR,
            Self::Pods => ObjectKind::Pod,
            Self::Namespaces => ObjectKind::Namespace,
            Self::Deployments => ObjectKind::Deployment,
            Self::DaemonSets => ObjectKind::DaemonSet,
            Self::ReplicaSets => ObjectKind::ReplicaSet,
            Self::StatefulSets => ObjectKind::StatefulSet,
        }
    }

    /// The path of the objects of all namespaces.
    pub fn path(self) -> String {
        match self.group() {
            "" => format!("/api/v1/{}", self.plural()),
            group => format!("/apis/{group}/v1/{}", self.plural()),
        }
    }
}
