//! Hints in proportion to the CPU of zones: annotation `topology-mode: Auto` (B-426).

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{Hints, Service, SliceEndpoint};

/// Allocatable CPU of each zone, in thousandths.
pub(super) type ZoneCpu = BTreeMap<Name, u128>;

/// Why no hints are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Disabled {
    #[error("a node has no zone or no allocatable CPU")]
    NodeWithoutZoneOrCpu,
    #[error("the ready nodes are in fewer than two zones")]
    FewerThanTwoZones,
    #[error("there are fewer ready endpoints ({endpoints}) than zones ({zones})")]
    FewerEndpointsThanZones { endpoints: usize, zones: usize },
    #[error("{endpoints} endpoints over {zones} zones would overload some by more than 20 %")]
    Overload { endpoints: usize, zones: usize },
    #[error("a ready endpoint has no zone")]
    EndpointWithoutZone,
}

impl Disabled {
    /// The event of upstream, as a remark on the Service.
    pub(super) fn diagnostic(self, service: &Service, family: IpFamily) -> Diagnostic {
        Diagnostic::error(
            ObjectKind::Service,
            &service.name,
            "metadata.annotations[service.kubernetes.io/topology-mode]",
            DiagnosticReason::Suspicious,
            format!("no topology hints for {family} endpoints: {self}"),
        )
        .warning()
    }
}

/// One slice of the Service.
pub(super) struct Part<'a> {
    pub(super) endpoints: &'a mut [SliceEndpoint],
    /// Whether it is written anyway; the others are kept as they are when their hints still fit.
    pub(super) written_anyway: bool,
}

/// Gives every ready endpoint the zone that it serves, moving as few as possible out of their own.
///
/// Returns the positions of the slices whose hints changed.
pub(super) fn assign(
    parts: &mut [Part<'_>],
    zones: Result<ZoneCpu, Disabled>,
) -> (BTreeSet<usize>, Option<Disabled>) {
    let before: Vec<Vec<Hints>> = parts.iter().map(hints).collect();
    let disabled = zones.and_then(|zones| redistribute(parts, &zones)).err();
    if disabled.is_some() {
        for endpoint in parts.iter_mut().flat_map(|part| part.endpoints.iter_mut()) {
            hint(endpoint, None);
        }
    }
    let changed = before
        .iter()
        .zip(parts.iter())
        .enumerate()
        .filter(|(_, (before, part))| **before != hints(part))
        .map(|(position, _)| position)
        .collect();
    (changed, disabled)
}

/// How many endpoints a zone is to have.
///
/// Numbers marked "scaled" are multiplied by the CPU of all zones, which keeps them whole.
struct Allocation {
    desired_scaled: u128,
    maximum: usize,
}

fn redistribute(parts: &mut [Part<'_>], zones: &ZoneCpu) -> Result<(), Disabled> {
    let total_cpu: u128 = zones.values().sum();
    let ready = parts
        .iter()
        .flat_map(|part| part.endpoints.iter())
        .filter(|endpoint| endpoint.conditions.ready)
        .count();
    let allocations = allocations(zones, total_cpu, ready)?;
    let mut given: BTreeMap<Name, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for part in parts.iter_mut() {
        match part.written_anyway {
            false if keep(part.endpoints, &allocations, &mut given) => {}
            true | false => open.push(part),
        }
    }
    for endpoint in open.iter_mut().flat_map(|part| part.endpoints.iter_mut()) {
        if !endpoint.conditions.ready {
            hint(endpoint, None);
            continue;
        }
        let zone = zone_of(endpoint).ok_or(Disabled::EndpointWithoutZone)?;
        *given.entry(zone.clone()).or_default() += 1;
        hint(endpoint, Some(zone));
    }
    let (mut giving, mut receiving) = moves(&allocations, &given, total_cpu);
    for endpoint in open.iter_mut().flat_map(|part| part.endpoints.iter_mut()) {
        let Some(left) = zone_of(endpoint)
            .filter(|_| endpoint.conditions.ready)
            .and_then(|zone| giving.get_mut(&zone))
            .filter(|left| **left > 0)
        else {
            continue;
        };
        let Some((zone, wanted)) = receiving.iter_mut().find(|(_, wanted)| **wanted > 0) else {
            break;
        };
        *left -= 1;
        *wanted -= 1;
        hint(endpoint, Some(zone.clone()));
    }
    Ok(())
}

/// Shares of `endpoints` by CPU; the least a zone may have overloads its endpoints by 20 %.
fn allocations(
    zones: &ZoneCpu,
    total_cpu: u128,
    endpoints: usize,
) -> Result<BTreeMap<Name, Allocation>, Disabled> {
    if zones.len() > endpoints {
        return Err(Disabled::FewerEndpointsThanZones {
            endpoints,
            zones: zones.len(),
        });
    }
    let share = |cpu: u128| endpoints as u128 * cpu;
    // Dividing by 1.2 is 5/6, rounded up.
    let minimum = |cpu: u128| (5 * share(cpu)).div_ceil(6 * total_cpu);
    let spare = (endpoints as u128)
        .checked_sub(zones.values().map(|cpu| minimum(*cpu)).sum())
        .ok_or(Disabled::Overload {
            endpoints,
            zones: zones.len(),
        })?;
    Ok(zones
        .iter()
        .map(|(zone, cpu)| {
            let allocation = Allocation {
                desired_scaled: share(*cpu).max(minimum(*cpu) * total_cpu),
                maximum: usize::try_from(minimum(*cpu) + spare).unwrap_or(usize::MAX),
            };
            (zone.clone(), allocation)
        })
        .collect())
}

/// Counts the hints of a slice that is not written otherwise, if they still fit.
fn keep(
    endpoints: &[SliceEndpoint],
    allocations: &BTreeMap<Name, Allocation>,
    given: &mut BTreeMap<Name, usize>,
) -> bool {
    let mut here: BTreeMap<Name, usize> = BTreeMap::new();
    for endpoint in endpoints
        .iter()
        .filter(|endpoint| endpoint.conditions.ready)
    {
        if endpoint.zone_hints().is_empty() {
            return false;
        }
        for zone in endpoint.zone_hints() {
            *here.entry(zone.clone()).or_default() += 1;
        }
    }
    let fits = here.iter().all(|(zone, count)| {
        let already = given.get(zone).copied().unwrap_or_default();
        allocations
            .get(zone)
            .is_some_and(|allocation| already + count <= allocation.maximum)
    });
    if fits {
        for (zone, count) in here {
            *given.entry(zone).or_default() += count;
        }
    }
    fits
}

/// How many endpoints each zone gives away, and how many each receives.
fn moves(
    allocations: &BTreeMap<Name, Allocation>,
    given: &BTreeMap<Name, usize>,
    total_cpu: u128,
) -> (BTreeMap<Name, usize>, BTreeMap<Name, usize>) {
    let mut surplus: BTreeMap<&Name, u128> = BTreeMap::new();
    let mut lack: BTreeMap<&Name, u128> = BTreeMap::new();
    for (zone, allocation) in allocations {
        let has = given.get(zone).copied().unwrap_or_default() as u128 * total_cpu;
        surplus.insert(zone, has.saturating_sub(allocation.desired_scaled));
        lack.insert(zone, allocation.desired_scaled.saturating_sub(has));
    }
    let mut giving: BTreeMap<Name, usize> = BTreeMap::new();
    let mut receiving: BTreeMap<Name, usize> = BTreeMap::new();
    while let (Some((from, give)), Some((to, take))) = (most(&surplus), most(&lack)) {
        let whole = give >= total_cpu || take >= total_cpu;
        let half = 2 * give >= total_cpu && 2 * take >= total_cpu;
        if !whole || !half {
            break;
        }
        *giving.entry(from.clone()).or_default() += 1;
        *receiving.entry(to.clone()).or_default() += 1;
        surplus.insert(from, give.saturating_sub(total_cpu));
        lack.insert(to, take.saturating_sub(total_cpu));
    }
    (giving, receiving)
}

/// The largest amount that is not zero, the first zone by name among equals.
fn most<'a>(zones: &BTreeMap<&'a Name, u128>) -> Option<(&'a Name, u128)> {
    zones
        .iter()
        .rev()
        .max_by_key(|(_, amount)| **amount)
        .filter(|(_, amount)| **amount > 0)
        .map(|(zone, amount)| (*zone, *amount))
}

fn zone_of(endpoint: &SliceEndpoint) -> Option<Name> {
    endpoint.extra.as_ref()?.zone.clone()
}

fn hints(part: &Part<'_>) -> Vec<Hints> {
    part.endpoints
        .iter()
        .map(|endpoint| endpoint.extra.as_ref().map(|extra| extra.hints.clone()))
        .map(Option::unwrap_or_default)
        .collect()
}

/// Sets the only hint; touches the shared part of the endpoint only when it differs.
fn hint(endpoint: &mut SliceEndpoint, zone: Option<Name>) {
    let zones: Box<[Name]> = zone.into_iter().collect();
    if endpoint.zone_hints() == &*zones && endpoint.node_hints().is_empty() {
        return;
    }
    let extra = endpoint.extra.get_or_insert_default();
    Arc::make_mut(extra).hints = Hints {
        zones,
        nodes: Box::default(),
    };
}
