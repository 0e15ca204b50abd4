//! A client for the cluster that a program was pointed at.

use std::path::Path;
use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};

use super::timely::timely;
use super::{Access, Error};

/// A server that does not even take the connection is tried again soon.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Makes a client whose requests are answered within a time or fail; needs a runtime, as it starts tasks.
pub(super) async fn client(access: &Access, answer: Duration) -> Result<Client, Error> {
    let mut config = config(access).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    // What is tried again is ours to say, and to tell of: the client would hide an overloaded server for
    // minutes, and wait for as long as that server wishes.
    config.default_retry = false;
    let client = Client::try_from(config).map_err(|error| Error::Credentials {
        source: error.into(),
    })?;
    Ok(timely(client, answer))
}

async fn config(access: &Access) -> Result<Config, Error> {
    if let Some(path) = &access.kubeconfig {
        return load(path, Kubeconfig::read_from(path)).await;
    }
    let path = Path::new("KUBECONFIG");
    match Kubeconfig::from_env() {
        Ok(Some(kubeconfig)) => load(path, Ok(kubeconfig)).await,
        Err(error) => load(path, Err(error)).await,
        Ok(None) => Config::incluster().map_err(|error| Error::NoCluster {
            source: error.into(),
        }),
    }
}

async fn load(path: &Path, read: Result<Kubeconfig, KubeconfigError>) -> Result<Config, Error> {
    let unusable = |error: KubeconfigError| Error::Kubeconfig {
        path: path.into(),
        source: error.into(),
    };
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(read.map_err(unusable)?, &options).await;
    config.map_err(unusable)
}
