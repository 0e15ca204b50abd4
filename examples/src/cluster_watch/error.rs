//! Why a cluster cannot be watched at all.

use std::io;
use std::path::PathBuf;

/// Why a cluster cannot be watched or listed at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The program knows manifests only; build it with `--features cluster`.
    #[error("built without the feature `cluster`, so it cannot read from an API server")]
    NotBuilt,
    /// The kubeconfig cannot be read, or names what it does not hold.
    #[error("kubeconfig {}", path.display())]
    Kubeconfig {
        /// The file, or `KUBECONFIG` for the files that the variable names.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No kubeconfig is named, and this is no pod either.
    #[error("no cluster: give --kubeconfig or set KUBECONFIG, as this is no pod of a cluster")]
    NoCluster {
        /// What a pod would have.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The credentials or certificates cannot be used.
    #[error("credentials for the API server")]
    Credentials {
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing could be listed.
    #[error("the API server: {message}")]
    Server {
        /// What went wrong, in one line.
        message: String,
    },
    /// No thread, or no event loop.
    #[error("cannot start a thread for watches")]
    Thread(#[from] io::Error),
}
