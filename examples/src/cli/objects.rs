//! Manifests for commands that need no node, and the objects that command lines name.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use svc_core::{Name, NamespacedName, Severity};

use super::input::{PoolArgs, level};
use crate::cluster_watch::{Subject, kubeconfig};
use crate::manifest::{self, Manifests, Source};

/// Where objects come from, and which count.
#[derive(Clone, Debug, clap::Args)]
pub struct ManifestArgs {
    /// File, directory or - (standard input) with Kubernetes objects; repeatable
    #[arg(long, value_name = "PATH", required_unless_present = "kubeconfig")]
    manifests: Vec<PathBuf>,
    #[command(flatten)]
    pools: PoolArgs,
    /// Kubeconfig of a cluster to read from instead of manifests
    #[arg(long, value_name = "FILE", conflicts_with = "manifests", value_parser = kubeconfig)]
    kubeconfig: Option<PathBuf>,
    /// Only objects of this namespace
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
}

/// An object as a command line names it: NAME or NS/NAME.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName {
    namespace: Option<String>,
    name: String,
}

/// A named object cannot be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotFound {
    /// No manifest has it.
    #[error("there is no {kind} {name} in the manifests")]
    Missing {
        /// What was looked for.
        kind: &'static str,
        /// Name as it was asked for.
        name: String,
    },
    /// Several namespaces have it; say which with `--namespace`.
    #[error("{kind} {name} is in several namespaces, name one with -n: {namespaces}")]
    Ambiguous {
        /// What was looked for.
        kind: &'static str,
        /// Name as it was asked for.
        name: String,
        /// The namespaces that have it.
        namespaces: String,
    },
}

impl ManifestArgs {
    /// Reads the manifests and prints one line for each thing that cannot be read.
    ///
    /// The exit code says whether there was any.
    pub fn read(&self) -> (Manifests, ExitCode) {
        let sources = Source::of_arguments(
            &self.manifests,
            self.kubeconfig.as_ref(),
            Subject::everything(),
        );
        let manifests = self.pools.with(manifest::read(&sources));
        for problem in &manifests.problems {
            eprintln!("error: {problem}");
        }
        let code = match manifests.problems.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        };
        (manifests, code)
    }

    /// The same, with remarks about single objects.
    pub fn read_with_remarks(&self) -> (Manifests, ExitCode) {
        let (manifests, mut code) = self.read();
        for (file, diagnostic) in &manifests.diagnostics {
            eprintln!("{}: {file}: {diagnostic}", level(diagnostic));
            if diagnostic.severity == Severity::Error {
                code = ExitCode::FAILURE;
            }
        }
        (manifests, code)
    }

    /// Whether objects of a namespace count.
    pub fn wants(&self, namespace: &Name) -> bool {
        let wanted = self.namespace.as_deref();
        wanted.is_none_or(|wanted| wanted == &**namespace)
    }

    /// The object that a name means: that of the namespace, or else the only one of that name.
    ///
    /// # Errors
    /// When there is none, or several and no namespace is given.
    pub fn find<'a, T>(
        &self,
        kind: &'static str,
        wanted: &ObjectName,
        objects: impl IntoIterator<Item = (&'a NamespacedName, T)>,
    ) -> Result<T, NotFound> {
        let namespace = wanted.namespace.as_deref().or(self.namespace.as_deref());
        let fits = |name: &NamespacedName| {
            *name.name == *wanted.name && namespace.is_none_or(|n| n == &*name.namespace)
        };
        let mut found: Vec<(&NamespacedName, T)> =
            objects.into_iter().filter(|(name, _)| fits(name)).collect();
        let name = match namespace {
            Some(namespace) => format!("{namespace}/{}", wanted.name),
            None => wanted.name.clone(),
        };
        if found.len() > 1 {
            let namespaces: Vec<&str> = found.iter().map(|(n, _)| &*n.namespace).collect();
            let namespaces = namespaces.join(", ");
            return Err(NotFound::Ambiguous {
                kind,
                name,
                namespaces,
            });
        }
        let only = found.pop().map(|(_, object)| object);
        only.ok_or(NotFound::Missing { kind, name })
    }
}

impl FromStr for ObjectName {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace.to_owned()), name),
            None => (None, text),
        };
        let name = name.to_owned();
        Ok(Self { namespace, name })
    }
}

/// Whether a command ends well: only if it did so far and now.
pub fn worse(code: ExitCode, fails: bool) -> ExitCode {
    match fails {
        true => ExitCode::FAILURE,
        false => code,
    }
}
