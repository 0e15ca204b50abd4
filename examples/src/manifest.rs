//! Kubernetes objects from files: YAML with several documents, or JSON.
//!
//! Reading never fails as a whole. What cannot be read becomes a [`Problem`] that names the file,
//! line and column; what is odd about an object becomes a [`Diagnostic`]; the rest is used.

mod collect;
mod document;
mod file;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;

use svc_core::endpoints::Topology;
use svc_core::load_balancer::PoolRange;
use svc_core::object::{
    EndpointSlice, Endpoints, Node, Pod, Service, ServiceCidr, Workload, WorkloadKind,
};
use svc_core::{Diagnostic, Name, NamespacedName, wire};

use crate::cli::one_line;
use crate::cluster_watch::{self, Access, Resource, Subject};
use collect::Collector;
pub use document::read_value;

/// Stands for the file in problems with a cluster as a whole.
const CLUSTER: &str = "cluster";

/// Where manifests come from: one `--manifests` argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, or a directory whose `.yaml`, `.yml` and `.json` files count, without those below.
    Path(PathBuf),
    /// Standard input, written `-`.
    Stdin,
    /// These objects of a cluster, listed once at its API server: `--kubeconfig`.
    Cluster(Access, Vec<Subject>),
}

/// All objects of some manifests, each kind sorted by namespace and name.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)]
pub struct Manifests {
    pub services: Vec<Service>,
    pub endpoint_slices: Vec<EndpointSlice>,
    pub nodes: Vec<Node>,
    pub pods: Vec<Pod>,
    pub namespaces: Vec<Name>,
    pub endpoints: Vec<Endpoints>,
    pub workloads: Vec<Workload>,
    pub service_cidrs: Vec<ServiceCidr>,
    /// Whether the objects are complete.
    pub origin: Origin,
    /// What load balancers may give out; from the command line, no object says it.
    pub load_balancer_pools: Vec<PoolRange>,
    /// Services as they stood in the files, for tools that check or print them.
    pub wire_services: BTreeMap<NamespacedName, wire::Service>,
    /// Workloads as they stood in the files.
    pub wire_workloads: BTreeMap<(WorkloadKind, NamespacedName), wire::Workload>,
    /// Objects of kinds that have no part in Services.
    pub skipped: Vec<Skipped>,
    /// What could not be read.
    pub problems: Vec<Problem>,
    /// What is odd about objects that were read, with the file of each.
    pub diagnostics: Vec<(Arc<str>, Diagnostic)>,
}

/// Who had objects last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Origin {
    /// People: an API server would still fill in what they left out.
    #[default]
    Files,
    /// An API server: what it stores is complete, and whatever is missing is meant to be.
    ApiServer,
}

impl Manifests {
    /// The Nodes as endpoints depend on them: manifests without any do not say that there is none,
    /// so no Pod is left out for its Node (B-407).
    pub fn topology(&self) -> Topology {
        match self.nodes.is_empty() {
            true => Topology::unknown(),
            false => Topology::of(&self.nodes),
        }
    }

    /// What keeps the Services of a cluster, or their EndpointSlices, from being known: nothing may
    /// be written to a kernel then (B-237), as half of a cluster is worse than an old one.
    pub fn unknown_services(&self) -> Option<&Problem> {
        let needed = [Resource::Services.path(), Resource::EndpointSlices.path()];
        let stops = |problem: &&Problem| {
            *problem.file == *CLUSTER || needed.iter().any(|path| *problem.file == **path)
        };
        self.problems.iter().find(stops)
    }
}

/// Something that could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file, or `-` for standard input.
    pub file: Arc<str>,
    /// Line in the file, from 1; unknown when the file itself cannot be read.
    pub line: Option<u64>,
    /// Column in the line, from 1.
    pub column: Option<u64>,
    /// What is wrong, in one line.
    pub message: String,
}

/// An object of a kind that has no part in Services.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Skipped {
    pub file: Arc<str>,
    pub api_version: String,
    pub kind: String,
    pub name: String,
}

/// Manifests that come from elsewhere than files, such as the lists of an API server.
#[derive(Default)]
pub struct Reading {
    collector: Collector,
}

impl Reading {
    /// Takes over the objects of a document; `origin` is named in problems and diagnostics.
    pub fn document(&mut self, origin: &str, document: wire::Document) {
        self.collector.document(&origin.into(), None, document);
    }

    /// Notes that something could not be read.
    pub fn problem(&mut self, origin: &str, message: String) {
        self.collector.problem(Problem {
            file: origin.into(),
            line: None,
            column: None,
            message,
        });
    }

    /// All objects.
    pub fn finish(self) -> Manifests {
        self.collector.finish()
    }
}

/// Reads manifests from several sources, standard input from the process, for a program that runs
/// for long: without the objects as they stood, which take more room than everything else.
pub fn read_compact(sources: &[Source]) -> Manifests {
    read_into(Collector::compact(), sources, &mut std::io::stdin())
}

/// Reads manifests from several sources, standard input from the process.
pub fn read(sources: &[Source]) -> Manifests {
    read_with_stdin(sources, &mut std::io::stdin())
}

/// Reads manifests from several sources, standard input from a reader.
///
/// When two objects of one kind have the same namespace and name, the one read later wins.
pub fn read_with_stdin(sources: &[Source], stdin: &mut dyn Read) -> Manifests {
    read_into(Collector::default(), sources, stdin)
}

fn read_into(mut collector: Collector, sources: &[Source], stdin: &mut dyn Read) -> Manifests {
    for source in sources {
        match source {
            Source::Path(path) => file::read_path(&mut collector, path),
            Source::Stdin => file::read_stream(&mut collector, "-", stdin),
            Source::Cluster(access, subjects) => read_cluster(&mut collector, access, subjects),
        }
    }
    collector.finish()
}

fn read_cluster(collector: &mut Collector, access: &Access, subjects: &[Subject]) {
    let mut reading = Reading {
        collector: std::mem::take(collector),
    };
    reading.collector.set_origin(Origin::ApiServer);
    if let Err(error) = cluster_watch::list(access, subjects, &mut reading) {
        reading.problem(CLUSTER, one_line(&error));
    }
    *collector = reading.collector;
}

impl Source {
    /// The sources that `--manifests` and `--kubeconfig` name; the subjects are what to list of a
    /// cluster.
    pub fn of_arguments(
        manifests: &[PathBuf],
        kubeconfig: Option<&PathBuf>,
        subjects: Vec<Subject>,
    ) -> Vec<Self> {
        let cluster = kubeconfig.map(|path| {
            let kubeconfig = Some(path.clone());
            Self::Cluster(Access { kubeconfig }, subjects)
        });
        manifests
            .iter()
            .cloned()
            .map(Self::from)
            .chain(cluster)
            .collect()
    }

    /// Reads a `--manifests` argument.
    pub fn from_argument(argument: impl Into<PathBuf>) -> Self {
        let path = argument.into();
        if path.as_os_str() == "-" {
            return Self::Stdin;
        }
        Self::Path(path)
    }
}

impl From<PathBuf> for Source {
    fn from(path: PathBuf) -> Self {
        Self::from_argument(path)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(column) = self.column {
            write!(f, ":{column}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            file,
            api_version,
            kind,
            name,
        } = self;
        write!(
            f,
            "{file}: {api_version} {kind} {name:?} has no part in Services"
        )
    }
}
