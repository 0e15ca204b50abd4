//! When what leads to a write of slices happened (B-424).

use alloc::collections::BTreeMap;

use crate::name::Name;
use crate::object::{Pod, Service};

/// The trigger times of a Service that were answered by writes already, in seconds since 1970.
#[derive(Clone, Debug, Default)]
pub(super) struct TriggerTimes {
    /// `None` before the first round.
    seen: Option<Seen>,
}

#[derive(Clone, Debug, Default)]
struct Seen {
    service: Option<i64>,
    pods: BTreeMap<Name, i64>,
}

/// One round over a Service: which of its times are new.
pub(super) struct Round<'a> {
    times: &'a mut Seen,
    first: bool,
    service: Option<i64>,
    earliest: Option<i64>,
}

/// When a Service was created.
pub(super) fn service_time(service: &Service) -> Option<i64> {
    (service.created != 0).then_some(service.created)
}

impl TriggerTimes {
    /// Begins a round.
    pub(super) fn round(&mut self, service: &Service) -> Round<'_> {
        let first = self.seen.is_none();
        let times = self.seen.get_or_insert_default();
        let service = service_time(service);
        let earliest = service.filter(|_| service > times.service);
        times.service = service;
        Round {
            times,
            first,
            service,
            earliest,
        }
    }
}

impl Round<'_> {
    /// Takes in a Pod of the round; `selected` is `None` for one that is not an endpoint any more.
    pub(super) fn pod(&mut self, name: &Name, selected: Option<&Pod>) {
        let Some(time) = selected.and_then(|pod| pod.ready_changed) else {
            self.times.pods.remove(name);
            return;
        };
        if self.times.pods.get(name).is_none_or(|seen| *seen < time) {
            self.times.pods.insert(name.clone(), time);
            self.earliest = Some(self.earliest.map_or(time, |earliest| earliest.min(time)));
        }
    }

    /// The earliest change that led to the round; `None` when none of them has a time, as with Pods
    /// that are gone.
    ///
    /// Of a Service that is new it is its creation: its Pods may have been ready long before.
    pub(super) fn trigger_time(&self) -> Option<i64> {
        if self.first {
            self.service
        } else {
            self.earliest
        }
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::super::fixture::{pod, service};
    use super::super::{SliceChange, SliceConfig, SliceController, Topology, annotations, slices};
    use super::*;

    /// The trigger times of the slices that a round writes.
    fn times(controller: &mut SliceController) -> Vec<Option<i64>> {
        let (changes, _) = controller.reconcile();
        let applied = changes.iter().filter_map(|change| match change {
            SliceChange::Apply(slice) => Some(slice.trigger_time),
            SliceChange::Delete(_) => None,
        });
        applied.collect()
    }

    fn web(created: i64) -> Service {
        Service {
            created,
            ..service("web")
        }
    }

    fn ready_since(i: u16, time: i64) -> Pod {
        Pod {
            ready_changed: Some(time),
            ..pod("web", i)
        }
    }

    fn controller() -> SliceController {
        SliceController::new(SliceConfig::default(), Topology::unknown())
    }

    #[test]
    fn b424_of_a_new_service_it_is_its_creation() {
        let mut controller = controller();
        controller.apply_pod(ready_since(1, 50));
        controller.apply_pod(ready_since(2, 700));
        controller.apply_service(web(100));
        assert_eq!(times(&mut controller), [Some(100)]);
    }

    #[test]
    fn b424_it_is_the_earliest_change_since_the_last_write() {
        let mut controller = controller();
        controller.apply_service(web(100));
        controller.apply_pod(ready_since(1, 150));
        assert_eq!(times(&mut controller), [Some(100)]);
        controller.apply_pod(ready_since(2, 220));
        controller.apply_pod(ready_since(3, 210));
        assert_eq!(times(&mut controller), [Some(210)]);
        // Only what has changed counts: Pod 3 did before.
        controller.apply_pod(Pod {
            ready: false,
            ..ready_since(2, 300)
        });
        controller.apply_pod(ready_since(3, 210));
        assert_eq!(times(&mut controller), [Some(300)]);
    }

    #[test]
    fn b424_a_pod_that_goes_has_no_time_and_comes_back_as_a_new_one() {
        let mut controller = controller();
        controller.apply_service(web(100));
        controller.apply_pod(ready_since(1, 150));
        controller.apply_pod(ready_since(2, 160));
        times(&mut controller);
        controller.delete_pod(&pod("web", 1).name);
        assert_eq!(times(&mut controller), [None]);
        controller.apply_pod(ready_since(1, 150));
        assert_eq!(times(&mut controller), [Some(150)]);
        // So does a Service.
        controller.delete_service(&service("web").name);
        controller.reconcile();
        controller.apply_service(web(170));
        assert_eq!(times(&mut controller), [Some(170)]);
    }

    #[test]
    fn b424_every_slice_of_a_round_has_it_and_the_annotation_says_it() {
        let mut controller = controller();
        let mut dual = web(100);
        dual.ip_families = crate::net::IpFamily::ALL.into();
        controller.apply_service(dual.clone());
        assert_eq!(times(&mut controller), [Some(100), Some(100)]);
        controller.apply_pod(ready_since(1, 1_767_600_000));
        assert_eq!(times(&mut controller), [Some(1_767_600_000); 2]);

        let (made, _) = slices(
            &dual,
            &[ready_since(1, 1_767_600_000)],
            &Topology::unknown(),
        );
        assert!(made.iter().all(|slice| slice.trigger_time == Some(100)));
        let annotations = annotations(&made[0]);
        assert_eq!(
            annotations["endpoints.kubernetes.io/last-change-trigger-time"].as_ref(),
            "1970-01-01T00:01:40Z"
        );
        let (unknown, _) = slices(&service("web"), &[], &Topology::unknown());
        assert_eq!(super::super::annotations(&unknown[0]).len(), 0);
    }
}
