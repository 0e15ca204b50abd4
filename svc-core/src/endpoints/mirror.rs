//! Slices of hand-made Endpoints objects (B-428).

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::is_headless;
use super::port::{Ports, same_ports};
use super::scratch::slice_name;
use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::name::Name;
use crate::net::IpFamily;
use crate::object::{EndpointSlice, Endpoints, SKIP_MIRROR_LABEL, Service, SliceEndpoint};

/// Value of the label `endpointslice.kubernetes.io/managed-by` of mirrored slices.
pub const MIRRORING_CONTROLLER: &str = "endpointslicemirroring-controller.k8s.io";

/// How many addresses of a subset are mirrored (B-428).
pub const MAX_MIRRORED_PER_SUBSET: usize = 1000;

/// Family, ports and the endpoints that have them.
type Group = (IpFamily, Ports, Vec<SliceEndpoint>);

/// The slices that mirror an Endpoints object, one per set of ports and family.
///
/// None when the Service is missing or has a selector (then its slices come from Pods), or when the
/// object says so.
pub fn mirror(
    endpoints: &Endpoints,
    service: Option<&Service>,
) -> (Vec<EndpointSlice>, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let Some(service) = service.filter(|s| s.selector.is_empty() && !endpoints.skip_mirror) else {
        return (Vec::new(), diagnostics);
    };
    let mut groups: Vec<Group> = Vec::new();
    let mut seen = BTreeSet::new();
    for (i, subset) in endpoints.subsets.iter().enumerate() {
        if subset.endpoints.len() > MAX_MIRRORED_PER_SUBSET {
            diagnostics.push(too_many(endpoints, i, subset.endpoints.len()));
        }
        let ports = Ports::from(&*subset.ports);
        for endpoint in subset.endpoints.iter().take(MAX_MIRRORED_PER_SUBSET) {
            let family = IpFamily::of(endpoint.address);
            let position = position(&mut groups, family, &ports);
            // One address may be in several subsets with the same ports.
            if seen.insert((position, endpoint.address))
                && let Some((_, _, members)) = groups.get_mut(position)
            {
                members.push(endpoint.clone());
            }
        }
    }
    (slices(endpoints, service, groups), diagnostics)
}

fn position(groups: &mut Vec<Group>, family: IpFamily, ports: &Ports) -> usize {
    let known = groups
        .iter()
        .position(|(f, p, _)| *f == family && same_ports(p, ports));
    known.unwrap_or_else(|| {
        groups.push((family, ports.clone(), Vec::new()));
        groups.len() - 1
    })
}

fn slices(endpoints: &Endpoints, service: &Service, mut groups: Vec<Group>) -> Vec<EndpointSlice> {
    groups.sort_by_key(|(family, _, _)| *family);
    let mut labels = endpoints.labels.clone();
    labels.remove(SKIP_MIRROR_LABEL);
    let labels = (!labels.is_empty()).then(|| Arc::new(labels));
    let managed_by = Name::from(MIRRORING_CONTROLLER);
    let numbered = (0..).zip(groups);
    numbered
        .map(|(number, (family, ports, members))| EndpointSlice {
            name: slice_name(&endpoints.name, family, number),
            service: endpoints.name.name.clone(),
            family,
            ports: Box::from(&*ports),
            endpoints: members.into(),
            headless: is_headless(service),
            managed_by: Some(managed_by.clone()),
            labels: labels.clone(),
            trigger_time: None,
        })
        .collect()
}

fn too_many(endpoints: &Endpoints, subset: usize, addresses: usize) -> Diagnostic {
    Diagnostic::error(
        ObjectKind::Endpoints,
        &endpoints.name,
        format!("subsets[{subset}].addresses"),
        DiagnosticReason::Invalid,
        format!("{addresses} addresses, the first {MAX_MIRRORED_PER_SUBSET} are mirrored"),
    )
    .warning()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::fixture::{service, text};
    use super::*;
    use crate::net::Protocol;
    use crate::object::{Conditions, EndpointPort, EndpointSubset, Labels};

    fn subset(addresses: &[&str], not_ready: &[&str], port: u16) -> EndpointSubset {
        let all = |ips: &[&str], conditions| -> Vec<SliceEndpoint> {
            ips.iter()
                .map(|ip| SliceEndpoint::new(ip.parse().unwrap(), conditions))
                .collect()
        };
        let mut endpoints = all(addresses, Conditions::READY);
        endpoints.extend(all(not_ready, Conditions::NOT_READY));
        EndpointSubset {
            endpoints: endpoints.into(),
            ports: [EndpointPort {
                name: "".into(),
                protocol: Protocol::Tcp,
                port,
                app_protocol: None,
            }]
            .into(),
        }
    }

    fn db(subsets: Vec<EndpointSubset>) -> (Endpoints, Service) {
        let mut service = service("db");
        service.selector.clear();
        let endpoints = Endpoints {
            name: service.name.clone(),
            labels: Labels::new(),
            skip_mirror: false,
            subsets,
        };
        (endpoints, service)
    }

    #[test]
    fn b428_subsets_become_slices_per_ports_and_family() {
        let (endpoints, service) = db([
            subset(&["10.0.0.1", "fd00::1"], &["10.0.0.2"], 5432),
            subset(&["10.0.0.1"], &[], 9187),
            subset(&["10.0.0.3", "10.0.0.1"], &[], 5432),
        ]
        .into());
        let (slices, diagnostics) = mirror(&endpoints, Some(&service));
        assert!(diagnostics.is_empty());
        expect![[r#"
            db-ipv4-00000 IPv4 :5432/TCP
              10.0.0.1 ? ready serving
              10.0.0.2 ?
              10.0.0.3 ? ready serving
            db-ipv4-00001 IPv4 :9187/TCP
              10.0.0.1 ? ready serving
            db-ipv6-00002 IPv6 :5432/TCP
              fd00::1 ? ready serving
        "#]]
        .assert_eq(&text(&slices));
        assert_eq!(slices[0].managed_by.as_deref(), Some(MIRRORING_CONTROLLER));
    }

    #[test]
    fn b428_skipped_when_asked_selected_or_without_service() {
        let (mut endpoints, mut service) = db([subset(&["10.0.0.1"], &[], 1)].into());
        assert_eq!(mirror(&endpoints, Some(&service)).0.len(), 1);
        assert!(mirror(&endpoints, None).0.is_empty());
        service.selector.insert("app".into(), "db".into());
        assert!(mirror(&endpoints, Some(&service)).0.is_empty());
        service.selector.clear();
        endpoints.skip_mirror = true;
        assert!(mirror(&endpoints, Some(&service)).0.is_empty());
    }

    #[test]
    fn b428_a_thousand_addresses_per_subset() {
        let mut large = subset(&[], &["10.9.0.1"], 80);
        let ready = (0..1000).map(|i: u16| {
            let [high, low] = i.to_be_bytes();
            SliceEndpoint::new([10, 0, high, low].into(), Conditions::READY)
        });
        large.endpoints = ready.chain(large.endpoints).collect();
        let (endpoints, service) = db([large].into());
        let (slices, diagnostics) = mirror(&endpoints, Some(&service));
        assert_eq!(slices[0].endpoints.len(), 1000);
        assert!(slices[0].endpoints.iter().all(|e| e.conditions.ready));
        assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    }
}
