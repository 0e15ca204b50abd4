//! A zone from manifests or a cluster, kept up to date as they change.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use svc_core::dns::{Zone, ZoneError, ZoneOptions};
use svc_core::{Changes, ClusterState, Diagnostic, Event, NamespacedName};

use crate::cluster::{Cluster, list};
use crate::cluster_watch::Notice;
use crate::manifest::Manifests;

/// Objects and the zone that they make.
#[derive(Debug)]
pub(super) struct ZoneSource {
    cluster: Cluster,
    state: ClusterState,
    zone: Zone,
    /// What was said of Services that a watch told of.
    told: BTreeMap<NamespacedName, Vec<Diagnostic>>,
    news: Vec<Diagnostic>,
}

impl ZoneSource {
    pub(super) fn new(options: ZoneOptions) -> Result<Self, ZoneError> {
        Ok(Self {
            cluster: Cluster::default(),
            state: ClusterState::new(),
            zone: Zone::new(options)?,
            told: BTreeMap::new(),
            news: Vec::new(),
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
                let changed = self.zone.refresh(&self.state, &changes);
                self.tell(&changes);
                changed
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

    /// Finds what Services cannot have and nobody was told yet.
    fn tell(&mut self, changes: &Changes) {
        let names = changes.services.iter();
        for name in names.filter_map(|id| self.state.name_at(*id)) {
            let now = self.zone.diagnostics_of(name);
            let before = self.told.get(name).map_or(&[][..], Vec::as_slice);
            if now == before {
                continue;
            }
            let new = now.iter().filter(|one| !before.contains(one));
            self.news.extend(new.cloned());
            match now {
                [] => self.told.remove(name),
                _ => self.told.insert(name.clone(), now.to_vec()),
            };
        }
    }

    /// What Services that a watch told of cannot have, said once.
    pub(super) fn take_news(&mut self) -> Vec<Diagnostic> {
        std::mem::take(&mut self.news)
    }

    pub(super) fn zone(&self) -> &Zone {
        &self.zone
    }

    /// What is wrong with manifests that were taken in, in lines.
    pub(super) fn remarks(&self, manifests: &Manifests) -> Vec<String> {
        let skipped = manifests.skipped.iter();
        let of_files = manifests.diagnostics.iter();
        let of_objects = self.cluster.diagnostics.iter();
        let of_names = self.zone.diagnostics();
        skipped
            .map(|skipped| format!("note: {skipped}"))
            .chain(of_files.map(|(file, diagnostic)| format!("{file}: {diagnostic}")))
            .chain(of_objects.map(ToString::to_string))
            .chain(of_names.into_iter().map(ToString::to_string))
            .collect()
    }
}

/// Seconds since 1970, as serials count them.
fn now() -> u32 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() as u32)
}

#[cfg(test)]
mod tests {
    use svc_core::WatchEvent;
    use svc_core::object::{Service, ServiceType};

    use super::*;

    #[test]
    fn what_a_service_of_a_cluster_cannot_have_is_said_once() {
        let mut source =
            ZoneSource::new(ZoneOptions::new("cluster.local".parse().unwrap())).unwrap();
        let mut outside = Service::named(NamespacedName::new("shop", "outside"));
        outside.service_type = ServiceType::ExternalName;
        let mut said = |target: &str| {
            outside.external_name = Some(target.into());
            let event = Event::Service(WatchEvent::Apply(outside.clone()));
            source.notice(Notice::Event(event));
            source
                .take_news()
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let first = said("192.0.2.1");
        assert_eq!(first.len(), 1, "{first:?}");
        assert!(first[0].contains("shop/outside"), "{first:?}");
        assert!(said("192.0.2.1").is_empty());
        assert!(said("example.com").is_empty());
        assert_eq!(said("192.0.2.1"), first);
    }
}
