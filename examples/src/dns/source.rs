//! A zone from manifests or a cluster, kept up to date as they change.

use std::time::{SystemTime, UNIX_EPOCH};

use svc_core::dns::{Zone, ZoneError, ZoneOptions};
use svc_core::{ClusterState, Event};

use crate::cluster::{Cluster, list};
use crate::cluster_watch::Notice;
use crate::manifest::Manifests;

/// Objects and the zone that they make.
#[derive(Debug)]
pub(super) struct ZoneSource {
    cluster: Cluster,
    state: ClusterState,
    zone: Zone,
}

impl ZoneSource {
    pub(super) fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        Ok(Self {
            cluster: Cluster::default(),
            state: ClusterState::new(),
            zone: Zone::new(options)?,
        })
    }

    /// Takes in a complete set of objects: what is not in it is gone. Whether a record changed.
    pub(super) fn take(&mut self, manifests: &Manifests) -> bool {
        self.cluster = self.cluster.next(manifests);
        let zone = &mut self.zone;
        let mut changed = false;
        for event in list(&manifests.namespaces) {
            changed |= zone.apply_namespace(event);
        }
        for event in list(&manifests.pods) {
            changed |= zone.apply_pod(event);
        }
        let services = list(&self.cluster.services).map(Event::Service);
        let slices = list(&self.cluster.endpoint_slices).map(Event::EndpointSlice);
        for event in services.chain(slices) {
            let changes = self.state.apply(event);
            changed |= zone.refresh(&self.state, &changes);
        }
        if changed {
            zone.set_serial(now());
        }
        changed
    }

    /// Takes in what a watch has to say. Whether a record changed.
    pub(super) fn notice(&mut self, notice: Notice) -> bool {
        let changed = match notice {
            Notice::Event(event) => {
                let changes = self.state.apply(event);
                self.zone.refresh(&self.state, &changes)
            }
            Notice::Pod(event) => self.zone.apply_pod(event),
            Notice::Namespace(event) => self.zone.apply_namespace(event),
            Notice::Complete
            | Notice::Remarks { .. }
            | Notice::Triggered(_)
            | Notice::Link { .. } => false,
        };
        if changed {
            self.zone.set_serial(now());
        }
        changed
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    pub(super) fn cluster(&self) -> &Cluster {
        &self.cluster
    }
}

/// Seconds since 1970, as serials count them.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}
