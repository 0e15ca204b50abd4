//! Which families a Service gets addresses of.

use alloc::format;
use alloc::vec::Vec;
use core::fmt::Display;

use crate::diagnostic::{Diagnostic, DiagnosticReason, ObjectKind};
use crate::net::IpFamily;
use crate::object::{IpFamilyPolicy, Service, ServiceType};

/// Fills in `ipFamilyPolicy` and `ipFamilies` (B-395 to B-397), or says what does not fit (B-363).
///
/// `cluster` are the families of the cluster, the default one first.
pub(super) fn init_families(
    service: &mut Service,
    before: Option<&Service>,
    cluster: &[IpFamily],
) -> Result<(), Vec<Diagnostic>> {
    if service.service_type == ServiceType::ExternalName
        || before.is_some_and(|before| keeps_prefer_dual_stack(before, service))
    {
        return Ok(());
    }
    let free_form = service.headless && service.selector.is_empty();
    let policy = *service.ip_family_policy.get_or_insert_with(|| {
        match before.and_then(|before| before.ip_family_policy) {
            Some(policy) => policy,
            None if free_form => IpFamilyPolicy::RequireDualStack,
            None => IpFamilyPolicy::SingleStack,
        }
    });
    let mut problems = Problems::new(service);
    if let Some(before) = before {
        reduce(service, before, policy, &mut problems);
    }
    infer(service, policy, cluster, &mut problems);
    problems.stop()?;
    if !free_form {
        check_cluster(service, policy, cluster, &mut problems);
        problems.stop()?;
    }
    // A cluster without any range has no default; then nothing can be allocated anyway.
    let default = cluster.first().copied().unwrap_or(IpFamily::V4);
    if service.ip_families.is_empty() {
        service.ip_families.push(default);
    }
    let dual = match policy {
        IpFamilyPolicy::SingleStack => false,
        IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack => true,
    };
    if let [only] = service.ip_families[..]
        && dual
        && (free_form || cluster.len() == 2)
    {
        service.ip_families.push(other(only));
    }
    Ok(())
}

/// Whether an update leaves a PreferDualStack Service as it is, whatever the cluster has by now
/// (B-396).
pub(super) fn keeps_prefer_dual_stack(before: &Service, after: &Service) -> bool {
    let prefer = Some(IpFamilyPolicy::PreferDualStack);
    before.service_type == after.service_type
        && before.service_type != ServiceType::ExternalName
        && before.ip_family_policy == prefer
        && after.ip_family_policy == prefer
        && before.headless == after.headless
        && before.cluster_ips == after.cluster_ips
        && before.ip_families == after.ip_families
}

/// What speaks against a Service.
struct Problems {
    found: Vec<Diagnostic>,
    name: crate::name::NamespacedName,
}

impl Problems {
    fn new(service: &Service) -> Self {
        Self {
            found: Vec::new(),
            name: service.name.clone(),
        }
    }

    fn push(&mut self, field: impl Display, message: impl Display) {
        self.found.push(Diagnostic::error(
            ObjectKind::Service,
            &self.name,
            format!("{field}"),
            DiagnosticReason::Invalid,
            format!("{message}"),
        ));
    }

    fn stop(&mut self) -> Result<(), Vec<Diagnostic>> {
        match self.found.is_empty() {
            true => Ok(()),
            false => Err(core::mem::take(&mut self.found)),
        }
    }
}

const POLICY: &str = "spec.ipFamilyPolicy";

/// SingleStack takes the second address and family away; nothing else may (B-361, B-362).
fn reduce(
    service: &mut Service,
    before: &Service,
    policy: IpFamilyPolicy,
    problems: &mut Problems,
) {
    match policy {
        IpFamilyPolicy::SingleStack => {
            if service.cluster_ips == before.cluster_ips {
                service.cluster_ips.truncate(1);
            }
            if service.ip_families == before.ip_families {
                service.ip_families.truncate(1);
            }
        }
        IpFamilyPolicy::PreferDualStack | IpFamilyPolicy::RequireDualStack => {
            let message = |what| format!("must be SingleStack to release the secondary {what}");
            if is_reduced(&before.cluster_ips, &service.cluster_ips) {
                problems.push(POLICY, message("cluster IP"));
            }
            if is_reduced(&before.ip_families, &service.ip_families) {
                problems.push(POLICY, message("IP family"));
            }
        }
    }
}

fn is_reduced<T: PartialEq>(before: &[T], after: &[T]) -> bool {
    before.len() == 2 && after.len() == 1 && before[0] == after[0]
}

/// Families follow from given addresses (B-397).
fn infer(
    service: &mut Service,
    policy: IpFamilyPolicy,
    cluster: &[IpFamily],
    problems: &mut Problems,
) {
    if policy == IpFamilyPolicy::SingleStack {
        let message = "must be RequireDualStack or PreferDualStack when there are two";
        if service.cluster_ips.len() == 2 {
            problems.push(POLICY, format_args!("{message} cluster IPs"));
        }
        if service.ip_families.len() == 2 {
            problems.push(POLICY, format_args!("{message} IP families"));
        }
    }
    for (i, ip) in service.cluster_ips.iter().enumerate() {
        let family = IpFamily::of(*ip);
        match service.ip_families.get(i) {
            Some(given) if *given == family => {}
            Some(given) => problems.push(
                format_args!("spec.clusterIPs[{i}]"),
                format_args!("{ip} is not {given}, which spec.ipFamilies[{i}] asks for"),
            ),
            None if cluster.contains(&family) => service.ip_families.push(family),
            None => problems.push(
                format_args!("spec.clusterIPs[{i}]"),
                format_args!("{ip}: {family} is not configured on this cluster"),
            ),
        }
    }
}

fn check_cluster(
    service: &Service,
    policy: IpFamilyPolicy,
    cluster: &[IpFamily],
    problems: &mut Problems,
) {
    if policy == IpFamilyPolicy::RequireDualStack && cluster.len() < 2 {
        problems.push(
            POLICY,
            "this cluster is not configured for dual-stack Services",
        );
    }
    for (i, family) in service.ip_families.iter().enumerate() {
        if !cluster.contains(family) {
            let field = format_args!("spec.ipFamilies[{i}]");
            problems.push(
                field,
                format_args!("{family} is not configured on this cluster"),
            );
        }
    }
}

fn other(family: IpFamily) -> IpFamily {
    match family {
        IpFamily::V4 => IpFamily::V6,
        IpFamily::V6 => IpFamily::V4,
    }
}
